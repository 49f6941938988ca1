"""Where the attention of a network goes."""

import dataclasses

import numpy as np

from tfmusictag import _arguments, plotting
from tfmusictag.explain import _drawing, _methods, _networks, _saving, _sounds


@dataclasses.dataclass(frozen=True, eq=False)
class Attention(_sounds.Timed, _saving.Savable):
    """The attention scores of a window of sound.

    Attributes:
        scores: name of a layer -> its scores as they are, (heads, steps, steps) with the class token first, where there
            is one: row q, column k is how much step q takes of step k. Of `AttentionWeights` (steps,).
        looks: name of a layer -> how much each head takes of each moment for the decision, (heads, moments): the row of
            the class token, without what it takes of itself. Without a class token, the mean over the steps; of
            `AttentionWeights`, its weights as one head.
        times_s: the middle of each moment, (moments,), in seconds.
        hop_s: from one moment to the next.
        span_s: where the window begins and ends.
        heard: the `Spectrogram` of the window.
    """

    scores: dict
    looks: dict
    times_s: object
    hop_s: float
    span_s: tuple
    heard: object

    def arrays(self):
        """Returns all numbers by name."""
        return {
            **{f"scores_{name}": value for name, value in self.scores.items()},
            **{f"looks_{name}": value for name, value in self.looks.items()},
            "times_s": self.times_s,
            "span_s": np.array(self.span_s),
            **self.heard.arrays(),
        }

    def summary(self):
        """Says in a line where the last layer looks most."""
        name = list(self.looks)[-1]
        mean = self.looks[name].mean(axis=0)
        at = int(mean.argmax())
        return f"{name}: most at {self.times_s[at]:.2f} s, {mean[at]:.4f}; an equal share is {1 / len(mean):.4f}"

    def plot(self, path=None, title=""):
        """Draws into a file, or without `path` nowhere; returns the matplotlib figure.

        The colour over the spectrogram is what the last layer takes for the decision, the mean of its heads, where it
        is more than of other moments. Below, for each layer, its heads one by one; and what each moment takes of each
        other, the mean of the heads.
        """
        heights, last = [_drawing.SPECTROGRAM_HEIGHT], list(self.looks)[-1]
        for name, looks in self.looks.items():
            heights.append(0.5 + 0.13 * len(looks))
            if self.scores[name].ndim == 3:
                heights.append(2.2)
        figure, (top, *below) = _drawing.panels(heights, title)
        _drawing.spectrogram(top, self.heard, self.span_s)
        shares = self.looks[last].mean(axis=0)
        mesh = _drawing.over(top, self.edges_s, shares[:, np.newaxis], False, shares.max(), clear=shares.mean())
        figure.colorbar(mesh, ax=top, label="share, mean of heads", pad=0.01)
        top.set_title(f"{last}: for the decision", fontsize="medium", parse_math=False)
        below = iter(below)
        for name, looks in self.looks.items():
            axes = next(below)
            names = [str(head) for head in range(1, len(looks) + 1)] if len(looks) > 1 else [""]
            names = [head if len(names) <= 8 or not index % 4 else "" for index, head in enumerate(names)]
            mesh = _drawing.rows(axes, self.edges_s, looks, names, signed=False)
            if len(looks) > 1:
                axes.set_ylabel("head")
            else:
                axes.set_yticks([])
            axes.set_title(f"{name}: for the decision", fontsize="medium", parse_math=False)
            figure.colorbar(mesh, ax=axes, label="share", pad=0.01)
            if self.scores[name].ndim == 3:
                self._map(figure, next(below), name)
        return plotting.save(figure, path)

    def _map(self, figure, axes, name):
        moments = len(self.times_s)
        values = self.scores[name].mean(axis=0)[-moments:, -moments:]
        mesh = axes.pcolormesh(self.edges_s, self.edges_s, values, vmin=0.0, cmap="magma", rasterized=True)
        axes.set_ylim(*self.span_s[::-1])
        axes.set_ylabel("moment that looks [s]")
        axes.set_title(f"{name}: what each moment takes of each, mean of heads", fontsize="medium", parse_math=False)
        figure.colorbar(mesh, ax=axes, label="share", pad=0.01)


def attention(model, waveform, *, start_s=0.0):
    """Returns the `Attention` of a model while it listens to one window.

    Args:
        model: a keras.Model with `AttentionScores` or `AttentionWeights`.
        waveform: (samples,), as many as the model takes, at its sample rate.
        start_s: where the window starts in its file, for the times.

    Raises:
        ValueError: a model without attention, which says what else there is; a waveform of another length.

    Source: Won, Chun and Serra, "Visualizing and understanding self-attention based music tagging", ICML workshop 2019.
    """
    network = _networks.Network(model)
    _methods.check(network, "attention")
    return of_network(network, network.checked(waveform), _arguments.finite("start_s", start_s))


def of_network(network, waveform, start_s):
    found = _methods.attention_layers(network)
    grid, token = network.steps(found[-1].input)
    values = network.run([layer.output for layer in found], waveform)
    scores = {layer.name: value for layer, value in zip(found, values, strict=True)}
    # Layers of other numbers of steps have other moments; those that share the last one's are shown.
    scores = {name: value for name, value in scores.items() if value.shape[-1] == grid.count + token}
    looks = {name: _looks(value, token) for name, value in scores.items()}
    grid = grid.later(start_s)
    return Attention(
        scores,
        looks,
        grid.centres_s,
        grid.hop_s,
        (start_s, start_s + network.duration_s),
        _sounds.heard(network, waveform, start_s),
    )


def _looks(scores, token):
    if scores.ndim == 1:
        return scores[np.newaxis]
    return scores[:, 0, 1:] if token else scores.mean(axis=1)

"""What each moment adds to each tag, where the attention is on it alone."""

import dataclasses

import numpy as np

from tfmusictag import _arguments, plotting
from tfmusictag.explain import _drawing, _methods, _networks, _saving, _sounds, _tags

# Of the scores that are made up at a time: 64 MB.
_MOST_NUMBERS = 2**24


@dataclasses.dataclass(frozen=True, eq=False)
class Contribution(_sounds.Timed, _saving.Savable):
    """What a network says of a window if the last attention is on one moment and nowhere else.

    Attributes:
        labels: the tags, in output order.
        tags: those that are asked for, which `plot` draws.
        logits, scores: of each moment, (moments, classes), before and behind the last activation.
        whole_logits, whole_scores: of the window with the attention as it is, (classes,).
        layer: name of the attention.
        times_s: the middle of each moment, (moments,), in seconds.
        hop_s: from one moment to the next.
        span_s: where the window begins and ends.
        heard: the `Spectrogram` of the window.
    """

    labels: tuple
    tags: tuple
    logits: object
    scores: object
    whole_logits: object
    whole_scores: object
    layer: str
    times_s: object
    hop_s: float
    span_s: tuple
    heard: object

    @property
    def above(self):
        """Logits less those of the whole window, (moments, classes): positive where a moment speaks for a tag."""
        return self.logits - self.whole_logits

    def of(self, tag):
        """Returns `above` of one tag, (moments,); ValueError for an unknown tag."""
        return self.above[:, _tags.index_of(tag, self.labels)]

    def arrays(self):
        """Returns all numbers by name."""
        return {
            "labels": np.array(self.labels),
            "tags": np.array(self.tags),
            "logits": self.logits,
            "scores": self.scores,
            "whole_logits": self.whole_logits,
            "whole_scores": self.whole_scores,
            "times_s": self.times_s,
            "span_s": np.array(self.span_s),
            **self.heard.arrays(),
        }

    def summary(self):
        """Says for each tag in a line its score, and which moments speak for it and against it most."""
        lines = []
        for tag in self.tags:
            index = self.labels.index(tag)
            most, least = (int(at) for at in (self.logits[:, index].argmax(), self.logits[:, index].argmin()))
            scores = self.scores[:, index]
            lines.append(
                f"{tag}: {self.whole_scores[index]:.4f} on the whole; alone, {scores[most]:.4f} at "
                f"{self.times_s[most]:.2f} s and {scores[least]:.4f} at {self.times_s[least]:.2f} s"
            )
        return "\n".join(lines)

    def plot(self, path=None, title=""):
        """Draws into a file, or without `path` nowhere; returns the matplotlib figure.

        The colour over the spectrogram is of the first tag: red where a moment speaks for it, blue where against it.
        Below, the same for every tag that was asked for.
        """
        indices = [self.labels.index(tag) for tag in self.tags]
        values = self.above[:, indices]
        largest = max(float(np.abs(values).max()), 1e-12)
        figure, (top, below) = _drawing.panels([_drawing.SPECTROGRAM_HEIGHT, 0.4 + 0.3 * len(indices)], title)
        _drawing.spectrogram(top, self.heard, self.span_s)
        mesh = _drawing.over(top, self.edges_s, values[:, :1], signed=True, largest=largest)
        bar = figure.colorbar(mesh, ax=[top, below], pad=0.01)
        bar.set_label("logit of a moment alone,\nabove that of the whole")
        top.set_title(self.tags[0], fontsize="medium", parse_math=False)
        names = [f"{self.labels[index]} ({self.whole_scores[index]:.2g})" for index in indices]
        _drawing.rows(below, self.edges_s, values.T, names, signed=True, largest=largest)
        return plotting.save(figure, path)


def contribution(model, waveform, tag=None, *, labels=None, start_s=0.0):
    """Returns the `Contribution` of each moment of one window to the tags.

    One weight of the last attention is set to 1 and the others to 0, in all heads, for each moment in turn; what
    follows is computed anew. What the tokens have heard of each other in earlier layers stays. That goes for any tag:
    for one that is heard and one that is not, for one that names a sound and one that names the lack of it, such as
    "no vocals", against which the moments speak that have the sound.

    Args:
        model: a keras.Model with `AttentionScores` or `AttentionWeights`.
        waveform: (samples,), as many as the model takes, at its sample rate.
        tag: the one, or a list of those, that are to be drawn; None is the one with the best score.
        labels: the tags of the outputs; None takes the model's own, or numbers.
        start_s: where the window starts in its file, for the times.

    Raises:
        ValueError: a model without attention, which says what else there is; one that goes on from more than the last
            attention and its tokens; an unknown tag, a waveform of another length.

    Source: Won, Chun and Serra, "Toward interpretable music tagging with self-attention", arXiv:1906.04972, and the
    talk of Chun on it: "set the selected attention weight as 1, while others are set to 0".
    """
    network = _networks.Network(model)
    _methods.check(network, "contribution")
    labels = network.labels(labels)
    return of_network(
        network, network.checked(waveform), _tags.chosen(tag, labels), labels, _arguments.finite("start_s", start_s)
    )


def of_network(network, waveform, tags, labels, start_s):
    layer = _methods.attention_layers(network)[-1]
    grid, token = network.steps(layer.input)
    to_logits = network.to_logits(layer.output, layer.input)
    scores, tokens = network.run([layer.output, layer.input], waveform)
    whole = np.asarray(to_logits(scores[np.newaxis], tokens[np.newaxis]))[0]
    at_a_time = max(1, _MOST_NUMBERS // scores.size)
    logits = []
    for first in range(token, token + grid.count, at_a_time):
        steps = np.arange(first, min(first + at_a_time, token + grid.count))
        alone = one_hot(scores.shape, steps)
        logits.append(np.asarray(to_logits(alone, np.broadcast_to(tokens, (len(steps), *tokens.shape)))))
    logits = np.concatenate(logits)
    grid = grid.later(start_s)
    return Contribution(
        labels=labels,
        tags=tags or (labels[int(whole.argmax())],),
        logits=logits,
        scores=network.scores(logits),
        whole_logits=whole,
        whole_scores=network.scores(whole[np.newaxis])[0],
        layer=layer.name,
        times_s=grid.centres_s,
        hop_s=grid.hop_s,
        span_s=(start_s, start_s + network.duration_s),
        heard=_sounds.heard(network, waveform, start_s),
    )


def one_hot(shape, steps):
    """Returns scores (len(steps), *shape) in each of which everything is taken of one of the steps."""
    found = np.zeros((len(steps), *shape), "float32")
    for row, step in zip(found, steps, strict=True):
        row[..., step] = 1.0
    return found

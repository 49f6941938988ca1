"""What a tag would gain or lose if the sound were a little different: for models with attention and without."""

import dataclasses

import numpy as np
import tensorflow as tf

from tfmusictag import _arguments, plotting
from tfmusictag.explain import _drawing, _networks, _saving, _sounds, _tags

# One a pixel or two of a picture.
_MOST_FRAMES = 1_000


@dataclasses.dataclass(frozen=True, eq=False)
class Gradient(_sounds.Timed, _saving.Savable):
    """The gradient of a tag's logit for what the network hears.

    Attributes:
        tag: whose.
        logit, score: of the tag in this window.
        times_input: whether the gradient is multiplied by what is heard less its mean over the window: what the window
            adds by being as it is and not always the same. Otherwise it is the gradient itself.
        values: in the shape of the front-end's output, (frames, bands, ...); of a network without frames and bands
            (samples,), of the waveform.
        shown: (frames, bands) or (frames, 1), what is drawn: harmonics of a pitch, or paths of a wavelet of the first
            order, as their sum; of a waveform the root mean square of each frame.
        signed: whether `shown` tells for from against, which a waveform's does not.
        times_s: the middle of each frame of `shown`, (frames,), in seconds.
        hop_s: from one frame to the next.
        span_s: where the window begins and ends.
        heard: the `Spectrogram` that it is drawn over.
    """

    tag: str
    logit: float
    score: float
    times_input: bool
    values: object
    shown: object
    signed: bool
    times_s: object
    hop_s: float
    span_s: tuple
    heard: object

    def arrays(self):
        """Returns all numbers by name."""
        return {
            "tag": np.array(self.tag),
            "logit": np.array(self.logit),
            "score": np.array(self.score),
            "values": self.values,
            "shown": self.shown,
            "times_s": self.times_s,
            "span_s": np.array(self.span_s),
            **self.heard.arrays(),
        }

    def summary(self):
        """Says in a line the tag's score, and when the sound matters most to it."""
        strength = np.abs(self.shown).sum(axis=1)
        return f"{self.tag}: {self.score:.4f}; the sound at {self.times_s[strength.argmax()]:.2f} s matters most to it"

    def plot(self, path=None, title=""):
        """Draws into a file, or without `path` nowhere; returns the matplotlib figure.

        Red is what speaks for the tag, blue what speaks against it; of a waveform, red is what matters either way.
        """
        # A few cells are far above all others; at the strongest hundredth and above, colours are full.
        largest = max(float(np.quantile(np.abs(self.shown), 0.999)), float(np.abs(self.shown).max()) / 10, 1e-12)
        figure, (top,) = _drawing.panels([4.0], title)
        _drawing.spectrogram(top, self.heard, self.span_s)
        mesh = _drawing.over(top, self.edges_s, self.shown, self.signed, largest)
        what = "gradient of the logit" + (" x input" if self.times_input else "")
        what += "" if self.signed else ", RMS of a frame"
        ends = "both" if self.signed else "max"
        figure.colorbar(mesh, ax=top, label=what, pad=0.01, extend=ends)
        top.set_title(f"{self.tag} ({self.score:.2g})", fontsize="medium", parse_math=False)
        return plotting.save(figure, path)


def gradient(model, waveform, tag=None, *, times_input=True, labels=None, start_s=0.0):
    """Returns the `Gradient` of one tag for one window.

    Args:
        model: a keras.Model from a waveform to tags. Where its front-end has no frames and bands, the gradient is that
            of the waveform.
        waveform: (samples,), as many as the model takes, at its sample rate.
        tag: None is the one with the best score.
        times_input: False gives the gradient alone: what a little more of each band at each moment would change.
        labels: the tags of the outputs; None takes the model's own, or numbers.
        start_s: where the window starts in its file, for the times.

    Raises:
        ValueError: an unknown tag, a waveform of another length.

    Source: Simonyan, Vedaldi and Zisserman, "Deep inside convolutional networks", ICLR workshop 2014; times the input:
    Shrikumar, Greenside, Shcherbina and Kundaje, "Not just a black box", arXiv:1605.01713.
    """
    network = _networks.Network(model)
    labels = network.labels(labels)
    tags = _tags.chosen(tag, labels)
    if len(tags) > 1:
        raise ValueError(f"`tag` must be one, whose gradient is taken; received {tag!r}.")
    _arguments.flag("times_input", times_input)
    return of_network(
        network, network.checked(waveform), tags, labels, _arguments.finite("start_s", start_s), times_input
    )


def of_network(network, waveform, tags, labels, start_s, times_input=True):
    own = _sounds.own(network, waveform, start_s)
    source = network.model.inputs[0] if own is None else network.frontend.output
    to_logits = network.to_logits(source)
    (value,) = network.run([source], waveform)
    value = tf.constant(value[np.newaxis])
    with tf.GradientTape() as tape:
        tape.watch(value)
        logits = to_logits(value)
        index = int(np.argmax(logits[0])) if not tags else labels.index(tags[0])
        logit = logits[0, index]
    values = np.asarray(tape.gradient(logit, value))[0]
    if times_input:
        heard = np.asarray(value)[0]
        # The mean of a waveform is silence.
        values = values * (heard if own is None else heard - heard.mean(axis=0, keepdims=True))
    if own is None:
        shown, grid = _energy(values, network)
        drawn_over = _sounds.heard(network, waveform, start_s)
    else:
        shown, grid = _sounds.folded(network.frontend, values), network.frames()
        drawn_over = own
    grid = grid.later(start_s)
    return Gradient(
        tag=labels[index],
        logit=float(logit),
        score=float(network.scores(np.asarray(logits))[0, index]),
        times_input=times_input,
        values=values,
        shown=shown,
        signed=own is not None,
        times_s=grid.centres_s,
        hop_s=grid.hop_s,
        span_s=(start_s, start_s + network.duration_s),
        heard=drawn_over,
    )


def _energy(values, network):
    """Returns the root mean square of (samples,) in frames that follow each other, (frames, 1), and their `Grid`."""
    samples = max(-(-len(values) // _MOST_FRAMES), round(0.01 * network.sample_rate))
    count = -(-len(values) // samples)
    power = np.pad(np.square(values.astype("float64")), (0, count * samples - len(values))).reshape(count, samples)
    lengths = np.minimum(samples, len(values) - samples * np.arange(count))
    hop_s = samples / network.sample_rate
    return np.sqrt(power.sum(axis=1) / lengths)[:, np.newaxis], _networks.Grid(hop_s / 2, hop_s, count)

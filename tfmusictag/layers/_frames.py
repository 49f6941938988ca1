"""Where the frames of a waveform stand, for every front-end that has frames."""

from keras import ops

from tfmusictag import _arguments, errors
from tfmusictag.dsp import framing

PADDINGS = ("reflect", "zero", "valid", "none")
_PAD_MODES = {"reflect": "reflect", "zero": "constant"}


class Frames:
    """What frames span, how the ends of a clip are padded, how a file is cut.

    With padding, frame k is centred at sample k * hop_samples; without, it starts there.

    Args:
        frame_samples: samples that a frame spans.
        hop_samples: samples from one frame to the next.
        padding: `"reflect"` or `"zero"`, half a frame on either side of every clip; `"valid"`, none, for windows of a
            file that continue each other's frames, the file's two ends reflected; `"none"`, none at all.
        skip_frames: frames dropped at the beginning.

    Raises:
        ValueError: a value outside of the above.
    """

    def __init__(self, frame_samples, hop_samples, padding="reflect", skip_frames=0):
        if padding not in PADDINGS:
            raise errors.unknown_choice("padding", padding, PADDINGS)
        self.frame_samples = _arguments.whole("frame_samples", frame_samples, least=1)
        self.hop_samples = _arguments.whole("hop_samples", hop_samples, least=1)
        self.padding = padding
        self.skip_frames = _arguments.whole("skip_frames", skip_frames, least=0)

    @property
    def padded(self):
        """Whether every clip is padded by itself."""
        return self.padding in _PAD_MODES

    @property
    def first_centre(self):
        """The sample that the first frame is centred at."""
        return (0 if self.padded else self.frame_samples // 2) + self.skip_frames * self.hop_samples

    def count(self, num_samples):
        """Counts the frames that `num_samples` samples give."""
        count = framing.centred_num_frames if self.padded else framing.num_frames
        return count(num_samples, self.frame_samples, self.hop_samples) - self.skip_frames

    def framing(self, sample_rate, num_samples):
        """Returns how a file is cut for a network that looks at `num_samples` samples at once."""
        if self.padded:
            return framing.Framing(sample_rate, num_samples, num_samples)
        hop_samples = self.count(num_samples) * self.hop_samples
        edge_samples = self.frame_samples // 2 if self.padding == "valid" else 0
        return framing.Framing(sample_rate, num_samples, hop_samples, edge_samples, self.hop_samples)

    def check(self, num_samples):
        """Raises ValueError where a waveform is too short for one frame; None, an unknown length, passes."""
        half = self.frame_samples // 2
        least = framing.num_samples(1 + self.skip_frames, self.frame_samples, self.hop_samples)
        least -= 2 * half if self.padded else 0
        # Reflection needs a sample more than half a frame to reflect, whatever frames are dropped.
        least = max(least, half + 1 if self.padding == "reflect" else 1)
        if num_samples is not None and num_samples < least:
            raise ValueError(
                f"the waveform must have at least {least} samples with frames of {self.frame_samples} and "
                f"padding={self.padding!r}; received {num_samples}."
            )

    def pad(self, waveform):
        """(batch, samples) -> the same with its ends padded."""
        if not self.padded:
            return waveform
        half = self.frame_samples // 2
        return ops.pad(waveform, ((0, 0), (half, half)), mode=_PAD_MODES[self.padding])

"""The arithmetic of frames and windows; the only place where it is written."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Framing:
    """How a file is cut into the windows that a model takes; all but the sample rate [Hz] in samples.

    Attributes:
        sample_rate: of the waveform, in Hz.
        window_samples: width of a window.
        hop_samples: from one window to the next when they follow each other without a gap.
        edge_samples: reflected at both ends of a file before it is cut.
        grid_samples: window starts are multiples of it, so that frames fall where they do in the whole file.
    """

    sample_rate: int
    window_samples: int
    hop_samples: int
    edge_samples: int = 0
    grid_samples: int = 1


def of_patches(sample_rate, num_frames, frame_samples, hop_samples):
    """Returns the Framing of patches that are cut out of the spectrogram of a file: only the file's ends are padded."""
    window_samples = num_samples(num_frames, frame_samples, hop_samples)
    return Framing(sample_rate, window_samples, num_frames * hop_samples, frame_samples // 2, hop_samples)


def num_frames(num_samples, frame_samples, hop_samples):
    """Counts the whole frames that fit: 1 + (num_samples - frame_samples) // hop_samples, and 0 where none does."""
    if num_samples < frame_samples:
        return 0
    return 1 + (num_samples - frame_samples) // hop_samples


def num_samples(num_frames, frame_samples, hop_samples):
    """Counts the samples that `num_frames` frames span, without padding: the inverse of `num_frames`."""
    return (num_frames - 1) * hop_samples + frame_samples


def centred_num_frames(num_samples, frame_samples, hop_samples):
    """Counts the frames when half a frame is padded on either side, so that frame k is centred at sample k * hop."""
    return num_frames(num_samples + 2 * (frame_samples // 2), frame_samples, hop_samples)


def window_starts(num_samples, window_samples, hop_samples, grid_samples=1):
    """Returns where windows start so that they cover a signal: every hop, and one last window for the tail.

    The last window is moved back to end with the signal, on a multiple of `grid_samples`, so that it holds real sound
    and not padding. `num_samples` must be at least `window_samples`.
    """
    if num_samples < window_samples:
        raise ValueError(
            f"`num_samples` must be at least `window_samples`; received num_samples={num_samples}, "
            f"window_samples={window_samples}."
        )
    last = (num_samples - window_samples) // grid_samples * grid_samples
    starts = list(range(0, last + 1, hop_samples))
    if starts[-1] != last:
        starts.append(last)
    return starts

"""The spectrogram that an explanation is drawn over, with its axes in seconds and Hz."""

import dataclasses

import numpy as np

from tfmusictag import layers
from tfmusictag.dsp import harmonic, spectra, wavelets
from tfmusictag.explain import _networks

_HZ = "frequency [Hz]"
# Front-ends whose bands are no bands of frequencies, and what they are instead.
_INDICES = {"MFCC": "coefficient", "RawFilters": "kernel", "ScatteringSpectrogram": "path"}
# Of the spectrogram that is drawn where a model has none of its own: frames of about 32 ms, each half of one apart.
_FRAME_S, _BANDS, _RANGE_DB = 0.032, 64, 80.0


class Timed:
    """What has `times_s`, the middles of equal parts, and `hop_s` from one to the next."""

    @property
    def edges_s(self):
        """Where the parts begin and end, one more than there are, in seconds."""
        return np.append(self.times_s, self.times_s[-1] + self.hop_s) - self.hop_s / 2


@dataclasses.dataclass(frozen=True, eq=False)
class Spectrogram(Timed):
    """What was heard.

    Attributes:
        values: (frames, bands).
        times_s, hop_s: the frames' centres (frames,) and their distance, in seconds.
        frequencies_hz: the bands' centres (bands,), rising; None where bands are no frequencies.
        axis: name of the axis of the bands.
    """

    values: object
    times_s: object
    hop_s: float
    frequencies_hz: object
    axis: str

    def arrays(self):
        found = {"spectrogram": self.values, "spectrogram_times_s": self.times_s}
        return found if self.frequencies_hz is None else {**found, "frequencies_hz": self.frequencies_hz}


def frequencies_hz(frontend):
    """Returns the centres of a front-end's bands in Hz, rising, (bands,); None where they are no frequencies.

    Those of `LogScattering` are of its first order, at which its wavelets began.
    """
    config = frontend.get_config()
    rate = frontend.sample_rate
    if isinstance(frontend, layers.LogMel):
        low, high = config["min_freq_hz"], _top(config, rate)
        corners = np.linspace(*(spectra.hz_to_mel(hz, config["mel_scale"]) for hz in (low, high)), config["n_mels"] + 2)
        return spectra.mel_to_hz(corners[1:-1], config["mel_scale"])
    if isinstance(frontend, layers.LinearSpectrogram):
        low, high = config["min_freq_hz"], _top(config, rate)
        if config["bands"] is None:
            bins_hz = spectra.bin_frequencies(rate, config["n_fft"])
            return bins_hz[(bins_hz >= low) & (bins_hz <= high)]
        return np.linspace(low, high, config["bands"] + 2)[1:-1]
    if isinstance(frontend, layers.LogSpectrogram | layers.ConstantQ):
        return spectra.octave_bands(config["bands"], config["bands_per_octave"], config["min_freq_hz"])
    if isinstance(frontend, layers.HarmonicSpectrogram):
        grid = [config[name] for name in ("sample_rate", "harmonics", "lowest_note", "bands_per_semitone")]
        return harmonic.fundamentals_hz(*grid)
    if isinstance(frontend, layers.LogScattering):
        bank = wavelets.bank(config["J"], config["Q"][0])
        return rate * np.array([wavelet.centre for wavelet in bank])[::-1]
    return None


def axis(frontend):
    """Returns the name of the axis of a front-end's bands; None for a front-end without bands."""
    if isinstance(frontend, layers.HarmonicSpectrogram):
        return "pitch [Hz]"
    if frequencies_hz(frontend) is not None:
        return _HZ
    return _INDICES.get(type(frontend).__name__)


def folded(frontend, values):
    """Sums what belongs to a band: (frames, ...) in the shape of the features to (frames, bands).

    Harmonics of a pitch become one; of scattering, the paths through a wavelet of the first order.
    """
    if isinstance(frontend, layers.HarmonicSpectrogram):
        return values.sum(axis=-1)
    if isinstance(frontend, layers.LogScattering):
        keys = frontend.keys()
        found = np.zeros((len(values), sum(len(key) == 1 for key in keys)))
        np.add.at(found, (slice(None), [key[0] for key in keys]), values)
        return found[:, ::-1]  # the first wavelet is the highest
    return values[..., 0]


def own(network, waveform, start_s):
    """Returns the `Spectrogram` that a model makes of a waveform itself; None for a model without frames and bands."""
    name = axis(network.frontend)
    if name is None:
        return None
    (values,) = network.run([network.frontend.output], waveform)
    if isinstance(network.frontend, layers.LogScattering):
        keys = network.frontend.keys()
        values = values[:, [index for index, key in enumerate(keys) if len(key) == 1]][:, ::-1]
    else:
        values = values[..., 0]  # of a pitch, the first harmonic
    grid = network.frames().later(start_s)
    return Spectrogram(values, grid.centres_s, grid.hop_s, frequencies_hz(network.frontend), name)


def heard(network, waveform, start_s):
    """Returns a `Spectrogram` of a waveform with frequencies in Hz: the model's own, or else one that is only drawn."""
    if frequencies_hz(network.frontend) is not None:
        return own(network, waveform, start_s)
    rate = network.sample_rate
    n_fft = 2 ** round(np.log2(_FRAME_S * rate))
    layer = layers.LogMel(
        sample_rate=rate,
        n_fft=n_fft,
        hop_samples=n_fft // 2,
        n_mels=_BANDS,
        compression="decibel",
        range_db=_RANGE_DB,
        padding="zero",
    )
    grid = _networks.frames(layer, len(waveform)).later(start_s)
    values = np.asarray(layer(waveform[np.newaxis]))[0, :, :, 0]
    return Spectrogram(values, grid.centres_s, grid.hop_s, frequencies_hz(layer), _HZ)


def _top(config, rate):
    return rate / 2 if config["max_freq_hz"] is None else config["max_freq_hz"]

"""HarmonicSpectrogram: the harmonics of every note in decibels, through triangles whose width is learnt."""

import keras
from keras import ops

from tfmusictag import _arguments
from tfmusictag.dsp import harmonic
from tfmusictag.layers import _frontend, _power, _spectrogram


@keras.saving.register_keras_serializable("tfmusictag")
class HarmonicSpectrogram(_frontend.Frontend):
    """Maps waveforms (batch, samples) in [-1, 1] to decibels (batch, frames, bands, harmonics), float32.

    Band b of harmonic n is the power under a triangle about n times the pitch of band b: 10 log10(max(power, 1e-10)).
    The pitches go from `lowest_note` in equal steps up to the note nearest to half the sample rate over `harmonics`,
    which is left out: with the defaults 128 of them, 32.7 to 1281 Hz. A triangle falls to zero within half a bandwidth,
    (0.1079 centre + 24.7) / q Hz, where q is a weight of shape (1,), trained with the network. Only the size of q
    counts, so that no step of an optimiser leaves the range where there are triangles.

    Args:
        sample_rate: of the waveform, in Hz.
        n_fft: samples of a frame, of its periodic Hann window and of its Fourier transform.
        hop_samples, padding, implementation: as in `LogMel`.
        harmonics: of every note, itself included.
        bands_per_semitone: steps of the pitches.
        lowest_note: MIDI number of the lowest pitch.
        initial_q: q before training.
        learn_q: False keeps q as it is.

    Raises:
        ValueError: a value outside of the above, an `n_fft` that is no power of two with `"rfft"`, a `lowest_note`
            that leaves no band, or a waveform too short for one frame.

    Source: Won, Chun, Nieto and Serra, "Data-driven harmonic filters for audio representation learning", ICASSP 2020.
    """

    def __init__(
        self,
        sample_rate=16_000,
        n_fft=512,
        hop_samples=256,
        harmonics=6,
        bands_per_semitone=2,
        lowest_note=24,
        initial_q=1.0,
        learn_q=True,
        padding="reflect",
        implementation="rfft",
        **kwargs,
    ):
        super().__init__(kwargs)
        self.sample_rate = _arguments.whole("sample_rate", sample_rate, least=1)
        self.harmonics = _arguments.whole("harmonics", harmonics, least=1)
        self.bands_per_semitone = _arguments.whole("bands_per_semitone", bands_per_semitone, least=1)
        self.lowest_note = _arguments.whole("lowest_note", lowest_note, least=0)
        self.initial_q = _arguments.positive("initial_q", initial_q)
        highest = harmonic.highest_note(self.sample_rate, self.harmonics)
        if self.lowest_note >= highest:
            raise ValueError(
                f"`lowest_note` must be below {highest}, the note whose harmonic {self.harmonics} is nearest to half "
                f"the sample rate of {self.sample_rate} Hz; received {lowest_note!r}, with harmonics={harmonics!r}."
            )
        self.learn_q = _arguments.flag("learn_q", learn_q)
        self._power = _power.PowerSpectrum(n_fft, hop_samples, padding, implementation)
        self.n_fft = self._power.n_fft
        self.hop_samples = self._power.frames.hop_samples
        self.padding = padding
        self.implementation = implementation

        pitches_hz = harmonic.fundamentals_hz(
            self.sample_rate, self.harmonics, self.lowest_note, self.bands_per_semitone
        )
        self.bands = len(pitches_hz)
        # Harmonics of a band stand beside each other, as they do in the output.
        distances = harmonic.distances(harmonic.partials_hz(pitches_hz, self.harmonics), self.sample_rate, self.n_fft)
        self._distances = distances.reshape(-1, self.bands * self.harmonics).astype("float32")  # (bins, columns)

    def num_frames(self, num_samples):
        """Counts the frames that `num_samples` samples give."""
        return self._power.num_frames(num_samples)

    def framing(self, num_samples):
        """Returns how a file is cut for a network that looks at `num_samples` samples behind this layer."""
        return self._power.framing(self.sample_rate, num_samples)

    def check(self, num_samples):
        """Raises ValueError where a waveform is too short for one frame; None, an unknown length, passes."""
        self._power.check(num_samples)

    def build(self, input_shape):
        self.check(input_shape[-1])
        self.q = self.add_weight(
            shape=(1,),
            initializer=keras.initializers.Constant(self.initial_q),
            trainable=self.learn_q,
            name="q",
        )
        super().build(input_shape)

    def call(self, waveform):
        power = self._power(waveform)  # (batch, frames, bins)
        # q multiplies what it divides in the formula: nothing becomes infinite where it is small.
        triangles = ops.relu(1.0 - ops.abs(self.q) * self._distances)  # (bins, bands * harmonics)
        power = ops.matmul(power, triangles)
        # Where the length is known the shape is static, which TFLite needs.
        power = ops.reshape(power, (-1, ops.shape(power)[1], self.bands, self.harmonics))
        return _spectrogram.decibels(power)

    def compute_output_shape(self, input_shape):
        batch, samples = input_shape
        return batch, None if samples is None else self.num_frames(samples), self.bands, self.harmonics

    def get_config(self):
        return {
            **super().get_config(),
            **self.settings(),
            "initial_q": self.initial_q,
            "learn_q": self.learn_q,
            "padding": self.padding,
            "implementation": self.implementation,
        }

    def settings(self):
        """Returns what a spectrogram depends on inside a clip beside q; weights belong to these."""
        return {
            "sample_rate": self.sample_rate,
            "n_fft": self.n_fft,
            "hop_samples": self.hop_samples,
            "harmonics": self.harmonics,
            "bands_per_semitone": self.bands_per_semitone,
            "lowest_note": self.lowest_note,
        }

"""Pictures of scattering: what a clip looks like behind each stage, and the filters that look at it.

`scalogram` and `joint_plane` compute with the Keras layers, which bring TensorFlow; `filter_banks` needs NumPy alone.
Each returns numbers that draw themselves: `plot` makes a figure or a file, `draw` fills axes of the caller's.
"""

import dataclasses

import numpy as np

from tfmusictag import audio, errors, layers, plotting
from tfmusictag.dsp import scattering, wavelets

SAMPLE_RATE = 16_000
# The excerpt that is drawn unless told, and the longest, whose joint plane takes a minute and 2 GB.
DURATION_S, MAX_DURATION_S = 10.0, 60.0

# Twelve bands an octave, averaged by a Gaussian of 25 ms (standard deviation; T is less), every 8 ms.
_SCALOGRAM = {"J": 10, "Q": 12, "T": 2**8, "stride": 2**7}
_LEAST_HZ = 20.0  # lower bands lie closer than a picture on a logarithmic axis can show
_JOINT = {"J": 13, "Q": (12, 2), "J_fr": 4, "Q_fr": 2}
_SILENCE = 1e-7  # below the last bit of 24-bit samples
_RANGE_DB = {"scalogram": 70.0, "joint": 40.0}
_SHOWN_HZ = 400.0  # faster, twelve wavelets an octave hear nothing worth a picture

_TIME, _FREQUENCY, _LEVEL = "time [s]", "frequency [Hz]", "level [dB re full scale]"
_RATE, _SCALE, _RELATIVE_LEVEL = "rate [Hz]", "scale [cycles per octave]", "level [dB re largest]"
_COLOURS = "magma"


def excerpt(source, start_s=0.0, duration_s=DURATION_S):
    """Decodes `duration_s` seconds of a file from `start_s` on, or what there is of them.

    Args:
        source: as `audio.load` takes it.

    Returns:
        Mono float32 (samples,) at 16 kHz.

    Raises:
        AudioError: the file cannot be decoded, or ends before `start_s` (code too_short).
        ValueError: `start_s` is negative, or `duration_s` not above 0 or more than 60.
    """
    if not start_s >= 0:
        raise ValueError(f"`start_s` must be from 0; received {start_s!r}.")
    if not 0 < duration_s <= MAX_DURATION_S:
        raise ValueError(f"`duration_s` must be above 0 and at most {MAX_DURATION_S:g}; received {duration_s!r}.")
    start, end = (round(at_s * SAMPLE_RATE) for at_s in (start_s, start_s + duration_s))
    found, position = [], 0
    with audio.open_stream(source, SAMPLE_RATE) as stream:
        for block in stream:
            found.append(block[max(start - position, 0) : max(end - position, 0)])
            position += len(block)
            if position >= end:
                break
    if position <= start:
        raise errors.AudioError("too_short", f"the sound ends at {position / SAMPLE_RATE:.3f} s, before {start_s:g} s")
    return np.concatenate(found)


# --- the scalogram ------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Scalogram:
    """First-order moduli of a clip.

    Attributes:
        times_s: the frames' centres in seconds, (frames,).
        frequencies_hz: the wavelets' centres in Hz, rising, (bands,).
        moduli: (bands, frames); 0.5 is a sine of full scale in a wavelet's middle.
    """

    times_s: object
    frequencies_hz: object
    moduli: object

    @property
    def levels_db(self):
        """The moduli in decibels, (bands, frames): 0 is a sine of full scale in a wavelet's middle."""
        return _decibels(2 * self.moduli)

    def draw(self, axes, peak_db=None):
        """Draws into matplotlib axes; returns what a colour bar needs. `peak_db` is the brightest [the loudest]."""
        levels = self.levels_db
        peak_db = levels.max() if peak_db is None else peak_db
        mesh = axes.pcolormesh(
            _edges(self.times_s),
            np.exp(_edges(np.log(self.frequencies_hz))),
            levels,
            vmin=peak_db - _RANGE_DB["scalogram"],
            vmax=peak_db,
            cmap=_COLOURS,
            rasterized=True,
        )
        _logarithmic(axes.yaxis, (31.5, 63, 125, 250, 500, 1000, 2000, 4000))
        axes.set(xlabel=_TIME, ylabel=_FREQUENCY)
        return mesh

    def plot(self, path=None, title=""):
        """Draws the scalogram, into a file if `path` is given; returns the matplotlib figure."""
        figure = plotting.new_figure(10, 5)
        axes = figure.add_subplot()
        figure.colorbar(self.draw(axes), ax=axes, label=_LEVEL, pad=0.02)
        axes.set_title(title, parse_math=False)
        return plotting.save(figure, path)


def scalogram(waveform, start_s=0.0):
    """Computes the scalogram of a clip: the moduli of twelve wavelets an octave, a frame each 8 ms.

    Args:
        waveform: (samples,) at 16 kHz.
        start_s: where the clip starts in its file, for the time axis.

    Raises:
        AudioError: the clip is shorter than 64 ms or silent.
    """
    waveform = _checked(waveform, 2 ** _SCALOGRAM["J"], "scalogram")
    layer = layers.Scattering1D(**_SCALOGRAM, max_order=1)
    coefficients = _coefficients(layer, waveform)
    stride = _SCALOGRAM["stride"]
    padding = scattering.padding(len(waveform), layer.averaged_samples)
    first, end = padding.frames(layer.stride_octave)
    frequencies_hz = SAMPLE_RATE * np.array([wavelet.centre for wavelet in layer.psi1])
    shown = np.flatnonzero(frequencies_hz >= _LEAST_HZ)[::-1]
    return Scalogram(
        times_s=start_s + (np.arange(first, end) * stride - padding.left) / SAMPLE_RATE,
        frequencies_hz=frequencies_hz[shown],
        moduli=coefficients[:, 1 + shown].T,  # order 0 stands first
    )


# --- the joint plane ----------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class JointPlane:
    """Joint scattering of order 2, averaged over the time and the log-frequency axis of a clip.

    A glissando of v octaves a second lies along rate = v * scale, on the side of its direction. Twelve wavelets an
    octave take scales above 6 for scales of the other direction, so a faint rest of it stands there, at higher rates.

    Attributes:
        rates_hz: of the wavelets along time, in Hz, rising, (rates,).
        scales: of the wavelets along log-frequency, in cycles per octave, rising, (scales,).
        rising, falling: mean moduli (scales, rates) of spin +1 and -1.
    """

    rates_hz: object
    scales: object
    rising: object
    falling: object

    @property
    def peak(self):
        return max(self.rising.max(), self.falling.max())

    def draw(self, falling_axes, rising_axes, peak=None):
        """Draws into two matplotlib axes side by side, rate 0 between them; returns what a colour bar needs.

        `peak` is the modulus of 0 dB; None takes the largest of both sides.
        """
        reference = self.peak if peak is None else peak
        sides = ((falling_axes, self.falling, "falling (-1)"), (rising_axes, self.rising, "rising (+1)"))
        shown = self.rates_hz < _SHOWN_HZ
        for axes, moduli, name in sides:
            mesh = axes.pcolormesh(
                np.exp(_edges(np.log(self.rates_hz[shown]))),
                np.exp(_edges(np.log(self.scales))),
                _decibels(moduli[:, shown] / reference),
                vmin=-_RANGE_DB["joint"],
                vmax=0.0,
                cmap=_COLOURS,
                rasterized=True,
            )
            _logarithmic(axes.xaxis, (1, 4, 16, 64, 256))
            _logarithmic(axes.yaxis, (0.25, 0.5, 1, 2, 4))
            axes.set(xlabel=_RATE, title=name)
        falling_axes.invert_xaxis()
        falling_axes.set_ylabel(_SCALE)
        rising_axes.tick_params(labelleft=False)
        return mesh

    def plot(self, path=None, title=""):
        """Draws the plane, into a file if `path` is given; returns the matplotlib figure."""
        figure = plotting.new_figure(10, 4.5)
        sides = figure.subplots(1, 2)
        figure.get_layout_engine().set(wspace=0.01)
        figure.colorbar(self.draw(*sides), ax=sides, label=_RELATIVE_LEVEL, pad=0.02)
        figure.suptitle(title, fontsize="large", parse_math=False)
        return plotting.save(figure, path)


def joint_plane(waveform):
    """Computes the joint plane of a clip: how strongly what moves at a rate and a scale rises, and falls.

    Args:
        waveform: (samples,) at 16 kHz.

    Raises:
        AudioError: the clip is shorter than 0.512 s or silent.
    """
    waveform = _checked(waveform, 2 ** _JOINT["J"], "joint plane")
    layer = layers.TimeFrequencyScattering(**_JOINT, T="global", F="global", implementation="conv")
    coefficients = _coefficients(layer, waveform)  # (1, 1, paths)
    paths = layer.meta().assign(mean=coefficients.ravel())
    paths["scale"] = paths.xi_fr.abs() * _JOINT["Q"][0]
    second = paths[paths.order == 2]
    rising, falling = (
        second[second.spin == spin].pivot(index="scale", columns="xi", values="mean") for spin in (1, -1)
    )
    return JointPlane(
        rates_hz=rising.columns.to_numpy() * SAMPLE_RATE,
        scales=rising.index.to_numpy(),
        rising=rising.to_numpy(),
        falling=falling.to_numpy(),
    )


# --- the filters --------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Bank:
    """The responses of a filter bank.

    Attributes:
        frequencies: where they are taken, (points,), in Hz or cycles per octave.
        centres: the wavelets' own frequencies, (wavelets,).
        responses: (wavelets, points); the largest are about 1.
        low_pass: the response (points,) of the filter that averages.
    """

    frequencies: object
    centres: object
    responses: object
    low_pass: object

    def draw(self, axes):
        """Draws the responses into matplotlib axes, each in a colour for its frequency."""
        from matplotlib import colormaps

        _, places = np.unique(np.abs(self.centres), return_inverse=True)
        colours = colormaps["viridis"](0.9 * places / places.max())  # the map's last tenth is too bright for lines
        for colour, response in zip(colours, self.responses, strict=True):
            axes.plot(self.frequencies, response, color=colour, linewidth=0.9)
        axes.plot(self.frequencies, self.low_pass, color="0.4", linestyle="--", linewidth=1.2, label="low-pass")
        axes.set(xlim=self.frequencies[[0, -1]], ylim=(0, 1.08), ylabel="gain")


@dataclasses.dataclass(frozen=True)
class FilterBanks:
    """The filters of joint scattering: along time, first and second order, and along log-frequency (both spins)."""

    first: Bank
    second: Bank
    log_frequency: Bank

    def plot(self, path=None, title=""):
        """Draws the banks one under the other, into a file if `path` is given; returns the matplotlib figure."""
        figure = plotting.new_figure(10, 8)
        first, second, along = figure.subplots(3, 1)
        (Q1, Q2), Q_fr = _JOINT["Q"], _JOINT["Q_fr"]
        for bank, axes in ((self.first, first), (self.second, second), (self.log_frequency, along)):
            bank.draw(axes)
        for axes in (first, second):
            _logarithmic(axes.xaxis, (1, 4, 16, 64, 256, 1024, 4096))
        first.set(xlabel=_FREQUENCY, title=f"first order: {Q1} wavelets an octave")
        second.set(xlabel=_RATE, title=f"second order: {Q2} wavelets an octave")
        along.set(xlim=(-Q1 / 2, Q1 / 2), xlabel=_SCALE, title=f"along log-frequency: {Q_fr} wavelets an octave")
        along.set_title("falling (-1)", loc="left", fontsize="medium")
        along.set_title("rising (+1)", loc="right", fontsize="medium")
        figure.legend(handles=along.lines[-1:], loc="upper right", frameon=False)
        figure.suptitle(title, fontsize="large", parse_math=False)
        return plotting.save(figure, path)


def filter_banks():
    """Computes the responses of the filters behind `joint_plane`."""
    J, (Q1, Q2), J_fr, Q_fr = (_JOINT[name] for name in ("J", "Q", "J_fr", "Q_fr"))
    return FilterBanks(
        first=_along_time(J, Q1),
        second=_along_time(J, Q2),
        log_frequency=_along_log_frequency(J_fr, Q_fr, Q1),
    )


def _along_time(octaves, per_octave):
    """Returns a Bank at about equal steps on a logarithmic axis, from 0.1 Hz to the Nyquist frequency."""
    num_bins = 2 ** (octaves + 7)
    least = 0.1 / SAMPLE_RATE * num_bins
    shown = np.unique(np.geomspace(least, num_bins // 2, 3_000).round().astype(int))
    bank = wavelets.bank(octaves, per_octave)
    responses = []
    for wavelet in bank:
        first, values = wavelets.band(wavelet, num_bins)  # `response` would compute a million bins of each
        responses.append(np.interp(shown, first + np.arange(len(values)), values, left=0.0, right=0.0))
    return Bank(
        frequencies=shown * SAMPLE_RATE / num_bins,
        centres=np.array([wavelet.centre for wavelet in bank]) * SAMPLE_RATE,
        responses=np.stack(responses),
        low_pass=wavelets.response(wavelets.low_pass(2**octaves), num_bins)[shown],
    )


def _along_log_frequency(octaves, per_octave, rows_per_octave):
    """Returns the Bank of both spins along an axis of `rows_per_octave` first-order wavelets an octave."""
    num_bins = 2 ** (octaves + 7)
    bank = wavelets.with_both_spins(wavelets.bank(octaves, per_octave))
    return Bank(
        frequencies=np.fft.fftshift(np.fft.fftfreq(num_bins)) * rows_per_octave,
        centres=np.array([wavelet.centre for wavelet in bank]) * rows_per_octave,
        responses=np.stack([np.fft.fftshift(wavelets.response(wavelet, num_bins)) for wavelet in bank]),
        low_pass=np.fft.fftshift(wavelets.response(wavelets.low_pass(2**octaves), num_bins)),
    )


# --- what they share ----------------------------------------------------------------------------------------------


def _checked(waveform, least_samples, what):
    """Returns the clip in float32, if it is long enough and audible."""
    waveform = np.asarray(waveform, "float32")
    if waveform.ndim != 1:
        raise ValueError(f"`waveform` must have the shape (samples,); received {waveform.shape}.")
    least_s, duration_s = least_samples / SAMPLE_RATE, len(waveform) / SAMPLE_RATE
    if duration_s < least_s:
        raise errors.AudioError(
            "too_short", f"a {what} takes at least {least_s:.3f} s of sound; there are {duration_s:.3f} s"
        )
    if np.ptp(waveform) < _SILENCE:
        raise errors.AudioError("silent", f"there is only silence, of which a {what} shows nothing")
    return waveform


def _coefficients(layer, waveform):
    """Applies a scattering layer to one clip: (samples,) -> (frames, ..., paths)."""
    coefficients = np.asarray(layer(waveform[np.newaxis]))[0]
    if not np.isfinite(coefficients).all():
        raise errors.AudioError("not_finite", "samples are so large, or NaN, that coefficients are not finite")
    return coefficients


def _decibels(moduli):
    return 20 * np.log10(np.maximum(moduli, 1e-12))


def _edges(centres):
    """Returns the edges (n + 1,) of cells around rising centres (n,)."""
    middles = (centres[1:] + centres[:-1]) / 2
    return np.concatenate([[2 * centres[0] - middles[0]], middles, [2 * centres[-1] - middles[-1]]])


def _logarithmic(axis, ticks):
    """Makes an axis logarithmic, with those of the ticks that are in view, written out."""
    set_scale = getattr(axis.axes, f"set_{axis.axis_name}scale")
    set_scale("log")
    low, high = axis.get_view_interval()
    axis.set_ticks([tick for tick in ticks if low <= tick <= high])
    axis.set_major_formatter("{x:g}")
    axis.minorticks_off()

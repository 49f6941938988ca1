"""Draws docs/joint_plane.png: a glissando up and one down, as scalograms and on the plane of joint scattering.

python docs/joint_plane.py
"""

import pathlib

import numpy as np

from tfmusictag import plotting, scattering_plots

LOW_HZ, HIGH_HZ, DURATION_S = 150.0, 3_000.0, 4.0
FASTEST_HZ = 45.0  # rate that is shown
OCTAVES_PER_S = np.log2(HIGH_HZ / LOW_HZ) / DURATION_S
LINE = f"rate = {OCTAVES_PER_S:.2f} octaves/s · scale"


def glissando(from_hz, to_hz, duration_s=DURATION_S, sample_rate=scattering_plots.SAMPLE_RATE):
    """Returns a sine that passes equal intervals in equal times, under a smooth window; float32 (samples,)."""
    time_s = np.arange(round(duration_s * sample_rate)) / sample_rate
    growth = np.log(to_hz / from_hz) / duration_s  # per second
    phase = 2 * np.pi * from_hz * np.expm1(growth * time_s) / growth
    return (0.5 * np.sin(phase) * np.hanning(len(time_s))).astype("float32")


def main():
    clips = [glissando(LOW_HZ, HIGH_HZ), glissando(HIGH_HZ, LOW_HZ)]
    scalograms = [scattering_plots.scalogram(clip) for clip in clips]
    planes = [scattering_plots.joint_plane(clip) for clip in clips]

    figure = plotting.new_figure(10, 6.4)
    grid = figure.subplots(2, 3, width_ratios=(1.25, 1, 1))
    for (time_axes, falling, rising), scalogram, plane in zip(grid, scalograms, planes, strict=True):
        levels = scalogram.draw(time_axes)
        ratios = plane.draw(falling, rising, peak=max(plane.peak for plane in planes))
        time_axes.set(xlim=(0, DURATION_S), ylim=(80, 6_000), facecolor="black")
        slowest_hz = min(rising.get_xlim())
        rising.set_xlim(slowest_hz, FASTEST_HZ)
        falling.set_xlim(FASTEST_HZ, slowest_hz)
        side = rising if plane is planes[0] else falling
        scales = np.array(side.get_ylim())
        side.plot(
            OCTAVES_PER_S * scales, scales, scalex=False, scaley=False, label=LINE, color="tab:cyan", linestyle="--"
        )
        corner = "lower right" if side is rising else "lower left"
        side.legend(loc=corner, fontsize="small", labelcolor="white", frameon=False)
    grid[0, 0].set_title("a glissando up")
    grid[1, 0].set_title("a glissando down")
    for axes in grid[0]:
        axes.set_xlabel("")
    figure.colorbar(levels, ax=grid[:, 0], location="bottom", label="level [dB re full scale]", aspect=30)
    figure.colorbar(ratios, ax=grid[:, 1:], location="bottom", label="level [dB re largest]", aspect=50)
    plotting.save(figure, pathlib.Path(__file__).with_suffix(".png"))


if __name__ == "__main__":
    main()

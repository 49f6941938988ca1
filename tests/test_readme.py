"""The README's Python runs as it stands."""

import pathlib
import re

import builders
import pytest
import soundfile
import tensorflow_datasets as tfds

README = pathlib.Path(__file__).parents[1] / "README.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```", README.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
IDS = ["tag", "explain", "train", "music", "papers", "few", "rendered", "features", "scattering", "phone"]
LONG = ["papers", "rendered"]  # half of the time of all


def build_small(folder, monkeypatch):
    """Builds a small corpus under the name of the large one, where tfds looks for it."""
    from tfmusictag.datasets.rendered_music import _render
    from tfmusictag.datasets.rendered_music import rendered_music_dataset_builder as module

    try:
        _render.library()
        _render.soundfont()
    except (ImportError, ValueError) as error:
        pytest.skip(str(error))
    monkeypatch.setattr(module.Builder.config("techniques"), "clips", 100)
    monkeypatch.setattr(module.Builder.config("techniques"), "clip_s", 3.1)
    module.Builder(data_dir=folder, config="techniques").download_and_prepare()
    tfds.core.add_data_dir(folder)


@pytest.mark.usefixtures("trained")
@pytest.mark.parametrize(
    "block",
    [
        pytest.param(block, marks=[pytest.mark.long] if name in LONG else [], id=name)
        for name, block in zip(IDS, BLOCKS, strict=True)
    ],
)
def test_readme(block, tmp_path, monkeypatch):
    from tfmusictag.dsp import demo

    monkeypatch.chdir(tmp_path)
    soundfile.write("song.mp3", demo.clip(), demo.SAMPLE_RATE)
    for seed in range(20):
        builders.write_clip(f"music/{('calm', 'wild')[seed % 2]}/{seed}.wav", seed)
    if "rendered_music" in block:
        build_small(tmp_path / "tfds", monkeypatch)
    exec(compile(block, "README.md", "exec"), {})

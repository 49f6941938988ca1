"""The README's Python runs as it stands."""

import pathlib
import re

import builders
import pytest
import soundfile

README = pathlib.Path(__file__).parents[1] / "README.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```", README.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)


@pytest.mark.usefixtures("trained")
@pytest.mark.parametrize("block", BLOCKS, ids=["tag", "train", "music", "features", "scattering", "phone"])
def test_readme(block, tmp_path, monkeypatch):
    from tfmusictag.dsp import demo

    monkeypatch.chdir(tmp_path)
    soundfile.write("song.mp3", demo.clip(), demo.SAMPLE_RATE)
    for seed in range(20):
        builders.write_clip(f"music/{('calm', 'wild')[seed % 2]}/{seed}.wav", seed)
    exec(compile(block, "README.md", "exec"), {})

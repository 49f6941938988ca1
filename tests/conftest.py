"""Fixtures: a cache of the tests' own, trained weights, hostile files."""

import json
import os
import pathlib

import pytest

# TensorFlow's notes on the machine are no warnings of ours; set before anything imports it.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# The cache of the tests lies in the checkout, so that the 29 MB of weights come once and not at every run.
CACHE = pathlib.Path(os.environ.get("TFMUSICTAG_TEST_CACHE") or pathlib.Path(__file__).parents[1] / ".cache")
os.environ["TFMUSICTAG_CACHE"] = str(CACHE)
SHARED_AUDIO = pathlib.Path(__file__).parents[2] / "shared" / "audio"


@pytest.fixture(autouse=True)
def converting(request, monkeypatch):
    """Shares one loaded TensorFlow among conversions, but where they are what is tested."""
    if request.module.__name__ not in ("test_exporting", "test_floors", "test_full_size"):
        import warm_converter

        from tfmusictag.exporting import tflite

        monkeypatch.setattr(tflite, "subprocess", warm_converter.SUBPROCESS)


@pytest.fixture(scope="session")
def trained():
    """Asks for the trained weights; skips where the wheel cannot be had, since everything else can be tested."""
    import musicnn_wheel

    return musicnn_wheel.wheel_path()


@pytest.fixture(scope="session")
def rendering():
    """Asks for what renders music; skips where FluidSynth or a SoundFont is missing, and says which."""
    from tfmusictag.datasets.rendered_music import _render

    try:
        _render.library()
        _render.soundfont()
    except (ImportError, ValueError) as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def hostile_folder(tmp_path_factory):
    """The folder of hostile files and what is expected of each."""
    import hostile

    folder = tmp_path_factory.mktemp("hostile")
    return folder, hostile.make(folder)


@pytest.fixture(scope="module")
def music(request, tmp_path_factory):
    """A folder with a clip for each of the test module's LENGTHS, {name: samples}."""
    import builders

    folder = tmp_path_factory.mktemp("music")
    for seed, (name, length) in enumerate(request.module.LENGTHS.items()):
        builders.write_clip(folder / f"{name}.wav", seed, num_samples=length)
    return folder


@pytest.fixture(scope="module")
def stored(request, music, tmp_path_factory):
    """The tracks of the test module's `table()`, which are in `music`, as records."""
    from tfmusictag import records

    folder = tmp_path_factory.mktemp("stored") / "records"
    records.write_waveforms(request.module.table(), folder, audio_folder=music, shards=2)
    return folder


@pytest.fixture
def real_clip():
    """Finds a real clip by its name; they are not part of the repository."""

    def find(name):
        path = SHARED_AUDIO / name
        if not path.exists():
            pytest.skip(f"{name} is not here: real clips are not part of the repository")
        return path

    return find


@pytest.fixture
def run_records(capfd):
    """Runs `tfmusictag records`; returns its exit status, the lines of standard output and standard error."""

    from tfmusictag import cli

    def run(*arguments):
        capfd.readouterr()
        try:
            status = cli.main(["records", *map(os.fspath, arguments)])
        except SystemExit as ended:
            status = ended.code
        out, err = capfd.readouterr()
        return status, [json.loads(line) for line in out.splitlines()], err

    return run

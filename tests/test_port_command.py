"""`tfmusictag port`: another project's file in, a weights file out that the application loads."""

import os
import pathlib
import pickle
import re
import subprocess
import sys

import numpy as np
import pytest
from test_cli import run  # noqa: F401 (a fixture)
from test_porting_torch import NARROW, Hostile, archive, save_first_format, vggish_arrays

import tfmusictag as tmt

VGGISH = [f"{name}={value}" for name, value in NARROW.items()]


@pytest.fixture
def checkpoint(tmp_path):
    path = tmp_path / "vggish_model.ckpt"
    save_first_format(path, vggish_arrays())
    return path


def port(run, path, model, *more, output="out.weights.h5"):  # noqa: F811
    return run("port", path, "--model", model, "-o", path.parent / output, *more)


def test_a_checkpoint_becomes_a_weights_file(run, checkpoint):  # noqa: F811
    status, out, err = port(run, checkpoint, "vggish", "--argument", *VGGISH)
    path = checkpoint.parent / "out.weights.h5"
    assert (status, out) == (0, f"{path}\n")
    assert f"tfmusictag.create('vggish', weights='{path}', filters=2, units=8, embedding_units=6) loads it" in err
    model = tmt.create("vggish", weights=path, **NARROW)
    np.testing.assert_array_equal(model.get_layer("dense3").kernel, vggish_arrays()["vggish/fc2/weights"])


def test_the_file_tells_the_number_of_classes(run, tmp_path):  # noqa: F811
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install tfmusictag[torch]")
    import torch_peers

    network = torch_peers.randomised(torch_peers.Jamendo(width=2, classes=56), seed=1)
    path = tmp_path / "best_model.pth"
    torch.save(network.state_dict(), path)
    status, _, err = port(run, path, "jamendo_cnn", "--argument", "filters=2")
    assert status == 0
    assert "filters=2, classes=56) loads it" in err
    model = tmt.create("jamendo_cnn", weights=tmp_path / "out.weights.h5", classes=56, filters=2)
    np.testing.assert_array_equal(model.get_layer("logits").bias, network.dense.bias.detach())
    status, _, err = port(run, path, "jamendo_cnn", "--classes", "50", "--argument", "filters=2", "--overwrite")
    assert (status, err.count("\n")) == (3, 1)
    assert "logits/bias needs (50,), dense.bias has (56,)" in err
    assert "other sizes" not in err
    status, _, err = port(run, path, "jamendo_cnn", "--overwrite")
    assert status == 3
    assert "conv1/kernel needs (3, 3, 1, 64), conv_1.weight has (2, 1, 3, 3), which gives (3, 3, 1, 2)" in err
    assert "Models of other sizes are built with other values of filters. --argument NAME=VALUE says what" in err


def test_a_part_of_a_file_is_named_behind_it(run, trained, tmp_path):  # noqa: F811
    path = tmp_path / "mtat.weights.h5"
    assert run("port", f"{trained}#mtat", "--model", "musicnn", "-o", path, "--quiet") == (0, f"{path}\n", "")
    converted, preset = (tmt.create("musicnn", weights=weights) for weights in (path, "mtat"))
    for ours, theirs in zip(converted.get_weights(), preset.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    status, _, err = run("port", trained, "--model", "musicnn", "-o", tmp_path / "other.weights.h5")
    assert status == 2
    assert "`weights` must say which weights of the wheel" in err


def test_a_file_that_is_there_is_kept_unless_told(run, checkpoint):  # noqa: F811
    path = checkpoint.parent / "out.weights.h5"
    path.write_bytes(b"mine")
    status, out, err = port(run, checkpoint, "vggish", "--argument", *VGGISH)
    assert (status, out) == (2, "")
    assert "exists; --overwrite replaces it" in err
    assert path.read_bytes() == b"mine"
    assert port(run, checkpoint, "vggish", "--argument", *VGGISH, "--overwrite", "--quiet") == (0, f"{path}\n", "")
    assert path.read_bytes() != b"mine"


@pytest.mark.parametrize(
    "model, more, words",
    [
        ("vggis", (), "`model` must be one of"),
        (
            "vggish",
            ("--argument", "filter=2"),
            "`--argument` must be one of .*received 'filter'. Did you mean 'filters'",
        ),
        ("vggish", ("--argument", "include_frontend=False"), "`--argument` must be one of"),
        ("fcn", ("--argument", "frontend=mfcc"), "`--argument` must be one of"),
        ("vggish", ("--argument", "filters"), "must be NAME=VALUE, such as filters=128; received 'filters'"),
        ("vggish", ("--argument", "embedding_activation=tanh"), "received 'tanh'"),
        ("vggish", ("--argument", "filters=many"), "`filters` must be a whole number of at least 1; received 'many'"),
        ("vggish", ("--argument", "dropout=much"), "`dropout` must be from 0 to less than 1; received 'much'"),
        ("vggish", ("--classes", "0"), "must be a whole number above 0"),
    ],
)
def test_wrong_usage_ends_with_2(run, checkpoint, model, more, words):  # noqa: F811
    status, out, err = port(run, checkpoint, model, *more)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert re.search(words, err)
    assert os.listdir(checkpoint.parent) == [checkpoint.name]


def test_the_name_of_the_output(run, checkpoint):  # noqa: F811
    status, _, err = port(run, checkpoint, "vggish", output="out.h5")
    assert status == 2
    assert "`--output` must end in .weights.h5; received" in err
    assert run("port", checkpoint, "--model", "vggish")[0] == 2
    assert run("port", "mtat", "--model", "musicnn", "-o", "a.weights.h5")[0] == 2


def test_files_that_cannot_be_taken_end_with_3_and_run_nothing(run, tmp_path):  # noqa: F811
    target = tmp_path / "was here"
    files = {
        "hostile.pth": archive(pickle.dumps(Hostile(target), 2)),
        "text.pth": b"a letter",
        "missing.pth": None,
        "made.weights.h5": b"",
    }
    for name, content in files.items():
        if content is not None:
            (tmp_path / name).write_bytes(content)
        status, out, err = port(run, tmp_path / name, "fcn")
        assert (status, out, err.count("\n")) == (3, "", 1)
        assert name in err
    assert sorted(os.listdir(tmp_path)) == sorted(name for name, content in files.items() if content is not None)
    status, _, err = port(run, tmp_path / "missing", "musicnn")
    assert (status, err) == (3, f"tfmusictag: {tmp_path / 'missing'} does not exist. [missing_file]\n")
    status, _, err = port(run, tmp_path / "text.pth", "jtfs_packnet")
    assert status == 3
    assert "no other project's files are known to fit jtfs_packnet" in err


def test_without_pytorch_the_extra_is_named(run, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.setitem(sys.modules, "torch", None)
    path = tmp_path / "best_model.pth"
    path.write_bytes(archive(pickle.dumps({}, 2)))
    status, out, err = port(run, path, "fcn")
    assert (status, out) == (2, "")
    assert err == "tfmusictag: torch is not installed; `pip install tfmusictag[torch]` brings it.\n"
    monkeypatch.setitem(sys.modules, "torch", type(sys)("torch"))
    sys.modules["torch"].__version__ = "2.5.1"
    assert "torch 2.5.1 is too old" in port(run, path, "fcn")[2]


def test_a_file_that_does_not_fit_is_told_before_tensorflow_has_loaded(tmp_path):
    (tmp_path / "best_model.pth").write_bytes(b"a letter")
    code = """
import sys
from tfmusictag import cli
status = cli.main(["port", "best_model.pth", "--model", "fcn", "-o", "out.weights.h5"])
print(status, [name for name in ("tensorflow", "keras", "torch") if name in sys.modules])
"""
    finished = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(pathlib.Path(tmt.__file__).parents[1])},
    )
    assert finished.stdout == "3 []\n", finished.stderr

"""What JTFSPackNet offers besides its defaults."""

import contract
import keras
import numpy as np
import pytest

import tfmusictag as tmt

NAME = "jtfs_packnet"


@pytest.mark.parametrize(
    "arguments",
    [
        {"scattering": "time"},
        {"packing": "2d"},
        {"spin": "up"},
        {"spin": "both"},
        {"spin_per": "frame", "log_floor": None, "normalized": False},
        {"average_bands": False, "F": 16},
        {"top": "average"},
        {"frames_as": "batch", "filters": 32},
        {"frames_as": "batch", "filters": 32, "context": "attention"},
        {"frames_as": "batch", "filters": 32, "context": "recurrent"},
        {"implementation": "fft"},
        {"F": 5, "kernel_size": 5, "depth_filters": 2},
    ],
    ids=str,
)
def test_an_ablation_learns_and_is_saved(arguments, tmp_path):
    model = contract.tiny(NAME, **arguments)
    model.compile("sgd", "mse", jit_compile=False)  # the contract compiles; a dozen models would take minutes
    loss = model.train_on_batch(contract.clips(NAME), np.eye(4, contract.CLASSES))
    assert np.isfinite(loss)
    model.save(tmp_path / "model.keras")
    again = tmt.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(
        contract.predict(again, contract.clips(NAME)), contract.predict(model, contract.clips(NAME))
    )


def trainable(**arguments):
    model = tmt.create(NAME, **arguments)
    return sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)


def test_parameters_of_the_ablations():
    """By the arithmetic of PackNet's blocks: 224 + 32 C^2 k^2 + 3 C each, and 4 C^2 k^2 + 3 C without 3-D."""
    head = 2 * 64 * 50 + 50
    assert trainable() == 4 * (224 + 32 * 64**2 * 9 + 3 * 64) + head
    assert trainable(packing="2d") == 4 * (4 * 64**2 * 9 + 3 * 64) + head
    # The other front-ends feed the same trunk.
    for arguments in ({"scattering": "time"}, {"spin": "down"}, {"spin_per": "frame"}):
        assert trainable(**arguments) == trainable()
    # 27 frames are 32 channels; the sheet's count for half of the width.
    assert trainable(J=14) == 1_184_178


def test_features_can_be_standardised(tmp_path):
    model = contract.tiny(NAME)
    clips = contract.clips(NAME)
    features = np.asarray(model.get_layer("rate_scale")(clips))
    model.get_layer("standardize").adapt(features)
    standard = np.asarray(model.get_layer("standardize")(features))
    used = np.abs(features).max(axis=(0, 1)) > 0
    np.testing.assert_allclose(standard.mean(axis=(0, 1)), 0, atol=1e-4)
    np.testing.assert_allclose(standard.std(axis=(0, 1))[used], 1, atol=1e-3)
    assert (standard[:, :, ~used] == 0).all()  # rates that meet nothing stay zero
    model.save_weights(tmp_path / "model.weights.h5")
    again = contract.tiny(NAME, weights=tmp_path / "model.weights.h5")
    np.testing.assert_allclose(contract.predict(again, clips), contract.predict(model, clips), atol=1e-6)


def test_a_context_needs_frames_in_order():
    with pytest.raises(ValueError, match="`context` must be None where frames are channels.* frames_as='batch' would"):
        tmt.create(NAME, context="attention")


@pytest.mark.parametrize(
    "arguments, words",
    [
        ({"packing": "4d"}, "`packing` must be one of .* received '4d'"),
        ({"frames_as": "rows"}, "`frames_as` must be one of .* received 'rows'"),
        ({"context": "lstm"}, "`context` must be one of .* received 'lstm'"),
        ({"top": "max"}, "`top` must be one of .* received 'max'"),
        ({"frames_as": "batch", "filters": 20}, "`filters` must be a multiple of `groups`"),
    ],
)
def test_a_wrong_argument_is_named(arguments, words):
    with pytest.raises(ValueError, match=words):
        contract.tiny(NAME, **arguments)


def test_the_default_takes_a_clip_of_magnatagatune():
    model = tmt.create(NAME)
    assert model.get_layer("rate_scale").output.shape == (None, 57, 26, 9)
    assert [model.get_layer(f"pack{index}").output.shape[1:] for index in range(1, 5)] == [
        (16, 8, 64),
        (8, 4, 64),
        (4, 2, 64),
        (2, 1, 64),
    ]
    assert isinstance(model.get_layer("embedding"), keras.layers.Identity)

"""The three networks with self-attention: what they are built of, their scores by name, their back end by hand."""

import functools
import math

import contract
import keras
import numpy as np
import pytest
import signals
import slow_network as slow
import tensorflow as tf

import tfmusictag as tmt

NAMES = ("self_attention", "self_attention_raw", "self_attention_spec")
every_name = pytest.mark.parametrize("name", NAMES)


def outputs(model, names, x):
    """Runs a model up to the layers of these names."""
    found = keras.Model(model.input, {layer: model.get_layer(layer).output for layer in names})(x)
    return [np.asarray(found[layer]) for layer in names]


@functools.cache
def scrambled(name):
    """The narrow version with offsets and scales that a mistake would not leave unseen."""
    model, rng = contract.tiny(name), np.random.default_rng(4)
    for layer in model.layers:
        if layer.name.startswith(("attention", "feedforward", "pooler", "logits")):
            for weight in layer.weights:
                weight.assign(np.asarray(weight) + 0.2 * rng.standard_normal(weight.shape))
    return model


@pytest.mark.parametrize(
    "name, arguments, parameters",
    [
        ("self_attention_raw", {"filters": 128}, 8_056_242),
        ("self_attention", {"learnable_token": True}, 10_521_652 + 256),
    ],
)
def test_parameters_of_variants(name, arguments, parameters):
    assert contract.count(tmt.create(name, **arguments).trainable_weights) == parameters


@pytest.mark.parametrize(
    "name, shapes",
    [
        (
            "self_attention",
            {
                "log_mel": (938, 128, 1),
                "block1_relu": (469, 64, 128),
                "block2_relu": (235, 32, 128),
                "block3_relu": (118, 16, 256),
                "block4_relu": (118, 8, 256),
                "block7_relu": (118, 1, 256),
                "class_token": (119, 256),
                "attention1_scores": (8, 119, 119),
                "feedforward1_hidden": (119, 1024),
                "feedforward2_norm": (119, 256),
            },
        ),
        (
            "self_attention_raw",
            {
                "conv1": (21_870, 64),
                "conv2_pool": (7290, 64),
                "conv3_pool": (2430, 128),
                "conv5_pool": (270, 128),
                "projection_relu": (270, 512),
                "attention2_scores": (8, 271, 271),
                "feedforward2_hidden": (271, 2048),
            },
        ),
        (
            "self_attention_spec",
            {
                "log_mel": (256, 96, 1),
                "timbral": (256, 14 * 16),
                "temporal": (256, 15 * 16),
                "front": (256, 29 * 16),
                "projection_relu": (256, 512),
                "attention1_scores": (8, 257, 257),
            },
        ),
    ],
)
def test_the_shapes_of_the_full_size(name, shapes):
    model = tmt.create(name)
    assert {layer: model.get_layer(layer).output.shape[1:] for layer in shapes} == shapes
    # The scores that a paper draws are named on the card.
    assert tmt.card(name).features == {"attention1": "attention1_scores", "attention2": "attention2_scores"}
    positioned = [layer.name for layer in model.layers if layer.name == "positions"]
    assert positioned == ([] if name == "self_attention" else ["positions"])


@pytest.mark.parametrize("name, on_scores", [("self_attention", 0.5), ("self_attention_raw", 0.4)])
def test_dropout_is_as_published(name, on_scores):
    rates = {layer.name: layer.rate for layer in contract.narrow(name).layers if hasattr(layer, "rate")}
    assert rates.pop("embedding_dropout") == 0.5
    assert [rates.pop(f"attention{number}_scores_dropout") for number in (1, 2)] == [on_scores] * 2
    assert set(rates.values()) == {0.4} and len(rates) == 4


@every_name
def test_a_model_gives_its_scores_by_name(name):
    model, x = contract.narrow(name), contract.clips(name)
    for scores in outputs(model, tmt.card(name).features.values(), x):
        clips, heads, steps, _ = scores.shape
        assert (clips, heads) == (4, 2)
        assert steps == model.get_layer("class_token").output.shape[1]
        np.testing.assert_allclose(scores.sum(axis=-1), 1, atol=1e-6)
        # They hang on the clip, on the head and on the step that looks.
        assert np.abs(scores[0] - scores[1]).max() > 0.01
        assert np.abs(scores[:, 0] - scores[:, 1]).max() > 0.01
        assert np.ptp(scores, axis=2).max() > 0.01


@every_name
def test_the_first_token_is_the_constant_and_the_embedding_comes_of_it(name):
    model, x = scrambled(name), contract.clips(name)
    first = "class_token" if name == "self_attention" else "positions"
    begin, end, embedding = outputs(model, [first, "feedforward2_norm", "embedding"], x)
    constant = np.random.RandomState(0).uniform(size=begin.shape[-1])
    np.testing.assert_allclose(begin[:, 0], np.tile(constant, (4, 1)), rtol=1e-6)
    kernel, bias = model.get_layer("pooler").get_weights()
    np.testing.assert_allclose(embedding, np.tanh(end[:, 0] @ kernel + bias), atol=1e-5)
    # By then it has heard the clip.
    assert np.ptp(embedding, axis=0).max() > 0.1


# The back end in double precision, from the description of BERT's layers.


def slow_norm(x, layer):
    gamma, beta = layer.get_weights()
    mean, variance = x.mean(axis=-1, keepdims=True), x.var(axis=-1, keepdims=True)
    return gamma * (x - mean) / np.sqrt(variance + 1e-12) + beta


def slow_gelu(x):
    return x * 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


def slow_block(x, model, number):
    """(clips, steps, width) through one transformer layer."""
    query, query_bias, key, key_bias = model.get_layer(f"attention{number}_scores").get_weights()
    value, value_bias, output, output_bias = model.get_layer(f"attention{number}_values").get_weights()
    found = np.zeros_like(x) + output_bias
    for head in range(query.shape[1]):
        queries, keys = x @ query[:, head] + query_bias[head], x @ key[:, head] + key_bias[head]
        energies = np.exp(queries @ keys.transpose(0, 2, 1) / math.sqrt(query.shape[2]))
        scores = energies / energies.sum(axis=-1, keepdims=True)
        found += scores @ (x @ value[:, head] + value_bias[head]) @ output[head]
    x = slow_norm(x + found, model.get_layer(f"attention{number}_norm"))
    kernel, bias = model.get_layer(f"feedforward{number}_hidden").get_weights()
    hidden = slow_gelu(x @ kernel + bias)
    kernel, bias = model.get_layer(f"feedforward{number}_output").get_weights()
    return slow_norm(x + hidden @ kernel + bias, model.get_layer(f"feedforward{number}_norm"))


@every_name
def test_the_transformer_is_what_its_description_computes(name):
    model, x = scrambled(name), contract.clips(name)
    first = "class_token" if name == "self_attention" else "positions"
    tokens, middle, end = outputs(model, [first, "feedforward1_norm", "feedforward2_norm"], x)
    # float32. The other GELU, by a hyperbolic tangent, would be off by 5e-4.
    np.testing.assert_allclose(middle, slow_block(tokens.astype("float64"), model, 1), atol=2e-5)
    np.testing.assert_allclose(end, slow_block(middle.astype("float64"), model, 2), atol=2e-5)


def test_the_norms_have_the_epsilon_of_bert_under_every_policy():
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = contract.tiny("self_attention")
    finally:
        keras.config.set_dtype_policy("float32")
    norms = [layer for layer in model.layers if isinstance(layer, keras.layers.LayerNormalization)]
    assert len(norms) == 4 and {norm.compute_dtype for norm in norms} == {"float32"}
    faint = 1e-4 * np.random.default_rng(0).standard_normal((2, 9, 8)).astype("float16")
    for norm in norms:
        # A variance of 1e-8 is no noise beside 1e-12; Keras's own epsilon of 1e-3 would make it nothing.
        np.testing.assert_allclose(np.asarray(norm(faint), "float32").std(axis=-1), 1, atol=1e-2)
        assert not np.any(norm(np.full((2, 9, 8), 3.0, "float16")))
    assert model.get_layer("attention1_values").compute_dtype == "float16"
    assert np.isfinite(model(contract.clips("self_attention"))).all()


@every_name
def test_the_same_weights_fit_a_longer_clip(name, tmp_path):
    model, x = contract.narrow(name), contract.clips(name)
    model.save_weights(tmp_path / "model.weights.h5")
    samples = x.shape[1]
    longer = contract.tiny(name, input_shape=(2 * samples,), weights=tmp_path / "model.weights.h5")
    assert longer.get_layer("class_token").output.shape[1] > model.get_layer("class_token").output.shape[1]
    scores = contract.predict(longer, np.concatenate([x, x], axis=1))
    assert np.isfinite(scores).all() and np.ptp(scores, axis=0).max() > 0.01


@every_name
def test_only_positions_tell_the_order_of_the_steps(name):
    model = scrambled(name)
    back = keras.Model(model.get_layer("class_token").output, model.get_layer("embedding").output)
    (tokens,) = outputs(model, ["class_token"], contract.clips(name))
    turned = np.concatenate([tokens[:, :1], tokens[:, :0:-1]], axis=1)  # back to front, but for the first
    apart = np.abs(np.asarray(back(tokens)) - np.asarray(back(turned))).max()
    # Sums in another order, in float32.
    assert apart < 1e-5 if name == "self_attention" else apart > 1e-3


def test_a_learnable_token_learns():
    model = contract.tiny("self_attention", learnable_token=True)
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(model(contract.clips("self_attention"), training=True))
    (gradient,) = tape.gradient(loss, [model.get_layer("class_token").token.value])
    assert np.isfinite(gradient).all() and np.all(gradient)


@pytest.mark.parametrize(
    "name, arguments, words",
    [
        *((name, {"input_shape": (None,)}, "`input_shape` must have a fixed length, .* of None") for name in NAMES),
        ("self_attention", {"heads": 7}, "`heads` must be a divisor of the tokens' width of 8; received 7"),
        ("self_attention_raw", {"heads": 0}, "`heads` must be a divisor of .* received 0"),
        ("self_attention_raw", {"input_shape": (240,)}, "at least 241 samples .*received 240"),
        ("self_attention_spec", {"input_shape": (256,)}, "at least 257 samples .* received 256"),
        (
            "self_attention",
            {"include_frontend": False, "input_shape": (63, 129, 1)},
            "`frontend` must give at most 128 bands, .* received 129",
        ),
        ("self_attention", {"learnable_token": 1}, "`learnable_token` must be True or False; received 1"),
    ],
)
def test_a_wrong_argument_is_named(name, arguments, words):
    with pytest.raises(ValueError, match=words):
        tmt.create(name, **{**tmt.card(name).tiny, **arguments})


@pytest.mark.parametrize("name, samples", [("self_attention", 257), ("self_attention_raw", 241)])
def test_the_shortest_clip_has_one_step(name, samples):
    model = contract.tiny(name, input_shape=(samples,))
    scores = outputs(model, ["attention1_scores"], 0.3 * signals.noise(samples, seed=1)[np.newaxis])[0]
    assert scores.shape == (1, 2, 2, 2) and np.isfinite(scores).all()


def filtered(model, name, x, padding="same", stride=1):
    """A block of the model in NumPy: convolution, normalisation with PyTorch's constant, ReLU."""
    y = slow.convolve(x, *model.get_layer(name).get_weights(), padding, stride)
    return slow.relu(slow.normalise(y, *model.get_layer(f"{name}_norm").get_weights(), epsilon=1e-5))


def raw_tokens(model, samples):
    x = filtered(model, "conv1", np.pad(samples, ((1, 1), (0, 0))), "valid", stride=3)
    for number in range(2, 6):
        x = slow.max_pool(filtered(model, f"conv{number}", x), 3)
    return filtered(model, "projection", x)


def spec_tokens(model, log_mel):
    x = slow.normalise(log_mel, *model.get_layer("input_norm").get_weights(), epsilon=1e-5)
    timbral = [filtered(model, f"timbral{number}", x, ("same", "valid")).max(axis=1) for number in range(1, 7)]
    temporal = [filtered(model, f"temporal{number}", x.mean(axis=1)) for number in range(1, 5)]
    return filtered(model, "projection", np.concatenate([*timbral, *temporal], axis=1))


@pytest.mark.parametrize(
    "name, tokens, shape, steps",
    [
        ("self_attention_raw", raw_tokens, (5 * 243 + 241, 1), 6),  # the last step of the padding's doing
        ("self_attention_spec", spec_tokens, (40, 96, 1), 40),
    ],
)
def test_the_convolutions_are_what_numpy_computes(name, tokens, shape, steps):
    arguments = {**tmt.card(name).tiny, "input_shape": shape, "include_frontend": False}
    model = slow.shake(tmt.create(name, classes=contract.CLASSES, **arguments))
    features = np.random.default_rng(6).normal(0.0, 1.0, shape).astype("float32")
    (received,) = outputs(model, ["projection_relu"], features[np.newaxis])
    expected = tokens(model, features)
    assert expected.shape == (steps, 16)
    assert (np.ptp(expected, axis=0) > 0.01).any()
    # float32 sums through seven layers, each normalised to the order of 1.
    np.testing.assert_allclose(received[0], expected, atol=1e-5)

import numpy as np
import pytest
import references
import tensorflow as tf

from rlab.models.dnc import DNC
from rlab.models.initializers import seed_stream
from rlab.models.recurrent import LSTM, RNN
from rlab.models.window_encoder import WindowEncoder

LAYERS = {
    "rnn": lambda: RNN(4, seed_stream(1)),
    "lstm": lambda: LSTM(4, seed_stream(1)),
    "lstm, output gate sees s[t]": lambda: LSTM(4, seed_stream(1), output_peephole="current"),
    "lstm, learned state": lambda: LSTM(4, seed_stream(1), learned_initial_state=True),
    "dnc": lambda: DNC(4, seed_stream(1), controller=6, locations=5, width=3, heads=2),
    "window": lambda: WindowEncoder(4, 3, seed_stream(1)),
}
MASKING = [name for name in LAYERS if name != "window"]


def _built(name, features=3):
    layer = LAYERS[name]()
    layer.build((None, None, features))
    generator = np.random.default_rng(9)
    for weight in layer.trainable_variables:  # peepholes and learned states begin at 0, and would hide mistakes
        weight.assign_add(generator.normal(size=weight.shape, scale=0.3))
    return layer


def _normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def _resets(time, batch, seed=0):
    return (np.random.default_rng(seed).random((time, batch)) < 0.3).astype(np.float32)


@pytest.mark.parametrize("output_peephole", ["previous", "current"])
def test_lstm_equals_its_equations_with_resets_inside(output_peephole):
    layer = _built("lstm" if output_peephole == "previous" else "lstm, output gate sees s[t]")
    inputs, output, cell, resets = _normal(7, 2, 3), _normal(2, 4, seed=1), _normal(2, 4, seed=2), _resets(7, 2)
    fast, state = layer(tf.constant(inputs), (tf.constant(output), tf.constant(cell)), tf.constant(resets))
    weights = [w.numpy() for w in (layer.kernel, layer.recurrent, layer.bias, layer.peepholes)]
    slow, output, cell = references.lstm(inputs, output, cell, resets, *weights, output_peephole)
    np.testing.assert_allclose(fast, slow, atol=1e-5)
    np.testing.assert_allclose(state.output, output, atol=1e-5)
    np.testing.assert_allclose(state.cell, cell, atol=1e-5)


def test_rnn_equals_its_equation_with_resets_inside():
    layer = _built("rnn")
    inputs, output, resets = _normal(7, 2, 3), _normal(2, 4, seed=1), _resets(7, 2)
    fast, state = layer(tf.constant(inputs), (tf.constant(output),), tf.constant(resets))
    weights = [w.numpy() for w in (layer.kernel, layer.recurrent, layer.bias)]
    slow = references.rnn(inputs, output, resets, *weights)
    np.testing.assert_allclose(fast, slow, atol=1e-5)
    np.testing.assert_allclose(state.output, slow[-1], atol=1e-5)


@pytest.mark.parametrize("name", LAYERS)
def test_unrolled_equals_stepped(name):
    layer, inputs, resets = _built(name), tf.constant(_normal(6, 2, 3)), tf.constant(_resets(6, 2))
    whole, last = layer(inputs, layer.initial_state(2), resets)
    state, stepped = layer.initial_state(2), []
    for t in range(6):
        output, state = layer(inputs[t : t + 1], state, resets[t : t + 1])
        stepped.append(output[0])
    np.testing.assert_allclose(whole, tf.stack(stepped), atol=1e-5)
    for a, b in zip(tf.nest.flatten(last), tf.nest.flatten(state), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


@pytest.mark.parametrize("name", LAYERS)
def test_a_reset_forgets_all_that_was_before(name):
    layer, inputs, resets = _built(name), _normal(5, 1, 3), np.zeros((5, 1), np.float32)
    resets[2] = 1.0
    first, _ = layer(tf.constant(inputs), layer.initial_state(1), tf.constant(resets))
    alone, _ = layer(tf.constant(inputs[2:]), layer.initial_state(1), tf.constant(resets[2:]))
    inputs[:2] += 10.0
    second, _ = layer(tf.constant(inputs), layer.initial_state(1), tf.constant(resets))
    np.testing.assert_array_equal(first[2:], second[2:])
    np.testing.assert_allclose(first[2:], alone, atol=1e-6)
    assert np.abs(first[:2] - second[:2]).max() > 1e-3


@pytest.mark.parametrize("name", MASKING)
def test_a_mask_hides_padding_exactly(name):
    layer, inputs = _built(name), _normal(6, 2, 3)
    valid = np.ones((6, 2), np.float32)
    valid[4:, 0] = 0.0
    outputs, state = layer(tf.constant(inputs), valid=tf.constant(valid))
    inputs[4:, 0] = np.nan
    again, after = layer(tf.constant(inputs), valid=tf.constant(valid))
    np.testing.assert_array_equal(outputs, again)
    short, end = layer(tf.constant(inputs[:4, :1]))
    np.testing.assert_allclose(outputs[:4, :1], short, atol=1e-6)
    np.testing.assert_array_equal(outputs[4:, 0], 0.0)
    flat = [tf.nest.flatten(part) for part in (state, after, end)]
    for a, b, c in zip(*flat, strict=True):
        np.testing.assert_array_equal(a, b)
        np.testing.assert_allclose(a[:1], c, atol=1e-6)


@pytest.mark.parametrize("name", MASKING)
def test_padding_reaches_no_gradient(name):
    layer, inputs = _built(name), _normal(5, 2, 3)
    valid = np.ones((5, 2), np.float32)
    valid[3:, 0] = 0.0

    def gradients():
        with tf.GradientTape() as tape:
            value = tf.reduce_sum(tf.square(layer(tf.constant(inputs), valid=tf.constant(valid))[0]))
        return tape.gradient(value, layer.trainable_variables, unconnected_gradients="zero")

    first = gradients()
    inputs[3:, 0] = np.nan
    for a, b in zip(first, gradients(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_learned_state_is_where_episodes_begin():
    layer = _built("lstm, learned state")
    inputs, resets = tf.constant(_normal(1, 2, 3)), tf.constant([[1.0, 0.0]])
    fresh, _ = layer(inputs)
    zeros = layer.zero_state(2)
    mixed, _ = layer(inputs, zeros, resets)
    np.testing.assert_allclose(mixed[:, 0], fresh[:, 0], atol=1e-6)
    assert np.abs(mixed[:, 1] - fresh[:, 1]).max() > 1e-3


def test_a_window_reads_no_further_back_than_its_length():
    layer, inputs = _built("window"), _normal(6, 1, 3)
    resets = tf.zeros((6, 1))
    first, _ = layer(tf.constant(inputs), layer.initial_state(1), resets)
    inputs[1] += 5.0
    second, _ = layer(tf.constant(inputs), layer.initial_state(1), resets)
    changed = np.abs(first - second).max(axis=(1, 2)) > 1e-4
    np.testing.assert_array_equal(changed, [False, True, True, True, False, False])


def test_a_forgotten_dimension_is_named():
    with pytest.raises(ValueError, match=r"takes inputs \[T, B, F\]"):
        RNN(3, seed_stream(0))(tf.zeros((5, 7)))

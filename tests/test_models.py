import numpy as np
import pytest
import references
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from rlab.models.cnn import CNN, ConvSpec, StridedConv2D
from rlab.models.initializers import seed_stream
from rlab.models.mlp import MLP
from rlab.models.recurrent import LSTM


@settings(deadline=None, max_examples=25)
@given(
    st.sampled_from([(8, 4), (4, 2), (6, 3), (3, 1), (3, 2), (5, 3)]),
    st.integers(0, 7),
    st.integers(1, 4),
    st.integers(0, 2**31),
)
def test_space_to_depth_is_the_strided_convolution(shape, extra, channels, seed):
    kernel, stride = shape
    images = np.random.default_rng(seed).normal(size=(2, kernel + 2 * stride + extra, kernel + extra, channels))
    images = images.astype(np.float32)
    layer = StridedConv2D(5, kernel, stride, kernel_initializer="glorot_uniform", bias_initializer="normal")
    fast = layer(tf.constant(images))
    slow = references.strided_convolution(images, layer.kernel.numpy(), layer.bias.numpy(), stride)
    assert fast.shape == layer.compute_output_shape(images.shape)
    np.testing.assert_allclose(fast, slow, atol=1e-5)
    np.testing.assert_allclose(fast, tf.nn.conv2d(images, layer.kernel, stride, "VALID") + layer.bias, atol=1e-5)


def test_space_to_depth_has_the_gradient_of_the_strided_convolution():
    images = tf.random.stateless_normal((2, 84, 84, 4), (1, 2))
    layer = StridedConv2D(16, 8, 4)
    layer.build(images.shape)
    with tf.GradientTape(persistent=True) as tape:
        fast = tf.reduce_sum(tf.square(layer(images)))
        strided = tf.reduce_sum(tf.square(tf.nn.conv2d(images, layer.kernel, 4, "VALID") + layer.bias))
    ours, theirs = tape.gradient(fast, layer.kernel), tape.gradient(strided, layer.kernel)
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-3 * float(tf.reduce_max(tf.abs(theirs))))


def test_too_small_images_are_refused():
    with pytest.raises(ValueError, match="too small"):
        CNN([ConvSpec(4, 8, 4)], 16, seed_stream(0)).build((None, 6, 6, 1))


def _lstm(units=4, features=3):
    layer = LSTM(units, seed_stream(1))
    layer.build((None, None, features))
    return layer


def test_lstm_equals_its_equations_with_resets_inside():
    layer, generator = _lstm(), np.random.default_rng(0)
    inputs = generator.normal(size=(7, 2, 3)).astype(np.float32)
    output, cell = generator.normal(size=(2, 2, 4)).astype(np.float32)
    resets = np.zeros((7, 2), np.float32)
    resets[3, 0] = resets[0, 1] = resets[5, 1] = 1.0
    fast, state = layer(tf.constant(inputs), (tf.constant(output), tf.constant(cell)), tf.constant(resets))
    weights = [w.numpy() for w in (layer.kernel, layer.recurrent, layer.bias)]
    slow, output, cell = references.lstm(inputs, output.copy(), cell.copy(), resets, *weights)
    np.testing.assert_allclose(fast, slow, atol=1e-5)
    np.testing.assert_allclose(state.output, output, atol=1e-5)
    np.testing.assert_allclose(state.cell, cell, atol=1e-5)


def test_lstm_unrolled_equals_lstm_stepped():
    layer, generator = _lstm(), np.random.default_rng(2)
    inputs = tf.constant(generator.normal(size=(6, 2, 3)).astype(np.float32))
    resets = tf.constant((generator.random((6, 2)) < 0.4).astype(np.float32))
    whole, last = layer(inputs, layer.initial_state(2), resets)
    state, stepped = layer.initial_state(2), []
    for t in range(6):
        output, state = layer(inputs[t : t + 1], state, resets[t : t + 1])
        stepped.append(output[0])
    np.testing.assert_allclose(whole, tf.stack(stepped), atol=1e-6)
    np.testing.assert_allclose(last.cell, state.cell, atol=1e-6)


def test_a_reset_forgets_all_that_was_before():
    layer = _lstm()
    inputs = np.random.default_rng(3).normal(size=(5, 1, 3)).astype(np.float32)
    resets = np.zeros((5, 1), np.float32)
    resets[2] = 1.0
    first, _ = layer(tf.constant(inputs), layer.initial_state(1), tf.constant(resets))
    inputs[:2] += 10.0
    second, _ = layer(tf.constant(inputs), layer.initial_state(1), tf.constant(resets))
    np.testing.assert_array_equal(first[2:], second[2:])
    assert np.abs(first[:2] - second[:2]).max() > 1e-3


def test_mlp_equals_its_matrix_products():
    layer = MLP((5, 2), "tanh", seed_stream(0))
    inputs = np.random.default_rng(4).normal(size=(3, 4)).astype(np.float32)
    outputs = layer(tf.constant(inputs))
    expected = inputs
    for dense in layer.layers:
        expected = np.tanh(expected @ dense.kernel.numpy() + dense.bias.numpy())
    np.testing.assert_allclose(outputs, expected, atol=1e-6)

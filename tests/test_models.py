import keras
import numpy as np
import pytest
import references
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from rlab.models.cnn import CNN, DIGIT_CONVOLUTIONS, ConvSpec, StridedConv2D
from rlab.models.initializers import orthogonal, seed_stream, truncated_normal
from rlab.models.mlp import MLP, Classifier
from rlab.models.parameters import ParameterLayout
from rlab.models.residual import DeepCNN, DeepMLP, Residual


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


def test_mlp_equals_its_matrix_products():
    layer = MLP((5, 2), "tanh", seed_stream(0))
    inputs = np.random.default_rng(4).normal(size=(3, 4)).astype(np.float32)
    outputs = layer(tf.constant(inputs))
    expected = inputs
    for dense in layer.layers:
        expected = np.tanh(expected @ dense.kernel.numpy() + dense.bias.numpy())
    np.testing.assert_allclose(outputs, expected, atol=1e-6)


@pytest.mark.parametrize("make", [orthogonal, truncated_normal])
def test_initializers_keep_the_variance_through_a_rectifier(make):
    layer = MLP((300,), "relu", seed_stream(0), make)
    outputs = layer(tf.random.stateless_normal((200, 300), (0, 1))).numpy()
    assert 0.9 < np.mean(outputs**2) < 1.1  # the rectifier keeps half of a variance of 2


def test_truncated_normal_has_no_far_numbers():
    kernel = MLP((300,), "relu", seed_stream(0), truncated_normal)
    kernel.build((None, 100))
    weights = kernel.layers[0].kernel.numpy()
    # Two deviations of the normal law before it was cut, whose variance is larger by 1/0.774.
    assert np.abs(weights).max() <= 2.0 * np.sqrt(2.0 / 100 / 0.774) * 1.001


def test_softmax_on_any_torso():
    model = Classifier(MLP((8,), "relu", seed_stream(0)), 3, seed_stream(1))
    model.build((None, 4))
    inputs = tf.random.stateless_normal((5, 4), (0, 1))
    probabilities = model.probabilities(inputs).numpy()
    logits = model(inputs).numpy()
    np.testing.assert_allclose(probabilities, np.exp(logits) / np.exp(logits).sum(1, keepdims=True), atol=1e-6)


@pytest.mark.parametrize("kind", ["residual", "highway"])
def test_residual_and_highway_equal_their_equations(kind):
    layer = DeepMLP(kind, 4, 3, "tanh", seed_stream(0))
    inputs = np.random.default_rng(0).normal(size=(3, 5)).astype(np.float32)
    outputs = layer(tf.constant(inputs))
    first, *rest = layer.layers
    a = np.tanh(inputs @ first.kernel.numpy() + first.bias.numpy())
    for deep in rest:
        f = np.tanh(a @ deep.transform.kernel.numpy() + deep.transform.bias.numpy())
        if kind == "residual":
            a = a + f
        else:
            g = 1.0 / (1.0 + np.exp(-(a @ deep.gate.kernel.numpy() + deep.gate.bias.numpy())))
            a = a * g + f * (1.0 - g)
    np.testing.assert_allclose(outputs, a, atol=1e-5)


@pytest.mark.parametrize(("depth", "size", "left"), [(1, 12, 6), (2, 12, 3), (9, 12, 3), (9, 2, 1)])
def test_convolutional_stacks_know_what_is_left_of_the_image(depth, size, left):
    layer = DeepCNN("highway", 4, depth, "relu", seed_stream(0))
    assert layer(tf.zeros((2, size, size, 1))).shape == (2, left * left * 4) == (2, layer.units)


@pytest.mark.parametrize("kind", ["plain", "residual", "highway"])
def test_convolutional_stacks_are_trainable_at_any_depth(kind):
    layer = DeepCNN(kind, 4, 7, "relu", seed_stream(0))
    images = tf.random.stateless_normal((2, 12, 12, 1), (0, 1))
    with tf.GradientTape() as tape:
        outputs = layer(images)
        value = tf.reduce_sum(tf.square(outputs))
    assert outputs.shape == (2, 3 * 3 * 4) == (2, layer.units)
    assert np.isfinite(value)
    gradients = tape.gradient(value, layer.trainable_variables)
    assert all(np.isfinite(g).all() and np.abs(g).max() > 0.0 for g in gradients)


def test_a_convolutional_residual_layer_adds_its_convolution():
    layer = DeepCNN("residual", 3, 2, "relu", seed_stream(0), pools=0)
    images = tf.random.stateless_normal((2, 6, 6, 2), (0, 1))
    outputs = layer(images)
    a = tf.nn.relu(tf.nn.conv2d(images, layer.layers[0].kernel, 1, "SAME") + layer.layers[0].bias)
    transform = layer.layers[1].transform
    a += tf.nn.relu(tf.nn.conv2d(a, transform.kernel, 1, "SAME") + transform.bias)
    np.testing.assert_allclose(outputs, tf.reshape(a, (2, -1)), atol=1e-5)


@pytest.mark.parametrize(("kind", "depth", "message"), [("deep", 2, "kind must be"), ("plain", 0, "at least 1")])
def test_a_stack_that_cannot_be_is_refused(kind, depth, message):
    with pytest.raises(ValueError, match=message):
        DeepMLP(kind, 4, depth, "relu", seed_stream(0))


def test_a_layer_that_changes_the_shape_cannot_be_residual():
    with pytest.raises(ValueError, match="keep the shape"):
        Residual(keras.layers.Dense(3)).build((None, 4))


def test_pooling_and_padding_of_the_digit_network():
    layer = CNN(DIGIT_CONVOLUTIONS, 16, seed_stream(0))
    assert layer(tf.zeros((2, 28, 28, 1))).shape == (2, 16)
    assert layer.dense.kernel.shape == (7 * 7 * 64, 16)


def test_parameters_as_a_vector_and_as_arguments():
    model = Classifier(MLP((8,), "relu", seed_stream(0)), 3, seed_stream(1))
    model.build((None, 4))
    layout = ParameterLayout(model)
    vector = layout.initial()
    assert vector.shape == (layout.size,)
    np.testing.assert_array_equal(layout.flatten(layout.named(vector)), vector)
    inputs = tf.random.stateless_normal((5, 4), (0, 1))
    np.testing.assert_array_equal(layout.call(tf.constant(vector), model, inputs), model(inputs))
    np.testing.assert_array_equal(layout.call(tf.zeros_like(vector), model, inputs), np.zeros((5, 3)))
    np.testing.assert_allclose(
        layout.call(tf.zeros_like(vector), model.probabilities, inputs), np.full((5, 3), 1 / 3), atol=1e-6
    )


def test_an_mlp_without_layers_is_refused():
    with pytest.raises(ValueError, match="at least one layer"):
        MLP((), "relu", seed_stream(0))


def test_public_models_can_be_listed():
    import rlab.models

    assert {"MLP", "LSTM", "DNC"} <= set(dir(rlab.models))


def test_virtual_batch_normalization_is_that_of_the_reference_batch():
    """A layer's units have the statistics of the reference batch there; nothing depends on the batch it is given in."""
    network = CNN([ConvSpec(4, 4, 2)], 8, seed_stream(0), normalized=True)
    reference = tf.random.stateless_normal((16, 12, 12, 2), (1, 2))
    network.build(reference.shape)
    for norm, (mean, deviation) in zip(network.norms, network.measure(reference), strict=True):
        norm.offset.assign(tf.random.stateless_normal(norm.offset.shape, (3, 4)))
        norm.mean.assign(mean), norm.deviation.assign(deviation)
    first = network.convolutions[0](reference).numpy()
    flat = first.reshape(-1, 4)
    np.testing.assert_allclose(network.norms[0].mean, flat.mean(0), atol=1e-5)
    np.testing.assert_allclose(network.norms[0].deviation, np.sqrt(flat.var(0) + 1e-4), rtol=1e-4)
    # The offsets came after the measurement: they have moved what follows.
    (_, _), (mean, deviation) = network.measure(reference)
    network.norms[1].mean.assign(mean), network.norms[1].deviation.assign(deviation)
    before = (first - flat.mean(0)) / np.sqrt(flat.var(0) + 1e-4) + network.norms[0].offset.numpy()
    second = network.dense(np.maximum(before, 0.0).reshape(16, -1)).numpy()
    slow = (second - second.mean(0)) / np.sqrt(second.var(0) + 1e-4) + network.norms[1].offset.numpy()
    np.testing.assert_allclose(network(reference), np.maximum(slow, 0.0), atol=1e-4)
    np.testing.assert_allclose(network(reference[3:4])[0], network(reference)[3], atol=1e-5)


def test_no_gradient_reaches_the_statistics_of_a_reference_batch():
    network = CNN([ConvSpec(4, 4, 2)], 8, seed_stream(0), normalized=True)
    images = tf.random.stateless_normal((2, 12, 12, 2), (1, 2))
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(tf.square(network(images)))
    weights = network.trainable_variables
    names, gradients = [weight.name for weight in weights], tape.gradient(loss, weights)
    reached = {name for name, part in zip(names, gradients, strict=True) if part is not None}
    assert reached == {"kernel", "offset"}
    assert {"reference_mean", "reference_deviation"} <= set(names)

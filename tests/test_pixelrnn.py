"""PixelRNN and PixelCNN: probabilities that sum to one, pixels that see only those before them, and sampling."""

import itertools

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from rlab.models import pixelrnn_diagonal, pixelrnn_layers
from rlab.models.initializers import seed_stream
from rlab.models.pixelrnn import KINDS, PixelRNN


def _model(kind, levels=2, units=4, depth=2, seed=0):
    """One whose logits are not all near 0, as a new one's are."""
    model = PixelRNN(kind, units, depth, levels, seed_stream(seed), hidden=8)
    model.build()
    generator = np.random.default_rng(seed)
    for variable in model.trainable_variables:
        variable.assign_add(0.4 * generator.normal(size=variable.shape))
    return model


def _images(count, height, width, levels=2, seed=0):
    values = np.random.default_rng(seed).integers(0, levels, (count, height, width))
    return tf.constant(values / (levels - 1), tf.float32)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("levels", "shape"), [(2, (3, 4)), (4, (2, 3))])
def test_the_probabilities_of_all_images_sum_to_one(kind, levels, shape):
    every = np.array(list(itertools.product(range(levels), repeat=shape[0] * shape[1])), np.float32) / (levels - 1)
    log_p = _model(kind, levels).log_prob(tf.constant(every.reshape(-1, *shape)))
    assert float(np.std(log_p)) > 0.1  # not all alike
    np.testing.assert_allclose(np.exp(log_p.numpy().astype(np.float64)).sum(), 1.0, atol=1e-5)


@pytest.mark.parametrize(("kind", "levels"), [*((kind, 2) for kind in KINDS), ("row-lstm", 4)])
def test_a_logit_sees_all_pixels_before_its_own_and_no_other(kind, levels):
    # The kernels' reach, and with them the context of the others, ends at three pixels.
    height, width = (3, 6) if kind == "diagonal-bilstm" else (4, 4)
    model = _model(kind, levels)
    images = tf.constant(np.random.default_rng(1).random((1, height, width)), tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(images)
        logits = tf.reshape(model(images), (height * width, -1))
        total = tf.reduce_sum(logits * tf.random.stateless_normal(logits.shape, (0, 1)), 1)
    seen = tape.jacobian(total, images).numpy().reshape(height * width, height * width)
    before = np.tril(np.ones_like(seen), -1).astype(bool)
    assert (seen[~before] == 0.0).all()
    assert (seen[before] != 0.0).all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("levels", [2, 4])
def test_pixel_by_pixel_is_the_whole_image(kind, levels):
    """Pixels drawn one by one are those that the noise makes of the logits which the whole image gives."""
    model, images = _model(kind, levels), _images(6, 5, 4, levels)
    seed = tf.constant([3, 4])
    drawn = model.complete(images, tf.zeros((5, 4)), seed)
    shape = (5, 4, 6) if levels == 2 else (5, 4, 6, levels)
    uniform = tf.random.stateless_uniform(shape, seed, minval=1e-30)
    logits = model(drawn)
    if levels == 2:
        odds = tf.math.log(uniform) - tf.math.log1p(-uniform)
        expected = (logits + tf.transpose(odds, (2, 0, 1)) > 0.0).numpy()
    else:
        expected = tf.argmax(logits - tf.math.log(-tf.math.log(tf.transpose(uniform, (2, 0, 1, 3)))), -1) / (levels - 1)
    np.testing.assert_allclose(drawn, expected, atol=1e-6)
    assert 0.0 < float(tf.reduce_mean(drawn)) < 1.0


@pytest.mark.parametrize("kind", KINDS)
def test_known_pixels_stay_and_the_others_are_drawn_given_them(kind):
    model, images = _model(kind), _images(500, 2, 2)
    known = tf.constant([[1.0, 1.0], [0.0, 0.0]])
    drawn = model.complete(images, known, tf.constant([0, 0])).numpy()
    np.testing.assert_array_equal(drawn[:, 0], images[:, 0])
    again = model.complete(images, known, tf.constant([0, 0])).numpy()
    np.testing.assert_array_equal(drawn, again)
    assert (model.complete(images, known, tf.constant([0, 1])).numpy() != drawn).any()
    # The share of ones in the first free pixel, where the row above is (1, 0), against its probability.
    alike = (images.numpy()[:, 0] == (1.0, 0.0)).all(-1)
    p = float(tf.sigmoid(model(tf.constant([[[1.0, 0.0], [0.0, 0.0]]]))[0, 1, 0]))
    share, deviation = drawn[alike, 1, 0].mean(), np.sqrt(p * (1.0 - p) / alike.sum())
    assert abs(share - p) < 4.0 * deviation


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 6), st.integers(1, 6), st.integers(1, 3))
def test_unskew_undoes_skew(height, width, features):
    images = tf.constant(np.random.default_rng(0).normal(size=(2, height, width, features)), tf.float32)
    skewed = pixelrnn_diagonal.skew(images)
    assert skewed.shape == (2, height, width + height - 1, features)
    for i in range(height):
        np.testing.assert_array_equal(skewed[:, i, i : i + width], images[:, i])
        assert not np.delete(skewed.numpy()[:, i], range(i, i + width), 1).any()
    np.testing.assert_array_equal(pixelrnn_diagonal.unskew(skewed), images)


def test_the_row_lstm_is_its_equation():
    layer = pixelrnn_layers.RowLSTM(3, seed_stream(0))
    layer.build((None, None, None, 2))
    x = np.random.default_rng(0).normal(size=(1, 4, 5, 2)).astype(np.float32)
    kernel, recurrent, bias = (variable.numpy() for variable in (layer.kernel, layer.recurrent, layer.bias))
    h, c = np.zeros((2, 7, 3))  # with a column of zeros on either side
    for i in range(4):
        rows = []
        for j in range(5):
            left = x[0, i, j - 1] if j else np.zeros(2)
            z = np.concatenate([left, x[0, i, j]]) @ kernel + np.concatenate(h[j : j + 3]) @ recurrent + bias
            rows.append(_lstm(z, c[j + 1]))
        h[1:6], c[1:6] = map(np.array, zip(*rows, strict=True))
        np.testing.assert_allclose(layer(tf.constant(x))[0, i], h[1:6], atol=1e-5)


def test_the_diagonal_bilstm_is_its_equation_and_so_is_its_gradient():
    layer = pixelrnn_diagonal.DiagonalBiLSTM(3, seed_stream(0))
    layer.build((None, None, None, 2))
    count, height, width = 4, 3, 4
    generator = np.random.default_rng(0)
    x = tf.constant(generator.normal(size=(count, height, width, 2)), tf.float32)
    pixels = _images(count, height, width)[..., None]
    weights = tf.constant(generator.normal(size=(count, height, width, 3)), tf.float32)

    def twin():
        """Pixel by pixel."""
        found = []
        for direction, (image, seen) in enumerate(
            ((x, tf.zeros_like(pixels)), (x[:, :, ::-1], pixels[:, :, ::-1]))  # the first must not see the pixel itself
        ):
            nothing = tf.zeros((count, 3))
            h, c = {}, {}
            for i, j in np.ndindex(height, width):
                beside, above = h.get((i, j - 1), nothing), h.get((i - 1, j), nothing)
                z = tf.matmul(image[:, i, j], layer.kernel[direction]) + layer.bias[direction]
                z += tf.matmul(tf.concat([beside, above], -1), layer.recurrent[direction])
                z += tf.matmul(seen[:, i, j], tf.convert_to_tensor(layer.pixel_kernel))
                o, f, k, g = tf.split(z, 4, -1)
                c[i, j] = tf.sigmoid(f) * c.get((i, j - 1), nothing) + tf.sigmoid(k) * tf.tanh(g)
                h[i, j] = tf.sigmoid(o) * tf.tanh(c[i, j])
            found.append(tf.stack([tf.stack([h[i, j] for j in range(width)], 1) for i in range(height)], 1))
        right = found[1][:, :, ::-1]
        return found[0] + tf.concat([tf.zeros_like(right[:, :1]), right[:, :-1]], 1)

    found = []
    for function in (lambda: layer(x, pixels), twin):
        with tf.GradientTape() as tape:
            tape.watch((x, pixels))
            outputs = function()
            total = tf.reduce_sum(outputs * weights)
        found.append([outputs, *tape.gradient(total, [x, pixels, *layer.trainable_variables])])
    for ours, theirs in zip(*found, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=2e-5)


def _lstm(z, c):
    sigmoid = lambda v: 1.0 / (1.0 + np.exp(-v))  # noqa: E731
    o, f, i, g = np.split(z, 4)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    return sigmoid(o) * np.tanh(c), c


def test_a_mask_hides_the_pixel_itself_or_what_comes_after():
    for mask, expected in (("A", 4), ("B", 5)):
        layer = pixelrnn_layers.MaskedConvolution(1, 3, mask, seed_stream(0))
        layer.build((None, None, None, 1))
        layer.kernel.assign(tf.ones_like(layer.kernel))
        assert float(layer(tf.ones((1, 3, 3, 1)))[0, 1, 1, 0]) == expected
    with pytest.raises(ValueError, match="odd"):
        pixelrnn_layers.MaskedConvolution(1, 4, "A", seed_stream(0))

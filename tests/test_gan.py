"""Generative adversarial networks: each loss reaches its own network, and the density that judges is a density."""

import functools

import numpy as np
import pytest
import scipy.stats
import tensorflow as tf

from rlab.models.gan import convolutional_gan, dense_gan
from rlab.models.initializers import seed_stream
from rlab.models.parameters import ParameterLayout
from rlab.ops import parzen

SHAPE = (8, 8)


def _model(kind):
    model = (
        dense_gan(SHAPE, 3, (8, 8), seed_stream(0)) if kind == "mlp" else convolutional_gan(SHAPE, 3, 4, seed_stream(0))
    )
    model.build()
    return model


def _batch(count=5):
    generator = np.random.default_rng(0)
    return tf.constant(generator.random((count, *SHAPE)), tf.float32), tf.random.stateless_normal((count, 3), (0, 1))


@pytest.mark.parametrize("kind", ["mlp", "cnn"])
@pytest.mark.parametrize("stateless", [False, True])  # as a function of explicit parameters, which is how it is trained
@pytest.mark.parametrize("penalty", [0.0, 2.0])
def test_each_network_moves_by_its_own_loss_alone(kind, stateless, penalty):
    """The one gradient of both, against two losses that are each differentiated in one network's parameters."""
    model = _model(kind)
    layout, (images, latents) = ParameterLayout(model), _batch()
    params = [v.value for v in model.trainable_variables]
    if stateless:
        params = [tf.convert_to_tensor(v) + 0.01 for v in params]

    def plain():
        with tf.GradientTape() as inner:
            inner.watch(images)
            real, false = model.discriminator(images), model.discriminator(model(latents))
        slopes = tf.reduce_sum(inner.gradient(real, images) ** 2, (1, 2))
        telling = 0.5 * penalty * slopes - tf.math.log_sigmoid(real) - tf.math.log(1.0 - tf.sigmoid(false))
        return tf.reduce_mean(telling), tf.reduce_mean(-tf.math.log_sigmoid(false))

    with tf.GradientTape(persistent=True) as tape:
        tape.watch(params)
        call = functools.partial(layout.call, params) if stateless else lambda function, *given: function(*given)
        losses, expected = call(model.losses, images, latents, penalty), call(plain)
    found = tape.gradient(losses[0], params)
    names = [name.split("/")[0] for name in layout.names]
    assert set(names) == {model.generator.name, model.discriminator.name}
    for name, own, *theirs in zip(names, found, *(tape.gradient(loss, params) for loss in expected), strict=True):
        right = theirs[0] if name == model.discriminator.name else theirs[1]
        assert float(tf.norm(right)) > 0.0
        np.testing.assert_allclose(own, right, rtol=1e-3, atol=1e-6)
    assert all(gradient is None for gradient in tape.gradient(losses[1], params))


def test_the_gradient_is_finite_where_the_discriminator_is_certain():
    model = _model("mlp")
    images, latents = _batch()
    for odds in (-200.0, 200.0):
        model.discriminator.odds.bias.assign([odds])
        with tf.GradientTape() as tape:
            loss, _ = model.losses(images, latents)
        gradients = tape.gradient(loss, model.trainable_variables)
        assert all(np.isfinite(gradient).all() for gradient in gradients)


@pytest.mark.parametrize("kind", ["mlp", "cnn"])
def test_the_losses_are_those_of_the_paper(kind):
    model = _model(kind)
    images, latents = _batch()
    drawn = model(latents)
    assert drawn.shape == images.shape
    assert 0.0 < float(tf.reduce_min(drawn)) <= float(tf.reduce_max(drawn)) < 1.0
    real, false = (1.0 / (1.0 + np.exp(-model.discriminator(x).numpy())) for x in (images, drawn))
    discriminator, generator = model.losses(images, latents)
    np.testing.assert_allclose(discriminator, -np.log(real).mean() - np.log(1.0 - false).mean(), rtol=1e-5)
    np.testing.assert_allclose(generator, -np.log(false).mean(), rtol=1e-5)


def test_the_density_of_samples_is_their_mixture():
    generator = np.random.default_rng(0)
    samples, data = generator.normal(size=(7, 3)), generator.normal(size=(5, 3))
    each = [scipy.stats.multivariate_normal(mean, 0.25 * np.eye(3)).pdf(data) for mean in samples]
    found = parzen.log_likelihood(samples, data, 0.5, chunk=2)
    np.testing.assert_allclose(found, np.log(np.mean(each, 0)), rtol=1e-4)


def test_the_best_deviation_is_that_of_the_data():
    generator = np.random.default_rng(0)
    samples = np.zeros((1, 20))
    data = 0.3 * generator.normal(size=(500, 20))
    found = parzen.best_deviation(samples, data)
    assert found == pytest.approx(np.sqrt(np.mean(data**2)), rel=0.01)  # as far as 10,000 numbers tell 0.3

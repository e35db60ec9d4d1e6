"""Generative adversarial networks: each loss reaches its own network, and the density that judges is a density."""

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
def test_each_loss_reaches_its_own_network_alone(kind, stateless):
    model = _model(kind)
    layout = ParameterLayout(model)
    params = [v.value for v in model.trainable_variables]
    if stateless:
        params = [tf.convert_to_tensor(v) + 0.01 for v in params]
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(params)
        losses = layout.call(params, model.losses, *_batch()) if stateless else model.losses(*_batch())
    names = [name.split("/")[0] for name in layout.names]
    assert set(names) == {model.generator.name, model.discriminator.name}
    for loss, own in zip(losses, (model.discriminator.name, model.generator.name), strict=True):
        for name, gradient in zip(names, tape.gradient(loss, params), strict=True):
            if name == own:
                assert float(tf.norm(gradient)) > 0.0
            else:
                assert gradient is None or not gradient.numpy().any()


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
    assert parzen.best_deviation(samples, data, np.array([0.1, 0.2, 0.3, 0.4])) == 0.3

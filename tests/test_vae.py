"""The variational autoencoder: its divergence, its bounds, and a linear one whose likelihood is known."""

import numpy as np
import pytest
import scipy.stats
import tensorflow as tf

from rlab.models.initializers import seed_stream
from rlab.models.vae import VAE, Deconvolution, DenseDecoder, Encoder, divergence, importance_bound, make_vae

SHAPE = (4, 5)


class _Affine:
    """A layer that gives back what it is given."""

    def __init__(self, units):
        self.units = units

    def build(self, shape):
        pass

    def __call__(self, inputs):
        return inputs


def _linear(latents=2, deviation=0.5):
    """p(x|z) = N(Wz + b, s²I): the image's pixels are z's linear functions, and q(z|x) is linear too."""
    decoder = DenseDecoder(SHAPE, (1,), seed_stream(0))
    decoder.hidden = _Affine(latents)
    model = VAE(
        SHAPE, latents, Encoder(SHAPE, _Affine(20), latents, seed_stream(1), False), decoder, "gaussian", deviation
    )
    model.build()
    return model


def _images(count=6, binary=False):
    images = np.random.default_rng(0).random((count, *SHAPE)).astype(np.float32)
    return tf.constant((images > 0.5).astype(np.float32) if binary else images)


def _noise(draws, count, latents, seed=0):
    return tf.random.stateless_normal((draws, count, latents), (seed, 1))


def test_the_divergence_is_that_of_samples():
    mean, log_variance = tf.constant([[0.5, -1.0]]), tf.constant([[-0.7, 0.3]])
    draws = mean + tf.exp(0.5 * log_variance) * _noise(200_000, 1, 2)
    q = scipy.stats.norm(mean.numpy(), np.exp(0.5 * log_variance.numpy()))
    each = (q.logpdf(draws) - scipy.stats.norm.logpdf(draws)).sum(-1)
    assert abs(each.mean() - float(divergence(mean, log_variance)[0])) < 4.0 * each.std() / np.sqrt(len(each))


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
@pytest.mark.parametrize("kind", ["mlp", "cnn"])
def test_the_mean_of_the_weights_is_the_bound(likelihood, kind):
    model = make_vae(kind, SHAPE, 3, 8, 1, likelihood, seed_stream(0))
    model.build()
    images, noise = _images(binary=True), _noise(20_000, 6, 3)
    reconstruction, kl = model.bound(images, noise)
    weights = model.log_weights(images, noise).numpy()
    error = weights.std(0) / np.sqrt(len(weights)) + 1e-3
    assert (np.abs(weights.mean(0) - (reconstruction - kl)) < 4.0 * error).all()


def test_bound_below_importance_bound_below_the_exact_likelihood():
    model = _linear()
    images = _images()
    weights, bias = model.decoder.pixels.kernel.numpy().T.astype(np.float64), model.decoder.pixels.bias.numpy()
    exact = scipy.stats.multivariate_normal(bias, weights @ weights.T + 0.25 * np.eye(20))
    truth = exact.logpdf(images.numpy().reshape(6, 20))
    bound = np.subtract(*model.bound(images, _noise(50_000, 6, 2)))
    few = np.mean([importance_bound(model.log_weights(images, _noise(5, 6, 2, seed))) for seed in range(500)], 0)
    many = importance_bound(model.log_weights(images, _noise(200_000, 6, 2))).numpy()
    assert (bound < few).all()
    assert (few < truth).all()
    np.testing.assert_allclose(many, truth, atol=0.02)


def test_with_the_exact_posterior_the_bound_is_the_likelihood():
    model = _linear()
    kernel = model.decoder.pixels.kernel.numpy().astype(np.float64)  # [Z, 20]
    precision = np.eye(2) + kernel @ kernel.T / 0.25
    # A rotation of z makes the true posterior's covariance diagonal, as q's is.
    _, rotation = np.linalg.eigh(precision)
    kernel = rotation.T @ kernel
    variance = 1.0 / np.diag(np.eye(2) + kernel @ kernel.T / 0.25)
    model.decoder.pixels.kernel.assign(kernel)
    model.encoder.posterior.kernel.assign(np.concatenate([kernel.T / 0.25 * variance, np.zeros((20, 2))], 1))
    model.encoder.posterior.bias.assign(np.concatenate([np.zeros(2), np.log(variance)]))
    exact = scipy.stats.multivariate_normal(np.zeros(20), kernel.T @ kernel + 0.25 * np.eye(20))
    weights = model.log_weights(_images(), _noise(3, 6, 2)).numpy()
    truth = exact.logpdf(_images().numpy().reshape(6, 20))
    np.testing.assert_allclose(weights, np.stack([truth] * 3), atol=1e-3)  # every draw says the same


def test_the_bernoulli_likelihood_is_its_formula():
    model = make_vae("mlp", SHAPE, 3, 8, 1, "bernoulli", seed_stream(0))
    model.build()
    images, latents = _images(binary=True), _noise(2, 6, 3)
    p = model.decode(tf.reshape(latents, (12, 3))).numpy().reshape(2, 6, *SHAPE)
    expected = scipy.stats.bernoulli.logpmf(images.numpy(), p).sum((-1, -2))
    np.testing.assert_allclose(model.log_likelihood(images, latents), expected, rtol=1e-5)
    assert model(images).shape == images.shape


@pytest.mark.parametrize("shape", [(28, 28), (8, 8), (5, 7)])
def test_deconvolutions_make_images_of_any_size(shape):
    layer = Deconvolution(shape, (8, 4), seed_stream(0), normalized=True)
    layer.build((None, 3))
    assert layer(tf.ones((2, 3))).shape == (2, *shape)


def test_an_unknown_likelihood_is_refused():
    with pytest.raises(ValueError, match="bernoulli"):
        make_vae("mlp", SHAPE, 3, 8, 1, "poisson", seed_stream(0))

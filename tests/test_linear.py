import numpy as np
import pytest
import sklearn.linear_model as sklearn
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from rlab.models import linear
from rlab.models.initializers import seed_stream


def _data(seed=0, n=60, d=4):
    generator = np.random.default_rng(seed)
    phi = generator.normal(size=(n, d)).astype(np.float32)
    return phi, (phi @ np.arange(1, d + 1) + 0.1 * generator.normal(size=n)).astype(np.float32)


def test_maximum_likelihood_is_scikit_learns_linear_regression():
    phi, y = _data()
    ours = linear.maximum_likelihood(linear.bias(tf.constant(phi)), tf.constant(y)).numpy()
    theirs = sklearn.LinearRegression().fit(phi.astype(float), y.astype(float))
    np.testing.assert_allclose(ours, [*theirs.coef_, theirs.intercept_], atol=1e-5)


@settings(deadline=None, max_examples=20)
@given(st.floats(0.01, 10.0), st.floats(0.01, 10.0))
def test_maximum_a_posteriori_is_ridge(noise, prior):
    phi, y = _data()
    ours = linear.maximum_a_posteriori(tf.constant(phi), tf.constant(y), noise, prior)
    theirs = sklearn.Ridge(alpha=noise / prior, fit_intercept=False, solver="cholesky")
    np.testing.assert_allclose(ours, theirs.fit(phi.astype(float), y.astype(float)).coef_, atol=1e-5)


def test_posterior_and_predictive_are_bayesian_ridge_at_fixed_variances():
    phi, y = _data()
    # BayesianRidge estimates the variances; its posterior is the exact one at those that it ends with.
    theirs = sklearn.BayesianRidge(
        max_iter=1, alpha_init=1 / 0.04, lambda_init=1 / 2.0, fit_intercept=False, tol=1e-12
    ).fit(phi.astype(float), y.astype(float))
    ours = linear.posterior(tf.constant(phi), tf.constant(y), 1 / theirs.alpha_, 1 / theirs.lambda_)
    np.testing.assert_allclose(ours.mean, theirs.coef_, atol=1e-5)
    np.testing.assert_allclose(ours.covariance, theirs.sigma_, atol=1e-5)
    new = _data(1)[0]
    mean, variance = linear.predictive(ours, tf.constant(new), 1 / theirs.alpha_)
    expected, deviation = theirs.predict(new.astype(float), return_std=True)
    np.testing.assert_allclose(mean, expected, atol=1e-5)
    np.testing.assert_allclose(variance, deviation**2, atol=1e-5)


def test_gradient_descent_finds_the_closed_form():
    phi, y = map(tf.constant, _data(d=3))
    layer = linear.LinearRegression(linear.bias, seed_stream(0))
    layer.build((None, 3))
    for _ in range(400):
        with tf.GradientTape() as tape:
            error = tf.reduce_mean(tf.square(layer(phi) - y))
        layer.w.assign_sub(0.2 * tape.gradient(error, layer.w))
    np.testing.assert_allclose(layer.w[:, 0], linear.maximum_likelihood(linear.bias(phi), y), atol=1e-5)


def test_a_flat_prior_gives_maximum_likelihood_and_a_sharp_one_gives_zero():
    phi, y = map(tf.constant, _data())
    flat = linear.maximum_a_posteriori(phi, y, 1.0, 1e9)
    np.testing.assert_allclose(flat, linear.maximum_likelihood(phi, y), atol=1e-5)
    np.testing.assert_allclose(linear.maximum_a_posteriori(phi, y, 1.0, 1e-9), 0.0, atol=1e-5)


def test_feature_maps():
    x = tf.constant([[2.0], [-1.0]])
    np.testing.assert_array_equal(linear.identity(x), x)
    np.testing.assert_array_equal(linear.bias(x), [[2, 1], [-1, 1]])
    np.testing.assert_array_equal(linear.polynomial(3)(x), [[1, 2, 4, 8], [1, -1, 1, -1]])
    with pytest.raises(ValueError, match="one input"):
        linear.polynomial(2)(tf.ones((2, 3)))
    with pytest.raises(ValueError, match="positive"):
        linear.posterior(x, tf.ones(2), 0.0, 1.0)

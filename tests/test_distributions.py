"""Statistics are tested statistically: a sample mean must lie within 4 standard errors at a fixed seed."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from rlab.ops.distributions import Categorical, DiagonalGaussian

N = 40_000


def _pair(family, seed=0):
    generator = np.random.default_rng(seed)
    first, second = generator.normal(size=(2, 3)).astype(np.float32)
    if family is Categorical:
        return Categorical(tf.constant(first)), Categorical(tf.constant(second))
    scales = generator.normal(size=(2, 3)).astype(np.float32) * 0.3
    return DiagonalGaussian(*map(tf.constant, (first, scales[0]))), DiagonalGaussian(
        *map(tf.constant, (second, scales[1]))
    )


def _samples(distribution):
    many = type(distribution)(*[tf.broadcast_to(part, (N, 3)) for part in distribution])
    return many.sample(tf.constant([3, 5]))


def _within(samples, expected):
    samples = np.asarray(samples, np.float64)
    assert abs(samples.mean() - float(expected)) < 4.0 * samples.std() / np.sqrt(len(samples)) + 1e-6


@pytest.mark.parametrize("family", [Categorical, DiagonalGaussian])
def test_entropy_is_the_mean_of_minus_log_prob(family):
    p, _ = _pair(family)
    _within(-p.log_prob(_samples(p)), p.entropy())


@pytest.mark.parametrize("family", [Categorical, DiagonalGaussian])
def test_kl_is_the_mean_log_ratio(family):
    p, q = _pair(family)
    actions = _samples(p)
    _within(p.log_prob(actions) - q.log_prob(actions), p.kl(q))


@pytest.mark.parametrize("family", [Categorical, DiagonalGaussian])
def test_the_score_has_mean_zero(family):
    p, _ = _pair(family)
    actions = _samples(p)
    parameter = tf.Variable(p[0])
    with tf.GradientTape() as tape:
        mean = tf.reduce_mean(family(parameter, *p[1:]).log_prob(actions))
    assert np.abs(tape.gradient(mean, parameter)).max() < 4.0 * 2.0 / np.sqrt(N)


def test_categorical_frequencies_are_the_softmax():
    p, _ = _pair(Categorical)
    counts = np.bincount(_samples(p).numpy(), minlength=3)
    expected = tf.nn.softmax(p.logits).numpy()
    assert np.abs(counts / N - expected).max() < 4.0 * np.sqrt(0.25 / N)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**31), st.sampled_from([Categorical, DiagonalGaussian]))
def test_kl_is_positive_and_zero_to_itself(seed, family):
    p, q = _pair(family, seed)
    assert float(p.kl(q)) >= -1e-6
    assert abs(float(p.kl(p))) < 1e-6


@pytest.mark.parametrize("family", [Categorical, DiagonalGaussian])
def test_the_same_seed_gives_the_same_sample(family):
    p, _ = _pair(family)
    np.testing.assert_array_equal(p.sample(tf.constant([1, 2])), p.sample(tf.constant([1, 2])))


def test_the_mode_is_the_likeliest_action():
    p, _ = _pair(Categorical)
    likelihoods = [float(p.log_prob(tf.constant(action))) for action in range(3)]
    assert int(p.mode()) == int(np.argmax(likelihoods))

"""Statistics are tested statistically: a sample mean must lie within 4 standard errors at a fixed seed."""

import itertools

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from rlab.ops import compiling, random
from rlab.ops.distributions import Bernoulli, Categorical, DiagonalGaussian, MultiCategorical

N = 40_000
FAMILIES = [Categorical, MultiCategorical, Bernoulli, DiagonalGaussian]


def _pair(family, seed=0):
    generator = np.random.default_rng(seed)
    first, second = generator.normal(size=(2, 3)).astype(np.float32)
    if family in (Categorical, Bernoulli):
        return family(tf.constant(first)), family(tf.constant(second))
    if family is MultiCategorical:
        return tuple(
            family((Categorical(tf.constant(part)), Categorical(tf.constant(part[:2])))) for part in (first, second)
        )
    scales = generator.normal(size=(2, 3)).astype(np.float32) * 0.3
    return DiagonalGaussian(*map(tf.constant, (first, scales[0]))), DiagonalGaussian(
        *map(tf.constant, (second, scales[1]))
    )


def _samples(distribution):
    many = tf.nest.map_structure(lambda part: tf.broadcast_to(part, (N, *part.shape)), distribution)
    return many.sample(tf.constant([3, 5]))


def _within(samples, expected):
    samples = np.asarray(samples, np.float64)
    assert abs(samples.mean() - float(expected)) < 4.0 * samples.std() / np.sqrt(len(samples)) + 1e-6


@pytest.mark.parametrize("family", FAMILIES)
def test_entropy_is_the_mean_of_minus_log_prob(family):
    p, _ = _pair(family)
    _within(-p.log_prob(_samples(p)), p.entropy())


@pytest.mark.parametrize("family", FAMILIES)
def test_kl_is_the_mean_log_ratio(family):
    p, q = _pair(family)
    actions = _samples(p)
    _within(p.log_prob(actions) - q.log_prob(actions), p.kl(q))


def test_the_divergence_of_two_coins_is_from_the_first_to_the_second():
    """0.9 ln(0.9/0.5) + 0.1 ln(0.1/0.5), and not 0.5 ln(0.5/0.9) + 0.5 ln(0.5/0.1)."""
    first, second = np.log([0.9, 0.1]).astype(np.float32), np.zeros(2, np.float32)
    assert float(Categorical(first).kl(Categorical(second))) == pytest.approx(0.3681, abs=1e-4)
    odds = np.float32([np.log(9.0)])
    assert float(Bernoulli(odds).kl(Bernoulli(odds * 0.0))) == pytest.approx(0.3681, abs=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_score_has_mean_zero(family):
    p, _ = _pair(family)
    actions = _samples(p)
    with tf.GradientTape() as tape:
        tape.watch(p)
        mean = tf.reduce_mean(p.log_prob(actions))
    for score in tf.nest.flatten(tape.gradient(mean, p)):
        assert np.abs(score).max() < 4.0 * 2.0 / np.sqrt(N)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_fisher_information_is_the_second_derivative_of_the_divergence(family):
    p, change = _pair(family)
    parts = tf.nest.flatten(p)
    with tf.GradientTape() as outer:
        outer.watch(parts)
        with tf.GradientTape() as inner:
            inner.watch(parts)
            divergence = tf.reduce_sum(_stopped(p).kl(tf.nest.pack_sequence_as(p, parts)))
        slopes = inner.gradient(divergence, parts)
        along = tf.add_n([tf.reduce_sum(a * b) for a, b in zip(slopes, tf.nest.flatten(change), strict=True)])
    for ours, theirs in zip(tf.nest.flatten(p.fisher_product(change)), outer.gradient(along, parts), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


def _stopped(p):
    return tf.nest.map_structure(tf.stop_gradient, p)


def test_categorical_frequencies_are_the_softmax():
    p, _ = _pair(Categorical)
    counts = np.bincount(_samples(p).numpy(), minlength=3)
    expected = tf.nn.softmax(p.logits).numpy()
    assert np.abs(counts / N - expected).max() < 4.0 * np.sqrt(0.25 / N)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**31), st.sampled_from(FAMILIES))
def test_kl_is_positive_and_zero_to_itself(seed, family):
    p, q = _pair(family, seed)
    assert float(p.kl(q)) >= -1e-6
    assert abs(float(p.kl(p))) < 1e-6


@pytest.mark.parametrize("family", FAMILIES)
def test_the_same_seed_gives_the_same_sample(family):
    p, _ = _pair(family)
    np.testing.assert_array_equal(p.sample(tf.constant([1, 2])), p.sample(tf.constant([1, 2])))


@pytest.mark.parametrize(
    ("family", "actions"),
    [
        (Categorical, range(3)),
        (MultiCategorical, list(itertools.product(range(3), range(2)))),
        (Bernoulli, list(itertools.product(range(2), repeat=3))),
    ],
)
def test_probabilities_sum_to_one_and_the_mode_is_the_likeliest_action(family, actions):
    p, _ = _pair(family)
    likelihoods = [float(p.log_prob(tf.constant(action))) for action in actions]
    assert np.exp(likelihoods).sum() == pytest.approx(1.0, abs=1e-5)
    assert p.mode().numpy().tolist() == np.array(actions[int(np.argmax(likelihoods))]).tolist()


@pytest.mark.parametrize("shape", [(1,), (7,), (2, 7), (8, 3), (3, 8), (5, 3), (3, 3, 5), (1, 16, 6), (2, 0)])
def test_random_numbers_are_xlas_own_by_xla_and_in_a_graph(shape):
    seed = tf.constant([3, 7])
    kinds = {random.uniform: tf.random.stateless_uniform, random.normal: tf.random.stateless_normal}
    for ours, theirs in kinds.items():
        expected = compiling.compiled(lambda seed, draw=theirs: draw(shape, seed))(seed)
        for compiler in compiling.COMPILERS:
            drawn = compiling.compiled(lambda seed, draw=ours: draw(shape, seed), compiling.Formulation(compiler))(seed)
            np.testing.assert_allclose(drawn, expected, atol=1e-6)


def test_random_numbers_are_uniform_and_normal():
    u, z = (draw([N], tf.constant([1, 2])).numpy() for draw in (random.uniform, random.normal))
    assert (u.min() >= 0.0, u.max() < 1.0) == (True, True)
    for values, moments in ((u, (1 / 2, 1 / 3, 1 / 4)), (z, (0.0, 1.0, 0.0))):
        for power, expected in enumerate(moments, 1):
            _within(values**power, expected)

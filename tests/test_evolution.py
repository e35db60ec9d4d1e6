"""The mathematics of evolution: noise without storage, utilities, and the natural gradient."""

import numpy as np
import pytest
import scipy.stats
import tensorflow as tf
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rlab.ops import evolution

FITNESS = st.lists(st.floats(-1e3, 1e3, width=32), min_size=2, max_size=40).map(np.array)
UTILITIES = (evolution.centered_ranks, evolution.nes_utilities)


def _word(number):
    return tf.constant(number, tf.uint32)


@pytest.mark.parametrize(
    ("key", "counter", "words"),
    [  # of the authors' own test vectors (Random123, kat_vectors)
        ((0x0, 0x0), (0x0, 0x0), (0x6B200159, 0x99BA4EFE)),
        ((0xFFFFFFFF, 0xFFFFFFFF), (0xFFFFFFFF, 0xFFFFFFFF), (0x1CB996FC, 0xBB002BE7)),
        ((0x13198A2E, 0x03707344), (0x243F6A88, 0x85A308D3), (0xC4923A9C, 0x483DF7A0)),
    ],
)
def test_threefry_gives_its_published_words(key, counter, words):
    found = evolution.threefry(tuple(map(_word, key)), tuple(map(_word, counter)))
    assert tuple(int(word) for word in found) == words


@settings(deadline=None, max_examples=25)
@given(
    seed=st.integers(-(2**31), 2**31 - 1),
    generation=st.integers(0, 10**6),
    members=st.lists(st.integers(0, 10**6), min_size=3, max_size=3),
    size=st.sampled_from([1, 2, 13, 100]),
)
def test_noise_is_the_same_in_any_order_and_chunk(seed, generation, members, size):
    together = evolution.noise(seed, generation, tf.constant(members), size).numpy()
    alone = [evolution.noise(seed, generation, tf.constant([member]), size).numpy()[0] for member in reversed(members)]
    np.testing.assert_array_equal(together, alone[::-1])
    assert np.isfinite(together).all()


def test_noise_is_standard_normal_and_its_streams_are_apart():
    made = evolution.noise(3, 5, tf.range(64), 5001).numpy().astype(np.float64)
    count = made.size
    for power, (mean, variance) in {1: (0, 1), 2: (1, 2), 3: (0, 15), 4: (3, 96)}.items():
        assert abs((made**power).mean() - mean) < 4.0 * np.sqrt(variance / count)
    others = [
        evolution.noise(4, 5, tf.range(64), 5001),
        evolution.noise(3, 6, tf.range(64), 5001),
        evolution.noise(3, 5, 64 + tf.range(64), 5001),
    ]
    for other in others:
        assert abs((made * other.numpy()).mean()) < 4.0 / np.sqrt(count)
    halves = made[:, :2500] * made[:, 2501:]  # the two words of a counter
    assert abs(halves.mean()) < 4.0 / np.sqrt(halves.size)


@settings(deadline=None)
@given(st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=8))
@example([0, 2**32 - 1, 511, 512])
def test_words_become_normal_numbers_by_the_inverse_distribution(words):
    """Of the upper 23 bits: the quantile at the middle of one of as many cells; the first and the last are finite."""
    found = evolution.normal_from_words(tf.constant(words, tf.uint32))
    np.testing.assert_allclose(
        found, scipy.stats.norm.ppf((np.array(words) // 512 + 0.5) / 2**23), rtol=2e-3, atol=1e-6
    )


@given(FITNESS)
def test_utilities_sum_to_nothing_and_ignore_monotone_transforms(fitness):
    for utilities in UTILITIES:
        found = utilities(fitness)
        assert abs(found.sum()) < 1e-5
        assert (np.diff(found[np.argsort(fitness, kind="stable")]) >= 0.0).all()
        _, ranks = np.unique(fitness, return_inverse=True)  # a monotone transform that no rounding touches
        np.testing.assert_array_equal(found, utilities(ranks**3 * 7.0 - 2.0))


def test_utilities_are_those_of_the_papers():
    fitness = np.array([10.0, 30.0, 20.0, 40.0])
    np.testing.assert_allclose(evolution.centered_ranks(fitness), [-1 / 2, 1 / 6, -1 / 6, 1 / 2], rtol=1e-6)
    raw = np.array([0.0, np.log(3) - np.log(2), 0.0, np.log(3)])
    np.testing.assert_allclose(evolution.nes_utilities(fitness), raw / raw.sum() - 0.25, rtol=1e-6)
    np.testing.assert_array_equal(evolution.centered_ranks(np.ones(5)), np.zeros(5))


def test_mirrored_members_cancel_and_share_their_noise():
    search = evolution.SearchDistribution(tf.constant([1.0, 2.0, 3.0]), tf.constant([0.1, 0.2, 0.3]))
    asked = evolution.member_parameters(search, 1, 2, tf.range(8)).numpy()
    np.testing.assert_allclose(asked[0::2] + asked[1::2], 2.0 * np.tile(search.mean, (4, 1)), rtol=1e-6)
    made = evolution.noise(1, 2, tf.range(4), 3).numpy()
    np.testing.assert_allclose(asked[0::2], search.mean + search.sigma * made, rtol=1e-6)


@pytest.mark.parametrize("mirrored", [True, False])
def test_the_gradient_is_the_sum_over_all_members(mirrored):
    utilities = np.random.default_rng(0).normal(size=32).astype(np.float32)
    search = evolution.SearchDistribution(tf.zeros(7), tf.ones(7))
    noise = evolution.member_parameters(search, 3, 4, tf.range(32), mirrored).numpy().astype(np.float64)
    found = evolution.natural_gradient(3, 4, tf.constant(utilities), 7, mirrored, chunk=4)
    np.testing.assert_allclose(found.mean, utilities @ noise, atol=1e-4)
    np.testing.assert_allclose(found.log_variance, utilities @ (noise**2 - 1.0), atol=1e-4)


def test_the_gradient_of_a_quadratic_is_the_closed_form():
    """The gradients of J(θ) = −½ (θ − c)ᵀA(θ − c) are ∇_μ E[J] = −A(μ − c) and ∇_{ln σ} E[J] = −diag(A) σ²."""
    size, members = 4, 1 << 16
    rng = np.random.default_rng(1)
    root = rng.normal(size=(size, size))
    curvature, centre = root @ root.T + np.eye(size), rng.normal(size=size)
    search = evolution.SearchDistribution(
        tf.constant(rng.normal(size=size), tf.float32), tf.constant([0.5, 0.2, 0.1, 0.3])
    )
    away = evolution.member_parameters(search, 7, 0, tf.range(members)).numpy() - centre
    fitness = -0.5 * np.einsum("pi,ij,pj->p", away, curvature, away)
    centred = ((fitness - fitness.mean()) / members).astype(np.float32)
    found = evolution.natural_gradient(7, 0, tf.constant(centred), size, chunk=1024)
    sigma = search.sigma.numpy()
    np.testing.assert_allclose(found.mean / sigma, -curvature @ (search.mean.numpy() - centre), rtol=0.05, atol=0.1)
    np.testing.assert_allclose(found.log_variance, -np.diag(curvature) * sigma**2, rtol=0.1, atol=0.02)


def _sphere(x):
    return -np.square(x).sum(axis=1)


def _ellipsoid(x):
    return -(np.square(x) * 10.0 ** np.linspace(0.0, 4.0, x.shape[1])).sum(axis=1)


def _rosenbrock(x):
    return -(100.0 * np.square(x[:, 1:] - np.square(x[:, :-1])) + np.square(1.0 - x[:, :-1])).sum(axis=1)


@pytest.mark.parametrize(
    ("function", "size", "generations", "optimum"),
    [(_sphere, 10, 300, 0.0), (_ellipsoid, 10, 500, 0.0), (_rosenbrock, 2, 4000, 1.0)],
)
def test_snes_finds_the_optimum(function, size, generations, optimum):
    @tf.function(jit_compile=True)
    def change(search, generation, utilities):
        return evolution.snes_step(search, evolution.natural_gradient(0, generation, utilities, size))

    asked = tf.function(
        lambda search, generation: evolution.member_parameters(search, 0, generation, tf.range(32)), jit_compile=True
    )
    search = evolution.SearchDistribution(tf.fill((size,), -2.0), tf.ones(size))
    for generation in map(tf.constant, range(generations)):
        fitness = function(asked(search, generation).numpy().astype(np.float64))
        search = change(search, generation, tf.constant(evolution.nes_utilities(fitness)))
    np.testing.assert_allclose(search.mean, np.full(size, optimum), atol=1e-2)

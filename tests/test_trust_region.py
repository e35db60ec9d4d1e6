"""Conjugate gradient, Fisher products and the trust-region step, on problems whose answers are known."""

import gymnasium as gym
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from rlab.ops import trust_region
from rlab.ops.distributions import Categorical
from rlab.policies.backbone_names import BACKBONES
from rlab.policies.policy import Policy

VECTOR, IMAGE = gym.spaces.Box(-1.0, 1.0, (3,), np.float32), gym.spaces.Box(0, 255, (1, 40, 40), np.uint8)
DISCRETE, CONTINUOUS = gym.spaces.Discrete(3), gym.spaces.Box(-2.0, 2.0, (2,), np.float32)
BITS, CHOICES = gym.spaces.MultiBinary(3), gym.spaces.MultiDiscrete([3, 2])
T, B = 4, 3


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 12), st.integers(0, 2**31), st.floats(0.1, 10.0))
def test_conjugate_gradient_solves_positive_definite_systems(size, seed, scale):
    generator = np.random.default_rng(seed)
    root = generator.normal(size=(size, size))
    matrix, b = scale * (root @ root.T + np.eye(size)), generator.normal(size=size)
    found, residual = trust_region.conjugate_gradient(lambda v: tf.linalg.matvec(matrix, v), b, 4 * size, 1e-20)
    np.testing.assert_allclose(found, np.linalg.solve(matrix, b), rtol=1e-6, atol=1e-8)
    assert float(residual) == pytest.approx(np.linalg.norm(b - matrix @ found.numpy()), abs=1e-8)


def test_conjugate_gradient_stops_where_told():
    matrix = np.diag(np.arange(1.0, 11.0))
    b, calls = np.ones(10), []

    def matvec(v):
        calls.append(1)
        return tf.linalg.matvec(matrix, v)

    for iterations in (0, 3):
        calls.clear()
        found, residual = trust_region.conjugate_gradient(matvec, b, iterations)
        assert len(calls) == iterations
        assert float(residual) == pytest.approx(np.linalg.norm(b - matrix @ found.numpy()))
    assert float(trust_region.conjugate_gradient(matvec, b, 10, 1e-3).residual) ** 2 <= 1e-3
    assert not trust_region.conjugate_gradient(matvec, np.zeros(10)).x.numpy().any()


@pytest.mark.parametrize("diagonal", [[-1.0, -2.0], [np.nan, 1.0], [0.0, 0.0]])
def test_conjugate_gradient_takes_no_step_where_nothing_curves_upward(diagonal):
    found, _ = trust_region.conjugate_gradient(lambda v: tf.constant(diagonal) * v, tf.ones(2))
    np.testing.assert_array_equal(found, np.zeros(2))


def _network(backbone, actions, space=VECTOR):
    """A policy's distribution over all steps of a small random rollout, its parameters, and which are learned."""
    policy = Policy(space, actions, backbone)
    space.seed(0)
    observations = np.stack([[space.sample() for _ in range(B)] for _ in range(T)])
    resets = np.zeros((T, B), np.float32)
    resets[2, 1] = 1.0
    params = policy.initial_parameters(0)
    params += np.random.default_rng(1).normal(size=params.shape, scale=0.02).astype(np.float32)

    def distribution(params):
        return policy.apply(params, observations, policy.initial_state(B), resets)[0].distribution

    return distribution, tf.constant(params), policy.trainable_mask


def _linear_policy(params):
    """Softmax of a linear function of fixed features: small enough for its whole Fisher matrix."""
    features = np.random.default_rng(0).normal(size=(7, 4)).astype(np.float32)
    return Categorical(tf.matmul(features, tf.reshape(params, (4, 3))))


def test_products_with_the_explicit_fisher_matrix():
    """F = mean over states of E_a[∇ ln π (∇ ln π)ᵀ], summed over all actions."""
    params = tf.constant(np.random.default_rng(1).normal(size=12).astype(np.float32))
    fisher = np.zeros((12, 12))
    probabilities = tf.nn.softmax(_linear_policy(params).logits).numpy()
    for action in range(3):
        with tf.GradientTape() as tape:
            tape.watch(params)
            log_prob = _linear_policy(params).log_prob(tf.fill((7,), action))
        for state, score in enumerate(tape.jacobian(log_prob, params).numpy()):
            fisher += probabilities[state, action] * np.outer(score, score) / 7
    products = [trust_region.fisher_vector_product(_linear_policy, params, tf.one_hot(i, 12), 0.1) for i in range(12)]
    np.testing.assert_allclose(np.stack(products), fisher + 0.1 * np.eye(12), atol=1e-5)


@pytest.mark.parametrize(
    ("backbone", "actions"),
    [
        *[(name, DISCRETE) for name in BACKBONES],
        ("mlp", CONTINUOUS),
        ("mlp", BITS),
        ("mlp", CHOICES),
        ("rnn", CONTINUOUS),
    ],
)
def test_products_are_finite_differences_of_the_divergence(backbone, actions):
    space = IMAGE if "cnn" in backbone or backbone == "nature" else VECTOR
    distribution, params, learned = _network(backbone, actions, space)
    old = distribution(params)

    @tf.function(jit_compile=False)
    def slope(at):
        with tf.GradientTape() as tape:
            tape.watch(at)
            divergence = tf.reduce_mean(old.kl(distribution(at)))
        return tape.gradient(divergence, at)

    product = tf.function(lambda v: trust_region.fisher_vector_product(distribution, params, v), jit_compile=False)
    for seed in range(2):
        vector = learned * tf.random.stateless_normal(params.shape, (0, seed))
        step = 5e-3 / tf.norm(vector)
        differences = (slope(params + step * vector) - slope(params - step * vector)) / (2.0 * step)
        exact = product(vector)
        assert float(tf.norm(differences - exact)) < 2e-2 * float(tf.norm(exact))
        assert float(tf.tensordot(vector, exact, 1)) > 0.0


def _quadratic(centre, curvature=1.0):
    """A surrogate −½‖θ − c‖² and a divergence ½ κ ‖θ‖² from 0."""
    return lambda params: (
        -0.5 * tf.reduce_sum(tf.square(params - centre)),
        0.5 * curvature * tf.reduce_sum(tf.square(params)),
    )


def test_the_line_search_stays_within_the_region():
    """From 0 along (8, 0) towards (3, 0): the KL bound ½ · 2² allows a quarter of the way, the surrogate 6."""
    start, step = tf.zeros(2), tf.constant([8.0, 0.0])
    found = trust_region.line_search(_quadratic(tf.constant([3.0, 0.0])), start, step, 2.0, 0.5)
    assert float(found.fraction) == 0.25
    np.testing.assert_array_equal(found.params, [2.0, 0.0])
    assert float(found.kl) == 2.0
    assert float(found.improvement) == pytest.approx(4.5 - 0.5)


@pytest.mark.parametrize(
    ("step", "bound"),
    [([-1.0, 0.0], 2.0), ([np.nan, 0.0], 2.0), ([np.inf, 0.0], 2.0), ([8.0, 0.0], 1e-9), ([0.0, 0.0], 2.0)],
    ids=["downhill", "NaN", "infinite", "a tiny region", "no step"],
)
def test_a_rejected_step_changes_no_bit(step, bound):
    start = tf.constant([0.1, -0.3])
    evaluate = _quadratic(tf.constant([3.0, 0.0]))
    found = trust_region.line_search(evaluate, start, tf.constant(step), bound)
    np.testing.assert_array_equal(found.params, start)
    assert float(found.fraction) == float(found.improvement) == float(found.kl) == 0.0


def _step(evaluate, gradient, diagonal, params):
    """A step with a diagonal Fisher information, within 0.01."""
    direction, _ = trust_region.conjugate_gradient(lambda v: diagonal * v, gradient)
    return trust_region.trust_region_step(evaluate, gradient, direction, diagonal * direction, params, 0.01)


def test_the_natural_step_goes_to_the_border():
    """For a quadratic divergence with the true curvature the step's KL is δ itself."""
    curvatures, goal = tf.constant([1.0, 100.0, 0.01]), tf.constant([5.0, 2.0, -3.0])

    def evaluate(params):
        # A hair flatter than told, so that rounding cannot take the full step out of the region.
        return tf.tensordot(goal, params, 1), 0.4999 * tf.reduce_sum(curvatures * tf.square(params))

    step = _step(evaluate, goal, curvatures, tf.zeros(3))
    natural = goal / curvatures
    np.testing.assert_allclose(step.params / tf.norm(step.params), natural / tf.norm(natural), atol=1e-4)
    assert float(step.fraction) == 1.0
    assert float(step.kl) == pytest.approx(float(step.predicted_kl), rel=1e-3)
    assert float(step.kl) == pytest.approx(0.01, rel=1e-3)
    assert float(step.improvement) == pytest.approx(float(step.predicted_improvement), rel=1e-4)
    assert float(step.cg_residual) < 1e-3


def test_the_predicted_divergence_leaves_damping_out():
    """With F = diag(1, 4) and a damping of 2 it is ½ sᵀFs, which the divergence of a quadratic is too."""
    fisher, goal, damping = tf.constant([1.0, 4.0]), tf.constant([1.0, 1.0]), 2.0

    def evaluate(params):
        return tf.tensordot(goal, params, 1), 0.5 * tf.reduce_sum(fisher * tf.square(params))

    direction = goal / (fisher + damping)
    step = trust_region.trust_region_step(evaluate, goal, direction, goal, tf.zeros(2), 0.01, damping)
    assert float(step.fraction) == 1.0
    assert float(step.predicted_kl) == pytest.approx(float(step.kl), rel=1e-5)


@pytest.mark.parametrize(
    ("gradient", "diagonal"),
    [([0.0, 0.0], [1.0, 1.0]), ([1.0, 1.0], [-1.0, -1.0]), ([1.0, 1.0], [np.nan, 1.0]), ([np.nan, 1.0], [1.0, 1.0])],
    ids=["nothing to gain", "negative curvature", "curvature NaN", "gradient NaN"],
)
def test_parameters_stay_if_no_step_is_acceptable(gradient, diagonal):
    start = tf.constant([0.1, -0.3])
    step = _step(_quadratic(tf.constant([3.0, 0.0])), tf.constant(gradient), tf.constant(diagonal), start)
    np.testing.assert_array_equal(step.params, start)
    assert float(step.fraction) == float(step.kl) == float(step.improvement) == 0.0

import numpy as np
import pytest
import references
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from rlab.ops import returns


@st.composite
def trajectories(draw):
    T, B, seed = draw(st.integers(1, 12)), draw(st.integers(1, 4)), draw(st.integers(0, 2**31))
    generator = np.random.default_rng(seed)
    boundaries = (generator.random((T, B)) < 0.3).astype(np.float32)
    terminated = boundaries * (generator.random((T, B)) < 0.5)
    discounts = (draw(st.floats(0.0, 1.0)) * (1.0 - terminated)).astype(np.float32)
    rewards, values, next_values = generator.normal(size=(3, T, B)).astype(np.float32)
    return rewards, discounts, boundaries, values, next_values


@settings(deadline=None, max_examples=60)
@given(trajectories())
def test_n_step_returns_equal_the_sum_of_the_paper(trajectory):
    rewards, discounts, boundaries, _, next_values = trajectory
    fast = returns.n_step_returns(*map(tf.constant, (rewards, discounts, boundaries, next_values)))
    slow = references.n_step_returns(rewards, discounts, boundaries, next_values)
    np.testing.assert_allclose(fast, slow, rtol=1e-4, atol=1e-4)


@settings(deadline=None, max_examples=60)
@given(trajectories(), st.floats(0.0, 1.0))
def test_generalized_advantage_equals_the_sum_of_the_paper(trajectory, lam):
    fast = returns.generalized_advantage(*map(tf.constant, trajectory), lam)
    slow = references.generalized_advantage(*trajectory, lam)
    np.testing.assert_allclose(fast, slow, rtol=1e-4, atol=1e-4)


@settings(deadline=None, max_examples=40)
@given(trajectories())
def test_lambda_one_is_the_n_step_return_when_values_agree(trajectory):
    rewards, discounts, boundaries, values, next_values = map(tf.constant, trajectory)
    # Inside an episode V(x_{t+1}) is the next row of `values`; only then does the sum of differences telescope.
    inside = tf.concat([values[1:], next_values[-1:]], axis=0)
    next_values = tf.where(boundaries == 1.0, next_values, inside)
    advantages = returns.generalized_advantage(rewards, discounts, boundaries, values, next_values, 1.0)
    expected = returns.n_step_returns(rewards, discounts, boundaries, next_values) - values
    np.testing.assert_allclose(advantages, expected, rtol=1e-4, atol=1e-4)


@settings(deadline=None, max_examples=40)
@given(trajectories())
def test_lambda_zero_is_the_one_step_error(trajectory):
    rewards, discounts, _, values, next_values = trajectory
    advantages = returns.generalized_advantage(*map(tf.constant, trajectory), 0.0)
    np.testing.assert_allclose(advantages, rewards + discounts * next_values - values, rtol=1e-5, atol=1e-5)


def test_nothing_crosses_a_boundary():
    rewards, discounts = np.ones((2, 6, 1), np.float32)
    boundaries, next_values = np.zeros((2, 6, 1), np.float32)
    boundaries[2] = 1.0
    before = returns.n_step_returns(*map(tf.constant, (rewards, discounts, boundaries, next_values))).numpy()
    rewards[3:] = 100.0
    after = returns.n_step_returns(*map(tf.constant, (rewards, discounts, boundaries, next_values))).numpy()
    np.testing.assert_array_equal(before[:3], after[:3])
    assert after[3] == pytest.approx(300.0)


def test_a_time_limit_leaves_the_value_of_a_constant_reward():
    """Reward 1 for ever under a time limit: the only consistent value is 1/(1−γ), and it is a fixed point."""
    gamma = 0.9
    value = np.full((20, 1), 1.0 / (1.0 - gamma), np.float32)
    rewards, discounts = np.ones((20, 1), np.float32), np.full((20, 1), gamma, np.float32)
    boundaries = np.zeros((20, 1), np.float32)
    boundaries[4::5] = 1.0  # truncated every fifth step: a boundary whose discount stays γ
    result = returns.n_step_returns(*map(tf.constant, (rewards, discounts, boundaries, value)))
    np.testing.assert_allclose(result, value, rtol=1e-5)

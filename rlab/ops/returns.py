"""Returns and advantages of a trajectory: backward recursions over time.

Arguments are float arrays [T, B], time-major; where nothing else is said they are tensors:

- `rewards` r_t;
- `discounts` γ, and 0 where the episode terminated at step t (never at a mere truncation);
- `boundaries` 1 where the episode ended, terminated or truncated, at step t;
- `next_values` V(x_{t+1}), where x_{t+1} is the observation before any reset.
"""

import numpy as np
import tensorflow as tf


def n_step_returns(
    rewards: tf.Tensor, discounts: tf.Tensor, boundaries: tf.Tensor, next_values: tf.Tensor
) -> tf.Tensor:
    """The n-step return R_t of each step, float [T, B].

    R_t = r_t + discount_t · (V(x_{t+1}) at a boundary or at the last step, else R_{t+1}). Within one episode this is
    the bootstrapped return of Mnih et al. 2016, algorithm S3: R ← r_i + γR from the last state backwards.
    """
    return _discounted_sums(rewards + discounts * _at_ends(boundaries) * next_values, discounts, boundaries)


def discounted_returns(rewards: np.ndarray, discount: float) -> np.ndarray:
    """R_t = r_t + γ R_{t+1} of whole episodes, float32 [T, B] of NumPy; rewards in padding must be 0."""
    returns = np.zeros_like(rewards)
    following = np.zeros_like(rewards[0])
    for t in reversed(range(len(rewards))):
        following = rewards[t] + np.float32(discount) * following
        returns[t] = following
    return returns


def generalized_advantage(
    rewards: tf.Tensor,
    discounts: tf.Tensor,
    boundaries: tf.Tensor,
    values: tf.Tensor,
    next_values: tf.Tensor,
    lam: float | tf.Tensor,
) -> tf.Tensor:
    """The generalized advantage estimate A_t of each step, float [T, B] (Schulman et al. 2016, equation 16).

    A_t = δ_t + discount_t λ (1 − boundary_t) A_{t+1}, with δ_t = r_t + discount_t V(x_{t+1}) − V(x_t). `values` is
    V(x_t) [T, B]; `lam` is λ in [0, 1]. With λ = 1 it equals `n_step_returns` − `values`.
    """
    deltas = rewards + discounts * next_values - values
    return _discounted_sums(deltas, discounts * lam, boundaries)


def _at_ends(boundaries: tf.Tensor) -> tf.Tensor:
    """The mask [T, B] of the steps where the recursion stops: 1 at boundaries and at the last step."""
    return tf.concat([boundaries[:-1], tf.ones_like(boundaries[-1:])], axis=0)


def _discounted_sums(terms: tf.Tensor, discounts: tf.Tensor, boundaries: tf.Tensor) -> tf.Tensor:
    """S_t = term_t + discount_t (1 − boundary_t) S_{t+1}, S_T = 0. [T, B]"""
    factors = discounts * (1.0 - boundaries)
    return tf.scan(
        lambda following, step: step[0] + step[1] * following,
        (terms, factors),
        initializer=tf.zeros_like(terms[0]),
        reverse=True,
    )

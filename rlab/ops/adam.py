"""Adam as a pure function of parameters, state and gradient.

Keras's own optimizers refuse their stateless step on TensorFlow (`stateless_apply`), and so cannot be compiled with the
parameters as arguments.
"""

from typing import NamedTuple

import tensorflow as tf


class AdamState(NamedTuple):
    """The state of Adam: the moments of the gradient, and the number of steps."""

    mean: tf.Tensor  # m, float32 [D]
    square: tf.Tensor  # v, float32 [D]
    count: tf.Tensor  # t, float32 scalar, steps made


def initial_state(size: int) -> AdamState:
    """The state before the first step, for `size` parameters."""
    return AdamState(tf.zeros(size), tf.zeros(size), tf.zeros(()))


def adam(
    params: tf.Tensor,
    state: AdamState,
    gradient: tf.Tensor,
    learning_rate: tf.Tensor | float,
    beta_1: float = 0.9,
    beta_2: float = 0.999,
    epsilon: float = 1e-7,
) -> tuple[tf.Tensor, AdamState]:
    """One step of Adam (Kingma and Ba 2015, algorithm 1); parameters and gradient float32 [D].

    m ← β₁m + (1 − β₁)g, v ← β₂v + (1 − β₂)g², θ ← θ − η m̂/(√v̂ + ε), with m̂ = m/(1 − β₁ᵗ) and v̂ = v/(1 − β₂ᵗ).
    """
    count = state.count + 1.0
    mean = beta_1 * state.mean + (1.0 - beta_1) * gradient
    square = beta_2 * state.square + (1.0 - beta_2) * tf.square(gradient)
    corrected_mean = mean / (1.0 - beta_1**count)
    corrected_square = square / (1.0 - beta_2**count)
    params -= learning_rate * corrected_mean / (tf.sqrt(corrected_square) + epsilon)
    return params, AdamState(mean, square, count)

"""Recurrent networks that carry their memory in plain sight: state in, state out."""

from collections.abc import Iterator
from typing import NamedTuple

import keras
import tensorflow as tf

from rlab.models.initializers import orthogonal


class LSTMState(NamedTuple):
    """The memory of an LSTM; both float32 [B, H]."""

    output: tf.Tensor  # a, the paper's h
    cell: tf.Tensor  # s, the paper's c


class LSTM(keras.layers.Layer):
    """Long short-term memory (Hochreiter and Schmidhuber 1997, with the forget gate of Gers et al. 2000).

    With z = x[t] W + a[t−1] Ω + b for each gate: s[t] = σ(z_f) s[t−1] + σ(z_i) tanh(z_g), a[t] = σ(z_o) tanh(s[t]).

    Maps inputs [T, B, F], a state and resets [T, B] to outputs [T, B, H] and the state after the last step. Where
    resets[t, b] is 1 the memory of sequence b is zero before step t, so that nothing crosses an episode's start.
    """

    def __init__(self, units: int, seeds: Iterator[int], name: str = "lstm") -> None:
        super().__init__(name=name)
        self.units = units
        self._initializers = orthogonal(1.0, seeds), orthogonal(1.0, seeds)

    def build(self, input_shape: tuple[int | None, ...], *_: object) -> None:
        input_init, recurrent_init = self._initializers
        width = 4 * self.units
        self.kernel = self.add_weight(shape=(input_shape[-1], width), initializer=input_init, name="kernel")
        self.recurrent = self.add_weight(shape=(self.units, width), initializer=recurrent_init, name="recurrent")
        self.bias = self.add_weight(shape=(width,), initializer=self._initial_bias, name="bias")
        self.built = True

    def _initial_bias(self, shape: tuple[int, ...], dtype: str | None = None) -> tf.Tensor:
        # Forget gates start open: 1 added to their bias (Gers et al. 2000; Jozefowicz et al. 2015).
        return tf.repeat(tf.constant([0.0, 1.0, 0.0, 0.0], dtype or "float32"), self.units)

    def initial_state(self, batch_size: int) -> LSTMState:
        zeros = tf.zeros((batch_size, self.units))
        return LSTMState(zeros, zeros)

    def call(self, inputs: tf.Tensor, state: LSTMState, resets: tf.Tensor) -> tuple[tf.Tensor, LSTMState]:
        # The input products of all steps are one large matrix product; only the recurrent part is sequential.
        projected = tf.tensordot(inputs, self.kernel, 1) + self.bias
        keep = (1.0 - resets)[..., None]
        recurrent = tf.convert_to_tensor(self.recurrent)
        if inputs.shape[0] == 1:  # one acting step: no loop to compile
            state = self._step(LSTMState(*state), projected[0], keep[0], recurrent)
            return state.output[None], state
        # A loop, not an unrolled graph: XLA compiles it in a tenth of the time, and it runs no slower.
        states = tf.scan(
            lambda carried, step: self._step(carried, step[0], step[1], recurrent), (projected, keep), LSTMState(*state)
        )
        return states.output, LSTMState(states.output[-1], states.cell[-1])

    @staticmethod
    def _step(state: LSTMState, projected: tf.Tensor, keep: tf.Tensor, recurrent: tf.Tensor) -> LSTMState:
        i, f, g, o = tf.split(projected + tf.matmul(state.output * keep, recurrent), 4, axis=-1)
        cell = tf.sigmoid(f) * state.cell * keep + tf.sigmoid(i) * tf.tanh(g)
        return LSTMState(tf.sigmoid(o) * tf.tanh(cell), cell)

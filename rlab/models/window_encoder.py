"""A sequence encoder as memory: at every step it reads the last few inputs anew."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from rlab.models.recurrent import LSTM


class WindowState(NamedTuple):
    """The inputs that may still be read."""

    inputs: tf.Tensor  # float32 [B, N − 1, F], the oldest first
    valid: tf.Tensor  # float32 [B, N − 1], 1 where the input belongs to the present episode


class WindowEncoder(keras.layers.Layer):
    """The encoder of a sequence-to-sequence model over the last `length` inputs, the present one included.

    Maps inputs [T, B, F], a state and resets [T, B] to outputs [T, B, units] and the state after the last step. Inputs
    from before a reset are masked. Each step costs `length` steps of the LSTM, all steps of a rollout run at once.
    """

    def __init__(self, units: int, length: int, seeds: Iterator[int], name: str = "seq2seq") -> None:
        super().__init__(name=name)
        self.units, self.length = units, length
        self.encoder = LSTM(units, seeds, name="encoder")

    def build(self, input_shape: tuple[int | None, ...], *_: object) -> None:
        self.features = input_shape[-1]
        self.encoder.build((None, None, self.features))
        self.built = True

    def initial_state(self, batch_size: int) -> WindowState:
        kept = (batch_size, self.length - 1)
        return WindowState(tf.zeros((*kept, self.features)), tf.zeros(kept))

    def call(self, inputs: tf.Tensor, state: Any, resets: tf.Tensor) -> tuple[tf.Tensor, WindowState]:
        time, batch, features = inputs.shape
        before, valid = tf.transpose(state[0], (1, 0, 2)), tf.transpose(state[1])
        everything = tf.concat([before, inputs], 0)  # [N − 1 + T, B, F]
        valid = tf.concat([valid, tf.ones((time, batch))], 0)
        episode = tf.concat([tf.zeros((self.length - 1, batch)), tf.cumsum(resets, 0)], 0)
        seen = tf.range(self.length)[:, None] + tf.range(time)[None]  # [N, T]: row n of the window of step t
        now = tf.gather(episode, tf.range(self.length - 1, self.length - 1 + time))
        readable = tf.gather(valid, seen) * tf.cast(tf.gather(episode, seen) == now[None], tf.float32)
        windows = tf.reshape(tf.gather(everything, seen), (self.length, time * batch, features))
        _, read = self.encoder(windows, valid=tf.reshape(readable, (self.length, time * batch)))
        still = valid * tf.cast(episode == episode[-1], tf.float32)
        after = WindowState(tf.transpose(everything[time:], (1, 0, 2)), tf.transpose(still[time:]))
        return tf.reshape(read.output, (time, batch, self.units)), after

"""Fully connected networks."""

import math
from collections.abc import Iterator, Sequence

import keras
import tensorflow as tf

from rlab.models.initializers import orthogonal


class MLP(keras.layers.Layer):
    """A stack of fully connected layers, each followed by its activation.

    Maps float32 [N, F] to float32 [N, units[-1]]. `seeds` gives one seed to each layer's initializer.
    """

    def __init__(self, units: Sequence[int], activation: str, seeds: Iterator[int], name: str = "mlp") -> None:
        super().__init__(name=name)
        gain = math.sqrt(2.0)
        self.layers = [
            keras.layers.Dense(n, activation, kernel_initializer=orthogonal(gain, seeds), name=f"dense_{i}")
            for i, n in enumerate(units)
        ]
        self.units = units[-1]

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        for layer in self.layers:
            layer.build(input_shape)
            input_shape = layer.compute_output_shape(input_shape)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        for layer in self.layers:
            inputs = layer(inputs)
        return inputs

"""Fully connected networks, and the softmax on top of any network."""

from collections.abc import Iterator, Sequence

import keras
import tensorflow as tf

from rlab.models.initializers import RECTIFIER_GAIN, MakeInitializer, orthogonal


class MLP(keras.layers.Layer):
    """A stack of fully connected layers, each followed by its activation.

    Maps float32 [N, F] to float32 [N, units[-1]]. `seeds` gives one seed to each layer's `initializer`.
    """

    def __init__(
        self,
        units: Sequence[int],
        activation: str,
        seeds: Iterator[int],
        initializer: MakeInitializer = orthogonal,
        name: str = "mlp",
    ) -> None:
        super().__init__(name=name)
        if not units:
            raise ValueError("an MLP has at least one layer, and units names none")
        self.layers = [
            keras.layers.Dense(n, activation, kernel_initializer=initializer(RECTIFIER_GAIN, seeds), name=f"dense_{i}")
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


class Classifier(keras.Model):
    """p(y = k | x) = softmax(W φ(x) + b)_k over a torso φ, any layer with `units`.

    Maps what the torso takes to logits, float32 [N, classes]; `probabilities` gives the softmax itself.
    """

    def __init__(self, torso: keras.layers.Layer, classes: int, seeds: Iterator[int], name: str = "classifier") -> None:
        super().__init__(name=name)
        self.torso = torso
        self.head = keras.layers.Dense(classes, kernel_initializer=orthogonal(0.01, seeds), name="head")

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        self.torso.build(input_shape)
        self.head.build((None, self.torso.units))
        self.built = True

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        return self.head(self.torso(inputs))

    def probabilities(self, inputs: tf.Tensor) -> tf.Tensor:
        """The probability of each class, float32 [N, classes], rows that sum to 1."""
        return tf.nn.softmax(self(inputs))

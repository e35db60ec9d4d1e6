"""Convolutional networks for images, with strided convolutions that a CPU runs fast."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import keras
import tensorflow as tf

from rlab.models.initializers import RECTIFIER_GAIN, orthogonal
from rlab.ops.compiling import multiplies_in, wants_blocks


class ConvSpec(NamedTuple):
    """One square convolution, and what follows it; sizes in pixels."""

    filters: int
    kernel: int
    stride: int
    padding: str = "valid"  # or "same"
    pool: int = 1  # size and stride of the max-pooling after it; 1 for none


# Mnih et al. 2016, section 8 ("the same architecture as Mnih et al. 2013"), followed by 256 units.
A3C_CONVOLUTIONS = (ConvSpec(16, 8, 4), ConvSpec(32, 4, 2))
# Mnih et al. 2015 (Nature), Methods, "Model architecture", followed by 512 units.
NATURE_CONVOLUTIONS = (ConvSpec(32, 8, 4), ConvSpec(64, 4, 2), ConvSpec(64, 3, 1))
# For digits of 28×28, followed by 1,024 units: LeCun et al. 1998's shape, wider and rectified.
DIGIT_CONVOLUTIONS = (ConvSpec(32, 5, 1, "same", 2), ConvSpec(64, 5, 1, "same", 2))


class StridedConv2D(keras.layers.Conv2D):
    """A `keras.layers.Conv2D` whose stride runs, under XLA, as space-to-depth plus a stride-1 convolution.

    A k×k convolution of stride s, where s divides k, *is* a (k/s)×(k/s) convolution of stride 1 over blocks of s×s
    pixels: the same weights, reshaped, and the same result up to rounding. On a CPU XLA trains it a third faster, since
    the convolution reads contiguous memory. In a plain graph, where s does not divide k, and with padding, the strided
    convolution itself runs (`rlab.ops.compiling`). Maps [N, H, W, C], without padding, to
    [N, (H−k)//s + 1, (W−k)//s + 1, filters].
    """

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        (kernel, _), (stride, _) = self.kernel_size, self.strides
        if stride == 1 or kernel % stride or self.padding != "valid" or not wants_blocks():
            outputs = tf.nn.conv2d(*_in_precision(inputs, self.kernel), stride, self.padding.upper())
        else:
            images = _blocks_to_depth(inputs, kernel, stride)
            blocks = self._kernel_over_blocks(kernel // stride, stride)
            outputs = tf.nn.conv2d(*_in_precision(images, blocks), 1, "VALID")
        return self.activation(outputs + tf.cast(self.bias, outputs.dtype) if self.use_bias else outputs)

    def _kernel_over_blocks(self, blocks: int, stride: int) -> tf.Tensor:
        """The kernel [k, k, C, F] as [k/s, k/s, s·s·C, F]."""
        _, _, channels, filters = self.kernel.shape
        kernel = tf.reshape(self.kernel, (blocks, stride, blocks, stride, channels, filters))
        kernel = tf.transpose(kernel, (0, 2, 1, 3, 4, 5))
        return tf.reshape(kernel, (blocks, blocks, stride * stride * channels, filters))


def _in_precision(*factors: tf.Tensor) -> list[tf.Tensor]:
    """The factors of a product, in the precision that is asked for."""
    return [tf.cast(factor, multiplies_in()) for factor in factors]


def _blocks_to_depth(images: tf.Tensor, kernel: int, stride: int) -> tf.Tensor:
    """[N, H, W, C] as [N, H/s, W/s, s·s·C], after cutting the rows and columns that no kernel position reaches."""
    _, height, width, channels = images.shape
    rows = ((height - kernel) // stride * stride + kernel) // stride
    columns = ((width - kernel) // stride * stride + kernel) // stride
    images = images[:, : rows * stride, : columns * stride]
    images = tf.reshape(images, (-1, rows, stride, columns, stride, channels))
    images = tf.transpose(images, (0, 1, 3, 2, 4, 5))
    return tf.reshape(images, (-1, rows, columns, stride * stride * channels))


class ReferenceNormalization(keras.layers.Layer):
    """Virtual batch normalization (Salimans et al. 2016): (z − mean)/deviation + offset for each of C channels.

    Mean and deviation are those of a batch of reference inputs, which stays the same, so an output depends on no other
    input of its own batch. They are parameters that no gradient reaches, and for new weights must be measured anew
    (`measure` gives them). Maps [..., C] to [..., C].
    """

    def build(self, input_shape: tuple[int, ...]) -> None:
        shape = (input_shape[-1],)
        self.offset = self.add_weight(shape=shape, initializer="zeros", name="offset")
        self.mean = self.add_weight(shape=shape, initializer="zeros", name=REFERENCE_MEAN)
        self.deviation = self.add_weight(shape=shape, initializer="ones", name=REFERENCE_DEVIATION)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        mean, deviation = (tf.stop_gradient(tf.convert_to_tensor(part)) for part in (self.mean, self.deviation))
        return (inputs - mean) / deviation + self.offset

    def measure(self, inputs: tf.Tensor) -> tuple[tf.Tensor, tuple[tf.Tensor, tf.Tensor]]:
        """The reference inputs after normalization, and their mean and deviation [C] before it."""
        flat = tf.reshape(inputs, (-1, inputs.shape[-1]))
        mean = tf.reduce_mean(flat, 0)
        # A channel that nothing excites is shifted and not blown up.
        deviation = tf.sqrt(tf.reduce_mean(tf.square(flat - mean), 0) + 1e-4)
        return (inputs - mean) / deviation + self.offset, (mean, deviation)


REFERENCE_MEAN, REFERENCE_DEVIATION = "reference_mean", "reference_deviation"


class CNN(keras.layers.Layer):
    """Rectified convolutions, max-pooling where it is asked for, and one rectified fully connected layer.

    Maps float32 images [N, H, W, C] to features [N, units]. Raises ValueError, when built, for images that are smaller
    than the convolutions need. `seeds` gives one seed to each layer's initializer. With `normalized` each layer has a
    `ReferenceNormalization` before its rectifier.
    """

    def __init__(
        self,
        convolutions: Sequence[ConvSpec],
        units: int,
        seeds: Iterator[int],
        name: str = "cnn",
        normalized: bool = False,
    ) -> None:
        super().__init__(name=name)
        self.specs = tuple(convolutions)
        self.convolutions = [
            StridedConv2D(
                spec.filters,
                spec.kernel,
                spec.stride,
                spec.padding,
                activation=None if normalized else "relu",
                use_bias=not normalized,  # the normalization has one
                kernel_initializer=orthogonal(RECTIFIER_GAIN, seeds),
                name=f"conv_{i}",
            )
            for i, spec in enumerate(convolutions)
        ]
        kernel = orthogonal(RECTIFIER_GAIN, seeds)
        activation = None if normalized else "relu"
        self.dense = keras.layers.Dense(
            units, activation, use_bias=not normalized, kernel_initializer=kernel, name="dense"
        )
        layers = len(convolutions) + 1 if normalized else 0
        self.norms = [ReferenceNormalization(name=f"norm_{i}") for i in range(layers)]
        self.units = units

    def build(self, input_shape: tuple[int, ...]) -> None:
        image = input_shape
        for layer, spec in zip(self.convolutions, self.specs, strict=True):
            if min(input_shape[1:3]) < (spec.kernel if spec.padding == "valid" else spec.pool):
                raise ValueError(f"images of {image[1]}×{image[2]} pixels are too small for these convolutions")
            layer.build(input_shape)
            n, height, width, filters = layer.compute_output_shape(input_shape)
            input_shape = (n, height // spec.pool, width // spec.pool, filters)
        self.dense.build((None, math.prod(input_shape[1:])))
        channels = [*(spec.filters for spec in self.specs), self.units]
        for i, norm in enumerate(self.norms):
            norm.build((1, channels[i]))

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        return self._through(inputs, lambda norm, inputs: norm(inputs))

    def measure(self, inputs: tf.Tensor) -> list[tuple[tf.Tensor, tf.Tensor]]:
        """Mean and deviation [C] of reference images [N, H, W, C] before each rectifier, for the layers' `norms`."""
        found = []

        def measured(norm: ReferenceNormalization, inputs: tf.Tensor) -> tf.Tensor:
            outputs, statistics = norm.measure(inputs)
            found.append(statistics)
            return outputs

        self._through(inputs, measured)
        return found

    def _through(self, inputs: tf.Tensor, normalize: Callable[..., tf.Tensor]) -> tf.Tensor:
        for i, (layer, spec) in enumerate(zip(self.convolutions, self.specs, strict=True)):
            inputs = layer(inputs)
            if self.norms:
                inputs = tf.nn.relu(normalize(self.norms[i], tf.cast(inputs, tf.float32)))
            if spec.pool > 1:
                inputs = tf.nn.max_pool2d(inputs, spec.pool, spec.pool, "VALID")
        flat = tf.reshape(inputs, (-1, math.prod(inputs.shape[1:])))
        features = tf.cast(tf.matmul(*_in_precision(flat, self.dense.kernel)), tf.float32)
        if self.dense.use_bias:
            features += self.dense.bias
        features = self.dense.activation(features)
        return tf.nn.relu(normalize(self.norms[-1], features)) if self.norms else features

"""Generative adversarial networks: one network draws images, another tells them from real ones.

Goodfellow et al., "Generative adversarial nets", 2014; of convolutions after Radford, Metz, Chintala, 2016 (DCGAN).
Images are float32 [N, H, W] between 0 and 1.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import keras
import tensorflow as tf

from rlab.models.initializers import RECTIFIER_GAIN, orthogonal
from rlab.models.vae import Deconvolution

_LEAK = 0.2  # of the discriminators' rectifiers


class GAN(keras.Model):
    """A generator G(z), z ~ N(0, I), and a discriminator D(x), the logarithm of the odds that x is real.

    Args:
        shape: (H, W) of the images.
        latents: Z, numbers of z.
        generator: maps z [N, Z] to logits of pixels, [N, H, W].
        discriminator: maps images [N, H, W] to D, [N].
    """

    def __init__(
        self, shape: tuple[int, int], latents: int, generator: keras.layers.Layer, discriminator: keras.layers.Layer
    ) -> None:
        super().__init__(name="gan")
        self.shape, self.latents = shape, latents
        self.generator, self.discriminator = generator, discriminator

    def build(self, *_: object) -> None:
        self.generator.build((None, self.latents))
        self.discriminator.build((None, *self.shape))
        self.built = True

    def call(self, latents: tf.Tensor) -> tf.Tensor:
        """Images [N, H, W] of z [N, Z]."""
        return tf.sigmoid(self.generator(latents))

    def losses(self, images: tf.Tensor, latents: tf.Tensor, penalty: float = 0.0) -> tuple[tf.Tensor, tf.Tensor]:
        """The losses of the discriminator, E −ln σ(D(x)) − ln(1 − σ(D(G(z)))), and the generator, E −ln σ(D(G(z))).

        The generator's is the one that does not saturate (section 3). The gradient of the first is the step of both
        networks: in the discriminator's parameters its own, in the generator's that of the second. Both come from one
        pass back through the discriminator, since they differ by a number for each image. The second has no gradient.

        A departure: to the first is added penalty/2 E |dD/dx|² at real images (R₁ of Mescheder, Geiger, Nowozin 2018),
        without which a discriminator that is certain teaches nothing.
        """
        odds: list[tf.Tensor] = []
        drawn = _turned(self(latents), odds)
        false = self.discriminator(drawn)
        odds.append(false)
        telling = discriminator_loss(self.discriminator, images, false, penalty)
        return telling.likelihood + telling.penalty, tf.stop_gradient(tf.reduce_mean(tf.nn.softplus(-false)))


class DiscriminatorLoss(NamedTuple):
    """The loss of a discriminator D, in nats, and its outputs on real inputs."""

    likelihood: tf.Tensor  # −E ln σ(D(x)) − E ln(1 − σ(D(x'))), of real x and false x'
    penalty: tf.Tensor  # weight/2 E |dD/dx|² at real x: R₁
    real: tf.Tensor  # D(x), [N]


def discriminator_loss(
    discriminator: Callable[[tf.Tensor], tf.Tensor], real: tf.Tensor, false: tf.Tensor, weight: float
) -> DiscriminatorLoss:
    """The loss on real inputs [N, ...], beside D of false ones [M] (Goodfellow et al. 2014, equation 1).

    R₁ (Mescheder, Geiger, Nowozin 2018, equation 9) is 0 without a weight.
    """
    if weight:
        with tf.GradientTape() as tape:
            tape.watch(real)
            odds = discriminator(real)
        slopes = tf.square(tape.gradient(odds, real))
        penalty = 0.5 * weight * tf.reduce_mean(tf.reduce_sum(slopes, list(range(1, slopes.shape.rank))))
    else:
        odds, penalty = discriminator(real), tf.zeros(())
    likelihood = tf.reduce_mean(tf.nn.softplus(-odds)) + tf.reduce_mean(tf.nn.softplus(false))
    return DiscriminatorLoss(likelihood, penalty, odds)


def _turned(drawn: tf.Tensor, odds: list[tf.Tensor]) -> tf.Tensor:
    """The images [N, H, W] unchanged; the gradient of the discriminator's loss returns through them as the generator's.

    d ln σ(D)/dD = σ(−D), and d ln(1 − σ(D))/dD = −σ(D): the generator's is −e^{−D} times as large. `odds` holds D [N]
    by the time the gradient returns.
    """

    @tf.custom_gradient
    def through(images: tf.Tensor) -> tuple[tf.Tensor, Callable]:
        return tf.identity(images), lambda upstream: -tf.exp(-tf.maximum(odds[0], -60.0))[:, None, None] * upstream

    return through(drawn)


class DenseGenerator(keras.layers.Layer):
    """Rectified layers of `units` to the logits of an image's pixels."""

    def __init__(self, shape: tuple[int, int], units: Sequence[int], seeds: Iterator[int]) -> None:
        super().__init__(name="generator")
        self.shape = shape
        self.hidden = [_dense(size, RECTIFIER_GAIN, seeds, f"dense_{i}") for i, size in enumerate(units)]
        self.norms = [keras.layers.LayerNormalization(name=f"norm_{i}") for i in range(len(units))]
        self.pixels = _dense(shape[0] * shape[1], 1.0, seeds, "pixels")

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        for layer, norm in zip(self.hidden, self.norms, strict=True):
            layer.build(input_shape)
            input_shape = (None, layer.units)
            norm.build(input_shape)
        self.pixels.build(input_shape)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        for layer, norm in zip(self.hidden, self.norms, strict=True):
            inputs = tf.nn.relu(norm(layer(inputs)))
        return tf.reshape(self.pixels(inputs), (-1, *self.shape))


class DenseDiscriminator(keras.layers.Layer):
    """Leaky rectified layers of `units` over all pixels, and one number."""

    def __init__(self, units: Sequence[int], seeds: Iterator[int]) -> None:
        super().__init__(name="discriminator")
        self.hidden = [_dense(size, RECTIFIER_GAIN, seeds, f"dense_{i}") for i, size in enumerate(units)]
        self.odds = _dense(1, 0.1, seeds, "odds")

    def build(self, input_shape: tuple[int, ...]) -> None:
        shape: tuple[int | None, int] = (None, math.prod(input_shape[1:]))
        for layer in self.hidden:
            layer.build(shape)
            shape = (None, layer.units)
        self.odds.build(shape)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        features = tf.reshape(inputs, (-1, math.prod(inputs.shape[1:])))
        for layer in self.hidden:
            features = _leaky(layer(features))
        return self.odds(features)[:, 0]


class ConvolutionalDiscriminator(keras.layers.Layer):
    """Convolutions of 4×4 and stride 2 with leaky rectifiers, and one number."""

    def __init__(self, filters: Sequence[int], seeds: Iterator[int]) -> None:
        super().__init__(name="discriminator")
        self.convolutions = [
            keras.layers.Conv2D(
                size, 4, 2, "same", kernel_initializer=orthogonal(RECTIFIER_GAIN, seeds), name=f"conv_{i}"
            )
            for i, size in enumerate(filters)
        ]
        self.odds = _dense(1, 0.1, seeds, "odds")

    def build(self, input_shape: tuple[int, ...]) -> None:
        shape = (1, *input_shape[1:], 1)
        for layer in self.convolutions:
            layer.build(shape)
            shape = layer.compute_output_shape(shape)
        self.odds.build((None, math.prod(shape)))

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        features = inputs[..., None]
        for layer in self.convolutions:
            features = _leaky(layer(features))
        return self.odds(tf.reshape(features, (-1, math.prod(features.shape[1:]))))[:, 0]


def dense_gan(shape: tuple[int, int], latents: int, units: Sequence[int], seeds: Iterator[int]) -> GAN:
    """A GAN whose networks have layers of `units`, the discriminator's in reverse."""
    return GAN(shape, latents, DenseGenerator(shape, units, seeds), DenseDiscriminator(units[::-1], seeds))


def convolutional_gan(shape: tuple[int, int], latents: int, filters: int, seeds: Iterator[int]) -> GAN:
    """A DCGAN of two convolutions each, of `filters` and twice as many."""
    generator = Deconvolution(shape, (2 * filters, filters), seeds, normalized=True)
    return GAN(shape, latents, generator, ConvolutionalDiscriminator((filters, 2 * filters), seeds))


def _leaky(x: tf.Tensor) -> tf.Tensor:
    # Not TensorFlow's own operation: its graph optimizer fuses that with a convolution, fails at it, and says so.
    return tf.maximum(x, _LEAK * x)


def _dense(units: int, gain: float, seeds: Iterator[int], name: str) -> keras.layers.Dense:
    return keras.layers.Dense(units, kernel_initializer=orthogonal(gain, seeds), name=name)

"""The variational autoencoder: a latent-variable model of images, with the bounds that train and measure it.

Kingma and Welling, "Auto-encoding variational Bayes", 2014; the importance-weighted bound after Burda, Grosse,
Salakhutdinov, 2016. Images are float32 [N, H, W] between 0 and 1; K noises are drawn to each image.
"""

import math
from collections.abc import Iterator, Sequence

import keras
import tensorflow as tf

from rlab.models.cnn import CNN, ConvSpec
from rlab.models.initializers import RECTIFIER_GAIN, orthogonal
from rlab.models.mlp import MLP

LIKELIHOODS = ("bernoulli", "gaussian")
_CONVOLUTIONS = (ConvSpec(32, 4, 2, "same"), ConvSpec(64, 4, 2, "same"))
_LOG_2PI = math.log(2.0 * math.pi)


class Encoder(keras.layers.Layer):
    """q(z|x) = N(m(x), diag v(x)): images [N, H, W] to m and ln v, [N, Z] each.

    `torso` maps [N, H·W], or [N, H, W, 1] if it is `convolutional`, to features [N, units].
    """

    def __init__(
        self, shape: tuple[int, int], torso: keras.layers.Layer, latents: int, seeds: Iterator[int], convolutional: bool
    ) -> None:
        super().__init__(name="encoder")
        self.torso, self._inputs = torso, (*shape, 1) if convolutional else (math.prod(shape),)
        # Small at first, so that q begins near the prior and z matters little.
        self.posterior = keras.layers.Dense(2 * latents, kernel_initializer=orthogonal(0.1, seeds), name="posterior")

    def build(self, *_: object) -> None:
        self.torso.build((None, *self._inputs))
        self.posterior.build((None, self.torso.units))
        self.built = True

    def call(self, images: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        mean, log_variance = tf.split(self.posterior(self.torso(tf.reshape(images, (-1, *self._inputs)))), 2, -1)
        return mean, log_variance


class VAE(keras.Model):
    """p(x|z, θ) = Π Bernoulli(σ(f(z, θ))) or N(f(z, θ), s²I), with p(z) = N(0, I) and q(z|x) = N(m(x), diag v(x)).

    Args:
        shape: (H, W) of the images.
        latents: Z, numbers of z.
        encoder: q(z|x), of images of this shape.
        decoder: maps z [N, Z] to f(z, θ), [N, H, W].
        likelihood: of `LIKELIHOODS`.
        deviation: s of the gaussian likelihood at first; it is learned.
    """

    def __init__(
        self,
        shape: tuple[int, int],
        latents: int,
        encoder: Encoder,
        decoder: keras.layers.Layer,
        likelihood: str,
        deviation: float = 0.3,
    ) -> None:
        super().__init__(name="vae")
        if likelihood not in LIKELIHOODS:
            raise ValueError(f"likelihood must be one of {', '.join(LIKELIHOODS)}, not {likelihood!r}")
        self.shape, self.latents = shape, latents
        self.encoder, self.decoder, self.likelihood = encoder, decoder, likelihood
        self._log_deviation = math.log(deviation)

    def build(self, *_: object) -> None:
        self.encoder.build()
        self.decoder.build((None, self.latents))
        if self.likelihood == "gaussian":
            start = keras.initializers.Constant(self._log_deviation)
            self.log_deviation = self.add_weight(shape=(), initializer=start, name="log_deviation")
        self.built = True

    def call(self, images: tf.Tensor) -> tf.Tensor:
        """Reconstructions [N, H, W]: the mean of p(x|z) at the mean of q(z|x)."""
        return self.decode(self.encode(images)[0])

    def encode(self, images: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """m(x) and ln v(x), [N, Z] each."""
        return self.encoder(images)

    def decode(self, latents: tf.Tensor) -> tf.Tensor:
        """The mean of p(x|z), [N, H, W], of z [N, Z]."""
        outputs = self.decoder(latents)  # logits, or means
        return tf.sigmoid(outputs) if self.likelihood == "bernoulli" else outputs

    def log_likelihood(self, images: tf.Tensor, latents: tf.Tensor) -> tf.Tensor:
        """ln p(x|z) of each image under its latents [K, N, Z]: [K, N], nats."""
        outputs = self.decoder(tf.reshape(latents, (-1, self.latents)))
        outputs = tf.reshape(outputs, (*latents.shape[:2], *self.shape))
        if self.likelihood == "bernoulli":
            # ln σ(o) where the pixel is 1 and ln (1 − σ(o)) where it is 0; between them the mixture of both.
            each = images * outputs - tf.nn.softplus(outputs)
        else:
            log_s = tf.convert_to_tensor(self.log_deviation)
            each = -0.5 * tf.square((images - outputs) * tf.exp(-log_s)) - log_s - 0.5 * _LOG_2PI
        return tf.reduce_sum(each, (-2, -1))

    def bound(self, images: tf.Tensor, noise: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """E_q[ln p(x|z)] over noises [K, N, Z], and KL(q(z|x) ‖ p(z)); [N] each, nats. The bound is their difference.

        Kingma and Welling 2014, equation 10: z = m + √v ε, ε ~ N(0, I), and the divergence in closed form.
        """
        mean, log_variance = self.encode(images)
        latents = mean + tf.exp(0.5 * log_variance) * noise
        return tf.reduce_mean(self.log_likelihood(images, latents), 0), divergence(mean, log_variance)

    def log_weights(self, images: tf.Tensor, noise: tf.Tensor) -> tf.Tensor:
        """ln p(x, z) − ln q(z|x) at K draws of z, [K, N], of noises [K, N, Z].

        Their mean is the bound; the logarithm of their exponentials' mean, `importance_bound`, comes closer to ln p(x)
        the larger K is.
        """
        mean, log_variance = self.encode(images)
        latents = mean + tf.exp(0.5 * log_variance) * noise
        # ln p(z) − ln q(z|x); the normal densities' constants cancel.
        ratio = 0.5 * tf.reduce_sum(log_variance + tf.square(noise) - tf.square(latents), -1)
        return self.log_likelihood(images, latents) + ratio


def importance_bound(log_weights: tf.Tensor) -> tf.Tensor:
    """ln 1/K Σ_k w_k, [N], of ln w [K, N] (Burda et al. 2016, equation 8)."""
    return tf.reduce_logsumexp(log_weights, 0) - math.log(log_weights.shape[0])


def divergence(mean: tf.Tensor, log_variance: tf.Tensor) -> tf.Tensor:
    """KL(N(m, diag v) ‖ N(0, I)) = ½ Σ (m² + v − ln v − 1), [N], nats, of [N, Z] (Kingma and Welling, appendix B)."""
    return 0.5 * tf.reduce_sum(tf.square(mean) + tf.exp(log_variance) - log_variance - 1.0, -1)


class Deconvolution(keras.layers.Layer):
    """z [N, Z] to images [N, H, W]: a fully connected layer to a quarter of each side, and two transposed convolutions.

    `seeds` gives one seed to each layer's initializer. With `normalized` each rectifier comes after a normalization of
    the image's own features, which GANs need and VAEs do not.
    """

    def __init__(self, shape: tuple[int, int], filters: Sequence[int], seeds: Iterator[int], normalized: bool = False):
        super().__init__(name="deconvolution")
        self.shape, self._filters = shape, tuple(filters)
        self._quarter = tuple(-(-size // 4) for size in shape)
        kernel = lambda gain: orthogonal(gain, seeds)  # noqa: E731
        self.dense = keras.layers.Dense(
            math.prod(self._quarter) * self._filters[0], kernel_initializer=kernel(RECTIFIER_GAIN), name="dense"
        )
        sizes = [*self._filters[1:], 1]
        self.convolutions = [
            keras.layers.Conv2DTranspose(
                size, 4, 2, "same", kernel_initializer=kernel(RECTIFIER_GAIN if size > 1 else 1.0), name=f"conv_{i}"
            )
            for i, size in enumerate(sizes)
        ]
        layers = len(self.convolutions) if normalized else 0
        self.norms = [keras.layers.LayerNormalization(axis=(1, 2, 3), name=f"norm_{i}") for i in range(layers)]

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        self.dense.build(input_shape)
        shape: tuple[int | None, ...] = (None, *self._quarter, self._filters[0])
        for i, layer in enumerate(self.convolutions):
            if self.norms:
                self.norms[i].build(shape)
            layer.build(shape)
            shape = layer.compute_output_shape(shape)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        images = tf.reshape(self.dense(inputs), (-1, *self._quarter, self._filters[0]))
        for i, layer in enumerate(self.convolutions):
            images = layer(tf.nn.relu(self.norms[i](images) if self.norms else images))
        height, width = self.shape  # sides that 4 does not divide are cut
        return images[:, :height, :width, 0]


class DenseDecoder(keras.layers.Layer):
    """Rectified layers of `units` over z [N, Z], and one to the pixels [N, H, W]."""

    def __init__(self, shape: tuple[int, int], units: Sequence[int], seeds: Iterator[int]) -> None:
        super().__init__(name="decoder")
        self.shape = shape
        self.hidden = MLP(units, "relu", seeds, name="hidden")
        self.pixels = keras.layers.Dense(math.prod(shape), kernel_initializer=orthogonal(1.0, seeds), name="pixels")

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        self.hidden.build(input_shape)
        self.pixels.build((None, self.hidden.units))

    def call(self, latents: tf.Tensor) -> tf.Tensor:
        return tf.reshape(self.pixels(self.hidden(latents)), (-1, *self.shape))


def make_encoder(
    kind: str, shape: tuple[int, int], latents: int, units: int, depth: int, seeds: Iterator[int]
) -> Encoder:
    """An encoder: `depth` rectified layers of `units` (`mlp`), or two convolutions of stride 2 and a layer (`cnn`)."""
    if kind == "mlp":
        return Encoder(shape, MLP((units,) * depth, "relu", seeds, name="torso"), latents, seeds, False)
    return Encoder(shape, CNN(_CONVOLUTIONS, units, seeds, name="torso"), latents, seeds, True)


def make_vae(
    kind: str, shape: tuple[int, int], latents: int, units: int, depth: int, likelihood: str, seeds: Iterator[int]
) -> VAE:
    """A VAE with the encoder that `make_encoder` gives, and a decoder of its layers backwards."""
    encoder = make_encoder(kind, shape, latents, units, depth, seeds)
    decoder = DenseDecoder(shape, (units,) * depth, seeds) if kind == "mlp" else Deconvolution(shape, (64, 32), seeds)
    return VAE(shape, latents, encoder, decoder, likelihood)

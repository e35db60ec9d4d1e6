"""Linear regression: p(y | x, w) = N(w·φ(x), σ²), by maximum likelihood, maximum a posteriori, and Bayes.

After Bishop, "Pattern Recognition and Machine Learning" (2006), sections 3.1 to 3.3. Closed forms are solved in float64
and given back as float32. Φ is the matrix of features φ(x), one row to a sample.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import keras
import tensorflow as tf

from rlab.models.initializers import truncated_normal

FeatureMap = Callable[[tf.Tensor], tf.Tensor]


def identity(x: tf.Tensor) -> tf.Tensor:
    """φ(x) = x; [N, D] to [N, D]."""
    return x


def bias(x: tf.Tensor) -> tf.Tensor:
    """φ(x) = (x, 1); [N, D] to [N, D + 1]."""
    return tf.concat([x, tf.ones_like(x[:, :1])], -1)


def polynomial(degree: int) -> FeatureMap:
    """φ(x) = (1, x, …, x^degree) of one input; maps [N, 1] to [N, degree + 1]. Raises ValueError for other widths."""
    if degree < 0:
        raise ValueError(f"degree must be at least 0, not {degree}")

    def features(x: tf.Tensor) -> tf.Tensor:
        if x.shape[-1] != 1:
            raise ValueError(f"polynomial features are of one input, not of {x.shape[-1]}")
        return tf.concat([x**power for power in range(degree + 1)], -1)

    return features


class LinearRegression(keras.layers.Layer):
    """w·φ(x): maps float32 [N, D] to [N], for training by gradient; closed forms give the same weights at once."""

    def __init__(self, features: FeatureMap, seeds: Iterator[int], name: str = "linear") -> None:
        super().__init__(name=name)
        self.features = features
        self._initializer = truncated_normal(1.0, seeds)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        width = self.features(tf.zeros((1, input_shape[-1]))).shape[-1]
        self.w = self.add_weight(shape=(width, 1), initializer=self._initializer, name="w")
        self.built = True

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        return tf.linalg.matvec(self.features(inputs), self.coefficients())

    def coefficients(self) -> tf.Tensor:
        """w, float32 [D']."""
        return tf.convert_to_tensor(self.w)[:, 0]


class Posterior(NamedTuple):
    """p(w | data) = N(mean, covariance)."""

    mean: tf.Tensor  # float32 [D']
    covariance: tf.Tensor  # float32 [D', D']


def maximum_likelihood(features: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
    """w = Φ⁺ y (Bishop 3.15), the least-norm one where several fit; [N, D'] and [N] to float32 [D']."""
    phi, y = _double(features, targets)
    return tf.cast(tf.linalg.matvec(tf.linalg.pinv(phi), y), tf.float32)


def maximum_a_posteriori(
    features: tf.Tensor, targets: tf.Tensor, noise_variance: float, prior_variance: float
) -> tf.Tensor:
    """The likeliest w under w ~ N(0, prior_variance·I): ridge regression with λ = σ²/prior variance (Bishop 3.28)."""
    return posterior(features, targets, noise_variance, prior_variance).mean


def posterior(features: tf.Tensor, targets: tf.Tensor, noise_variance: float, prior_variance: float) -> Posterior:
    """The posterior under w ~ N(0, prior_variance·I) and noise σ² = noise_variance (Bishop 3.53 and 3.54).

    [N, D'] and [N]. Raises ValueError for variances that are not positive.
    """
    if min(noise_variance, prior_variance) <= 0.0:
        raise ValueError(f"variances must be positive, not {noise_variance} and {prior_variance}")
    phi, y = _double(features, targets)
    gram, moment = tf.matmul(phi, phi, transpose_a=True), tf.linalg.matvec(phi, y, transpose_a=True)
    return posterior_of_moments(gram, moment, noise_variance, prior_variance)


def posterior_of_moments(gram: tf.Tensor, moment: tf.Tensor, noise_variance: float, prior_variance: float) -> Posterior:
    """`posterior` from ΦᵀΦ [D', D'] and Φᵀy [D'], float64, which are sums over the samples wherever they are."""
    unit = tf.eye(gram.shape[0], dtype=tf.float64)
    factor = tf.linalg.cholesky(gram / noise_variance + unit / prior_variance)
    mean = tf.linalg.cholesky_solve(factor, moment[:, None] / noise_variance)[:, 0]
    covariance = tf.linalg.cholesky_solve(factor, unit)
    return Posterior(tf.cast(mean, tf.float32), tf.cast(covariance, tf.float32))


def predictive(belief: Posterior, features: tf.Tensor, noise_variance: float) -> tuple[tf.Tensor, tf.Tensor]:
    """Mean and variance of y at new inputs (Bishop 3.58 and 3.59): σ² + φᵀ S φ; [N, D'] to two of [N]."""
    mean = tf.linalg.matvec(features, belief.mean)
    return mean, noise_variance + tf.einsum("nd,de,ne->n", features, belief.covariance, features)


def _double(features: tf.Tensor, targets: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    return tf.cast(features, tf.float64), tf.cast(targets, tf.float64)

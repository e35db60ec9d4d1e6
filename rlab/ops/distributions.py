"""Action distributions. Batch dimensions [...] are arbitrary; all results are float32 unless said otherwise."""

import math
from typing import Any, NamedTuple, Protocol

import tensorflow as tf

_LOG_2PI = math.log(2.0 * math.pi)


class Distribution(Protocol):
    """What every action distribution can do."""

    def sample(self, seed: tf.Tensor) -> tf.Tensor:
        """One action for each batch element; `seed` is int32 [2], and the same seed gives the same action."""

    def mode(self) -> tf.Tensor:
        """The likeliest action of each batch element."""

    def log_prob(self, actions: tf.Tensor) -> tf.Tensor:
        """ln p(action) [...], nats."""

    def entropy(self) -> tf.Tensor:
        """−E ln p [...], nats."""

    def kl(self, other: Any) -> tf.Tensor:
        """KL(self ‖ other) [...], nats; both must be of the same family."""


class Categorical(NamedTuple):
    """Actions 0..A−1 with probabilities softmax(logits); `logits` float [..., A]. Actions are int32 [...]."""

    logits: tf.Tensor

    def sample(self, seed: tf.Tensor) -> tf.Tensor:
        # The Gumbel-max trick: argmax(logits − ln(−ln u)) has exactly the softmax distribution. The lower bound keeps
        # ln u finite; the upper bound 1 is never drawn.
        u = tf.random.stateless_uniform(tf.shape(self.logits), seed, minval=1e-30)
        return tf.argmax(self.logits - tf.math.log(-tf.math.log(u)), axis=-1, output_type=tf.int32)

    def mode(self) -> tf.Tensor:
        return tf.argmax(self.logits, axis=-1, output_type=tf.int32)

    def log_prob(self, actions: tf.Tensor) -> tf.Tensor:
        # A product with a one-hot row, not a gather: its gradient is dense and XLA fuses it.
        one_hot = tf.one_hot(actions, self.logits.shape[-1], dtype=self.logits.dtype)
        return tf.reduce_sum(tf.nn.log_softmax(self.logits) * one_hot, axis=-1)

    def entropy(self) -> tf.Tensor:
        log_p = tf.nn.log_softmax(self.logits)
        return -tf.reduce_sum(tf.exp(log_p) * log_p, axis=-1)

    def kl(self, other: "Categorical") -> tf.Tensor:
        log_p, log_q = tf.nn.log_softmax(self.logits), tf.nn.log_softmax(other.logits)
        return tf.reduce_sum(tf.exp(log_p) * (log_p - log_q), axis=-1)


class DiagonalGaussian(NamedTuple):
    """Real actions [..., A] with independent components N(mean, exp(log_std)²); both parameters float [..., A]."""

    mean: tf.Tensor
    log_std: tf.Tensor

    def sample(self, seed: tf.Tensor) -> tf.Tensor:
        noise = tf.random.stateless_normal(tf.shape(self.mean), seed, dtype=self.mean.dtype)
        return self.mean + tf.exp(self.log_std) * noise

    def mode(self) -> tf.Tensor:
        return self.mean

    def log_prob(self, actions: tf.Tensor) -> tf.Tensor:
        z = (actions - self.mean) * tf.exp(-self.log_std)
        return -tf.reduce_sum(0.5 * tf.square(z) + self.log_std + 0.5 * _LOG_2PI, axis=-1)

    def entropy(self) -> tf.Tensor:
        return tf.reduce_sum(self.log_std + 0.5 * (_LOG_2PI + 1.0), axis=-1)

    def kl(self, other: "DiagonalGaussian") -> tf.Tensor:
        ratio = tf.exp(2.0 * (self.log_std - other.log_std))
        shift = tf.square(self.mean - other.mean) * tf.exp(-2.0 * other.log_std)
        return 0.5 * tf.reduce_sum(ratio + shift - 1.0 - 2.0 * (self.log_std - other.log_std), axis=-1)

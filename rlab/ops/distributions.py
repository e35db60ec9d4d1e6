"""Action distributions. Batch dimensions [...] are arbitrary; all results are float32 unless said otherwise."""

from __future__ import annotations

import math
from typing import Any, NamedTuple, Protocol

import tensorflow as tf

from rlab.ops import random

_LOG_2PI = math.log(2.0 * math.pi)


class Distribution(Protocol):
    """The interface of every action distribution."""

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

    def fisher_product(self, tangent: Any) -> Any:
        """The Fisher information of the distribution's parameters times a change of them, both of its own family."""


class Categorical(NamedTuple):
    """Actions 0..A−1 with probabilities softmax(logits); `logits` float [..., A]. Actions are int32 [...]."""

    logits: tf.Tensor

    def sample(self, seed: tf.Tensor) -> tf.Tensor:
        # The Gumbel-max trick: argmax(logits − ln(−ln u)) has exactly the softmax distribution. The lower bound keeps
        # ln u finite; the upper bound 1 is never drawn.
        u = tf.maximum(random.uniform(tf.shape(self.logits), seed), 1e-30)
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

    def kl(self, other: Categorical) -> tf.Tensor:
        log_p, log_q = tf.nn.log_softmax(self.logits), tf.nn.log_softmax(other.logits)
        return tf.reduce_sum(tf.exp(log_p) * (log_p - log_q), axis=-1)

    def fisher_product(self, tangent: Categorical) -> Categorical:
        # diag(p) − p pᵀ
        p = tf.nn.softmax(self.logits)
        return Categorical(p * (tangent.logits - tf.reduce_sum(p * tangent.logits, -1, keepdims=True)))


class MultiCategorical(NamedTuple):
    """Several independent choices at once; actions are int32 [..., A], one number for each of `parts`."""

    parts: tuple[Categorical, ...]

    def sample(self, seed: tf.Tensor) -> tf.Tensor:
        # One seed to each: independent streams of a counter-based generator.
        seeds = tf.random.experimental.stateless_split(seed, len(self.parts))
        return tf.stack([part.sample(seeds[i]) for i, part in enumerate(self.parts)], -1)

    def mode(self) -> tf.Tensor:
        return tf.stack([part.mode() for part in self.parts], -1)

    def log_prob(self, actions: tf.Tensor) -> tf.Tensor:
        chosen = tf.unstack(actions, axis=-1)
        return tf.add_n([part.log_prob(choice) for part, choice in zip(self.parts, chosen, strict=True)])

    def entropy(self) -> tf.Tensor:
        return tf.add_n([part.entropy() for part in self.parts])

    def kl(self, other: MultiCategorical) -> tf.Tensor:
        return tf.add_n([part.kl(theirs) for part, theirs in zip(self.parts, other.parts, strict=True)])

    def fisher_product(self, tangent: MultiCategorical) -> MultiCategorical:
        pairs = zip(self.parts, tangent.parts, strict=True)
        return MultiCategorical(tuple(part.fisher_product(change) for part, change in pairs))


class Bernoulli(NamedTuple):
    """Independent bits, 1 with probability σ(logits); `logits` float [..., A]. Actions are int32 [..., A]."""

    logits: tf.Tensor

    def sample(self, seed: tf.Tensor) -> tf.Tensor:
        u = random.uniform(tf.shape(self.logits), seed)
        return tf.cast(u < tf.sigmoid(self.logits), tf.int32)

    def mode(self) -> tf.Tensor:
        return tf.cast(self.logits > 0.0, tf.int32)

    def log_prob(self, actions: tf.Tensor) -> tf.Tensor:
        # ln σ(z) = z − softplus(z) and ln(1 − σ(z)) = −softplus(z), finite for every z.
        bits = tf.cast(actions, self.logits.dtype)
        return tf.reduce_sum(bits * self.logits - tf.math.softplus(self.logits), axis=-1)

    def entropy(self) -> tf.Tensor:
        return tf.reduce_sum(tf.math.softplus(self.logits) - tf.sigmoid(self.logits) * self.logits, axis=-1)

    def kl(self, other: Bernoulli) -> tf.Tensor:
        apart = tf.sigmoid(self.logits) * (self.logits - other.logits)
        return tf.reduce_sum(apart - tf.math.softplus(self.logits) + tf.math.softplus(other.logits), axis=-1)

    def fisher_product(self, tangent: Bernoulli) -> Bernoulli:
        p = tf.sigmoid(self.logits)
        return Bernoulli(p * (1.0 - p) * tangent.logits)


class DiagonalGaussian(NamedTuple):
    """Real actions [..., A] with independent components N(mean, exp(log_std)²); both parameters float [..., A]."""

    mean: tf.Tensor
    log_std: tf.Tensor

    def sample(self, seed: tf.Tensor) -> tf.Tensor:
        noise = tf.cast(random.normal(self.mean.shape, seed), self.mean.dtype)
        return self.mean + tf.exp(self.log_std) * noise

    def mode(self) -> tf.Tensor:
        return self.mean

    def log_prob(self, actions: tf.Tensor) -> tf.Tensor:
        z = (actions - self.mean) * tf.exp(-self.log_std)
        return -tf.reduce_sum(0.5 * tf.square(z) + self.log_std + 0.5 * _LOG_2PI, axis=-1)

    def entropy(self) -> tf.Tensor:
        return tf.reduce_sum(self.log_std + 0.5 * (_LOG_2PI + 1.0), axis=-1)

    def kl(self, other: DiagonalGaussian) -> tf.Tensor:
        ratio = tf.exp(2.0 * (self.log_std - other.log_std))
        shift = tf.square(self.mean - other.mean) * tf.exp(-2.0 * other.log_std)
        return 0.5 * tf.reduce_sum(ratio + shift - 1.0 - 2.0 * (self.log_std - other.log_std), axis=-1)

    def fisher_product(self, tangent: DiagonalGaussian) -> DiagonalGaussian:
        return DiagonalGaussian(tangent.mean * tf.exp(-2.0 * self.log_std), 2.0 * tangent.log_std)

"""Sequence to sequence: an encoder, a decoder, optional attention, and decoding with exact scores.

Sutskever, Vinyals, Le 2014 (the encoder's last memory begins the decoder); Cho et al. 2014; attention after Luong,
Pham, Manning 2015, equations 5 to 8 (general score). Token sequences are int32, time-major [S, B] and [T, B], with a
mask that is 1 on tokens and 0 on the padding after them.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from rlab.models.initializers import orthogonal
from rlab.models.recurrent import LSTM, LSTMState


class Encoded(NamedTuple):
    """A source sequence as the decoder sees it."""

    state: LSTMState  # the encoder's memory after the last token, [B, H] each
    outputs: tf.Tensor  # [S, B, H]; zeros on padding
    valid: tf.Tensor  # [S, B]


class Hypotheses(NamedTuple):
    """Decoded sequences, the best first."""

    tokens: tf.Tensor  # int32 [length, B, K], `end` from the first `end` on
    scores: tf.Tensor  # float32 [B, K], Σ log p of the tokens up to and with the first `end`, nats


class Seq2Seq(keras.Model):
    """p(y_1 … y_T | x_1 … x_S) = Π_t p(y_t | y_{<t}, x), with LSTMs of `units` for encoder and decoder.

    Args:
        source_tokens, target_tokens: sizes of the two vocabularies.
        units: H.
        seeds: one seed to each initializer.
        attention: let the decoder look at all the encoder's outputs, not at its last memory alone.
    """

    def __init__(
        self,
        source_tokens: int,
        target_tokens: int,
        units: int,
        seeds: Iterator[int],
        attention: bool = True,
        name: str = "seq2seq",
    ) -> None:
        super().__init__(name=name)
        self.source_tokens, self.target_tokens = source_tokens, target_tokens
        self.encoder, self.decoder = LSTM(units, seeds, name="encoder"), LSTM(units, seeds, name="decoder")
        self.score = self.combine = None
        if attention:
            self.score = keras.layers.Dense(
                units, use_bias=False, kernel_initializer=orthogonal(1.0, seeds), name="score"
            )
            self.combine = keras.layers.Dense(units, "tanh", kernel_initializer=orthogonal(1.0, seeds), name="combine")
        self.head = keras.layers.Dense(target_tokens, kernel_initializer=orthogonal(0.01, seeds), name="head")

    def build(self, *_: object) -> None:
        units = self.encoder.units
        self.encoder.build((None, None, self.source_tokens))
        self.decoder.build((None, None, self.target_tokens))
        if self.score is not None and self.combine is not None:
            self.score.build((None, units))
            self.combine.build((None, 2 * units))
        self.head.build((None, units))
        self.built = True

    def call(self, source: tf.Tensor, valid: tf.Tensor, previous: tf.Tensor) -> tf.Tensor:
        """Logits [T, B, target_tokens] of each y_t under teacher forcing: previous[t] is y_{t−1}, `begin` at t = 0."""
        encoded = self.encode(source, valid)
        return self.decode(encoded, previous, encoded.state)[0]

    def encode(self, source: tf.Tensor, valid: tf.Tensor) -> Encoded:
        outputs, state = self.encoder(tf.one_hot(source, self.source_tokens), valid=valid)
        return Encoded(state, outputs, valid)

    def decode(self, encoded: Encoded, previous: tf.Tensor, state: Any) -> tuple[tf.Tensor, LSTMState]:
        """Logits [T, B, V] after the tokens `previous` [T, B] and the decoder's memory before them."""
        outputs, state = self.decoder(tf.one_hot(previous, self.target_tokens), state)
        if self.combine is not None:
            context = tf.einsum("tbs,sbh->tbh", self.attention(encoded, outputs), encoded.outputs)
            outputs = self.combine(tf.concat([context, outputs], -1))
        return self.head(outputs), state

    def attention(self, encoded: Encoded, outputs: tf.Tensor) -> tf.Tensor:
        """The attention of each decoder output [T, B, H] to each source token, [T, B, S]: sums to 1, 0 on padding."""
        if self.score is None:
            raise ValueError("this model was made without attention")
        scores = tf.einsum("tbh,sbh->tbs", self.score(outputs), encoded.outputs)
        return tf.nn.softmax(tf.where(tf.transpose(encoded.valid)[None] > 0.0, scores, -1e9))

    def greedy(self, source: tf.Tensor, valid: tf.Tensor, length: int, begin: int, end: int) -> Hypotheses:
        """The likeliest next token, again and again, until `end` or `length` tokens; K = 1."""
        return self._search(self.encode(source, valid), 1, length, begin, end)

    def beam(self, source: tf.Tensor, valid: tf.Tensor, width: int, length: int, begin: int, end: int) -> Hypotheses:
        """Beam search that keeps the `width` best prefixes; K = width.

        Plain beam search may lose the greedy sequence and end below it; here that sequence always competes at the end,
        so the best hypothesis never scores below `greedy`. Where there are fewer than `width` sequences the rest of the
        hypotheses score −∞ and mean nothing.
        """
        encoded = self.encode(source, valid)
        found = self._search(encoded, width, length, begin, end)
        greedy = self._search(encoded, 1, length, begin, end)
        same = tf.reduce_all(found.tokens == greedy.tokens, 0)  # [B, K]; scored twice, they may differ by rounding
        same &= found.scores > -tf.float32.max / 4  # not what stands for sequences that do not exist
        known = tf.reduce_any(same, -1, keepdims=True)
        scores = tf.where(same, tf.maximum(found.scores, greedy.scores), found.scores)
        scores = tf.concat([scores, tf.where(known, -np.inf, greedy.scores)], -1)
        scores, order = tf.math.top_k(scores, width)
        scores = tf.where(scores < -tf.float32.max / 4, -np.inf, scores)
        return Hypotheses(_take(tf.concat([found.tokens, greedy.tokens], -1), order), scores)

    def _search(self, encoded: Encoded, width: int, length: int, begin: int, end: int) -> Hypotheses:
        """Beam search over `length` steps; hypotheses that have ended go on with `end` at no cost."""
        batch, vocabulary = encoded.valid.shape[1], self.target_tokens
        wide = _repeat(encoded, width)
        state = LSTMState(*wide.state)
        scores = tf.tile(tf.where(tf.range(width) == 0, 0.0, -tf.float32.max / 2)[None], (batch, 1))
        last = tf.fill((batch, width), begin)
        tokens = tf.fill((length, batch, width), end)
        ended = tf.zeros((batch, width), tf.bool)
        stay = tf.where(tf.range(vocabulary) == end, 0.0, -tf.float32.max / 2)

        def body(t: tf.Tensor, state: LSTMState, scores: tf.Tensor, *rest: tf.Tensor) -> tuple:
            last, tokens, ended = rest
            logits, after = self.decode(wide, tf.reshape(last, (1, -1)), state)
            step = tf.reshape(tf.nn.log_softmax(logits[0]), (batch, width, vocabulary))
            total = scores[..., None] + tf.where(ended[..., None], stay, step)
            scores, best = tf.math.top_k(tf.reshape(total, (batch, -1)), width)
            parent, last = best // vocabulary, best % vocabulary
            rows = tf.reshape(tf.range(batch)[:, None] * width + parent, (-1,))
            state = LSTMState(*(tf.gather(part, rows) for part in after))
            now = tf.range(length)[:, None, None] == t
            tokens = tf.where(now, last, _take(tokens, parent))
            ended = tf.gather(ended, parent, batch_dims=1) | (last == end)
            return t + 1, state, scores, last, tokens, ended

        start = (tf.constant(0), state, scores, last, tokens, ended)
        _, _, scores, _, tokens, _ = tf.while_loop(lambda t, *_: t < length, body, start)
        return Hypotheses(tokens, scores)


def _take(tokens: tf.Tensor, order: tf.Tensor) -> tf.Tensor:
    """Tokens [T, B, K] with each sequence's hypotheses in another order [B, K']."""
    return tf.transpose(tf.gather(tf.transpose(tokens, (1, 2, 0)), order, batch_dims=1), (2, 0, 1))


def _repeat(encoded: Encoded, width: int) -> Encoded:
    """Each sequence `width` times, next to one another: batch B to B·width."""
    state = LSTMState(*(tf.repeat(part, width, axis=0) for part in encoded.state))
    return Encoded(state, tf.repeat(encoded.outputs, width, axis=1), tf.repeat(encoded.valid, width, axis=1))

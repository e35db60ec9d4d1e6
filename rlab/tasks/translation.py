"""Tasks for sequence-to-sequence models: addition of numbers as characters, and reversal."""

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from rlab.datasets import sequences
from rlab.datasets.sequences import Pairs
from rlab.errors import BadInputError
from rlab.models.initializers import seed_stream
from rlab.models.seq2seq import Hypotheses, Seq2Seq
from rlab.seeding import derive
from rlab.settings import check
from rlab.tasks.batches import Shuffled
from rlab.tasks.configs import AdditionConfig, ReverseConfig, TranslationConfig
from rlab.tasks.training import Apply, TaskReport

_TESTED = 2000  # pairs to validate and to test on, where there are so many
_CHUNK = 250  # pairs decoded at once


class Translation:
    """Learns p(target sequence | source sequence) by teacher forcing; tells the share of targets wholly right.

    Tokens 0 … symbols − 1 are symbols, then come the end and padding; padding begins a target too.
    """

    shown = ("loss", "token_accuracy", "validation_accuracy")
    xla = True

    def __init__(self, config: TranslationConfig, symbols: int, pairs: Callable[[int, str], Pairs], seed: int) -> None:
        """`pairs` gives at most so many pairs of a part of the data (train, validation or test)."""
        self.config, self.seed = config, seed
        counts = {"train": config.samples, "validation": _TESTED, "test": _TESTED}
        self.data = {part: pairs(count, part) for part, count in counts.items()}
        self.end, self.begin = symbols, symbols + 1
        self._batches = Shuffled(self.data["train"].source.shape[1], config.batch_size, seed)
        self.updates_per_epoch = self._batches.updates_per_epoch
        self.model = Seq2Seq(
            symbols + 2, symbols + 2, config.units, seed_stream(derive(seed, "parameters")), config.attention
        )
        self.model.build()

    def batch(self, update: int) -> Pairs:
        rows = self._batches.rows(update)
        return Pairs(*(part[:, rows] for part in self.data["train"]))

    def loss(self, batch: Pairs) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        target = tf.convert_to_tensor(batch.target)
        previous = tf.concat([tf.fill((1, target.shape[1]), self.begin), target[:-1]], 0)
        logits = self.model(batch.source, batch.source_valid, previous)
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(target, logits) * batch.target_valid
        right = tf.cast(tf.argmax(logits, -1, tf.int32) == target, tf.float32) * batch.target_valid
        tokens = tf.reduce_sum(batch.target_valid)
        return tf.reduce_sum(losses) / tokens, {"token_accuracy": tf.reduce_sum(right) / tokens}

    def greedy(self, source: tf.Tensor, valid: tf.Tensor) -> Hypotheses:
        """The greedy translation of sources [S, B]."""
        return self.model.greedy(source, valid, self.data["test"].target.shape[0], self.begin, self.end)

    def beam(self, source: tf.Tensor, valid: tf.Tensor) -> Hypotheses:
        """The `--beam` best translations that beam search finds of sources [S, B]."""
        width = self.config.beam
        return self.model.beam(source, valid, width, self.data["test"].target.shape[0], self.begin, self.end)

    def evaluate(self, apply: Apply, split: str) -> dict[str, float]:
        data = self.data[split]
        found = {"accuracy": self._exact(apply, self.greedy, data)}
        loss, metrics = apply(self.loss, data)
        found |= {"token_accuracy": float(metrics["token_accuracy"]), "nll": float(loss)}
        if split == "test":
            found["beam_accuracy"] = self._exact(apply, self.beam, data)
        return found

    def _exact(self, apply: Apply, search: Callable, data: Pairs) -> float:
        """The share of sequences whose best hypothesis is right in every token up to and with the end."""
        right = []
        for start in range(0, data.source.shape[1], _CHUNK):
            part = Pairs(*(array[:, start : start + _CHUNK] for array in data))
            tokens = apply(search, part.source, part.source_valid).tokens[:, :, 0]
            right.append(((tokens == part.target) | (part.target_valid == 0.0)).all(axis=0))
        return float(np.concatenate(right).mean())

    def report(self, apply: Apply) -> TaskReport:
        data = Pairs(*(part[:, :8] for part in self.data["test"]))
        found = apply(self.beam, data.source, data.source_valid)
        lines = [f"{'source':>20s}  {'target':>12s}  {'prediction':>12s}  ln p"]
        for b in range(data.source.shape[1]):
            words = [self.text(tokens[:, b]) for tokens in (data.source, data.target, found.tokens[:, :, 0])]
            lines.append(f"{words[0]:>20s}  {words[1]:>12s}  {words[2]:>12s}  {found.scores[b, 0]:.3f}")
        return TaskReport("\n".join(lines), {})

    def text(self, tokens: np.ndarray) -> str:
        """Tokens up to the end as text for a person."""
        shown = []
        for token in tokens:
            if token >= self.end:
                break
            shown.append(self.symbol(int(token)))
        return "".join(shown)

    def symbol(self, token: int) -> str:
        return f"{token} "


class Addition(Translation):
    """Adds two numbers, character by character."""

    name = "addition"
    Config = AdditionConfig

    def __init__(self, config: AdditionConfig, seed: int = 0) -> None:
        check(config)

        def pairs(count: int, part: str) -> Pairs:
            problems = sequences.additions(count, config.digits, part, derive(seed, "data"))
            return sequences.addition_pairs(problems, config.digits)

        super().__init__(config, len(sequences.ADDITION), pairs, seed)

    def symbol(self, token: int) -> str:
        return sequences.ADDITION[token]


class Reverse(Translation):
    """Says a sequence backwards."""

    name = "reverse"
    Config = ReverseConfig

    def __init__(self, config: ReverseConfig, seed: int = 0) -> None:
        check(config)

        def pairs(count: int, part: str) -> Pairs:
            try:
                return sequences.reversals(count, config.symbols, config.max_length, part, derive(seed, "data"))
            except ValueError as error:
                raise BadInputError(f"{error}; raise --symbols or --max-length") from error

        super().__init__(config, config.symbols, pairs, seed)

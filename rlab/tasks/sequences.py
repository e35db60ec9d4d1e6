"""Tasks for memories: n-back, copying, and repeated copying (Graves et al. 2016)."""

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from rlab.datasets import sequences
from rlab.datasets.sequences import Labelled
from rlab.errors import BadInputError
from rlab.models.dnc import DNC
from rlab.models.initializers import orthogonal, seed_stream
from rlab.models.recurrent import LSTM, RNN, RecurrentLayer
from rlab.seeding import derive
from rlab.settings import check
from rlab.tasks import figures
from rlab.tasks.batches import Shuffled
from rlab.tasks.configs import CopyConfig, NBackConfig, RepeatCopyConfig
from rlab.tasks.training import Apply, TaskReport

_TESTED = 1000  # sequences of repeated copying to validate and to test on


class SequenceModel(keras.Model):
    """A memory and its outputs: inputs [T, B, F] and a mask [T, B] to logits [T, B, outputs].

    Over an RNN or LSTM of `units` lies a linear map; a DNC has its own, and `units` are its controller's.
    """

    def __init__(self, kind: str, units: int, outputs: int, seeds: Iterator[int]) -> None:
        super().__init__(name="sequence_model")
        self.head = None
        self.memory: RecurrentLayer
        if kind == "dnc":
            self.memory = DNC(outputs, seeds, controller=units, locations=16, width=16, heads=4)
        else:
            self.memory = {"rnn": RNN, "lstm": LSTM}[kind](units, seeds)
            self.head = keras.layers.Dense(outputs, kernel_initializer=orthogonal(0.01, seeds), name="head")

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        self.memory.build(input_shape)
        if self.head:
            self.head.build((None, None, self.memory.units))
        self.built = True

    def call(self, inputs: tf.Tensor, valid: tf.Tensor) -> tf.Tensor:
        outputs, _ = self.memory(inputs, valid=valid)
        return self.head(outputs) if self.head else outputs


class NBack:
    """Tells at every step whether a symbol is that of n steps before (`match`), or names that one (`symbol`)."""

    name = "nback"
    Config = NBackConfig
    shown = ("loss", "accuracy", "validation_accuracy")
    xla = True

    def __init__(self, config: NBackConfig, seed: int = 0) -> None:
        check(config)
        if config.n >= config.mean_length:
            raise BadInputError(f"--n must be less than --mean-length {config.mean_length:g}, not {config.n}")
        self.config, self.seed = config, seed
        self.data = {split: self._sequences(split) for split in ("train", "validation", "test")}
        seeds = seed_stream(derive(seed, "parameters"))
        self.model = SequenceModel(config.model, config.units, 2 if config.target == "match" else config.k, seeds)
        self.model.build((None, None, config.k))
        self._batches = Shuffled(config.samples, config.batch_size, seed)
        self.updates_per_epoch = self._batches.updates_per_epoch

    def _sequences(self, split: str) -> Labelled:
        c, seed = self.config, derive(self.seed, "data", split)
        return sequences.n_back(c.samples, c.n, c.k, c.mean_length, c.deviation, seed, c.target)

    def batch(self, update: int) -> Labelled:
        rows = self._batches.rows(update)
        return Labelled(*(part[:, rows] for part in self.data["train"]))

    def loss(self, batch: Labelled) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        logits = self.model(batch.inputs, batch.valid)
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(batch.targets, logits)
        right = tf.cast(tf.argmax(logits, -1, tf.int32) == batch.targets, tf.float32)
        count = tf.reduce_sum(batch.asked)
        return tf.reduce_sum(losses * batch.asked) / count, {"accuracy": tf.reduce_sum(right * batch.asked) / count}

    def evaluate(self, apply: Apply, split: str) -> dict[str, float]:
        loss, metrics = apply(self.loss, self.data[split])
        return {"accuracy": float(metrics["accuracy"]), "nll": float(loss)}

    def report(self, apply: Apply) -> TaskReport:
        test = Labelled(*(part[:, :1] for part in self.data["test"]))
        said = apply(self.model, test.inputs, test.valid).argmax(-1)[:, 0]
        steps = int(test.valid[:, 0].sum())
        rows = {"shown": test.inputs[:, 0].argmax(-1), "target": test.targets[:, 0], "prediction": said}
        lines = [
            f"{name:>10s}  "
            + " ".join("·" if name != "shown" and not test.asked[t, 0] else str(row[t]) for t in range(steps))
            for name, row in rows.items()
        ]
        return TaskReport("\n".join(lines), memory_pictures(apply, self.model, test.inputs[:steps]))


class RepeatCopy:
    """Says a sequence of binary words again, as often as it is asked to."""

    name = "repeat-copy"
    Config = RepeatCopyConfig
    shown = ("loss", "wrong_bits", "validation_wrong_bits")
    xla = True
    updates_per_epoch = 200

    def __init__(self, config: RepeatCopyConfig, seed: int = 0) -> None:
        check(config)
        for low, high in (("min_length", "max_length"), ("min_repeats", "max_repeats")):
            if getattr(config, low) > getattr(config, high):
                flags = [f"--{name.replace('_', '-')}" for name in (low, high)]
                raise BadInputError(
                    f"{flags[0]} must be at most {flags[1]} {getattr(config, high)}, not {getattr(config, low)}"
                )
        self.config, self.seed = config, seed
        seeds = seed_stream(derive(seed, "parameters"))
        self.model = SequenceModel(config.model, config.units, config.bits + 1, seeds)
        self.model.build((None, None, config.bits + 2))

    def sequences(self, count: int, seed: int, lengths: tuple[int, int] | None = None) -> Labelled:
        """Fresh sequences of this task, or of other lengths (fewest and most words), to see how it generalizes."""
        c = self.config
        lengths = lengths or (c.min_length, c.max_length)
        longest = sequences.repeat_copy_steps(lengths[1], c.max_repeats)
        return sequences.repeat_copy(count, c.bits, lengths, (c.min_repeats, c.max_repeats), longest, seed)

    def batch(self, update: int) -> Labelled:
        return self.sequences(self.config.batch_size, derive(self.seed, "batch", update))

    def loss(self, batch: Labelled) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        logits = self.model(batch.inputs, batch.valid)
        losses = tf.nn.sigmoid_cross_entropy_with_logits(batch.targets, logits) * batch.asked[..., None]
        wrong = tf.cast((logits > 0.0) != (batch.targets > 0.5), tf.float32) * batch.asked[..., None]
        sequences_ = tf.cast(tf.shape(batch.asked)[1], tf.float32)
        return tf.reduce_sum(losses) / sequences_, {"wrong_bits": tf.reduce_sum(wrong) / sequences_}

    def evaluate(self, apply: Apply, split: str) -> dict[str, float]:
        usual = self.sequences(_TESTED, derive(self.seed, "data", split))
        loss, metrics = apply(self.loss, usual)
        found = {"wrong_bits": float(metrics["wrong_bits"]), "nll": float(loss)}
        if split == "test":
            most = self.config.max_length
            longer = self.sequences(_TESTED, derive(self.seed, "data", "longer"), (2 * most, 2 * most))
            found["wrong_bits_at_twice_the_length"] = float(apply(self.loss, longer)[1]["wrong_bits"])
        return found

    def report(self, apply: Apply) -> TaskReport:
        several = self.sequences(100, derive(self.seed, "data", "report"))
        longest = int(several.valid.sum(axis=0).argmax())
        test = Labelled(*(part[:, [longest]] for part in several))
        said = (apply(self.model, test.inputs, test.valid)[:, 0] > 0.0).astype(int)
        lines = ["step  target  prediction   (the last bit says that all is said)"]
        for t in np.flatnonzero(test.asked[:, 0]):
            words = ["".join(str(int(bit)) for bit in row) for row in (test.targets[t, 0], said[t])]
            lines.append(f"{t:4d}  {words[0]:>6s}  {words[1]:>10s}")
        steps = int(test.valid[:, 0].sum())
        return TaskReport("\n".join(lines), memory_pictures(apply, self.model, test.inputs[:steps]))


class Copy(RepeatCopy):
    """Says a sequence of binary words again, once."""

    name = "copy"
    Config = CopyConfig


def memory_pictures(apply: Apply, model: SequenceModel, inputs: np.ndarray) -> dict[str, Any]:
    """Pictures of a DNC's memory on one sequence [T, 1, F]; none of other memories."""
    if not isinstance(model.memory, DNC):
        return {}
    trace = apply(model.memory.trace, inputs)
    rows = {"input": inputs[:, 0].T, "write": trace.write_weights[:, 0].T, "usage": trace.usage[:, 0].T}
    rows |= {f"read {head}": trace.read_weights[:, 0, head].T for head in range(trace.read_weights.shape[2])}
    rows |= {"allocation gate": trace.allocation_gate[:, 0].T, "free gates": trace.free_gates[:, 0].T}
    return {"memory": figures.heat_maps(rows)}

"""One way to train, resume and test every task; its runs look like an agent's.

A task holds a built model and says what a batch is, what the loss is, and how well parameters do. One with `parts` > 1
has a batch computed in so many equal parts side by side, which divides long loops of small steps. Parameters are one
vector and the update is one compiled function of it, as for agents. The batch of an update depends on the seed and the
number of the update alone, so a resumed run equals one that was never stopped, bit for bit.
"""

import dataclasses
import functools
import json
import math
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import keras
import numpy as np
import tensorflow as tf

from rlab.errors import BadInputError, TrainingError
from rlab.files import write_atomically
from rlab.models.parameters import ParameterLayout
from rlab.notify import notify
from rlab.ops import adam
from rlab.runs.checkpoints import Checkpoint
from rlab.runs.directory import Run
from rlab.runs.lock import require_unlocked
from rlab.runs.loop import CHECKPOINT_SECONDS, TrainingResult, Update, run_loop
from rlab.runs.start import check_seconds, require_steps_left
from rlab.runs.weights import load_weights
from rlab.schedules import Schedule
from rlab.settings import check_whole
from rlab.state import pack, subset, unpack
from rlab.tasks.configs import from_run

_DRAWINGS = 20  # at most, over a run

# Runs a method of the task's model under given parameters, compiled: `apply(method, *tensors)`.
Apply = Callable[..., Any]


class TaskReport(NamedTuple):
    """The report of a trained task."""

    text: str  # predictions beside targets
    pictures: dict[str, Any]  # matplotlib figures by name


class Task(Protocol):
    """The trainer's interface to a task, made as `TaskClass(config, seed)`, where `config` is a `TaskClass.Config`.

    A task may have more: `parts`, into which a batch is cut; `pictures(apply)`, figures by name that are drawn over
    training; `sample(apply, count, seed)`, images [count, H, W] of a model that draws them; and in its config
    `averaging` of the parameters and Adam's `beta_1`. One that learns from given data has its digest, `data_sha256`.
    """

    name: str  # on the command line
    config: Any
    seed: int
    model: keras.layers.Layer  # built
    updates_per_epoch: int
    shown: tuple[str, ...]  # metrics that the progress display shows
    xla: bool  # whether XLA compiles it; padded convolutions train faster on a CPU without

    def batch(self, update: int) -> Any:
        """The arrays of one update, of the same shapes every time."""

    def loss(self, batch: Any) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        """The loss of the model's present variables on a batch, and other metrics."""

    def evaluate(self, apply: Apply, split: str) -> dict[str, float]:
        """Metrics on the `validation` or the `test` data."""

    def report(self, apply: Apply) -> TaskReport:
        """The report of what the model learned, to look at."""


def train(task: Task, run: str | Path, checkpoint_every: float = CHECKPOINT_SECONDS) -> TrainingResult:
    """Train a task for its epochs in a new run directory, with a checkpoint every so many seconds."""
    steps = check_whole("the number of updates", task.config.epochs * task.updates_per_epoch)
    check_seconds(checkpoint_every)
    settings = settings_of(task) | {"steps": steps, "checkpoint_every": float(checkpoint_every)}
    return _train(task, Run.create(run, settings), steps, None)


def settings_of(task: Task) -> dict[str, Any]:
    """The settings of a task for its run's config.json."""
    digest = getattr(task, "data_sha256", None)
    settings = {"task": task.name, "seed": task.seed, "config": dataclasses.asdict(task.config)}
    return settings | ({"data_sha256": digest} if digest else {})


def resume(task: Task, run: Run, steps: int | None) -> TrainingResult:
    """Go on with a run from its newest checkpoint, up to `steps` updates in all (None: as it was begun).

    Raises BadInputError when the run is one of another task, seed, config or data, or has its updates already.
    """
    begun, present = run.config | {"config": dataclasses.asdict(from_run(run.config))}, settings_of(task)
    _require_same_data(task, run)
    for key in ("task", "seed", "config"):
        value = present[key]
        if begun.get(key) != value:
            raise BadInputError(f"{run.path} has another {key}: {begun.get(key)!r}, not {value!r}")
    steps = run.config["steps"] if steps is None else check_whole("the number of updates", steps)
    require_unlocked(run.path)
    require_steps_left(run, steps)
    return _train(task, run.with_steps(steps), steps, run.latest_checkpoint())


def _require_same_data(task: Task, run: Run) -> None:
    """Raise BadInputError where a run was trained on other data than the task has now."""
    digest, before = getattr(task, "data_sha256", None), run.config.get("data_sha256")
    if digest is None or digest == before:
        return
    if before is None:
        _note_unknown(run.path)
        return
    raise BadInputError(
        f"{run.path} was trained on other data than {task.config.data!r} holds now (SHA-256 {before}, now {digest}); "
        "bring the former back, or train anew"
    )


@functools.cache  # said once
def _note_unknown(run: Path) -> None:
    notify(f"note: {run} was made by a version that kept no digest of its data; nothing tells if they have changed")


class Applied:
    """The task's model with parameters: calls a method of it, compiled once for each method and shape."""

    def __init__(self, layout: ParameterLayout, params: np.ndarray, xla: bool) -> None:
        self._layout, self._params, self._xla = layout, tf.constant(params), xla
        self._compiled: dict[Any, Callable] = {}

    def __call__(self, method: Callable, *arguments: Any) -> Any:
        # A bound method is made anew at every access; what it is bound to and its function are not.
        key = getattr(method, "__func__", method), id(getattr(method, "__self__", None))
        if key not in self._compiled:
            # Not a lambda: TensorFlow takes the lambdas of one line for one function that is traced too often.
            call = functools.partial(self._call, method)
            self._compiled[key] = tf.function(call, jit_compile=self._xla, autograph=False)
        return tf.nest.map_structure(lambda part: part.numpy(), self._compiled[key](self._params, *arguments))

    def _call(self, method: Callable, params: tf.Tensor, *arguments: Any) -> Any:
        return self._layout.call(params, method, *arguments)

    def update(self, params: tf.Tensor) -> None:
        self._params = params


def load(task: Task, run: Run) -> Applied:
    """The model as of the run's newest checkpoint.

    Raises BadInputError when there is none, or a damaged one, and where the run was trained on other data.
    """
    _require_same_data(task, run)
    layout = ParameterLayout(task.model)
    return Applied(layout, layout.flatten(load_weights(run.path, "model", layout.size)), task.xla)


def test(task: Task, applied: Apply, run: Run, steps: int) -> dict[str, float]:
    """The metrics of a trained model on the test data, which are kept in the run's `test.json` beside the updates."""
    metrics = task.evaluate(applied, "test")
    kept = {"steps": steps} | plain(metrics)
    write_atomically(run.path / "test.json", (json.dumps(kept, indent=2, allow_nan=False) + "\n").encode())
    return metrics


def plain(metrics: dict[str, float]) -> dict[str, float | None]:
    """Metrics as JSON knows them, None for what is not finite."""
    return {name: value if math.isfinite(value) else None for name, value in metrics.items()}


def _train(task: Task, run: Run, steps: int, checkpoint: Checkpoint | None) -> TrainingResult:
    learner = Learner(task, steps, checkpoint)
    return run_loop(
        run,
        learner.updates(functools.partial(_draw, task, run)),
        learner.checkpoint,
        steps,
        learner.steps,
        graph=learner.graph,
        shown=task.shown,
        unit="updates",
    )


def _draw(task: Task, run: Run, applied: Applied, steps: int) -> dict[str, bytes] | None:
    """The pictures of a task that shows how far training is, such as samples: written, and as PNG files by name."""
    if not hasattr(task, "pictures"):
        return None
    from rlab.tasks.figures import save_pictures  # matplotlib takes a while

    return save_pictures(run.path, task.pictures(applied), steps, numbered=True)


class Learner:
    """A task's parameters, the optimizer's state, and the updates that change them."""

    def __init__(self, task: Task, steps: int, checkpoint: Checkpoint | None = None) -> None:
        self.task, self._total, self._schedule = task, steps, Schedule(steps)
        epochs = -(-steps // task.updates_per_epoch)
        self._between_drawings = -(-epochs // _DRAWINGS) * task.updates_per_epoch
        self.layout = ParameterLayout(task.model)
        self._averaging = getattr(task.config, "averaging", 0.0)
        params, self.state, self.steps = self.layout.initial(), adam.initial_state(self.layout.size), 0
        average = params
        if checkpoint:
            average = self.layout.flatten(subset(checkpoint.arrays, "model"))
            params = self.layout.flatten(subset(checkpoint.arrays, "latest")) if self._averaging else average
            self.state = unpack({"adam": self.state}, checkpoint.arrays)["adam"]
            self.steps = checkpoint.steps
            if "schedule" in checkpoint.counters:  # older runs do not have it
                self._schedule.restore(checkpoint.counters["schedule"], self.steps)
        self.params, self.average = tf.constant(params), tf.constant(average)  # one and the same, without averaging
        self._update = _compile_update(task, self.layout)

    def updates(
        self, draw: Callable[[Applied, int], dict[str, bytes] | None] = lambda *_: None
    ) -> Generator[Update | None, None, None]:
        """The updates to the last; `draw` is called after some of the validations."""
        applied, begun = Applied(self.layout, self.average, self.task.xla), self.steps
        while self.steps < self._total:
            metrics, pictures = self.update(), None
            # The first update validates too, so that the columns of metrics.csv are known from its first row.
            if self.steps in (begun + 1, self._total) or self.steps % self.task.updates_per_epoch == 0:
                applied.update(self.average)
                found = self.task.evaluate(applied, "validation")
                metrics |= {f"validation_{name}": value for name, value in found.items()}
                if self.steps == self._total or self.steps % self._between_drawings == 0:
                    pictures = draw(applied, self.steps)
            yield Update(self.steps, metrics, pictures=pictures)

    def update(self) -> dict[str, float]:
        """Make one update and return its metrics; raises TrainingError, changing nothing, if the loss is not finite."""
        rate = self.task.config.learning_rate
        if self.task.config.decay_learning_rate:
            rate *= self._schedule.left(self.steps)
        # Converted here: a compiled function takes several times as long over an array of NumPy's.
        batch = tf.nest.map_structure(tf.constant, self.task.batch(self.steps))
        # The first averages are short, so that nothing of the initial parameters stays in them.
        kept = min(self._averaging, (self.steps + 1) / (self.steps + 11.0)) if self._averaging else 0.0
        now = (self.params, self.state, self.average)
        after, measured = self._update(now, batch, tf.constant(rate), tf.constant(kept))
        metrics = {name: float(value) for name, value in measured.items()}
        for name in ("loss", "gradient_norm"):
            if not np.isfinite(metrics[name]):
                raise TrainingError(f"update {self.steps}: {name} is not finite ({metrics[name]})")
        (self.params, self.state, self.average), self.steps = after, self.steps + 1
        return metrics

    def checkpoint(self) -> Checkpoint:
        parts = {"model": self.layout.named(self.average.numpy()), "adam": self.state}
        if self._averaging:
            parts["latest"] = self.layout.named(self.params.numpy())
        return Checkpoint(self.steps, pack(parts), {"schedule": self._schedule.state()})

    def graph(self) -> tf.Graph:
        """The loss as a graph, to be looked at in TensorBoard."""
        batch = tf.nest.map_structure(tf.convert_to_tensor, self.task.batch(0))
        return (
            tf.function(self.layout.call, autograph=False)
            .get_concrete_function(self.params, self.task.loss, batch)
            .graph
        )


def _compile_update(task: Task, layout: ParameterLayout) -> Callable:
    """The compiled update: (now, batch, step size, part kept of the average) to what is after it, and the metrics.

    `now` is parameters [D], Adam's state, and the parameters' average [D].
    """
    bound, beta_1 = task.config.max_gradient_norm, getattr(task.config, "beta_1", 0.9)
    averaging, parts = getattr(task.config, "averaging", 0.0), getattr(task, "parts", 1)

    @tf.function(
        jit_compile=True, autograph=False
    )  # in a graph without XLA too: one pass over the parameters in place of ten
    def descend(now: tuple, gradient: tf.Tensor, rate: tf.Tensor, kept: tf.Tensor) -> tuple:
        params, state, average = now
        norm = tf.norm(gradient)
        params, state = adam.adam(params, state, gradient * (bound / tf.maximum(norm, bound)), rate, beta_1)
        average = params + kept * (average - params) if averaging else params
        return (params, state, average), norm

    def differentiate(params: tf.Tensor, batch: Any) -> tuple:
        with tf.GradientTape() as tape:
            tape.watch(params)
            loss, metrics = layout.call(params, task.loss, batch)
        return tape.gradient(loss, params), {"loss": loss, **metrics}

    @tf.function(jit_compile=task.xla, autograph=False)
    def update(now: tuple, batch: Any, rate: tf.Tensor, kept: tf.Tensor) -> tuple:
        gradient, metrics = differentiate(now[0], batch)
        after, norm = descend(now, gradient, rate, kept)
        return after, {**metrics, "gradient_norm": norm}

    if parts == 1:
        return update
    compiled = tf.function(differentiate, jit_compile=task.xla, autograph=False)
    threads = ThreadPoolExecutor(parts)

    def update_in_parts(now: tuple, batch: Any, rate: tf.Tensor, kept: tf.Tensor) -> tuple:
        """Update by a batch whose parts are computed side by side, a thread to each, and averaged in their order."""
        split = [tf.nest.map_structure(lambda array, i=i: tf.split(array, parts)[i], batch) for i in range(parts)]
        if not compiled.experimental_get_tracing_count():
            compiled.get_concrete_function(now[0], split[0])  # by one thread, before all ask for it
        found = list(threads.map(functools.partial(compiled, now[0]), split))
        gradient, metrics = tf.nest.map_structure(lambda *each: tf.add_n(each) / parts, *found)
        after, norm = descend(now, gradient, rate, kept)
        return after, {**metrics, "gradient_norm": norm}

    return update_in_parts

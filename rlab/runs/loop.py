"""The one outer loop: an agent yields updates; the loop logs, shows, checkpoints, and stops."""

import contextlib
import functools
import math
import time
from collections import deque
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from rlab.errors import BadInputError, ElsewhereError, TrainingError, described
from rlab.parallel import watch
from rlab.parallel.comm import Communicator, Serial
from rlab.rewards import REWARDS, RewardModel, model_of
from rlab.runs.checkpoints import Checkpoint
from rlab.runs.directory import Run
from rlab.runs.metrics import MetricsWriter
from rlab.runs.progress import ProgressDisplay
from rlab.runs.signals import StopRequest, stop_requested
from rlab.types import Episode

_RECENT_EPISODES = 100
_ROWS = 500  # rows of metrics.csv in a run of full length
_CHECKPOINT_SECONDS = 60.0


class Update(NamedTuple):
    """What an agent or a task tells of one update of its parameters."""

    steps: int  # agent steps made so far, over all workers; of a task, updates
    metrics: dict[str, float]
    episodes: list[Episode] | None = None  # those that ended since the last update; None of a task, which plays none
    end: int | None = None  # steps at which the run ends as things stand now, if that can change


class TrainingResult(NamedTuple):
    """What training came to."""

    run: Path
    steps: int  # agent steps, or a task's updates, all in all
    seconds: float  # wall clock of this call
    mean_score: float  # over the last 100 training episodes of this call, NaN when none ended
    stopped_by: int | None  # the number of the signal that ended it early, else None
    episodes: int = 0  # over which the mean score was taken


def run_loop(
    run: Run,
    updates: Generator[Update | None, None, None],
    checkpoint: Callable[[], Checkpoint],
    total_steps: int,
    first_step: int = 0,
    graph: Callable[[], tf.Graph] | None = None,
    shown: Sequence[str] = ("score", "entropy", "staleness"),
    comm: Communicator | None = None,
    unit: str = "steps",
    agree: Callable[[int | None], int | None] | None = None,
    env: Callable[..., Any] | None = None,
) -> TrainingResult:
    """Drive `updates` to its end, or to the first SIGINT or SIGTERM.

    `updates` yields an Update for each update, or None when there was nothing new for a while (so that signals are
    heard), and stops its workers when it is closed. `checkpoint` gives the present state, `graph` what TensorBoard
    draws, `shown` the metrics that the progress display shows beside the number of `unit`. The checkpoint at the end is
    written whether the steps are done or a signal came; when `updates` raises, the last checkpoint stays the newest.

    Of the ranks `comm`, each of which drives the same updates, the first alone logs, shows and saves; a signal to any
    of them stops them all after the same update. Where ranks are not in step, `agree` is told the number of the signal
    that this rank has had, or None, as often as `updates` yields, and gives that of the one which stops it.
    Where the factory `env` has learned rewards, their metrics and what they learned go with those of the agent.
    """
    comm = comm or Serial()
    agree = agree or functools.partial(_agreed, comm)
    updates = _named_faults(updates, first_step)
    try:
        if comm.rank:
            return _follow(run, updates, checkpoint, agree)
        if rewards := model_of(env) if env else None:
            updates, checkpoint = _with_metrics(updates, rewards), functools.partial(_with_rewards, checkpoint, rewards)
        return _lead(run, updates, checkpoint, total_steps, first_step, graph, shown, agree, unit)
    except ElsewhereError:  # of which all know
        raise
    except BaseException as error:  # others may wait for this rank
        watch.end(described(error))
        raise
    finally:
        watch.end()


def _named_faults(updates: Generator[Update | None, None, None], step: int) -> Generator[Update | None, None, None]:
    """The updates; whatever they raise is a TrainingError, or bad input.

    An environment may raise SystemExit or KeyboardInterrupt too. The latter comes of a signal only where one was noted
    before, and this is another.
    """
    with contextlib.closing(updates):
        while True:
            try:
                update = next(updates)
            except StopIteration:
                return
            except (TrainingError, BadInputError):
                raise
            except BaseException as error:
                if isinstance(error, KeyboardInterrupt) and stop_requested():
                    raise
                raise TrainingError(f"step {step}: {described(error)}") from error
            step = update.steps if update else step
            yield update


def _lead(
    run: Run,
    updates: Generator[Update | None, None, None],
    checkpoint: Callable[[], Checkpoint],
    total_steps: int,
    first_step: int,
    graph: Callable[[], tf.Graph] | None,
    shown: Sequence[str],
    agree: Callable[[int | None], int | None],
    unit: str,
) -> TrainingResult:
    """The loop of the first rank."""
    if not run.of_task:  # only now it is certain that these steps can be made
        run = run.with_steps(total_steps)
    start = time.perf_counter()
    writer = MetricsWriter(run.path, first_step)
    display = ProgressDisplay(total_steps, first_step, unit)
    recorder = _Recorder(writer, display, max(1, total_steps // _ROWS), first_step, shown)
    saved_at = start
    try:
        with StopRequest() as stop, contextlib.closing(updates):
            if graph and not first_step:
                writer.write_graph(graph())
            for update in updates:
                if update:
                    recorder.add(update)
                if number := agree(stop.signal):
                    stop.heed(number)
                    break
                if time.perf_counter() - saved_at >= _CHECKPOINT_SECONDS:
                    run.save_checkpoint(checkpoint())
                    saved_at = time.perf_counter()
            else:
                stop.signal = None  # it came when all was done
            # Workers are stopped before the last checkpoint, so that it holds everything that was learned.
            updates.close()
            recorder.flush(last=True)
            final = checkpoint()
            run.save_checkpoint(final)
            seconds, score = time.perf_counter() - start, recorder.mean_score()
            return TrainingResult(run.path, final.steps, seconds, score, stop.signal, recorder.episodes())
    finally:
        display.close()
        writer.close()


def _with_metrics(
    updates: Generator[Update | None, None, None], rewards: RewardModel
) -> Generator[Update | None, None, None]:
    with contextlib.closing(updates):
        for update in updates:
            yield update._replace(metrics=update.metrics | rewards.metrics()) if update else None


def _with_rewards(checkpoint: Callable[[], Checkpoint], rewards: RewardModel) -> Checkpoint:
    found = checkpoint()
    learned = {f"{REWARDS}/{name}": array for name, array in rewards.arrays().items()}
    return found._replace(arrays=found.arrays | learned)


def _follow(
    run: Run,
    updates: Generator[Update | None, None, None],
    checkpoint: Callable[[], Checkpoint],
    agree: Callable[[int | None], int | None],
) -> TrainingResult:
    """The loop of a rank that is not the first."""
    start = time.perf_counter()
    with StopRequest() as stop, contextlib.closing(updates):
        for _ in updates:
            if number := agree(stop.signal):
                stop.heed(number)
                break
        else:
            stop.signal = None
    return TrainingResult(run.path, checkpoint().steps, time.perf_counter() - start, math.nan, stop.signal)


def _agreed(comm: Communicator, number: int | None) -> int | None:
    """The signal that any rank has had, on all of them.

    One that comes meanwhile stays noted for the next time: the caller must not overwrite it by the None of this one.
    """
    return max(filter(None, comm.gather(number)), default=None)


class _Recorder:
    """Gathers updates into rows: metrics averaged, scores of the recent episodes."""

    def __init__(
        self, writer: MetricsWriter, display: ProgressDisplay, interval: int, first_step: int, shown: Sequence[str]
    ) -> None:
        self._writer, self._display, self._interval, self._shown = writer, display, interval, shown
        self._plays = False
        self._end: int | None = None
        self._steps = self._row_at = first_step
        self._start = self._row_time = time.perf_counter()
        self._before = writer.last.get("seconds", 0.0)  # that a resumed run has taken already
        self._episodes = int(writer.last.get("episodes", 0))  # ended since the run began
        self._sums: dict[str, float] = {}
        self._counts: dict[str, int] = {}
        self._latest: dict[str, float] = {}
        self._recent: deque[Episode] = deque(maxlen=_RECENT_EPISODES)
        self._new: list[Episode] = []

    def add(self, update: Update) -> None:
        self._steps, self._end = max(self._steps, update.steps), update.end
        if update.episodes is not None:
            self._plays = True
            self._recent.extend(update.episodes)
            self._new += update.episodes
            self._episodes += len(update.episodes)
        for name, value in update.metrics.items():
            self._sums[name] = self._sums.get(name, 0.0) + value
            self._counts[name] = self._counts.get(name, 0) + 1
        if self._steps // self._interval > self._row_at // self._interval:  # the same rows in a resumed run
            self.flush()

    def flush(self, last: bool = False) -> None:
        if self._counts:
            self._write()
        shown = {name: self._latest[name] for name in self._shown if name in self._latest}
        self._display.show(self._steps, shown, last, self._end)

    def _write(self) -> None:
        now = time.perf_counter()
        row: dict[str, float] = {"steps": self._steps, "seconds": self._before + now - self._start}
        row["steps_per_second"] = (self._steps - self._row_at) / max(now - self._row_time, 1e-9)
        if self._plays:
            row["episodes"] = self._episodes
            row["score"] = self.mean_score()
            row["episode_length"] = float(np.mean([e.length for e in self._recent])) if self._recent else math.nan
        row |= {name: total / self._counts[name] for name, total in self._sums.items()}
        self._writer.write(row, [episode.score for episode in self._new])
        self._latest |= row
        self._row_at, self._row_time, self._sums, self._counts, self._new = self._steps, now, {}, {}, []

    def episodes(self) -> int:
        return len(self._recent)

    def mean_score(self) -> float:
        return float(np.mean([e.score for e in self._recent])) if self._recent else math.nan

"""The one outer loop: an agent yields updates; the loop logs, shows, checkpoints, and stops."""

from __future__ import annotations

import contextlib
import functools
import math
import time
from collections import deque
from collections.abc import Callable, Generator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import tensorflow as tf

from rlab.errors import BadInputError, ElsewhereError, RankLostError, TrainingError, described, launch_command
from rlab.notify import notify
from rlab.parallel import heartbeat
from rlab.parallel.comm import Communicator, Serial
from rlab.runs.checkpoints import Checkpoint
from rlab.runs.directory import Run
from rlab.runs.metrics import MetricsWriter
from rlab.runs.progress import ProgressDisplay
from rlab.runs.signals import StopRequest, stop_requested
from rlab.runs.start import check_seconds
from rlab.state import pack
from rlab.types import Episode

_RECENT_EPISODES = 100
ROWS = 500  # rows of metrics.csv in a run of full length
_SHOWN_ALREADY = ("steps", "seconds", "steps_per_second")  # in words of the progress display's own
_ROW_SECONDS = 10.0  # after which a row comes in any case
CHECKPOINT_SECONDS = 60.0  # between checkpoints, where a run's config does not say


class Update(NamedTuple):
    """The report of an agent or a task on one update of its parameters."""

    steps: int  # agent steps made so far, over all workers; of a task, updates
    metrics: dict[str, float]
    episodes: list[Episode] | None = None  # those that ended since the last update; None of a task, which plays none
    end: int | None = None  # steps at which the run ends as things stand now, if that can change
    pictures: dict[str, bytes] | None = None  # PNG files by name, for TensorBoard


class TrainingResult(NamedTuple):
    """The result of training."""

    run: Path
    steps: int  # agent steps, or a task's updates, all in all
    seconds: float  # wall clock of this call
    mean_score: float  # over the last 100 training episodes, NaN when none ended
    stopped_by: int | None  # the number of the signal that ended it early, else None
    episodes: int = 0  # over which the mean score was taken


class Contributor(Protocol):
    """Adds to the metrics of each update, and to the checkpoints."""

    def metrics(self) -> dict[str, float]:
        """Metrics since the last call; always of the same names."""

    def state(self) -> dict[str, Any]:
        """All that it needs to go on: arrays in nested mappings and named tuples."""


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
    contributors: Mapping[str, Contributor] | None = None,
    close: Callable[[], None] | None = None,
) -> TrainingResult:
    """Drive `updates` to its end, or to the first signal of `rlab.runs.signals`.

    `updates` yields an Update for each update, or None when there was nothing new for a while (so that signals are
    heard), and stops its workers when it is closed. `checkpoint` gives the present state, `graph` what TensorBoard
    draws, `shown` the metrics that the progress display shows beside the number of `unit`. Checkpoints are written
    every `checkpoint_every` seconds of the run's config (60), and at the end, whether the steps are done or a signal
    came; when `updates` raises, the last checkpoint stays the newest, and after a signal that is no fault. Once all is
    saved the signal acts as it would have without training: after Ctrl-C this raises KeyboardInterrupt, unless the
    program asked for `results_of_stops`.

    Of the ranks `comm`, each of which drives the same updates, the first alone logs, shows and saves; a signal to any
    of them stops them all after the same update. Where ranks are not in step, `agree` is told the number of the signal
    that this rank has had, or None, as often as `updates` yields, and gives that of the one which stops it.
    `close` closes the environments, at the very end: one that takes the process with it has lost nothing then.
    What `contributors` measured goes with the metrics of each update, and their state, under their names, with that of
    the training.
    """
    comm, in_step = comm or Serial(), agree is None
    agree = agree or functools.partial(_agreed, comm)
    updates = _named_faults(updates, first_step)
    try:
        with StopRequest() as stop:
            if comm.rank:
                result = _follow(run, updates, checkpoint, agree, stop)
            else:
                if contributors:
                    updates = _with_metrics(updates, contributors)
                    checkpoint = functools.partial(_with_state, checkpoint, contributors)
                with run.training(first_step, checkpoint):
                    loop = functools.partial(_lead, run, updates, checkpoint, total_steps, first_step, graph, shown)
                    result = loop(agree, unit, stop, in_step)
    except ElsewhereError:  # of which all know
        raise
    except BaseException as error:  # others may wait for this rank
        heartbeat.end(described(error))
        raise
    finally:
        heartbeat.end()
        if close:
            close()
    stop.deliver()
    return result


def _named_faults(updates: Generator[Update | None, None, None], step: int) -> Generator[Update | None, None, None]:
    """Pass the updates on; whatever they raise becomes a TrainingError, but for bad input.

    An environment may raise SystemExit or KeyboardInterrupt too. The latter comes of a signal only where one was noted
    before; any other is the environment's.
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
    stop: StopRequest,
    in_step: bool,
) -> TrainingResult:
    """The loop of the first rank; `in_step` are ranks that make each update together."""
    every = _seconds_between(run)
    if not run.of_task:  # only now it is certain that these steps can be made
        run = run.with_steps(total_steps)
    start = time.perf_counter()
    writer = MetricsWriter(run.path, first_step)
    display = ProgressDisplay(total_steps, first_step, unit)
    recorder = _Recorder(writer, display, max(1, total_steps // ROWS), first_step, shown)
    if first_step:
        recorder.remember(_recent_of(run))
    saver = _Saver(run, functools.partial(_with_recent, checkpoint, recorder), first_step, every)
    try:
        display.begin()
        with contextlib.closing(updates):
            if graph and not first_step:
                updates = _with_graph(updates, writer, graph)
            try:
                _drive(updates, recorder, saver, agree, stop)
                # Workers are stopped before the last checkpoint, so that it holds everything that was learned.
                updates.close()
                recorder.flush(last=True)
                saver.save()
            except TrainingError as error:
                if isinstance(error, RankLostError):
                    if not in_step:  # else the state may be that in the midst of an update
                        saver.save()
                    again = launch_command("resume", run.path)
                    raise RankLostError(f"{error}; `{again}` goes on from step {saver.steps:,}") from error
                if stop.signal is None:
                    raise
                # A signal to a whole group ends the processes of an environment too.
                notify(f"stopped without a new checkpoint, the last one stands: {error}")
            seconds, score = time.perf_counter() - start, recorder.mean_score()
            return TrainingResult(run.path, saver.steps, seconds, score, stop.signal, recorder.episodes())
    finally:
        display.close()
        writer.close()


def _drive(
    updates: Generator[Update | None, None, None],
    recorder: _Recorder,
    saver: _Saver,
    agree: Callable[[int | None], int | None],
    stop: StopRequest,
) -> None:
    """Record and save, until all updates are made or a signal comes."""
    for update in updates:
        if update:
            recorder.add(update)
        if number := agree(stop.signal):
            stop.heed(number)
            return
        saver.save_in_time()
    stop.signal = None  # it came when all was done


def _with_graph(
    updates: Generator[Update | None, None, None], writer: MetricsWriter, graph: Callable[[], tf.Graph]
) -> Generator[Update | None, None, None]:
    """Pass the updates on; the graph is drawn after the first, which it would hold up."""
    drawn = False
    with contextlib.closing(updates):
        for update in updates:
            yield update
            if update and not drawn:
                writer.write_graph(graph())
                drawn = True


def _seconds_between(run: Run) -> float:
    """The seconds from one checkpoint to the next, of the run's config; 0 is after each update."""
    every = run.config.get("checkpoint_every", CHECKPOINT_SECONDS)
    try:
        check_seconds(every)
    except BadInputError as error:
        raise BadInputError(f"{run.path}/config.json is damaged: 'checkpoint_every' is {every!r}") from error
    return every


class _Saver:
    """Saves the checkpoints of a run, every so many seconds."""

    def __init__(self, run: Run, checkpoint: Callable[[], Checkpoint], first_step: int, every: float) -> None:
        self._run, self._checkpoint, self._every = run, checkpoint, every
        self._saved_at = time.perf_counter()
        self.steps = first_step  # of the newest checkpoint

    def save_in_time(self) -> None:
        if time.perf_counter() - self._saved_at >= self._every:
            self.save()

    def save(self) -> None:
        found = self._checkpoint()
        self._run.save_checkpoint(found)
        self.steps, self._saved_at = found.steps, time.perf_counter()


def _with_metrics(
    updates: Generator[Update | None, None, None], contributors: Mapping[str, Contributor]
) -> Generator[Update | None, None, None]:
    with contextlib.closing(updates):
        for update in updates:
            if update:
                found = {name: value for one in contributors.values() for name, value in one.metrics().items()}
                update = update._replace(metrics=update.metrics | found)
            yield update


def _with_recent(checkpoint: Callable[[], Checkpoint], recorder: _Recorder) -> Checkpoint:
    """The checkpoint with the recent episodes, so that their mean goes on where it stood."""
    found, recent = checkpoint(), [list(episode) for episode in recorder.recent()]
    return found._replace(counters=found.counters | {"episodes": recent}) if recent else found


def _recent_of(run: Run) -> list[Episode]:
    """The recent episodes that the newest checkpoint knows of; those of version 0.1 know of none."""
    latest = run.latest_checkpoint()
    found = latest.counters.get("episodes", []) if latest else []
    try:
        return [
            Episode(float(score), int(length), None if success is None else float(success))
            for score, length, success in found
        ]
    except (TypeError, ValueError, OverflowError):
        return []


def _with_state(checkpoint: Callable[[], Checkpoint], contributors: Mapping[str, Contributor]) -> Checkpoint:
    found = checkpoint()
    return found._replace(arrays=found.arrays | pack({name: one.state() for name, one in contributors.items()}))


def _follow(
    run: Run,
    updates: Generator[Update | None, None, None],
    checkpoint: Callable[[], Checkpoint],
    agree: Callable[[int | None], int | None],
    stop: StopRequest,
) -> TrainingResult:
    """The loop of a rank that is not the first."""
    start = time.perf_counter()
    with contextlib.closing(updates):
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
        if update.pictures:
            self._writer.write_pictures(update.pictures, self._steps)
        # By steps, so that a resumed run has the same rows, and by time, so that a long one has some soon.
        due = self._steps // self._interval > self._row_at // self._interval
        if due or time.perf_counter() - self._row_time >= _ROW_SECONDS:
            self.flush()
        else:
            self._show()

    def flush(self, last: bool = False) -> None:
        if self._counts:
            self._write()
        self._show(last)

    def _show(self, last: bool = False) -> None:
        shown = {name: self._latest[name] for name in self._shown if name in self._latest}
        more = {name: value for name, value in self._latest.items() if name not in (*shown, *_SHOWN_ALREADY)}
        self._display.show(self._steps, shown, last, self._end, more)

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

    def remember(self, episodes: list[Episode]) -> None:
        """Count episodes that ended before this process began."""
        self._recent.extend(episodes)

    def recent(self) -> list[Episode]:
        return list(self._recent)

    def episodes(self) -> int:
        return len(self._recent)

    def mean_score(self) -> float:
        return float(np.mean([e.score for e in self._recent])) if self._recent else math.nan

"""Parameters that several threads share without a lock (Recht et al. 2011, "Hogwild!"; Mnih et al. 2016, section 4)."""

from __future__ import annotations

import queue
import threading
from typing import Any, NamedTuple, Protocol

import numpy as np

from rlab.errors import TrainingError
from rlab.ops.optimizers import rmsprop_update
from rlab.schedules import Line, Schedule
from rlab.types import Episode

# What rank 0 tells the workers of other processes: the line of step sizes, and whether the run is over. A sequence
# lock: who reads it while it is written sees an odd version, or another one afterwards, and reads it again.
_NOTICE = np.dtype(
    [("version", np.int64), ("start", np.int64), ("end", np.int64), ("height", np.float64), ("over", np.int64)]
)


class SharedParameters:
    """One float32 vector [D], its RMSProp statistics and the counts of work done, for all workers at once.

    Parameters are read and written without a lock: a `pull` that runs during another worker's `push` may see part of
    that update, and so does the paper's. The counters are exact, and have no lock either: each worker counts in a row
    of its own, and a count is the sum of the rows.
    """

    def __init__(
        self,
        vector: np.ndarray,
        mean_square: np.ndarray | None = None,
        *,
        decay: float,
        epsilon: float,
        steps: int = 0,
        updates: int = 0,
        workers: int = 1,
    ) -> None:
        self.vector = vector.astype(np.float32)
        self.mean_square = np.zeros_like(self.vector) if mean_square is None else mean_square.astype(np.float32)
        self.counts = np.zeros((workers + 1, 2), np.int64)  # updates and steps of each worker
        self.counts[-1] = updates, steps  # made before
        self._notice = np.zeros(1, _NOTICE)
        self._decay, self._epsilon = decay, epsilon

    @property
    def updates(self) -> int:
        """Updates made, by all workers."""
        return int(self.counts[:, 0].sum())

    @property
    def steps(self) -> int:
        """Agent steps made, by all workers."""
        return int(self.counts[:, 1].sum())

    @steps.setter
    def steps(self, steps: int) -> None:
        self.counts[-1, 1] += steps - self.steps

    def bytes_in_common(self) -> int:
        """The number of bytes that `move_to` needs."""
        return sum(part.nbytes for part in self._parts())

    def move_to(self, memory: np.ndarray, fill: bool) -> None:
        """Move into these bytes, which other processes share; one process fills them with what it has."""
        places: list[Any] = []
        start = 0
        for part in self._parts():
            place = memory[start : start + part.nbytes].view(part.dtype).reshape(part.shape)
            if fill:
                place[...] = part
            places.append(place)
            start += part.nbytes
        self.counts, self._notice, self.vector, self.mean_square = places

    def _parts(self) -> tuple[np.ndarray, ...]:
        return self.counts, self._notice, self.vector, self.mean_square

    def announce(self, line: Line, over: bool) -> None:
        """Announce the line of step sizes, and whether the run is over, to other processes' workers; of one thread."""
        notice = self._notice[0]
        notice["version"] += 1
        notice["start"], notice["end"], notice["height"], notice["over"] = *line, over
        notice["version"] += 1

    def announced(self) -> tuple[Line, bool]:
        """The line of step sizes, and whether the run is over, as announced last; before that a line that ends at 0."""
        while True:
            version, start, end, height, over = self._notice[0].item()
            if version % 2 == 0 and version == self._notice[0]["version"]:
                return Line(start, end, height), bool(over)

    def pull(self) -> tuple[np.ndarray, int]:
        """A snapshot [D], and the number of updates made before it."""
        updates = self.updates
        return self.vector.copy(), updates

    def apply(self, gradient: np.ndarray, work: Work) -> tuple[int, int]:
        """Apply a gradient [D] and count its steps.

        Gives its staleness, the updates that others made since this worker's pull, and the steps made by all.
        """
        updates = self.updates
        # Of the first gradients g is the plain mean of the squares: from 0 it would grow too slowly, and the first step
        # of every parameter be η/√(1 − α), ten times what the others are.
        decay = min(self._decay, updates / (updates + 1.0))
        rmsprop_update(self.vector, self.mean_square, gradient, work.learning_rate, decay, self._epsilon)
        staleness = self.updates - work.pulled_at
        self.counts[work.worker] += 1, work.steps
        return staleness, self.steps


class Snapshot(NamedTuple):
    """The parameters that a worker pulls, with the state of the schedule."""

    vector: np.ndarray  # the parameters, float32 [D]
    updates: int  # made before it
    steps: int  # agent steps made before it, by all workers
    left: float  # factor of step sizes that fall with the schedule, in [0, 1]
    done: bool  # the run is over: the worker must stop


class Work(NamedTuple):
    """The account of the work behind a gradient, which a worker pushes with it."""

    learning_rate: float
    pulled_at: int  # updates of the snapshot that the gradient was taken at
    steps: int  # agent steps made for it
    metrics: dict[str, float]
    episodes: list[Episode]  # that ended in them
    worker: int = 0  # its number among those of all ranks


class UpdateReport(NamedTuple):
    """The report of an update."""

    steps: int  # agent steps made so far, by all workers
    metrics: dict[str, float]  # the worker's, and the staleness of its gradient
    episodes: list[Episode]
    end: int  # steps at which the run ends, as things stand


class WorkerParameters(Protocol):
    """Shared parameters as a worker has them, wherever they lie."""

    def pull(self) -> Snapshot:
        """The parameters, and what the schedule says."""

    def push(self, gradient: np.ndarray, work: Work) -> None:
        """Apply a gradient, float32 [D], count the steps made for it, and report."""

    def leave(self, fault: TrainingError | None) -> None:
        """Go, with the fault that made the worker fail, if one did."""


class LocalParameters:
    """The parameters, the schedule and the reports that all workers of one process have in common.

    `reports` holds an UpdateReport of each update, and the TrainingError of each worker that failed; `stop` asks all
    workers to go.
    """

    def __init__(self, parameters: SharedParameters, schedule: Schedule) -> None:
        self.parameters, self.schedule = parameters, schedule
        self.reports: queue.SimpleQueue[UpdateReport | TrainingError] = queue.SimpleQueue()
        self.stop = threading.Event()
        self._announced: tuple[Line, bool] | None = None

    def pull(self) -> Snapshot:
        """The parameters, and what the schedule says now."""
        steps = self.parameters.steps
        done = self.stop.is_set() or self.schedule.done(steps)
        return Snapshot(*self.parameters.pull(), steps, self.schedule.left(steps), done)

    def push(self, gradient: np.ndarray, work: Work) -> None:
        """Apply a gradient, float32 [D], count the steps made for it, and report."""
        self.report(work, *self.parameters.apply(gradient, work))

    def report(self, work: Work, staleness: int, steps: int) -> None:
        """Tell of an update, after which so many steps were made, and let the schedule know of its episodes."""
        # Here and not in the loop that hears the reports, so that one worker ends at the same step every time.
        self.schedule.add(work.episodes, steps)
        metrics = work.metrics | {"staleness": float(staleness)}
        self.reports.put(UpdateReport(steps, metrics, work.episodes, self.schedule.end))

    def announce(self) -> None:
        """Let the workers of other processes know what the schedule says now."""
        over = self.stop.is_set() or self.schedule.done(self.parameters.steps)
        now = self.schedule.line, over
        if now != self._announced:
            self.parameters.announce(*now)
            self._announced = now

    def leave(self, fault: TrainingError | None) -> None:
        """Report that the worker ends, with the fault that made it fail, if one did."""
        if fault:
            self.reports.put(fault)

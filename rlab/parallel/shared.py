"""Parameters that several threads share without a lock (Recht et al. 2011, "Hogwild!"; Mnih et al. 2016, section 4)."""

import queue
import threading
from typing import NamedTuple

import numpy as np

from rlab.errors import TrainingError
from rlab.ops.optimizers import rmsprop_update
from rlab.schedules import Schedule
from rlab.types import Episode


class SharedParameters:
    """One float32 vector [D], its RMSProp statistics and the counts of work done, for all workers at once.

    Parameters are read and written without a lock: a `pull` that runs during another worker's `push` may see part of
    that update, and so does the paper's. The counters are exact.
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
    ) -> None:
        self.vector = vector.astype(np.float32)
        self.mean_square = np.zeros_like(self.vector) if mean_square is None else mean_square.astype(np.float32)
        self.steps, self.updates = steps, updates
        self._decay, self._epsilon = decay, epsilon
        self._counting = threading.Lock()

    def pull(self) -> tuple[np.ndarray, int]:
        """A snapshot [D], and the number of updates made before it."""
        updates = self.updates
        return self.vector.copy(), updates

    def push(self, gradient: np.ndarray, learning_rate: float, pulled_at: int) -> int:
        """Apply a gradient [D]; returns its staleness: the updates that others made since this worker's pull."""
        rmsprop_update(self.vector, self.mean_square, gradient, learning_rate, self._decay, self._epsilon)
        with self._counting:
            staleness = self.updates - pulled_at
            self.updates += 1
        return staleness

    def count_steps(self, steps: int) -> int:
        """Add agent steps to the count; returns the sum over all workers."""
        with self._counting:
            self.steps += steps
            return self.steps


class Snapshot(NamedTuple):
    """What a worker pulls."""

    vector: np.ndarray  # the parameters, float32 [D]
    updates: int  # made before it
    steps: int  # agent steps made before it, by all workers
    left: float  # factor of step sizes that fall with the schedule, in [0, 1]
    done: bool  # whether the worker may go


class Work(NamedTuple):
    """What a worker pushes along with a gradient."""

    learning_rate: float
    pulled_at: int  # updates of the snapshot that the gradient was taken at
    steps: int  # agent steps made for it
    metrics: dict[str, float]
    episodes: list[Episode]  # that ended in them


class Report(NamedTuple):
    """What is told of an update."""

    steps: int  # agent steps made so far, by all workers
    metrics: dict[str, float]  # the worker's, and the staleness of its gradient
    episodes: list[Episode]
    end: int  # steps at which the run ends, as things stand


class Exchange:
    """What all workers of one training run hold in common: the parameters, the schedule, and what they report.

    `reports` holds a Report of each update, and the TrainingError of each worker that failed; `stop` asks all workers
    to go.
    """

    def __init__(self, parameters: SharedParameters, schedule: Schedule) -> None:
        self.parameters, self.schedule = parameters, schedule
        self.reports: queue.SimpleQueue[Report | TrainingError] = queue.SimpleQueue()
        self.stop = threading.Event()

    def pull(self) -> Snapshot:
        """The parameters, and what the schedule says now."""
        steps = self.parameters.steps
        done = self.stop.is_set() or self.schedule.done(steps)
        return Snapshot(*self.parameters.pull(), steps, self.schedule.left(steps), done)

    def push(self, gradient: np.ndarray, work: Work) -> None:
        """Apply a gradient, float32 [D], count the steps made for it, and report."""
        staleness = self.parameters.push(gradient, work.learning_rate, work.pulled_at)
        steps = self.parameters.count_steps(work.steps)
        # Here and not in the loop that hears the reports, so that one worker ends at the same step every time.
        self.schedule.add(work.episodes, steps)
        metrics = work.metrics | {"staleness": float(staleness)}
        self.reports.put(Report(steps, metrics, work.episodes, self.schedule.end))

    def leave(self, fault: TrainingError | None) -> None:
        """A worker's last word: what made it fail, if it did."""
        if fault:
            self.reports.put(fault)

"""When a run ends, and how its step sizes fall until then."""

import threading
from collections import deque

import numpy as np

from rlab.types import Episode

_EPISODES = 100  # whose mean score counts
_COOLING = 0.05  # of the steps in all: how long the step size falls to 0 once the target is reached


class Schedule:
    """Falls linearly from 1 to 0 over `steps`; from the moment the last 100 episodes average `target_score`, faster.

    A policy that has reached the target under a large step size wavers still: it is cooled down, over a twentieth of
    the steps, and the run ends. The workers of one run share a schedule. A `target_score` of None is never reached.
    """

    def __init__(self, steps: int, target_score: float | None = None) -> None:
        self._target = target_score
        self._line = (0, steps, 1.0)  # where it begins, where it ends, and its height at the beginning
        self._cooling = max(1, round(_COOLING * steps))
        self._recent: deque[float] = deque(maxlen=_EPISODES)
        self._lock = threading.Lock()

    def done(self, steps: int) -> bool:
        """Whether the run is over after so many steps."""
        return steps >= self._line[1]

    def left(self, steps: int) -> float:
        """The factor, in [0, 1], of step sizes that fall with the schedule."""
        start, end, height = self._line
        return height * max(1.0 - (steps - start) / (end - start), 0.0)

    def add(self, episodes: list[Episode], steps: int) -> None:
        """Count the episodes that ended up to the step `steps`."""
        if self._target is None or not episodes or self.done(steps):
            return
        with self._lock:
            self._recent.extend(episode.score for episode in episodes)
            if self._target is not None and len(self._recent) == _EPISODES and np.mean(self._recent) >= self._target:
                self._target = None
                self._line = (steps, min(steps + self._cooling, self._line[1]), self.left(steps))

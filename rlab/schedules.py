"""The end of a run, and how its step sizes fall until then."""

import threading
from collections import deque
from typing import Any, NamedTuple

import numpy as np

from rlab.errors import BadInputError
from rlab.types import Episode

_EPISODES = 100  # whose mean score counts
_SPENT = 0.01  # a fall that is as low has ended
_COOLING = 0.05  # of the steps in all: how long the step size falls to 0 once the target is reached


class Line(NamedTuple):
    """A fall to 0 by steps."""

    start: int  # steps at which it begins
    end: int  # and at which it meets 0
    height: float  # at its beginning

    def left(self, steps: int) -> float:
        """Its height after so many steps."""
        return self.height * max(1.0 - (steps - self.start) / (self.end - self.start), 0.0)


def _line(start: int, end: int, height: float) -> Line:
    """A line from the numbers in a checkpoint; raises ValueError for what is none."""
    whole = type(start) is int and type(end) is int and 0 <= start < end
    if not whole or not isinstance(height, int | float) or not 0.0 <= height <= 1.0:
        raise ValueError(f"{[start, end, height]} is no line")
    return Line(start, end, height)


class Schedule:
    """A factor that falls linearly from 1 to 0 over `steps`, faster once the last 100 episodes average `target_score`.

    A policy that has reached the target under a large step size wavers still: it is cooled down, over a twentieth of
    the steps. If it averages the target at the end of that too, the run ends; else the slow fall goes on where it would
    have been, until the target is reached again. The workers of one run share a schedule. A `target_score` of None is
    never reached.
    """

    def __init__(self, steps: int, target_score: float | None = None) -> None:
        self._target = target_score
        self._slow = self._line = Line(0, steps, 1.0)
        self._cooling = max(1, round(_COOLING * steps))
        self._recent: deque[float] = deque(maxlen=_EPISODES)
        self._over = False
        self._lock = threading.Lock()

    def done(self, steps: int) -> bool:
        """Tell whether the run is over after so many steps."""
        if steps < self._line.end:
            return False
        with self._lock:  # the first worker to come decides for all
            if not self._over and steps < self._slow.end and not self._on_target():
                self._line = self._slow
            self._over = steps >= self._line.end
            return self._over

    @property
    def is_over(self) -> bool:
        """True once a caller of `done` was told that the run is over."""
        return self._over

    @property
    def line(self) -> Line:
        """The line that step sizes fall along, as things stand."""
        return self._line

    @property
    def end(self) -> int:
        """The steps at which the run ends, as things stand."""
        return self._line.end

    def left(self, steps: int) -> float:
        """The factor, in [0, 1], of step sizes that fall with the schedule."""
        return self._line.left(steps)

    def add(self, episodes: list[Episode], steps: int) -> None:
        """Count the episodes that ended up to the step `steps`."""
        with self._lock:
            self._recent.extend(episode.score for episode in episodes)
            if self._line is self._slow and steps < self._slow.end and self._on_target():
                self._line = Line(steps, min(steps + self._cooling, self._slow.end), self.left(steps))

    def state(self) -> dict[str, Any]:
        """All that `restore` needs to go on, as JSON data."""
        cooling = None if self._line is self._slow else list(self._line)
        return {"cooling": cooling, "recent": list(self._recent), "over": self._over, "slow": list(self._slow)}

    def restore(self, state: dict[str, Any], steps: int | None = None) -> None:
        """Go on from what `state` gave, after so many steps.

        With another number of steps in all than before, the fall goes on from the height where it is, if it is not at
        its end. Without a target, as when steps were asked for, nothing cools down. Raises BadInputError for a state
        that is none.
        """
        try:
            cooling, slow = (None if state.get(kind) is None else _line(*state[kind]) for kind in ("cooling", "slow"))
            self._recent.extend(float(score) for score in state["recent"])
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise BadInputError(f"the checkpoint's schedule is damaged ({error})") from error
        if slow and slow.end == self._slow.end:
            self._slow = self._line = slow
        elif slow and steps is not None and (height := slow.left(steps)) > _SPENT and steps < self._slow.end:
            self._slow = self._line = Line(steps, self._slow.end, height)
        if self._target is not None and cooling:
            self._line = cooling

    def _on_target(self) -> bool:
        full = len(self._recent) == _EPISODES
        return self._target is not None and full and float(np.mean(self._recent)) >= self._target

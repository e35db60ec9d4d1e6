"""Tasks that cannot be done without memory, by design: the T-maze, N-back and delayed recall."""

import gymnasium as gym
import numpy as np

from envs import drawing
from envs.batched import Outcome
from rlab.errors import BadInputError

_NORTH, _EAST, _SOUTH, _WEST = range(4)


class TMaze:
    """The T-maze of Bakker 2001 ("Reinforcement learning with long short-term memory", section 4).

    A corridor leads east from the start to a junction. A sign at the start tells whether the goal lies north or south
    of the junction. Observations float32 [3]: 011 or 110 at the start (the sign), 101 in the corridor, 010 at the
    junction. Actions: north, east, south, west. 4 for the right turn at the junction and −0.1 for the wrong one, both
    of which end the episode; −0.1 for standing still, as after a step into a wall. An episode that has
    not turned after twenty times as many steps as the way is long is truncated: a policy that knows nothing walks at
    random, and covers only the root of its steps.

    Args:
        corridor: cells between the start and the junction, and one: the junction lies so many steps east.
    """

    observation_space = gym.spaces.Box(0.0, 1.0, (3,), np.float32)
    action_space = gym.spaces.Discrete(4)

    def __init__(self, corridor: int = 10) -> None:
        self.corridor = whole("corridor", corridor, 1)
        self.limit: int | None = 20 * (corridor + 1)

    def begin(self, rng: np.random.Generator) -> np.ndarray:
        """State: position, and the goal's side (0 north, 1 south)."""
        return np.array([0.0, rng.integers(2)])

    def step(self, states: np.ndarray, actions: np.ndarray) -> Outcome:
        position, side = states.T
        turned = (position == self.corridor) & ((actions == _NORTH) | (actions == _SOUTH))
        right = turned & (actions == np.where(side == 0.0, _NORTH, _SOUTH))
        moved = np.clip(position + (actions == _EAST) - (actions == _WEST), 0.0, self.corridor)
        rewards = np.where(right, 4.0, np.where(turned | (moved == position), -0.1, 0.0))
        return Outcome(np.stack([moved, side], axis=1), rewards, turned, right)

    def observe(self, states: np.ndarray) -> np.ndarray:
        position, side = states.T
        at_start, at_junction = position == 0.0, position == self.corridor
        bits = (at_start & (side == 1.0) | ~at_start & ~at_junction, at_start | at_junction)
        last = at_start & (side == 0.0) | ~at_start & ~at_junction
        return np.stack([*bits, last], axis=1).astype(np.float32)

    def picture(self, state: np.ndarray) -> np.ndarray:
        position, side = state.astype(int)
        cell = 16
        picture = drawing.blank(5 * cell, (self.corridor + 3) * cell)
        drawing.draw_box(picture, cell, 2 * cell, (self.corridor + 1) * cell, cell, drawing.GREY)
        for turn in (0, 1):
            colour = drawing.GREEN if turn == side else drawing.GREY
            drawing.draw_box(picture, (self.corridor + 1) * cell, (1 + 2 * turn) * cell, cell, cell, colour)
        centre = ((position + 1.5) * cell, 2.5 * cell)
        drawing.draw_line(picture, centre, centre, 10, drawing.RED)
        return picture


class NBack:
    """Say at every step which symbol was shown n steps ago: 1 for each right answer.

    Observations: the symbol, one-hot, float32 [k]. Actions: the k symbols. The first n answers count for nothing.
    Success: no answer was wrong.

    Args:
        n: how far back, steps.
        k: symbols.
        length: steps to an episode.
    """

    limit: int | None = None

    def __init__(self, n: int = 2, k: int = 4, length: int = 20) -> None:
        self.n, self.k = whole("n", n, 1), whole("k", k, 2)
        self.length = whole("length", length, n + 1)
        self.observation_space = gym.spaces.Box(0.0, 1.0, (k,), np.float32)
        self.action_space = gym.spaces.Discrete(k)

    def begin(self, rng: np.random.Generator) -> np.ndarray:
        """State: steps made, whether all answers were right, and the symbols of the whole episode."""
        return np.concatenate([[0.0, 1.0], rng.integers(self.k, size=self.length)])

    def step(self, states: np.ndarray, actions: np.ndarray) -> Outcome:
        states = states.copy()
        time = states[:, 0].astype(int)
        rows = np.arange(len(states))
        counts = time >= self.n
        right = counts & (states[rows, 2 + np.maximum(time - self.n, 0)] == actions)
        states[:, 0] += 1.0
        states[:, 1] *= right | ~counts
        return Outcome(states, right.astype(float), time + 1 == self.length, states[:, 1] == 1.0)

    def observe(self, states: np.ndarray) -> np.ndarray:
        time = np.minimum(states[:, 0].astype(int), self.length - 1)
        shown = states[np.arange(len(states)), 2 + time].astype(int)
        return np.eye(self.k, dtype=np.float32)[shown]

    def picture(self, state: np.ndarray) -> np.ndarray:
        return drawing.draw_symbols(self.k, int(self.observe(state[None])[0].argmax()), state[0] >= self.n)


class DelayedRecall:
    """See a symbol once, wait, and name it when asked: 1 for the right name. One decision to an episode.

    Observations float32 [k + 1]: at first the symbol, one-hot; then nothing, for `delay` steps; then 1 in the last
    place, and the action of that step is the answer. Actions: the k symbols.

    Args:
        k: symbols.
        delay: steps between the symbol and the question, in which nothing is shown.
    """

    limit: int | None = None

    def __init__(self, k: int = 4, delay: int = 20) -> None:
        self.k, self.delay = whole("k", k, 2), whole("delay", delay, 0)
        self.observation_space = gym.spaces.Box(0.0, 1.0, (k + 1,), np.float32)
        self.action_space = gym.spaces.Discrete(k)

    def begin(self, rng: np.random.Generator) -> np.ndarray:
        """State: steps made, and the symbol."""
        return np.array([0.0, rng.integers(self.k)])

    def step(self, states: np.ndarray, actions: np.ndarray) -> Outcome:
        time, symbol = states.T
        asked = time == self.delay + 1
        right = asked & (actions == symbol)
        return Outcome(np.stack([time + 1.0, symbol], axis=1), right.astype(float), asked, right)

    def observe(self, states: np.ndarray) -> np.ndarray:
        time, symbol = states.T
        shown = np.zeros((len(states), self.k + 1), np.float32)
        shown[:, : self.k] = (time == 0.0)[:, None] * np.eye(self.k)[symbol.astype(int)]
        shown[:, self.k] = time == self.delay + 1
        return shown

    def picture(self, state: np.ndarray) -> np.ndarray:
        shown = int(state[1]) if state[0] == 0.0 else None
        return drawing.draw_symbols(self.k, shown, state[0] == self.delay + 1)


def whole(name: str, value: object, low: int) -> int:
    """The value itself, if it is a whole number of at least `low`; else BadInputError."""
    if not isinstance(value, int) or isinstance(value, bool) or value < low:
        raise BadInputError(f"{name} must be a whole number, at least {low}, not {value!r}")
    return value

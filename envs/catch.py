"""The smallest task that is seen in pixels: catch a ball that falls."""

import gymnasium as gym
import numpy as np

from envs import drawing
from envs.batched import Outcome
from envs.memory import whole

_CELL = 4  # pixels to a side


class Catch:
    """Catch, as in Osband et al. 2020 ("Behaviour suite for reinforcement learning").

    A ball begins somewhere in the uppermost of `size` rows of as many cells and falls one row at a step. A paddle of
    one cell in the lowest row moves to the left, stays, or moves to the right (actions 0, 1, 2). When the ball is down:
    1 if it is caught, −1 if it is not. Observations uint8 [4 size, 4 size, 1], ball and paddle white on black.
    Success: it was caught.

    Args:
        size: rows and columns.
    """

    action_space = gym.spaces.Discrete(3)
    limit: int | None = None

    def __init__(self, size: int = 10) -> None:
        self.size = whole("size", size, 3)
        self.observation_space = gym.spaces.Box(0, 255, (_CELL * size, _CELL * size, 1), np.uint8)

    def begin(self, rng: np.random.Generator) -> np.ndarray:
        """State: the ball's row and column, and the paddle's column."""
        return np.array([0.0, rng.integers(self.size), self.size // 2])

    def step(self, states: np.ndarray, actions: np.ndarray) -> Outcome:
        row, column, paddle = states.T
        row, paddle = row + 1, np.clip(paddle + actions - 1, 0, self.size - 1)
        down = row == self.size - 1
        caught = down & (column == paddle)
        rewards = np.where(down, np.where(caught, 1.0, -1.0), 0.0)
        return Outcome(np.stack([row, column, paddle], axis=1), rewards, down, caught)

    def observe(self, states: np.ndarray) -> np.ndarray:
        row, column, paddle = states.astype(int).T
        cells, each = np.zeros((len(states), self.size, self.size, 1), np.uint8), np.arange(len(states))
        cells[each, row, column] = cells[each, -1, paddle] = 255
        return cells.repeat(_CELL, axis=1).repeat(_CELL, axis=2)

    def picture(self, state: np.ndarray) -> np.ndarray:
        row, column, paddle = state.astype(int)
        cell = 12
        picture = drawing.blank(self.size * cell, self.size * cell)
        drawing.draw_box(picture, paddle * cell, (self.size - 1) * cell, cell, cell, drawing.GREEN)
        drawing.draw_box(picture, column * cell, row * cell, cell, cell, drawing.RED)
        return picture

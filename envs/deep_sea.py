"""A task that cannot be done without exploration, by design: the deep sea."""

import gymnasium as gym
import numpy as np

from envs import drawing
from envs.batched import Outcome
from envs.memory import whole


class DeepSea:
    """The deep sea of Osband et al. 2019 ("Deep exploration via randomized value functions", section 4).

    A diver begins at the upper left of `size` × `size` cells and sinks one row at a step, to the left (action 0) or to
    the right (action 1). A step to the right costs 0.01 / `size`; going right at every step finds a treasure of 1 in
    the last corner, and of all other dives the best is the one to the left alone, for 0. Diving at random finds the
    treasure once in 2^size episodes. Observations float32 [2]: row and column, from −1 to 1. Success: the treasure was
    found. Departure: right is action 1 everywhere, where the paper draws which action it is for each cell.

    Args:
        size: N, rows and columns.
    """

    observation_space = gym.spaces.Box(-1.0, 1.0, (2,), np.float32)
    action_space = gym.spaces.Discrete(2)
    limit: int | None = None

    def __init__(self, size: int = 20) -> None:
        self.size = whole("size", size, 2)

    def begin(self, rng: np.random.Generator) -> np.ndarray:
        """State: row and column."""
        return np.zeros(2)

    def step(self, states: np.ndarray, actions: np.ndarray) -> Outcome:
        row, column = states.T
        right = actions == 1
        column = np.clip(column + np.where(right, 1, -1), 0, self.size)
        ended = row + 1 == self.size
        found = ended & (column == self.size)
        rewards = np.where(found, 1.0, 0.0) - np.where(right, 0.01 / self.size, 0.0)
        return Outcome(np.stack([row + 1, column], axis=1), rewards, ended, found)

    def observe(self, states: np.ndarray) -> np.ndarray:
        return (2.0 * states / self.size - 1.0).astype(np.float32)

    def picture(self, state: np.ndarray) -> np.ndarray:
        row, column = state.astype(int)
        cell = 8
        picture = drawing.blank((self.size + 1) * cell, (self.size + 1) * cell)
        drawing.draw_box(picture, self.size * cell, self.size * cell, cell, cell, drawing.GREEN)
        drawing.draw_box(picture, column * cell, row * cell, cell, cell, drawing.RED)
        return picture

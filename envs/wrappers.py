"""Wrappers that show more than an environment's own observations."""

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import VectorWrapper
from gymnasium.vector.utils import batch_space

from envs.contract import Conformed
from rlab.errors import BadInputError


class ObserveReward(VectorWrapper):
    """Observations float32 [B, F + 1] whose last number is the reward of the step before, 0 where an episode begins.

    A policy has to see it where the task itself is hidden (as in Duan et al. 2016, "RL²"). Raises BadInputError for
    observations that are no vectors.
    """

    shows_reward = True  # to whoever must not let it be seen

    def __init__(self, env: Conformed) -> None:
        super().__init__(env)
        self.name, self.episode_limit = env.name, env.episode_limit
        self.can_save, self._inside = env.can_save, env
        space = env.single_observation_space
        if not isinstance(space, gym.spaces.Box) or len(space.shape) != 1:
            raise BadInputError(f"observe_reward takes environments whose observations are vectors, and not {space}")
        low, high = np.append(space.low, -np.inf), np.append(space.high, np.inf)
        self.single_observation_space = gym.spaces.Box(low.astype(np.float32), high.astype(np.float32))
        self.observation_space = batch_space(self.single_observation_space, env.num_envs)

    def save_state(self) -> dict[str, np.ndarray] | None:
        """The environment's state; the last reward is in the observations, which their owner keeps."""
        return self._inside.save_state()

    def load_state(self, arrays: dict[str, np.ndarray]) -> None:
        """Go on, after a reset, from what `save_state` gave."""
        self._inside.load_state(arrays)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        observations, info = self.env.reset(seed=seed, options=options)
        return _beside(observations, np.zeros(self.num_envs)), info

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        observations, rewards, terminations, truncations, info = self.env.step(actions)
        ended = terminations | truncations
        if "final_obs" in info:
            info["final_obs"] = _beside(info["final_obs"], np.where(ended, rewards, 0.0))
        return _beside(observations, np.where(ended, 0.0, rewards)), rewards, terminations, truncations, info


def _beside(observations: np.ndarray, rewards: np.ndarray) -> np.ndarray:
    return np.concatenate([observations, rewards[:, None]], axis=1, dtype=np.float32)

"""The one shape in which every environment arrives."""

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import VectorEnv, VectorWrapper
from gymnasium.vector.utils import batch_space

from envs import saving
from rlab.errors import BadInputError


class SameStep(VectorWrapper):
    """Makes the boundary of episodes look the same for every implementation, and remembers the seed.

    `info["final_obs"]` becomes one array [B, ...] (gymnasium gives an array of objects, ale-py a dense one), whose rows
    count where an episode ended.
    """

    def __init__(self, env: VectorEnv, seed: int, episode_limit: int | None = None) -> None:
        super().__init__(env)
        self._seed: int | None = seed
        self.episode_limit = episode_limit  # steps after which an episode is truncated, where that is known

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        if seed is None:
            seed, self._seed = self._seed, None
        return self.env.reset(seed=seed, options=options)

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        observations, rewards, terminations, truncations, info = self.env.step(actions)
        final = info.get("final_obs")
        if final is not None and final.dtype == object:
            dense = np.zeros_like(observations)
            for row in np.flatnonzero(terminations | truncations):
                dense[row] = final[row]
            info["final_obs"] = dense
        return observations, rewards, terminations, truncations, info

    @property
    def can_save(self) -> bool:
        """Whether the environment's state can be saved and loaded."""
        return saving.can_save(self)

    def save_state(self) -> dict[str, np.ndarray] | None:
        """All that the next steps depend on, where the environment's state can be saved; else None."""
        return saving.save(self)

    def load_state(self, arrays: dict[str, np.ndarray]) -> None:
        """Go on, after a reset, from what `save_state` of an environment of the same make gave."""
        saving.load(self, arrays)


class SingleEpisode(gym.Wrapper):
    """One episode after each seeded reset; then it rests: it stays where it is, gets nothing and costs nothing."""

    def __init__(self, env: gym.Env) -> None:
        super().__init__(env)
        self._last: Any = None
        self._ended = False

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        if self._ended and seed is None:  # a vector environment resets what has ended
            return self._last, {}
        self._ended = False
        return self.env.reset(seed=seed, options=options)

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        if self._ended:
            return self._last, 0.0, False, False, {}
        self._last, reward, terminated, truncated, info = self.env.step(action)
        self._ended = bool(terminated or truncated)
        return self._last, reward, terminated, truncated, info


class ObserveReward(VectorWrapper):
    """Observations float32 [B, F + 1] whose last number is the reward of the step before, 0 where an episode begins.

    What a policy has to see where the task itself is hidden (as in Duan et al. 2016, "RL²"). Raises BadInputError for
    observations that are no vectors.
    """

    shows_reward = True  # to whoever must not let it be seen

    def __init__(self, env: SameStep) -> None:
        super().__init__(env)
        self.episode_limit = env.episode_limit
        self.can_save, self.save_state, self.load_state = env.can_save, env.save_state, env.load_state
        space = env.single_observation_space
        if not isinstance(space, gym.spaces.Box) or len(space.shape) != 1:
            raise BadInputError(f"observe_reward takes environments whose observations are vectors, and not {space}")
        low, high = np.append(space.low, -np.inf), np.append(space.high, np.inf)
        self.single_observation_space = gym.spaces.Box(low.astype(np.float32), high.astype(np.float32))
        self.observation_space = batch_space(self.single_observation_space, env.num_envs)

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

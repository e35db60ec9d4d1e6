"""The one shape in which every environment arrives."""

from typing import Any

import numpy as np
from gymnasium.vector import VectorEnv, VectorWrapper


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

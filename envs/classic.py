"""gymnasium's own vectorised tasks, taught to reset in the same step."""

from collections.abc import Callable
from typing import Any

import numpy as np
from gymnasium.envs.classic_control.cartpole import CartPoleVectorEnv
from gymnasium.vector import AutoresetMode, VectorEnv


class SameStepCartPole(CartPoleVectorEnv):
    """gymnasium's NumPy-vectorised CartPole; its own implementation resets one step late and wastes that step."""

    metadata = CartPoleVectorEnv.metadata | {"autoreset_mode": AutoresetMode.SAME_STEP}

    def step(self, action: np.ndarray) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        observations, rewards, terminations, truncations, info = super().step(action)
        ended = self.prev_done
        if ended.any():
            assert self.state is not None
            info["final_obs"] = observations
            self.state[:, ended] = self.np_random.uniform(self.low, self.high, (4, int(ended.sum())))
            self.steps[ended] = 0
            # Nothing is left for the base class to reset at its next step.
            self.prev_done = np.zeros_like(ended)
            observations = self.state.T.astype(np.float32)
        return observations, rewards, terminations, truncations, info


# Names are gymnasium's ids. A vector implementation that can only reset one step late is not used: the plain
# environment is vectorised instead.
SAME_STEP_IMPLEMENTATIONS: dict[str, Callable[..., VectorEnv]] = {
    "CartPole-v0": SameStepCartPole,
    "CartPole-v1": SameStepCartPole,
}

"""A policy together with parameters, for use after training."""

import gymnasium as gym
import numpy as np

from rlab.errors import BadInputError
from rlab.policies.acting import compile_acting
from rlab.policies.actions import to_environment
from rlab.policies.policy import Policy
from rlab.seeding import derive
from rlab.types import State


class TrainedPolicy:
    """What `rlab.load_policy` gives: acts on NumPy observations.

    `policy` is the pure function and `parameters` float32 [D] its argument; research code that wants other parameters
    uses `policy.apply` directly.
    """

    def __init__(self, policy: Policy, parameters: np.ndarray, seed: int = 0) -> None:
        self.policy = policy
        self.parameters = parameters
        self._steps = {flag: compile_acting(policy, flag) for flag in (False, True)}
        self._seed = derive(seed, "actions")
        self._count = 0

    def require_fit(self, env: gym.vector.VectorEnv) -> None:
        """Raise BadInputError when the environment's spaces are not those that the policy was made for."""
        for kind in ("observation", "action"):
            own, theirs = getattr(self.policy, f"{kind}_space"), getattr(env, f"single_{kind}_space")
            if own != theirs:
                raise BadInputError(f"the policy does not fit the environment: {kind}s of {theirs}, not of {own}")

    def initial_state(self, batch_size: int = 1) -> State:
        """Empty memory for a batch of `batch_size` observations."""
        return self.policy.initial_state(batch_size)

    def act(
        self, observation: np.ndarray, state: State, reset: np.ndarray | None = None, deterministic: bool = False
    ) -> tuple[np.ndarray, State]:
        """Actions for observations [B, ...], ready for the environment, and the memory after them.

        A single observation without the batch dimension gives a single action. `reset` [B] is 1 where the observation
        begins an episode; None means nowhere. `deterministic` takes the likeliest action instead of a sample.
        """
        single = np.shape(observation) == self.policy.observation_space.shape
        batch = np.asarray(observation, self.policy.observation_space.dtype)
        batch = batch[None] if single else batch
        resets = np.zeros(len(batch), np.float32) if reset is None else np.asarray(reset, np.float32).reshape(-1)
        seed = np.array([self._seed, self._count], np.int32)
        self._count += 1
        actions, _, state = self._steps[deterministic](self.parameters, batch, state, resets, seed)
        actions = to_environment(actions.numpy(), self.policy.action_space)
        return (actions[0] if single else actions), state

"""A policy together with parameters, for use after training."""

import gymnasium as gym
import numpy as np
import tensorflow as tf

from rlab.environments import WithSpaces
from rlab.errors import BadInputError
from rlab.policies.acting import compile_acting
from rlab.policies.actions import shape_of
from rlab.policies.observations import are_kept, are_known, one_line
from rlab.policies.policy import Policy, require_same_spaces
from rlab.seeding import derive
from rlab.types import State

_SEEDS = 2**31  # of each of the two numbers that a sample is drawn from


class InferencePolicy:
    """A trained policy that acts on NumPy observations, as `rlab.load_policy` gives it.

    `policy` is the pure function and `parameters` float32 [D] its argument; research code that wants other parameters
    uses `policy.apply` directly. `deterministic` is how it acted while it learned, and how it acts unless told
    otherwise: by its likeliest actions, or by samples.
    """

    def __init__(self, policy: Policy, parameters: np.ndarray, seed: int = 0, deterministic: bool = False) -> None:
        self.policy = policy
        self.parameters = parameters
        self.deterministic = deterministic
        self._steps = {flag: compile_acting(policy, flag) for flag in (False, True)}
        self._seed = derive(seed, "actions")
        self.count = 0

    def require_fit(self, env: WithSpaces) -> None:
        """Raise BadInputError when the environment's spaces are not those that the policy was made for."""
        require_same_spaces(self.policy, env.single_observation_space, env.single_action_space)

    def initial_state(self, batch_size: int = 1) -> State:
        """Empty memory for a batch of `batch_size` observations."""
        return self.policy.initial_state(batch_size)

    def act(
        self, observation: np.ndarray, state: State, reset: np.ndarray | None = None, deterministic: bool | None = None
    ) -> tuple[np.ndarray, State]:
        """Actions for observations [B, ...], ready for the environment, and the memory after them.

        A single observation without the batch dimension gives a single action. `reset` [B] is 1 where the observation
        begins an episode; None means nowhere. `deterministic` takes the likeliest action instead of a sample; None
        means as it was trained. Raises BadInputError for observations of another shape or kind, and where a number of
        one is NaN or infinite.
        """
        space = self.policy.observation_space
        single = np.shape(observation) == shape_of(space)
        batch = as_batch(observation, space)
        B = len(batch)
        resets = np.zeros(B, np.float32) if reset is None else np.asarray(reset, np.float32).reshape(-1)
        if len(resets) != B:
            raise BadInputError(f"{B} observations need {B} resets, not {len(resets)}")
        _check_memory(state, self.initial_state(B))
        likeliest = self.deterministic if deterministic is None else bool(deterministic)
        seed = np.array([self._seed, self.count % _SEEDS], np.int32)
        self.count += 1
        actions, _, state = self._steps[likeliest](self.parameters, batch, state, resets, seed)
        actions = self.policy.to_environment(actions.numpy())
        if single:  # an array of shape () stays one
            actions = actions[0] if isinstance(self.policy.action_space, gym.spaces.Discrete) else actions[0, ...]
        return actions, state


def _check_memory(state: State, fitting: State) -> None:
    """Raise BadInputError where a memory has not the shapes of a fitting one."""
    given, needed = ([tuple(np.shape(part)) for part in tf.nest.flatten(memory)] for memory in (state, fitting))
    if given != needed:
        raise BadInputError(
            f"the policy's memory has arrays of {needed}, not of {given}; it begins with initial_state(batch_size)"
        )


def as_batch(observation: np.ndarray, space: gym.Space) -> np.ndarray:
    """Observations [B, ...] of the space's dtype, of one or of a batch; raises BadInputError for what is none."""
    try:
        given = np.asarray(observation)
    except ValueError as error:  # rows of several lengths
        raise BadInputError(f"observations must be arrays of {one_line(space)}: {error}") from error
    shape, dtype = shape_of(space), np.dtype(space.dtype)
    single = given.shape == shape
    if not single and (given.shape[1:] != shape or given.ndim != len(shape) + 1 or not len(given)):
        size = ", ".join(("B", *map(str, shape)))
        raise BadInputError(f"observations must have shape {shape} or [{size}], not {given.shape}")
    if given.dtype.kind not in "biuf" or (given.dtype.kind == "f" and dtype.kind != "f"):
        raise BadInputError(f"observations must be {dtype}, not {given.dtype}")
    with np.errstate(over="ignore"):
        batch = given.astype(dtype)
        usable = np.isfinite(batch.astype(np.float32)) & are_kept(batch, given) & are_known(batch, space)
    if not usable.all():
        entry = tuple(np.argwhere(~usable)[0].tolist())
        raise BadInputError(
            f"entry {list(entry)} of the observation is {given[entry]}, which is not of {one_line(space)}"
            if np.isfinite(given[entry])
            else f"entry {list(entry)} of the observation is {given[entry]}: it must be finite"
        )
    return batch[None] if single else batch

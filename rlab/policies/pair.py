"""A policy, and apart from it what expects its returns, acting as one pure function."""

from typing import Any, NamedTuple, Protocol

import gymnasium as gym
import numpy as np
import tensorflow as tf

from rlab.errors import BadInputError
from rlab.policies.baselines import linear_features
from rlab.policies.observations import one_line, reading_of
from rlab.policies.policy import Policy, PolicyOutput
from rlab.types import State


class Critic(Protocol):
    """What a critic has of a policy's interface; its `apply` gives values, and its distribution is not used."""

    size: int

    def initial_parameters(self, seed: int) -> np.ndarray:
        """Fresh parameters, float32 [C]."""

    def initial_state(self, batch_size: int) -> State:
        """Empty memory for a batch."""

    def apply(self, params: Any, observations: Any, state: State, resets: Any, actions: Any = None) -> Any:
        """Observations [T, B, ...] to (an output whose `values` are [T, B], the memory after them)."""

    def remember(self, state: State, actions: Any) -> State:
        """The memory after a step in which `actions` were taken."""


class LinearCritic:
    """V(x_t, t) = w·φ(x_t, t), the features of `rlab.policies.baselines`; its memory is the step within the episode.

    It acts a step at a time. Raises BadInputError for observations that are no vectors.
    """

    def __init__(self, observation_space: gym.Space) -> None:
        reading = reading_of(observation_space)
        if reading.kind != "vector":
            raise BadInputError(f"--critic linear takes vectors, and not {one_line(observation_space)}")
        self.size = 2 * reading.shape[0] + 4

    def initial_parameters(self, seed: int) -> np.ndarray:
        return np.zeros(self.size, np.float32)

    def initial_state(self, batch_size: int) -> State:
        return tf.zeros((batch_size,))

    def apply(self, params: Any, observations: Any, state: State, resets: Any, actions: Any = None) -> Any:
        time = tf.where(resets[0] != 0.0, 0.0, state)
        values = tf.linalg.matvec(linear_features(observations, time[None]), params)
        return PolicyOutput(None, values), time + 1.0  # type: ignore[arg-type]

    def remember(self, state: State, actions: Any) -> State:
        return state


class Parts(NamedTuple):
    """The parameters of an `ActorCriticPair`."""

    actor: Any  # float32 [D]
    critic: Any  # float32 [C]
    scale: Any  # float32 [2]: mean and deviation of returns, which the critic knows standardized


class ActorCriticPair:
    """An actor's distribution beside a critic's values, each with parameters and memory of its own.

    To whoever acts it is a policy whose parameters are `join(Parts)` and whose state is (actor's, critic's).
    """

    def __init__(self, actor: Policy, critic: Critic) -> None:
        self.actor, self.critic = actor, critic
        self.observation_space, self.action_space = actor.observation_space, actor.action_space
        self.size = actor.size + critic.size + 2
        self.to_environment = actor.to_environment

    @property
    def parts(self) -> tuple[Any, ...]:
        """What it is made of: pairs of the same actor and a critic of the same kind do the same."""
        linear = isinstance(self.critic, LinearCritic)
        return self.actor, ("linear", self.critic.size) if linear else self.critic

    def join(self, parts: Parts) -> tf.Tensor:
        """All parameters in one vector."""
        return tf.concat(parts, 0)

    def initial_state(self, batch_size: int) -> State:
        return self.actor.initial_state(batch_size), self.critic.initial_state(batch_size)

    def apply(self, params: Any, observations: Any, state: State, resets: Any) -> tuple[PolicyOutput, State]:
        """One step: observations [1, B, ...] and resets [1, B]."""
        parts = Parts(*tf.split(params, [self.actor.size, self.critic.size, 2]))
        output, actor_state = self.actor.apply(parts.actor, observations, state[0], resets)
        judged, critic_state = self.critic.apply(parts.critic, observations, state[1], resets)
        values = parts.scale[0] + parts.scale[1] * judged.values
        return PolicyOutput(output.distribution, values), (actor_state, critic_state)

    def remember(self, state: State, actions: Any) -> State:
        return self.actor.remember(state[0], actions), self.critic.remember(state[1], actions)

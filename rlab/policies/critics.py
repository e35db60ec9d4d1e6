"""Critics, which estimate a policy's returns apart from the policy, and their fitting.

An `ActorCriticPair` acts with both; a fitter keeps the critic's parameters and fits them to each batch, over all ranks.
"""

import functools
from typing import Any, NamedTuple, Protocol

import numpy as np
import tensorflow as tf

from rlab.ops import adam
from rlab.ops.sharing import compiled_once, once
from rlab.parallel.comm import Communicator
from rlab.policies.normalization import ObservationNormalizer, ReturnMoments, moments_of_ranks
from rlab.policies.policy import Policy, PolicyOutput
from rlab.seeding import derive
from rlab.state import unpack
from rlab.types import State, Trajectory


class Critic(Protocol):
    """The interface of a critic, a part of a policy's; its `apply` gives values, and its distribution is not used."""

    size: int

    @property
    def parts(self) -> tuple[Any, ...]:
        """The objects that decide what it does: critics with the same parts do the same."""

    def initial_parameters(self, seed: int) -> np.ndarray:
        """Fresh parameters, float32 [C]."""

    def initial_state(self, batch_size: int) -> State:
        """Empty memory for a batch."""

    def apply(self, params: Any, observations: Any, state: State, resets: Any, actions: Any = None) -> Any:
        """Observations [T, B, ...] to (an output whose `values` are [T, B], the memory after them)."""

    def remember(self, state: State, actions: Any) -> State:
        """The memory after a step in which `actions` were taken."""


class Parts(NamedTuple):
    """The parameters of an `ActorCriticPair`."""

    actor: Any  # float32 [D]
    critic: Any  # float32 [C]
    scale: Any  # float32 [2]: mean and deviation of returns, which the critic knows standardized


class ActorCriticPair:
    """An actor's distribution beside a critic's values, each with parameters and memory of its own.

    In acting it is a policy whose parameters are `join(Parts)` and whose state is (actor's, critic's).
    """

    def __init__(self, actor: Policy, critic: Critic) -> None:
        self.actor, self.critic = actor, critic
        self.observation_space, self.action_space = actor.observation_space, actor.action_space
        self.size = actor.size + critic.size + 2
        self.to_environment = actor.to_environment

    @property
    def parts(self) -> tuple[Any, ...]:
        """The objects that decide what it does: pairs with the same parts do the same."""
        return self.actor, *self.critic.parts

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


class Fit(NamedTuple):
    """The result of fitting a critic to a batch."""

    loss: float  # mean square error, of returns as the critic knows them
    unexplained: float  # share of the returns' variance that the values of the acting critic left


class NetworkFitter:
    """Keeps a critic network's parameters: Adam on the square error, on minibatches that take as many steps of every
    environment, or on whole batches where the critic has a memory. How a batch is split over ranks changes nothing.

    Args:
        critic: of the actor's architecture; its values alone are used.
        seed: of its first parameters and of the minibatches.
        learning_rate: of Adam.
        epochs: passes over a batch.
        minibatch: steps, over all ranks.
        standardize: learn (R − mean)/deviation of the returns so far.
    """

    def __init__(
        self,
        critic: Policy,
        comm: Communicator,
        seed: int,
        learning_rate: float,
        epochs: int,
        minibatch: int,
        standardize: bool,
    ) -> None:
        self._critic, self._comm, self.seed = critic, comm, derive(seed, "critic")
        self._rate, self._epochs, self._minibatch = tf.constant(learning_rate, tf.float32), epochs, minibatch
        self._returns = ReturnMoments() if standardize else None
        self._is_recurrent = critic.is_recurrent
        # Inside a loop XLA's convolutions run ten times slower.
        self._fused = comm.size == 1 and (critic.is_cheap or critic.is_recurrent)
        self.params = tf.constant(critic.initial_parameters(self.seed))
        self._adam = adam.initial_state(critic.size)
        self._fits = 0
        # They depend on the critic and the step size alone.
        make = functools.partial(tf.function, jit_compile=True, autograph=False)
        self._gradient = once(lambda: make(self._differentiate), "gradient", critic)
        self._walk = once(lambda: make(self._descend), "walk", critic, learning_rate)
        self._change = compiled_once(adam.adam)

    @property
    def scale(self) -> tf.Tensor:
        """Mean and deviation of returns, float32 [2]."""
        known = self._returns
        return tf.constant([known.mean, known.deviation] if known else [0.0, 1.0], tf.float32)

    def fit(self, trajectory: Trajectory, returns: np.ndarray) -> Fit:
        unexplained = unexplained_variance(trajectory.values, returns, self._comm)
        if self._returns:
            self._returns.add(np.ones_like(returns), returns, self._comm)
        mean, deviation = self.scale.numpy()
        targets = (returns - mean) / deviation
        flat = [trajectory.observations, trajectory.resets, trajectory.actions, targets]
        if self._is_recurrent:
            index, data = np.zeros((self._epochs, 0), np.int32), (*flat, trajectory.state[1])
        else:
            index = self.minibatches(*flat[-1].shape)
            data = (*(part.reshape(-1, *part.shape[2:]) for part in flat), ())
        data = tf.nest.map_structure(tf.convert_to_tensor, data)
        if self._fused:
            self.params, self._adam, loss = self._walk(self.params, self._adam, data, tf.constant(index))
        else:
            losses = [self._descend_together(data, tf.constant(chosen)) for chosen in index]
            loss = np.mean(losses)
        self._fits += 1
        return Fit(float(loss), unexplained)

    def _descend_together(self, data: Any, index: tf.Tensor) -> float:
        """Take one step of Adam along the mean of the ranks' gradients; returns the mean of their losses before."""
        found = self._gradient(self.params, data, index)
        gradient, loss = (self._comm.sum(part.numpy()) / np.float32(self._comm.size) for part in found)
        self.params, self._adam = self._change(self.params, self._adam, tf.constant(gradient), self._rate)
        return float(loss)

    def minibatches(self, time: int, rows: int) -> np.ndarray:
        """Indices [epochs · T·B/m, m] of flattened steps; every step comes once in an epoch.

        All ranks draw the order of all their environments' steps, and take that of their own.
        """
        size, rank = self._comm.size, self._comm.rank
        everywhere = rows * size
        each, own = self._minibatch // everywhere, slice(rank * rows, (rank + 1) * rows)
        keys = np.random.default_rng([self.seed, self._fits]).random((self._epochs, everywhere, time), np.float32)
        order = np.argsort(keys[:, own], axis=-1).transpose(0, 2, 1)  # [epochs, T, B]
        return (order * rows + np.arange(rows)).astype(np.int32).reshape(-1, each * rows)

    def _differentiate(self, params: tf.Tensor, data: Any, index: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        observations, resets, actions, targets, state = data
        if not self._is_recurrent:
            observations, resets, actions, targets = (
                tf.gather(part, index)[None] for part in (observations, resets, actions, targets)
            )
        with tf.GradientTape() as tape:
            tape.watch(params)
            told = actions if self._critic.observe_actions else None
            values = self._critic.apply(params, observations, state, resets, told)[0].values
            loss = tf.reduce_mean(tf.square(targets - values))
        return tape.gradient(loss, params), loss

    def _descend(self, params: tf.Tensor, state: adam.AdamState, data: Any, index: tf.Tensor) -> Any:
        """Take one step of Adam for each row of `index`: parameters, Adam's state, and the mean of the losses."""
        count = index.shape[0]

        def body(i: tf.Tensor, params: tf.Tensor, state: adam.AdamState, total: tf.Tensor) -> tuple:
            gradient, loss = self._differentiate(params, data, index[i])
            params, state = adam.adam(params, state, gradient, self._rate)
            return i + 1, params, state, total + loss

        start = (tf.constant(0), params, state, tf.constant(0.0))
        _, params, state, total = tf.while_loop(lambda i, *_: i < count, body, start, maximum_iterations=count)
        return params, state, total / count

    def normalize_by(self, normalizer: ObservationNormalizer) -> None:
        """Set the statistics of observations in a normalizing critic."""
        self.params = normalizer.write_to(self._critic, self.params)

    def state(self) -> dict[str, Any]:
        """The state for a checkpoint."""
        own = {"network": self._critic.named(self.params.numpy()), "adam": self._adam, "fits": self._fits}
        return own | (self._returns.state() if self._returns else {})

    def restore(self, arrays: dict[str, np.ndarray]) -> None:
        """Go on from what `state` gave, as `rlab.state.pack` names it."""
        found = unpack(self.state(), arrays)
        self.params = tf.constant(self._critic.flatten(found["network"]))
        self._adam, self._fits = found["adam"], found["fits"]
        if self._returns:
            self._returns.restore(arrays)


def unexplained_variance(values: np.ndarray, returns: np.ndarray, comm: Communicator) -> float:
    """Var(R − V) / Var(R)."""
    both = moments_of_ranks(np.stack([(returns - values).ravel(), returns.ravel()], axis=1), comm)
    return float(both.squares[0] / max(both.squares[1], 1e-12))

"""Fitting a critic to the returns of a batch of steps, over all ranks."""

import functools
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from rlab.arrays import like
from rlab.ops import adam, moments
from rlab.ops.sharing import compiled_once, once
from rlab.parallel.comm import Communicator
from rlab.policies.baselines import LinearBaseline, ReturnMoments, steps_within_episodes
from rlab.policies.pair import LinearCritic
from rlab.policies.policy import Policy
from rlab.policies.statistics import ObservationStatistics
from rlab.seeding import derive
from rlab.types import Trajectory


class Fit(NamedTuple):
    """What came of fitting."""

    loss: float  # mean square error, of returns as the critic knows them
    unexplained: float  # share of the returns' variance that the values of the acting critic left


class LinearFitter:
    """Keeps a `LinearCritic`'s parameters: ridge regression on each batch."""

    def __init__(self, critic: LinearCritic, comm: Communicator) -> None:
        self._comm, self._linear = comm, LinearBaseline()
        self.params = tf.constant(critic.initial_parameters(0))
        self.scale = tf.constant([0.0, 1.0])

    def fit(self, trajectory: Trajectory, returns: np.ndarray) -> Fit:
        times = steps_within_episodes(trajectory.resets, np.asarray(trajectory.state[1], np.int64))
        self._linear.fit_to(trajectory.observations, times, returns, self._comm)
        self.params = tf.constant(self._linear.weights)
        error = np.square(self._linear.predict_at(trajectory.observations, times) - returns).reshape(-1, 1)
        return Fit(float(_merged(error, self._comm).mean[0]), _unexplained(trajectory.values, returns, self._comm))

    def tell(self, statistics: ObservationStatistics) -> None:
        """Its features are of the observations as they are."""

    def arrays(self) -> dict[str, np.ndarray]:
        """What a checkpoint keeps."""
        return {"weights": self.params.numpy()}

    def restore(self, arrays: dict[str, np.ndarray]) -> None:
        """Go on from what `arrays` gave."""
        self.params = tf.constant(like(arrays, "weights", self.params))


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
        self._critic, self._comm, self._seed = critic, comm, derive(seed, "critic")
        self._rate, self._epochs, self._minibatch = tf.constant(learning_rate, tf.float32), epochs, minibatch
        self._returns = ReturnMoments() if standardize else None
        self._remembers = critic.remembers
        # Inside a loop XLA's convolutions run ten times slower.
        self._fused = comm.size == 1 and (critic.light or critic.remembers)
        self.params = tf.constant(critic.initial_parameters(self._seed))
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
        unexplained = _unexplained(trajectory.values, returns, self._comm)
        if self._returns:
            self._returns.add(np.ones_like(returns), returns, self._comm)
        mean, deviation = self.scale.numpy()
        targets = (returns - mean) / deviation
        flat = [trajectory.observations, trajectory.resets, trajectory.actions, targets]
        if self._remembers:
            index, data = np.zeros((self._epochs, 0), np.int32), (*flat, trajectory.state[1])
        else:
            index = self._minibatches(*flat[-1].shape)
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
        """One step of Adam along the mean of the ranks' gradients; the mean of their losses before it."""
        found = self._gradient(self.params, data, index)
        gradient, loss = (self._comm.sum(part.numpy()) / np.float32(self._comm.size) for part in found)
        self.params, self._adam = self._change(self.params, self._adam, tf.constant(gradient), self._rate)
        return float(loss)

    def _minibatches(self, time: int, rows: int) -> np.ndarray:
        """Indices [epochs · T·B/m, m] of flattened steps; every step comes once in an epoch.

        All ranks draw the order of all their environments' steps, and take that of their own.
        """
        size, rank = self._comm.size, self._comm.rank
        everywhere = rows * size
        each, own = self._minibatch // everywhere, slice(rank * rows, (rank + 1) * rows)
        keys = np.random.default_rng([self._seed, self._fits]).random((self._epochs, everywhere, time), np.float32)
        order = np.argsort(keys[:, own], axis=-1).transpose(0, 2, 1)  # [epochs, T, B]
        return (order * rows + np.arange(rows)).astype(np.int32).reshape(-1, each * rows)

    def _differentiate(self, params: tf.Tensor, data: Any, index: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        observations, resets, actions, targets, state = data
        if not self._remembers:
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
        """One step of Adam for each row of `index`; the mean of the losses before them."""
        count = index.shape[0]

        def body(i: tf.Tensor, params: tf.Tensor, state: adam.AdamState, total: tf.Tensor) -> tuple:
            gradient, loss = self._differentiate(params, data, index[i])
            params, state = adam.adam(params, state, gradient, self._rate)
            return i + 1, params, state, total + loss

        start = (tf.constant(0), params, state, tf.constant(0.0))
        _, params, state, total = tf.while_loop(lambda i, *_: i < count, body, start, maximum_iterations=count)
        return params, state, total / count

    def tell(self, statistics: ObservationStatistics) -> None:
        """Let a normalizing critic know what was observed."""
        self.params = statistics.tell(self._critic, self.params)

    def arrays(self) -> dict[str, np.ndarray]:
        """What a checkpoint keeps."""
        found = {f"network/{name}": part for name, part in self._critic.named(self.params.numpy()).items()}
        found |= {f"adam/{name}": part.numpy() for name, part in self._adam._asdict().items()}
        return found | {"fits": np.array(self._fits)} | (self._returns.arrays() if self._returns else {})

    def restore(self, arrays: dict[str, np.ndarray]) -> None:
        """Go on from what `arrays` gave."""
        self.params = tf.constant(
            self._critic.flatten({name: arrays[f"network/{name}"] for name in self._critic.layout.names})
        )
        self._adam = adam.restored(self._adam, arrays)
        self._fits = int(like(arrays, "fits", np.array(self._fits)))
        if self._returns:
            self._returns.restore(arrays)


def _merged(rows: np.ndarray, comm: Communicator) -> moments.Moments:
    return functools.reduce(moments.merge, comm.gather(moments.of_rows(rows)))


def _unexplained(values: np.ndarray, returns: np.ndarray, comm: Communicator) -> float:
    """Var(R − V) / Var(R)."""
    both = _merged(np.stack([(returns - values).ravel(), returns.ravel()], axis=1), comm)
    return float(both.squares[0] / max(both.squares[1], 1e-12))

"""The history-dependent baseline: a network of its own that has seen all the policy has (Wierstra et al. 2009)."""

import functools
import math
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
import tensorflow as tf

from rlab.ops import adam, bptt
from rlab.ops.sharing import compiled_once, once
from rlab.parallel.comm import Communicator
from rlab.policies.actions import shape_of
from rlab.policies.baselines import ReturnMoments
from rlab.policies.policy import Policy
from rlab.policies.statistics import ObservationStatistics
from rlab.types import EpisodeBatch

_BOUND = 1.0  # on the gradient's Euclidean norm


class _Chunk(NamedTuple):
    """C steps of a batch."""

    observations: Any  # [C, B, ...]
    resets: Any  # [C, B]
    actions: Any  # [C, B, ...]
    weights: Any  # [C, B] of each step in the loss, 0 in padding
    targets: Any  # [C, B] standardized returns


class RecurrentBaseline:
    """V(x_1, a_1, …, x_t), by a network like the policy's whose parameters are its own.

    It learns standardized returns, so that its step size need not fit their scale, one step of Adam to each batch.

    Args:
        network: of the policy's architecture; only its values are used.
        seed: of its first parameters.
        learning_rate: of Adam.
        truncation: steps beyond which no gradient flows back, as the policy's; 0 for none.
        chunk: C, steps that are differentiated at once.
        clock: steps to an hour of the clock that the network sees beside each observation; 0 for no clock. Where a time
            limit ends episodes, what is still to come depends on the time (Pardo et al. 2018).
    """

    def __init__(
        self, network: Policy, seed: int, learning_rate: float, truncation: int, chunk: int, clock: int = 0
    ) -> None:
        self._network, self._rate, self._chunk, self._clock = network, learning_rate, chunk, clock
        self._truncation = truncation // chunk
        self._params = tf.constant(network.initial_parameters(seed))
        self._adam = adam.initial_state(network.size)
        self._moments, self._statistics = ReturnMoments(), ObservationStatistics(network)
        self._states: list[Any] = []
        self._gradient = once(lambda: bptt.compile_gradient(functools.partial(_loss, network), 1), "loss", network)

        def values(params: tf.Tensor, state: Any, chunk: _Chunk) -> tuple[tf.Tensor, Any]:
            output, state = network.apply(params, chunk.observations, state, chunk.resets, chunk.actions)
            return output.values, state

        make = functools.partial(tf.function, values, jit_compile=True, autograph=False)
        self._values = once(make, "values", network)
        self._step = compiled_once(adam.adam)

    def predict(self, batch: EpisodeBatch) -> np.ndarray:
        state, found = self._network.initial_state(batch.rewards.shape[1]), []
        self._states = []
        for chunk in self._chunks(batch, np.zeros_like(batch.rewards), np.zeros_like(batch.rewards)):
            self._states.append(state)
            values, state = self._values(self._params, state, chunk)
            found.append(values.numpy())
        return self._moments.mean + self._moments.deviation * np.concatenate(found)

    def fit(self, batch: EpisodeBatch, returns: np.ndarray, comm: Communicator) -> None:
        self._moments.add(batch.valid, returns, comm)
        total = float(comm.sum(np.array(batch.valid.sum(), np.float64)))
        targets = ((returns - self._moments.mean) / self._moments.deviation).astype(np.float32)
        chunks = self._chunks(batch, batch.valid / np.float32(total), targets)
        gradient, _ = self._gradient(self._params, self._states, chunks, self._truncation)
        gradient = tf.clip_by_norm(tf.constant(comm.sum(gradient.numpy())), _BOUND)
        params, self._adam = self._step(self._params, self._adam, gradient, tf.constant(self._rate))
        self._statistics.add(self._with_clock(batch.observations)[batch.valid != 0.0], comm)
        self._params = self._statistics.tell(self._network, params)

    def arrays(self) -> dict[str, np.ndarray]:
        found = {f"network/{name}": array for name, array in self._network.named(self._params.numpy()).items()}
        found |= {f"adam/{name}": part.numpy() for name, part in self._adam._asdict().items()}
        return found | self._statistics.arrays() | self._moments.arrays()

    def restore(self, arrays: dict[str, np.ndarray]) -> None:
        parts = {name: arrays[f"network/{name}"] for name in self._network.layout.names}
        self._params = tf.constant(self._network.flatten(parts))
        self._statistics.restore(arrays)
        self._adam = adam.restored(self._adam, arrays)
        self._moments.restore(arrays)

    def _chunks(self, batch: EpisodeBatch, weights: np.ndarray, targets: np.ndarray) -> list[_Chunk]:
        whole = _Chunk(self._with_clock(batch.observations), batch.resets, batch.actions, weights, targets)
        return bptt.split(whole, self._chunk)

    def _with_clock(self, observations: np.ndarray) -> np.ndarray:
        if not self._clock:
            return observations
        time = np.arange(len(observations), dtype=np.float32)[:, None, None] / self._clock
        vectors = observations.reshape(*observations.shape[:2], -1)
        return np.concatenate([vectors, np.broadcast_to(time, (*vectors.shape[:2], 1))], -1, dtype=np.float32)


def _loss(network: Policy, params: tf.Tensor, state: Any, chunk: _Chunk) -> tuple[tf.Tensor, tf.Tensor, Any]:
    output, state = network.apply(params, chunk.observations, state, chunk.resets, chunk.actions)
    loss = tf.reduce_sum(chunk.weights * tf.square(chunk.targets - output.values))
    return loss, loss[None], state


def with_clock(space: gym.Space) -> gym.spaces.Box:
    """The vectors of a space with one more number."""
    return gym.spaces.Box(-np.inf, np.inf, (math.prod(shape_of(space)) + 1,), np.float32)

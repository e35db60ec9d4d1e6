"""RPG: recurrent policy gradients.

Wierstra, Förster, Peters, Schmidhuber: "Recurrent policy gradients", Logic Journal of the IGPL 18 (2010), first
published 2009. A policy that remembers is a distribution over actions given the whole history, so REINFORCE (Williams
1992) and backpropagation through time together give the gradient of J(θ) = E[Σ_t R_t] without bias:

    play N whole episodes under θ
    R_t ← Σ_{t'≥t} γ^{t'−t} r_{t'}                           (γ = 1: the paper's)
    Δ ← 1/N Σ_episodes Σ_t ∇ ln π(a_t | x_1, a_1, …, x_t; θ) (R_t − b_t)  +  β ∇ H
    θ ← optimizer(θ, Δ)

The memory is backpropagated through from the last step of each episode to its first, whatever the memory is. b_t is a
baseline, fitted after it was used. Processes, or the ranks of `mpirun`, play shares of the N episodes; gradients
are summed.

Departures: advantages may be scaled by their own spread, the gradient's norm is bounded, and the optimizer is any of
Keras. What each setting did is in docs/algorithms/rpg.md.
"""

import dataclasses
import functools
from collections.abc import Callable, Generator
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from agents.agent import Agent, Made, Setup, in_step
from agents.configs import RPGConfig, falling
from rlab import ops, policies, runs
from rlab.environments import EnvironmentFactory
from rlab.errors import BadInputError, fault_at
from rlab.parallel import calls
from rlab.policies import Policy, baselines
from rlab.sampling import rollout
from rlab.seeding import derive
from rlab.state import subset
from rlab.types import Episode, EpisodeBatch

_CHUNK = 16  # steps that are differentiated at once
METRICS = ("policy_loss", "entropy")


class Chunk(NamedTuple):
    """C steps of N episodes."""

    observations: Any  # [C, N, ...]
    resets: Any  # [C, N]
    actions: Any  # [C, N, ...]
    valid: Any  # [C, N], 0 in padding
    advantages: Any  # [C, N], R_t − b_t


def chunk_loss(
    policy: Policy, params: tf.Tensor, state: Any, given: tuple[Chunk, tf.Tensor]
) -> tuple[tf.Tensor, tf.Tensor, Any]:
    """−1/N Σ [ln π(a_t | history) A_t + β H] over one chunk, the METRICS' sums, and the memory after it.

    `given` is the chunk, and (1/N, β).
    """
    chunk, weight = given
    output, state = policy.apply(params, chunk.observations, state, chunk.resets, chunk.actions)
    entropy = tf.reduce_sum(chunk.valid * output.distribution.entropy())
    # Padding has no advantage; where its log-probability is not finite, 0 times it would be NaN.
    log_prob = tf.where(chunk.valid != 0.0, output.distribution.log_prob(chunk.actions), 0.0)
    loss = -tf.reduce_sum(chunk.advantages * log_prob) * weight[0]
    return loss - weight[0] * weight[1] * entropy, tf.stack([loss, entropy]), state


class Learner:
    """One training run of RPG: parameters, optimizer and baseline, and the updates that change them."""

    def __init__(self, setup: Setup[RPGConfig]) -> None:
        self.setup, self.config, self.policy, self._comm = setup, setup.config, setup.policy, setup.comm
        self._rows = self.config.episodes_per_batch // self._comm.size
        self._first = self._rows * self._comm.rank
        self._env = setup.make_env(self._rows, seed=0, first_episodes=True)
        share = policies.Share(self._first, self.config.episodes_per_batch)
        self._act = policies.compile_acting(self.policy, share=share if self._comm.size > 1 else None)
        loss = functools.partial(chunk_loss, self.policy)
        self._gradient = ops.sharing.once(lambda: ops.bptt.compile_gradient(loss, len(METRICS)), "rpg", self.policy)
        self.baseline = make_baseline(self.config, self.policy, self.setup.seed, setup.env.episode_limit)
        parts = self.policy.unflatten(self.policy.initial_parameters(derive(self.setup.seed, "parameters")))
        self._variables = [keras.Variable(part) for part in parts]
        self._optimizer = ops.optimizers.keras_optimizer(self.config.optimizer)
        self._optimizer.build(self._variables)
        self._change = self._compile_change()
        self._params = self.parameters()
        self._normalizer = policies.ObservationNormalizer(self.policy)
        self.steps = self.batches = 0

    def updates(self) -> Generator[runs.Update | None, None, None]:
        """Play, differentiate and change the parameters until the schedule is done."""
        return in_step(self)

    def update(self) -> Made:
        """Play a batch of whole episodes, differentiate through each, step, and fit the baseline."""
        config, comm, params = self.config, self._comm, self._params
        batch, episodes = self.play(params)
        returns = ops.returns.discounted_returns(batch.rewards, config.discount)
        expected = self.baseline.predict(batch)
        advantages = (returns - expected) * batch.valid
        steps, squares, spread = self._moments(batch.valid, returns, advantages)
        if config.normalize_advantages:
            advantages = scaled(advantages, squares / steps)
        whole = Chunk(batch.observations, batch.resets, batch.actions, batch.valid, advantages)
        length = chunk_length(config)
        rate, entropy_weight = falling(config, self.setup.schedule.left(self.steps))
        weight = tf.constant([1.0 / config.episodes_per_batch, entropy_weight], tf.float32)
        chunks = [(chunk, weight) for chunk in ops.bptt.split(whole, length)]
        gradient, sums = self._gradient(params, batch.states, chunks, config.truncation // length)
        gradient, sums = comm.sum(gradient.numpy()), comm.sum(sums.numpy())
        norm = self._apply(gradient, rate)
        self.baseline.fit(batch, returns, comm)
        if self.policy.normalized_features:
            self._normalizer.add(batch.observations[batch.valid != 0.0], comm)
            self._set(self._normalizer.write_to(self.policy, self._params))
        self.steps, self.batches = self.steps + int(steps), self.batches + 1
        episodes = [episode for part in comm.gather(episodes) for episode in part]
        metrics = dict(zip(METRICS, (sums / [1.0, steps]).tolist(), strict=True))
        metrics |= {"gradient_norm": norm, "explained_variance": 1.0 - squares / max(spread, 1e-12)}
        if reported := [episode.success for episode in episodes if episode.success is not None]:
            metrics["success"] = float(np.mean(reported))
        metrics["learning_rate"] = float(self._optimizer.learning_rate.numpy())
        return Made(metrics, episodes, self._params)

    def play(self, params: tf.Tensor) -> tuple[EpisodeBatch, list[Episode]]:
        stream = (self.setup.seed, "batch", self.batches)
        with fault_at(self.place):
            return rollout.play_batch(
                self._env,
                self._act,
                self.policy.initial_state(self._rows),
                params,
                # A vector environment seeds its copies with successive numbers, so shares continue one another.
                derive(*stream, "environments") + self._first,
                derive(*stream, "actions"),
                chunk_length(self.config),
                self.policy.to_environment,
            )

    def _moments(self, valid: np.ndarray, returns: np.ndarray, advantages: np.ndarray) -> tuple[float, float, float]:
        """Steps, Σ A² and Σ (R − mean R)², over all ranks."""
        counted = returns[valid != 0.0].astype(np.float64)
        squares = np.square(advantages, dtype=np.float64).sum()
        sums = self._comm.sum(np.array([counted.size, squares, counted.sum(), np.square(counted).sum()]))
        return float(sums[0]), float(sums[1]), float(sums[3] - sums[2] ** 2 / sums[0])

    @property
    def place(self) -> str:
        return f"batch {self.batches}, step {self.steps}"

    def _apply(self, gradient: np.ndarray, rate: float) -> float:
        """Give the bounded gradient to the optimizer; returns its norm before."""
        gradient, norm = bounded(gradient, self.config.max_gradient_norm)
        self._optimizer.learning_rate = rate
        self._params = self._change(gradient)
        return norm

    def _compile_change(self) -> Callable[[np.ndarray], tf.Tensor]:
        """Compile a step of the optimizer along a gradient [D] to the parameters [D] after it; ten times as fast so."""

        @tf.function(input_signature=[tf.TensorSpec((self.policy.size,))], autograph=False)
        def change(gradient: tf.Tensor) -> tf.Tensor:
            self._optimizer.apply(self.policy.unflatten(gradient), self._variables)
            return self.parameters()

        return change

    def parameters(self) -> tf.Tensor:
        """The policy's parameters, float32 [D]."""
        return tf.concat([tf.reshape(variable.value, (-1,)) for variable in self._variables], 0)

    def _set(self, params: np.ndarray | tf.Tensor) -> None:
        """Make these the policy's parameters, float32 [D]."""
        for variable, part in zip(self._variables, self.policy.unflatten(params), strict=True):
            variable.assign(part)
        self._params = self.parameters()

    def state(self) -> dict[str, Any]:
        return {
            "policy": self.policy.named(self._params.numpy()),
            "optimizer": {f"{i:03}": part.numpy() for i, part in enumerate(self._optimizer.variables)},
            "observations": self._normalizer.state(),
            "baseline": self.baseline.state(),
            "batches": self.batches,
        }

    def restore(self, checkpoint: runs.Checkpoint) -> None:
        self._set(self.policy.flatten(subset(checkpoint.arrays, "policy")))
        kept = subset(checkpoint.arrays, "optimizer")
        for variable, name in zip(self._optimizer.variables, sorted(kept), strict=True):
            variable.assign(kept[name])
        self._normalizer.restore(subset(checkpoint.arrays, "observations"))
        self.baseline.restore(subset(checkpoint.arrays, "baseline"))
        self.steps, self.batches = checkpoint.steps, checkpoint.counters["batches"]

    def close(self) -> None:
        calls.close_all([self._env])


def scaled(advantages: np.ndarray, square: float) -> np.ndarray:
    """Advantages, whose mean square over all ranks is `square`, at a root mean square of 1."""
    return advantages / np.float32(np.sqrt(square) + 1e-8)


def bounded(gradient: np.ndarray, bound: float) -> tuple[np.ndarray, float]:
    """A gradient [D] whose Euclidean norm is at most `bound`, and its norm before."""
    norm = float(np.linalg.norm(gradient))
    return gradient * min(1.0, bound / (norm + 1e-8)), norm


def chunk_length(config: RPGConfig) -> int:
    """C, steps of a chunk: those of the truncation, if there is one, so that it falls on a border between chunks."""
    return config.truncation or _CHUNK


def make_baseline(config: RPGConfig, policy: Policy, seed: int, limit: int | None) -> baselines.Baseline:
    """The baseline that the settings name; `limit` are the steps of an episode at most, where that is known."""
    if config.baseline == "recurrent":
        network, rate, clock = policy, config.baseline_learning_rate, 0
        if config.baseline_clock and limit and network.reading.kind == "vector":
            network, clock = network.of_observations(baselines.with_clock(network.observation_space)), limit
        seed = derive(seed, "baseline")
        return baselines.RecurrentBaseline(network, seed, rate, config.truncation, chunk_length(config), clock)
    kinds: dict[str, Callable[[], baselines.Baseline]] = {
        "none": baselines.NoBaseline,
        "constant": baselines.ConstantBaseline,
        "linear": baselines.LinearBaseline,
    }
    return kinds[config.baseline]()


class RPG(Agent[RPGConfig]):
    """Learns from batches of whole episodes, with backpropagation through all of each."""

    Config, learner_class = RPGConfig, Learner
    shown = ("score", "success", "entropy")

    def settled(self, config: RPGConfig, policy: Policy, env: EnvironmentFactory) -> RPGConfig:
        ops.optimizers.keras_optimizer(config.optimizer)
        limit = env.episode_limit
        if limit and config.truncation > limit:
            raise BadInputError(f"--truncation is {config.truncation}, and an episode has no more than {limit} steps")
        if config.baseline == "linear" and policy.reading.kind != "vector":
            raise BadInputError(f"--baseline linear takes vectors, and not {policy.reading}")
        if config.learning_rate:
            return config
        # The larger one drives convolutions into one action for ever.
        return dataclasses.replace(config, learning_rate=5e-4 if policy.reading.image else 5e-3)

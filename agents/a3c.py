"""A3C: asynchronous advantage actor-critic.

Mnih, Badia, Mirza, Graves, Lillicrap, Harley, Silver, Kavukcuoglu: "Asynchronous Methods for Deep Reinforcement
Learning", ICML 2016; algorithm S3.

Several worker threads each repeat, with no lock on θ and g and no waiting for another's update:

    θ' ← θ                                                (pull a snapshot of the shared parameters)
    act T steps in K environments under θ'                (K = 1 is the paper)
    R_t ← r_t + γ ((1 − λ) V(x_{t+1}; θ') + λ R_{t+1}), bootstrapped with V(x_T; θ'); λ = 1 is the paper
    A_t ← R_t − V(x_t; θ')
    Δ ← ∇_θ' mean[ −ln π(a_t|x_t; θ') A_t + c (R_t − V(x_t; θ'))² − β H(π(·|x_t; θ')) ]
    g ← αg + (1 − α)Δ²,  θ ← θ − η Δ / √(g + ε)           (push: shared RMSProp, in place)

The threads may live in several processes of one machine, which have θ and g in memory in common. Under `mpirun` each
rank has such workers of its own; from other machines pull and push are messages to rank 0 (`rlab/parallel/remote.py`),
still with no waiting for one another.

Departures: the loss is a mean over T·K, where the paper sums over T; the gradient's norm is bounded; g begins as the
plain mean of the first Δ²; images are shown about the brightness that most of their pixels have; advantages may be
generalized (λ < 1) and normalized. What each setting did is in docs/algorithms/a3c.md.
"""

import dataclasses
import functools
import threading
from collections.abc import Callable, Generator, Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from agents.agent import Agent, Setup
from agents.configs import A3CConfig, falling
from rlab import ops, policies, runs
from rlab.environments import EnvironmentFactory
from rlab.errors import BadInputError, TrainingError, located
from rlab.ops.compiling import Formulation
from rlab.parallel import calls, heartbeat, remote, shared
from rlab.parallel import comm as ranks
from rlab.policies import Policy
from rlab.sampling import compilers, rollout
from rlab.seeding import derive, playing
from rlab.state import subset
from rlab.types import Trajectory

METRICS = ("loss", "policy_loss", "value_loss", "entropy", "gradient_norm", "mean_value")  # ActorCriticLoss first


def work(
    config: A3CConfig,
    number: int,
    parameters: shared.WorkerParameters,
    collector: rollout.Collector,
    gradient: Callable[..., tuple[tf.Tensor, tf.Tensor]],
) -> Iterator[int]:
    """Repeat algorithm S3 as worker `number` until the schedule is done; gives all workers' steps at each pull."""
    while not (snapshot := parameters.pull()).done:
        yield snapshot.steps
        params = tf.convert_to_tensor(snapshot.vector)
        trajectory, episodes = collector.collect(params)
        rate, entropy_weight = falling(config, snapshot.left)
        change, numbers = gradient(params, trajectory, tf.constant(entropy_weight, tf.float32))
        metrics = dict(zip(METRICS, numbers.numpy().tolist(), strict=True))
        if not np.isfinite(list(metrics.values())).all():
            raise TrainingError("the loss or its gradient is not finite (NaN or infinity)")
        metrics["learning_rate"] = rate
        steps = trajectory.rewards.size
        done = shared.Work(rate, snapshot.updates, steps, metrics, episodes, worker=number)
        parameters.push(change.numpy(), done)


def loss(
    policy: Policy,
    config: A3CConfig,
    params: tf.Tensor,
    trajectory: Trajectory,
    entropy_weight: tf.Tensor | float,
) -> tuple[ops.losses.ActorCriticLoss, tf.Tensor]:
    """The loss of algorithm S3 on one trajectory, and the values [T, B] that it saw; β is `entropy_weight`."""
    given = trajectory.observations, trajectory.state, trajectory.resets, trajectory.actions
    output, _ = policy.apply(params, *given)
    advantages = ops.returns.generalized_advantage(
        trajectory.rewards,
        trajectory.discounts,
        trajectory.boundaries,
        trajectory.values,
        trajectory.next_values,
        config.gae_lambda,
    )
    returns = advantages + trajectory.values
    if config.normalize_advantages:
        deviation = tf.math.reduce_std(advantages)
        advantages = (advantages - tf.reduce_mean(advantages)) / (deviation + 1e-6)
    losses = ops.losses.actor_critic(
        output.distribution,
        output.values,
        trajectory.actions,
        advantages,
        returns,
        config.value_weight,
        entropy_weight,
    )
    return losses, output.values


def compile_gradient(policy: Policy, config: A3CConfig) -> Callable[..., tuple[tf.Tensor, tf.Tensor]]:
    """The compiled gradient: (parameters [D], Trajectory, β) to the bounded gradient [D] and the METRICS [6]."""
    return ops.sharing.once(functools.partial(_compile_gradient, policy, config), "a3c", policy, config)


def _compile_gradient(policy: Policy, config: A3CConfig) -> Callable[..., tuple[tf.Tensor, tf.Tensor]]:
    def gradient(params: tf.Tensor, trajectory: Trajectory, entropy_weight: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        with tf.GradientTape() as tape:
            tape.watch(params)
            losses, values = loss(policy, config, params, trajectory, entropy_weight)
        derivative = tape.gradient(losses.total, params)
        norm = tf.norm(derivative)
        derivative *= tf.minimum(1.0, config.max_gradient_norm / (norm + 1e-8))
        return derivative, tf.stack([*losses, norm, tf.reduce_mean(values)])

    return ops.compiling.compiled(gradient, formulation_of(config))


class Learner:
    """One training run of A3C: the shared parameters, and the workers that change them."""

    def __init__(self, setup: Setup[A3CConfig]) -> None:
        self.config, self.policy, self.setup, self._comm = setup.config, setup.policy, setup, setup.comm
        self._new = not setup.policy_is_final  # whether the policy is still to be made for what the environment shows
        self._parameters = self._shared(self.policy.initial_parameters(derive(setup.seed, "parameters")))
        self._environments: list[Any] = []  # that the workers of this process play
        self._side: remote.ParameterServer | remote.RankClient | None = None

    @property
    def steps(self) -> int:
        """Agent steps made so far, by all workers."""
        return self._parameters.steps

    def updates(self) -> Generator[runs.Update | None, None, None]:
        """Start the workers, and yield their updates until all are done; stops them when closed or on a fault."""
        first_step = self.steps
        kind = remote.RankClient if self._comm.rank else remote.ParameterServer
        exchange = shared.LocalParameters(self._parameters, self.setup.schedule)
        self._side = side = kind(exchange, self._comm, self._workers())
        self._adapt()
        # Policies of images act with the compiler that their gradient was timed with.
        formulation = formulation_of(self.config) if self.policy.reading.image else None
        act = policies.compile_acting(self.policy, formulation=formulation)
        gradient = compile_gradient(self.policy, self.config)
        workers = self._workers()
        first = sum(workers[: self._comm.rank])
        threads = [
            threading.Thread(
                target=self._run,
                args=(first + i, side.connect(i), act, gradient, first_step),
                name=f"worker-{first + i}",
                daemon=True,
            )
            for i in range(workers[self._comm.rank])
        ]
        with side.running(threads):
            while not side.over():
                report = side.hear(0.1)
                yield runs.Update(*report) if report else None

    def _run(
        self,
        number: int,
        parameters: shared.WorkerParameters,
        act: policies.ActingStep,
        gradient: Callable[..., tuple[tf.Tensor, tf.Tensor]],
        first_step: int,
    ) -> None:
        """A worker's thread, from its environments to its end; a fault is reported, and ends this thread alone."""
        config, step, fault = self.config, first_step, None
        try:
            # A resumed run must not replay the same episodes: the seeds depend on where it starts.
            seeds = playing(self.setup.seed, "worker", number, first_step)
            with heartbeat.stepping(heartbeat.START):
                env = self.setup.make_env(config.envs_per_worker, seeds.environments)
            # Not closed here: others still play, and a library may have one window or context for all of them.
            self._environments.append(env)
            collector = rollout.Collector(
                env,
                act,
                self.policy.initial_state(config.envs_per_worker),
                config.rollout_length,
                config.discount,
                seeds.actions,
                to_environment=self.policy.to_environment,
            )
            for step in work(config, number, parameters, collector, gradient):  # noqa: B007
                pass
        except BaseException as error:  # an environment may raise SystemExit too; nothing may vanish with a thread
            fault = located(error, f"worker {number}, step {step}")
        finally:
            parameters.leave(fault)

    def _adapt(self) -> None:
        """Choose the compiler, and measure the background of images, before a worker acts; all ranks alike."""
        self.config = with_compiler(self.config, self.policy, self._comm)  # runs of version 0.1 recorded none
        if self._new and self.policy.reading.image and not self.policy.encoder:
            seed = derive(self.setup.seed, "background")
            found = ranks.on_first(self._comm, lambda: rollout.background(self.setup.env, seed))
            self.policy = self.policy.about(found)

    def _workers(self) -> list[int]:
        """The number of workers on each rank: as set, or, of the processes of one command, a share of that number."""
        number, size = self.config.workers, self._comm.size
        if not self._comm.of_one_command:
            return [number] * size
        return [number * (rank + 1) // size - number * rank // size for rank in range(size)]

    def _shared(
        self, vector: np.ndarray, square: np.ndarray | None = None, steps: int = 0, updates: int = 0
    ) -> shared.SharedParameters:
        decay, epsilon, workers = self.config.rmsprop_decay, self.config.rmsprop_epsilon, sum(self._workers())
        return shared.SharedParameters(
            vector, square, decay=decay, epsilon=epsilon, steps=steps, updates=updates, workers=workers
        )

    def agree(self, signal: int | None) -> int | None:
        """Tell this rank's signal, if it has had one; returns the number of the one that stops the run, if one does."""
        assert self._side is not None
        return self._side.agree(signal)

    def state(self) -> dict[str, Any]:
        named, parameters = self.policy.named, self._parameters
        vectors = {"policy": named(parameters.vector.copy()), "mean_square": named(parameters.mean_square.copy())}
        return vectors | {"updates": parameters.updates}

    def restore(self, checkpoint: runs.Checkpoint) -> None:
        """Go on from a checkpoint, with new episodes."""
        self._new = False
        vector, square = (self.policy.flatten(subset(checkpoint.arrays, part)) for part in ("policy", "mean_square"))
        self._parameters = self._shared(vector, square, checkpoint.steps, checkpoint.counters["updates"])

    def close(self) -> None:
        calls.close_all(self._environments)


def with_compiler(config: A3CConfig, policy: Policy, comm: ranks.Communicator) -> A3CConfig:
    """The settings with the faster compiler for this policy on this machine in the place of `auto`; all ranks alike.

    For vectors it is XLA, which differentiates MLPs in half the time of a plain graph, and scans over time in a third.
    """
    if config.compiler != "auto":
        return config
    if not policy.reading.image:
        return dataclasses.replace(config, compiler=ops.compiling.XLA)
    shape = policy, config.rollout_length, config.envs_per_worker
    timed = lambda: compilers.fastest_gradient(  # noqa: E731
        lambda compiler: compile_gradient(policy, dataclasses.replace(config, compiler=compiler)),
        *shape,
        config.precision,
    )
    return dataclasses.replace(config, compiler=ranks.on_first(comm, timed))


def formulation_of(config: A3CConfig) -> Formulation:
    """The compiler and the precision that the networks run with."""
    return Formulation(config.compiler, config.precision)


class A3C(Agent[A3CConfig]):
    """Learns with workers that share parameters asynchronously, as threads, processes, or on several ranks."""

    Config, learner_class = A3CConfig, Learner
    shown = ("score", "entropy", "staleness")

    def settled(self, config: A3CConfig, policy: Policy, env: EnvironmentFactory) -> A3CConfig:
        if config.precision != "float32" and not policy.reading.image:
            raise BadInputError("--precision bfloat16 is for images, whose convolutions multiply in it")
        return config

    def with_measurements(self) -> A3CConfig:
        return with_compiler(self.config, self.policy, self.comm)

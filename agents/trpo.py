"""TRPO: trust region policy optimization.

Schulman, Levine, Moritz, Jordan, Abbeel: "Trust region policy optimization", ICML 2015; advantages as in Schulman et
al. 2016 ("High-dimensional continuous control using generalized advantage estimation", GAE). For each batch of steps:

    L(θ) = E[ π(a|x; θ) / π(a|x; θ_old) A ],   D(θ) = E[ KL(π(·|x; θ_old) ‖ π(·|x; θ)) ]
    s ≈ (F + damping)⁻¹ ∇L                     conjugate gradient, F the Fisher information: the Hessian of D at θ_old
    θ ← θ_old + αᵏ √(2δ / sᵀ(F + damping)s) s   the smallest k with L above L(θ_old) and D ≤ δ; without one θ stays

A critic of its own, apart from the policy, is fitted to the λ-returns A + V beside each step. The steps of a batch are
played by environments side by side, a share of them by each rank: a process, or one of `mpirun`. Of images, and where
there is a memory, ranks share the work of learning too: gradients, Fisher products, divergences and moments are means
over all of them. Of plain vectors that work is less than its messages: the ranks gather the steps, one takes the step
and another fits the critic. Observations and returns may be standardized by what was seen of them. With a vine (section
5.2) the gradient comes from several actions tried in the same states.

Departures: the critic learns by Adam on minibatches, not by a trust region; advantages are standardized in each batch;
the policy's entropy may be given a weight in L.
Conjugate gradient and line search are in `rlab/ops/trust_region.py`; what each setting did is in
docs/algorithms/trpo.md.
"""

import functools
import operator
from collections.abc import Callable, Generator
from concurrent import futures
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from agents.agent import Agent, Made, Setup, in_step
from agents.configs import TRPOConfig
from rlab import ops, policies, runs
from rlab.environments import EnvironmentFactory, VectorEnvironment
from rlab.errors import fault_at
from rlab.notify import notify
from rlab.ops import trust_region
from rlab.ops.distributions import Distribution
from rlab.ops.sharing import once
from rlab.parallel import calls
from rlab.parallel import comm as ranks
from rlab.policies import Batch, Policy, Share, batches, distribution_of, log_probabilities
from rlab.sampling import rollout, vine
from rlab.seeding import derive, playing
from rlab.state import pack, subset
from rlab.types import Branches, Episode, Trajectory


class TrustRegion(NamedTuple):
    """The bound on a step, and the search for one; the settings of `agents.TRPO` by their names."""

    max_kl: float
    entropy_weight: float
    damping: float
    cg_iterations: int
    backtrack: float
    line_search_steps: int


def surrogate(log_prob: tf.Tensor, old: tf.Tensor, batch: Batch) -> tf.Tensor:
    """The surrogate objective L, from `log_probabilities` now and as they were when the batch was played.

    Of a single path E[π/π_old A]; of a vine the mean over its states of Σ_k w_k Q_k / Σ_k w_k, with w_k = π/π_old of
    actions that were drawn, and w_k = π where each action was tried (TRPO, section 5.2).
    """
    if batch.branches is None:
        return tf.reduce_mean(tf.exp(log_prob - old) * batch.advantages)
    weights = tf.exp(log_prob - batch.branches.sampled * old)
    valued = tf.reduce_sum(weights * batch.branches.values, 0)
    return tf.reduce_mean(valued / tf.reduce_sum(weights, 0))


def gradient(
    policy: Policy, region: TrustRegion, params: tf.Tensor, batch: Batch
) -> tuple[tf.Tensor, tf.Tensor, Distribution]:
    """∇L at the parameters [D] that played the batch, the mean entropy there, and π at each step."""
    with tf.GradientTape() as tape:
        tape.watch(params)
        now = distribution_of(policy, params, batch)
        log_prob = log_probabilities(now, batch)
        entropy = tf.reduce_mean(now.entropy())
        value = surrogate(log_prob, tf.stop_gradient(log_prob), batch) + region.entropy_weight * entropy
    return tape.gradient(value, params), entropy, now


def fisher_product(policy: Policy, params: tf.Tensor, batch: Batch, vector: tf.Tensor) -> tf.Tensor:
    """The Fisher-vector product F v, float [D], with F the mean Fisher information of π over the states of a batch."""
    return trust_region.fisher_vector_product(lambda at: distribution_of(policy, at, batch), params, vector)


def evaluate(policy: Policy, region: TrustRegion, params: tf.Tensor, batch: Batch, old: Distribution) -> tf.Tensor:
    """L and D of parameters [D], float [2]; `old` is π as it played the batch."""
    new = distribution_of(policy, params, batch)
    value = surrogate(log_probabilities(new, batch), log_probabilities(old, batch), batch)
    value += region.entropy_weight * tf.reduce_mean(new.entropy())
    return tf.stack([value, tf.reduce_mean(old.kl(new))])


class StepParts(NamedTuple):
    """The functions that make up a step, as compiled by `compile_step`; means are over the states of all ranks."""

    gradient: Callable[..., Any]  # (θ, Batch) to ∇L, the entropy and π there, of this rank's states
    direction: Callable[..., Any]  # (θ, Batch, ∇L) to s ≈ (F + damping)⁻¹ ∇L
    product: Callable[..., Any]  # (θ, Batch, v) to (F + damping) v
    evaluate: Callable[..., Any]  # (θ, Batch, π_old) to L and D, of this rank's states
    mean: Callable[[tf.Tensor], tf.Tensor]  # over the ranks


def take_step(
    parts: StepParts, region: TrustRegion, params: tf.Tensor, batch: Batch, max_kl: tf.Tensor
) -> tuple[trust_region.Step, tf.Tensor]:
    """One step from the parameters [D] within a region of `max_kl` nats, and the mean entropy before it."""
    # Once, and not for every product; None where there are no branches.
    batch = tf.nest.map_structure(lambda part: part if part is None else tf.convert_to_tensor(part), batch)
    slope, entropy, old = parts.gradient(params, batch)
    slope, fewer = parts.mean(slope), policies.subsampled(batch)
    direction = parts.direction(params, fewer, slope)
    found = trust_region.trust_region_step(
        lambda at: tuple(tf.unstack(parts.mean(parts.evaluate(at, batch, old)))),
        slope,
        direction,
        parts.product(params, fewer, direction),
        params,
        max_kl,
        region.damping,
        region.backtrack,
        region.line_search_steps,
    )
    return found, parts.mean(entropy)


def compile_step(policy: Policy, comm: ranks.Communicator, region: TrustRegion) -> Callable[..., Any]:
    """Compile (parameters [D], Batch, δ) to the step within a trust region of δ nats and the entropy before it.

    On one rank, for vectors without memory, all of it is one call of XLA. A memory's Fisher-vector products are plain
    TensorFlow: in a loop that is differentiated twice XLA takes the data for constants, and compiles anew for each
    batch. So are those of images: inside a loop XLA's convolutions run ten times slower. Each of several ranks that
    share a batch compiles its parts, and a mean over states is one over those of all ranks.
    """
    make = functools.partial(_compile_step, policy, comm, region)
    return once(make, "trust", policy, id(comm) if comm.size > 1 else None, region)


def _compile_step(policy: Policy, comm: ranks.Communicator, region: TrustRegion) -> Callable[..., Any]:
    alone, whole = comm.size == 1, comm.size == 1 and policy.is_cheap
    compiled = functools.partial(tf.function, jit_compile=True, autograph=False)
    compiled_products = functools.partial(tf.function, jit_compile=policy.is_cheap, autograph=False)
    as_it_is = lambda function: function  # noqa: E731
    by_itself = as_it_is if whole else compiled
    fisher = functools.partial(fisher_product, policy)
    fisher = fisher if alone else compiled_products(fisher)

    def mean(value: tf.Tensor) -> tf.Tensor:
        return value if alone else tf.constant(comm.sum(value.numpy()) / np.float32(comm.size))

    def product(params: tf.Tensor, batch: Batch, vector: tf.Tensor) -> tf.Tensor:
        return mean(fisher(params, batch, vector)) + region.damping * vector

    def direction(params: tf.Tensor, batch: Batch, slope: tf.Tensor) -> tf.Tensor:
        if alone:  # what does not depend on the vector is computed once
            matvec = trust_region.fisher_matvec(functools.partial(distribution_of, policy, batch=batch), params)
            damped = lambda vector: matvec(vector) + region.damping * vector  # noqa: E731
        else:
            damped = functools.partial(product, params, batch)
        return trust_region.conjugate_gradient(damped, slope, region.cg_iterations).x

    kept = compiled_products if alone and not whole else as_it_is
    parts = StepParts(
        by_itself(functools.partial(gradient, policy, region)),
        kept(direction),
        kept(product),
        by_itself(functools.partial(evaluate, policy, region)),
        mean,
    )
    step = functools.partial(take_step, parts, region)
    return compiled(step) if whole else step


class Learner:
    """One training run of TRPO: parameters, critic and environments, and the updates that change them."""

    def __init__(self, setup: Setup[TRPOConfig]) -> None:
        self.config, self.policy, self.setup, self._comm = setup.config, setup.policy, setup, setup.comm
        # Who shares the work of learning: where ranks gather the steps, each has all of it.
        self._learning_comm = ranks.Serial() if self.policy.is_cheap else self._comm
        config = self.config
        self._rows, self._time = config.parallel_envs // self._comm.size, config.batch_size // config.parallel_envs
        self._first = self._rows * self._comm.rank
        critic = make_critic(self.policy, config)
        self.pair = policies.ActorCriticPair(self.policy, critic)
        self.critic = self._make_fitter(critic)
        self._normalizer = policies.ObservationNormalizer(self.policy)
        self.params = tf.constant(self.policy.initial_parameters(derive(setup.seed, "parameters")))
        self.steps = self.batches = 0
        self._begun = 0  # the steps at which the episodes of this run's seeds began
        self._played: dict[str, np.ndarray] = {}  # of all ranks' environments, after the last update
        self._share = Share(self._first, config.parallel_envs) if self._comm.size > 1 else None
        self._env: VectorEnvironment | None = None
        self.region = TrustRegion(**{name: getattr(config, name) for name in TrustRegion._fields})
        self.find_step = compile_step(self.policy, self._learning_comm, self.region)
        self._beside = futures.ThreadPoolExecutor(1)
        self._advantages = ops.sharing.compiled_once(ops.returns.generalized_advantage)

    def _make_fitter(self, critic: Any) -> Any:
        """A new fitter, which keeps the critic's parameters."""
        config = self.config
        if isinstance(critic, policies.LinearCritic):
            return policies.LinearFitter(critic, self._learning_comm)
        settings = config.learning_rate, config.critic_epochs, config.critic_minibatch, config.normalize_returns
        return policies.NetworkFitter(critic, self._learning_comm, self.setup.seed, *settings)

    def updates(self) -> Generator[runs.Update | None, None, None]:
        """Play, step within the trust region and fit the critic, until the schedule is done."""
        return in_step(self)

    def update(self) -> Made:
        """Play a batch, step within the trust region, fit the critic."""
        comm = self._comm
        batch, returns, trajectory, episodes = self.play()
        (step, entropy), (loss, unexplained) = self._learn(batch, returns, trajectory)
        self.params = tf.convert_to_tensor(step.params)
        metrics = {name: float(part) for name, part in step._asdict().items() if name != "params"}
        metrics |= {"entropy": float(entropy), "value_loss": loss, "explained_variance": 1.0 - unexplained}
        self._normalizer.add(trajectory.observations, self._learning_comm)
        self.params = self._normalizer.write_to(self.policy, self.params)
        self.critic.normalize_by(self._normalizer)
        self.steps, self.batches = self.steps + batch_steps(self.config, self.policy), self.batches + 1
        episodes = [episode for part in comm.gather(episodes) for episode in part]
        ranks.require_equal(comm, np.asarray(self.params), "the policy's parameters")
        if comm.size > 1:  # a checkpoint is the first rank's, and may come at any time
            self._played = functools.reduce(operator.or_, comm.gather(self._saved()))
        return Made(metrics, episodes, self.params)

    def play(self) -> tuple[Batch, np.ndarray, Trajectory, list[Episode]]:
        """A batch, its returns [T, B], its trajectory, and the episodes that ended in it."""
        with fault_at(self.place):
            trajectory, episodes, branches = self.collect()
        if self._learning_comm.size < self._comm.size:
            trajectory, branches = rollout.join(self._comm.gather((trajectory, branches)))
        values, following = trajectory.values, trajectory.next_values
        got = trajectory.rewards, trajectory.discounts, trajectory.boundaries
        advantages = self._advantages(*got, values, following, self.config.gae_lambda).numpy()
        returns = advantages + values
        seen = trajectory.observations, trajectory.resets, trajectory.actions
        standard = policies.standardized(advantages, self._learning_comm)
        share = self._share if self._learning_comm.size > 1 else None
        number, seed = self.config.fisher_subsampling, derive(self.setup.seed, "fisher", self.batches)
        fewer = batches.columns(values.shape, number, seed, self.batches, self.policy.is_recurrent, share)
        batch = Batch(*seen, standard, trajectory.state[0], branches, fewer)
        return policies.as_rows(batch), returns, trajectory, episodes

    def collect(self) -> tuple[Trajectory, list[Episode], Branches | None]:
        """A trajectory, the episodes that ended in it, and, of a vine, its branches, with standardized values."""
        config, collector = self.config, self.collector
        params = self.pair.join(policies.Parts(self.params, self.critic.params, self.critic.scale))
        if config.sampling != "vine":
            return *collector.collect(params), None
        trajectory, episodes, branches = vine.collect(
            collector,
            params,
            self._time // config.vine_spacing,
            config.vine_spacing,
            config.vine_length,
            config.vine_actions,
            self._advantages,
            self.setup.rewards,
        )
        better = branches.values - branches.values.mean(axis=0)  # than the others of the same state
        return trajectory, episodes, branches._replace(values=policies.standardized(better, self._comm))

    @functools.cached_property
    def collector(self) -> rollout.Collector:
        """The collector with the environments that it plays, made at the first batch."""
        # A run that begins new episodes must not replay the same ones: the seeds depend on where it begins them.
        seeds = playing(self.setup.seed, "episodes", self._begun)
        self._env = self.setup.make_env(self._rows, seeds.environments + self._first)
        collector = rollout.Collector(
            self._env,
            policies.compile_acting(self.pair, share=self._share),
            self.pair.initial_state(self._rows),
            self._time,
            self.config.discount,
            seeds.actions,
            policies.compile_acting(self.pair, forced_actions=True),
            self.pair.to_environment,
        )
        if self._played:
            with runs.restoring():
                collector.load(subset(self._played, _place_of(self._comm.rank)))
        return collector

    @property
    def place(self) -> str:
        return f"batch {self.batches}, step {self.steps}"

    def _learn(self, batch: Batch, returns: np.ndarray, trajectory: Trajectory) -> tuple[Any, Any]:
        """Take the step and fit the critic, independently: (the step, the entropy before it) and the critic's fit."""
        left = self.setup.schedule.left(self.steps) if self.config.decay_max_kl else 1.0
        find = functools.partial(self.find_step, self.params, batch, tf.constant(left * self.config.max_kl))
        fit = functools.partial(self.critic.fit, trajectory, returns)
        comm = self._comm
        if comm.size == 1:  # each keeps one core busy
            fitting = self._beside.submit(fit)
            return find(), fitting.result()
        if self._learning_comm.size > 1:  # they take turns to talk
            return find(), fit()
        first, last = comm.rank == 0, comm.rank == comm.size - 1
        found = tf.nest.map_structure(np.asarray, find()) if first else None
        fitted = (fit(), pack(self.critic.state())) if last else None
        heard = comm.gather((found, fitted))
        loss, arrays = heard[-1][1]
        self.critic.restore(arrays)
        return heard[0][0], loss

    def _saved(self) -> dict[str, np.ndarray]:
        """The state of this rank's environments and rollout, for a checkpoint; empty where it cannot be saved."""
        place = _place_of(self._comm.rank)
        return {f"{place}/{name}": part for name, part in (self.collector.save() or {}).items()}

    def state(self) -> dict[str, Any]:
        learned = {
            "policy": self.policy.named(np.asarray(self.params)),
            "observations": self._normalizer.state(),
            "critic": self.critic.state(),
            "batches": self.batches,
            "begun": self._begun,
        }
        return learned | (self._saved() if self._comm.size == 1 else self._played)

    def restore(self, checkpoint: runs.Checkpoint) -> None:
        arrays, places = checkpoint.arrays, {_place_of(rank) for rank in range(self._comm.size)}
        self.params = tf.constant(self.policy.flatten(subset(arrays, "policy")))
        self._normalizer.restore(subset(arrays, "observations"))
        self.critic.restore(subset(arrays, "critic"))
        self.steps, self.batches = checkpoint.steps, checkpoint.counters["batches"]
        saved = {name: part for name, part in arrays.items() if name.startswith(_place_of(0))}
        if {name.partition("/")[0] for name in saved} == places:
            self._played, self._begun = saved, checkpoint.counters["begun"]
            return
        self._begun = self.steps
        if self._comm.rank == 0:
            notify("the environment's state was not saved: new episodes begin")

    def close(self) -> None:
        calls.close_all([self._env] if self._env else [])
        self._beside.shutdown()


def make_critic(policy: Policy, config: TRPOConfig) -> Any:
    """The critic, with parameters of its own: linear, or of the policy's architecture."""
    return policies.LinearCritic(policy.observation_space) if config.critic == "linear" else policy


def batch_steps(config: TRPOConfig, policy: Policy) -> int:
    """Agent steps of a batch, with those of a vine's branches."""
    if config.sampling != "vine":
        return config.batch_size
    number, _ = vine.actions_to_try(policy.action_space, config.vine_actions)
    return config.batch_size + config.batch_size // config.vine_spacing * number * config.vine_length


def _place_of(rank: int) -> str:
    """The prefix of the names that a rank's environments have in a checkpoint."""
    return f"collector-{rank}" if rank else "collector"


class TRPO(Agent[TRPOConfig]):
    """Learns from batches of steps, each update within a trust region."""

    Config, learner_class = TRPOConfig, Learner
    shown = ("score", "success", "kl", "entropy")

    def settled(self, config: TRPOConfig, policy: Policy, env: EnvironmentFactory) -> TRPOConfig:
        if not (config.critic == "linear" or policy.is_recurrent):
            config.check_minibatch()
        return config

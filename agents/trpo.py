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
The mathematics is in `rlab/ops/trust_region.py`, and `rlab/policies/trust.py` brings policies to it; what each setting
did is in docs/algorithms/trpo.md.
"""

import dataclasses
import functools
import inspect
import operator
from collections.abc import Callable, Generator
from concurrent import futures
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

# These packages load TensorFlow only when it is used, so that `--help` answers at once.
from agents import tuning
from agents.agent import drive
from rlab import ops, policies, rewards, rollout, runs, vine
from rlab.errors import BadInputError, TrainingError, fault_at
from rlab.notify import notify
from rlab.parallel import calls, threads, watch
from rlab.parallel import comm as ranks
from rlab.schedules import Schedule
from rlab.seeding import derive, playing
from rlab.settings import field

if TYPE_CHECKING:
    import gymnasium as gym

    from rlab.types import Branches, Trajectory


@dataclasses.dataclass(frozen=True)
class Config(tuning.Tuned, agent="trpo"):
    """The settings of TRPO; each is a command-line flag. `defaults/trpo.toml` tunes them by environment."""

    batch_size: int = field(1024, "agent steps to an update, over all ranks", low=2)
    parallel_envs: int = field(16, "environments that play them side by side, over all ranks", low=1)
    shares: int = field(0, "shares of a batch; as many give the same bits on any number of processes", low=0, auto=True)
    sampling: str = field("single-path", "how the gradient is sampled", choices=("single-path", "vine"))
    vine_spacing: int = field(16, "steps of the vine between the states from which its branches go", low=1)
    vine_length: int = field(32, "steps of a branch, after which the critic judges", low=1)
    vine_actions: int = field(
        0, "branches of a state; 0 for each of discrete actions, or 4 drawn from the policy", low=0
    )
    max_kl: float = field(0.03, "δ, bound on the mean KL divergence of an update, nats", low=0.0, above=True)
    decay_max_kl: bool = field(False, "let δ fall linearly to 0 at the last step")
    entropy_weight: float = field(0.0, "weight in L of the policy's mean entropy, per nat", low=0.0)
    damping: float = field(0.1, "added to the diagonal of the Fisher information", low=0.0, above=True)
    cg_iterations: int = field(10, "iterations of conjugate gradient", low=1)
    fisher_subsampling: int = field(1, "take one of n states, others each time, for Fisher products", low=1)
    backtrack: float = field(0.8, "α, factor between the line search's steps", low=0.0, high=0.99, above=True)
    line_search_steps: int = field(10, "steps of the line search at most", low=1)
    discount: float = field(0.99, "γ, per step", low=0.0, high=1.0)
    gae_lambda: float = field(0.95, "λ of the generalized advantage estimate", low=0.0, high=1.0)
    critic: str = field("network", "what expects the returns", choices=("network", "linear"))
    learning_rate: float = field(1e-3, "step size of the critic's Adam", low=0.0, above=True)
    critic_epochs: int = field(10, "passes of the critic over a batch", low=1)
    critic_minibatch: int = field(128, "steps to one step of the critic; one with memory takes whole batches", low=1)
    normalize_observations: bool = field(False, "shift and scale observed vectors by what was seen of them so far")
    observation_scale: float = field(1.0, "factor on observed vectors, normalized or not", low=0.0, above=True)
    normalize_returns: bool = field(True, "let the critic learn standardized returns")
    observe_actions: bool = field(False, "let policy and critic see the previous action")
    initial_std: float = field(1.0, "deviation of first real-valued actions, between −1 and 1", low=0.0, above=True)
    memory_horizon: int = field(0, "steps over which a new LSTM remembers; 0 for forget gates at a bias of 1", low=0)


_Config = Config  # inside the class the name means its attribute


class TRPO:
    """Learns from batches of steps, each update within a trust region.

    Args:
        config: the settings; None for those tuned for a named environment, or else `Config()`.
        env: what `envs.factory` takes: a name, which brings what is tuned for it; a class or function that makes one
            `gymnasium.Env`; or one that takes `num_envs` and makes a `VectorEnv` (for a vine with `restorable`, or with
            `can_save`, `save_state` and `load_state`, as those of `envs.make`).
        policy: a backbone's name (`rlab.policies.BACKBONES`); None for that tuned for a named environment, or else the
            feed-forward one that fits the observations.
        seed: of parameters, actions and environments. The same seed gives the same bits; resumed runs too, where the
            environment's state can be saved (the project's own environments).

    Raises BadInputError for settings out of range and for spaces that no policy fits.
    """

    Config = Config

    def __init__(
        self,
        config: _Config | None = None,
        env: "str | Callable[..., Any] | None" = None,
        policy: str | None = None,
        seed: int = 0,
    ) -> None:
        self._chosen = tuning.choose(Config, config, env, policy, seed)
        self.config, env, policy, seed, *_ = self._chosen
        self.env, self.seed = env, seed
        self.comm = ranks.world()
        self.config = check_sizes(self.config, self.comm.size)
        probe = self.make_env(num_envs=1, seed=0)
        if self.config.sampling == "vine" and not getattr(probe, "can_save", False):
            raise BadInputError("--sampling vine needs an environment whose state can be saved and restored")
        build = functools.partial(
            policies.build,
            probe.single_observation_space,
            probe.single_action_space,
            policy,
            observe_actions=self.config.observe_actions,
            normalize_observations=self.config.normalize_observations,
            observation_scale=self.config.observation_scale,
            horizon=self.config.memory_horizon,
            initial_std=self.config.initial_std,
        )
        self.policy = build()
        linear = self.config.critic == "linear"
        if not (linear or self.policy.remembers):
            _check_minibatch(self.config)
        self.critic = policies.LinearCritic(probe.single_observation_space) if linear else build()
        probe.close()

    def make_env(self, num_envs: int, seed: int) -> "gym.vector.VectorEnv":
        """Environments to train in; for a vine such as can be put back to a state, where the factory knows how."""
        restorable = self.config.sampling == "vine" and "restorable" in inspect.signature(self.env).parameters
        return self.env(num_envs=num_envs, seed=seed, **({"restorable": True} if restorable else {}))

    def make_fitter(self, among: ranks.Communicator) -> Any:
        """What keeps the critic's parameters, fresh, among the ranks that share the work of learning."""
        config = self.config
        if config.critic == "linear":
            return policies.LinearFitter(self.critic, among)
        settings = config.learning_rate, config.critic_epochs, config.critic_minibatch, config.normalize_returns
        return policies.NetworkFitter(self.critic, among, self.seed, *settings)

    def train(
        self,
        run: str | Path,
        steps: int | None = None,
        target_score: float | None = None,
        checkpoint_every: float = 60.0,
    ) -> "runs.TrainingResult":
        """Train in a new run directory for `steps` agent steps, summed over the ranks (None: as tuned).

        With `target_score` training ends early (`rlab.schedules`). A checkpoint is saved every `checkpoint_every`
        seconds, 0 being after each update. Ctrl-C raises KeyboardInterrupt after one, and the run can be resumed.
        """
        length = self._chosen.length(steps, target_score)
        return self._train(runs.begin("trpo", self, run, *length, self.comm, checkpoint_every))

    @classmethod
    def resume(
        cls, run: str | Path, env: "str | Callable[..., Any] | None" = None, steps: int | None = None
    ) -> "runs.TrainingResult":
        """Go on with a run from its newest checkpoint, up to `steps` in all (None: as many as the run was begun with).

        With `steps` the run's target score, if it has one, no longer ends it.
        """
        return tuning.resume(cls, run, env, steps)

    def _train(self, beginning: "runs.Beginning") -> "runs.TrainingResult":
        _, steps, target_score, checkpoint = beginning
        own = threads.ranks_of(self.comm, self.config.shares)
        with fault_at("before the first step"), watch.stepping(watch.START):
            learners = [Learner(self, Schedule(steps, target_score), checkpoint, rank) for rank in own]
        if checkpoint and not learners[0].exact and self.comm.rank == 0:
            notify("the environment's state was not saved: new episodes begin")
        return drive(self, beginning, own, learners, ("score", "success", "kl", "entropy"))


class Learner:
    """One training run of TRPO: parameters, critic and environments, and the updates that change them."""

    def __init__(
        self,
        agent: TRPO,
        schedule: Schedule,
        checkpoint: "runs.Checkpoint | None" = None,
        comm: ranks.Communicator | None = None,
    ) -> None:
        import tensorflow as tf

        self.config, self.policy, self.seed, self.comm = agent.config, agent.policy, agent.seed, comm or agent.comm
        # Who shares the work of learning: where ranks gather the steps, each has all of it.
        self._among = ranks.Serial() if self.policy.light else self.comm
        config, self._schedule = self.config, schedule
        self.rows = config.parallel_envs // self.comm.size
        self.time = config.batch_size // config.parallel_envs
        self._first = self.rows * self.comm.rank
        self._batch_steps = config.batch_size
        if config.sampling == "vine":
            number, _ = vine.actions_to_try(agent.policy.action_space, config.vine_actions)
            self._batch_steps += config.batch_size // config.vine_spacing * number * config.vine_length
        self._pair = policies.ActorCriticPair(agent.policy, agent.critic)
        self.critic = agent.make_fitter(self._among)
        self._statistics = policies.ObservationStatistics(agent.policy)
        self.params = tf.constant(self.policy.initial_parameters(derive(self.seed, "parameters")))
        self.steps = self.batches = 0
        with runs.restoring():
            self._played = self._restore(checkpoint) if checkpoint else {}
        self.exact = bool(self._played)
        self._begun = checkpoint.counters["begun"] if checkpoint and self.exact else self.steps
        self._share = share = policies.Share(self._first, config.parallel_envs) if self.comm.size > 1 else None
        # A run that begins new episodes must not replay the same ones: the seeds depend on where it begins them.
        seeds = playing(self.seed, "episodes", self._begun)
        self._env = agent.make_env(num_envs=self.rows, seed=seeds.environments + self._first)
        self._learned = rewards.model_of(agent.env)
        self._collector = rollout.Collector(
            self._env,
            policies.compile_acting(self._pair, share=share),
            self._pair.initial_state(self.rows),
            self.time,
            config.discount,
            seeds.actions,
            policies.compile_acting(self._pair, told=True),
            self._pair.to_environment,
        )
        if self.exact:
            with runs.restoring():
                self._collector.load(runs.subset(self._played, _place_of(self.comm.rank)))
        self.region = policies.TrustRegion(**{name: getattr(config, name) for name in policies.TrustRegion._fields})
        self._step = policies.compile_trust_step(self.policy, self._among, self.region)
        self._beside = futures.ThreadPoolExecutor(1)
        self._advantages = ops.sharing.compiled_once(ops.returns.generalized_advantage)

    def updates(self) -> "Generator[runs.Update | None, None, None]":
        """Play, step within the trust region, fit the critic; until the schedule is done."""
        while not self._schedule.done(self.steps):
            yield self._update()

    def close(self) -> None:
        """Close the environments, once no more updates are asked for."""
        calls.close_all([self._env])
        self._beside.shutdown()

    def play(self) -> "tuple[policies.Batch, np.ndarray, Any, list[Any]]":
        """A batch, its returns [T, B], its trajectory, and the episodes that ended in it."""
        parts = policies.Parts(self.params, self.critic.params, self.critic.scale)
        with fault_at(self._place):
            trajectory, episodes, branches = self._collect(self._pair.join(parts))
        if self._among.size < self.comm.size:
            trajectory, branches = rollout.join(self.comm.gather((trajectory, branches)))
        values, following = trajectory.values, trajectory.next_values
        got = trajectory.rewards, trajectory.discounts, trajectory.boundaries
        advantages = self._advantages(*got, values, following, self.config.gae_lambda).numpy()
        returns = advantages + values
        seen = trajectory.observations, trajectory.resets, trajectory.actions
        standard = policies.standardized(advantages, self._among)
        number, share = self.config.fisher_subsampling, self._share if self._among.size > 1 else None
        fewer = policies.fewer_columns(self.policy, values.shape, number, self.seed, self.batches, share)
        batch = policies.Batch(*seen, standard, trajectory.state[0], branches, fewer)
        return policies.as_rows(batch), returns, trajectory, episodes

    def _collect(self, params: Any) -> "tuple[Trajectory, list[Any], Branches | None]":
        """A trajectory, the episodes that ended in it, and, of a vine, its branches, with standardized values."""
        config = self.config
        if config.sampling != "vine":
            return *self._collector.collect(params), None
        segments = self.time // config.vine_spacing
        trajectory, episodes, branches = vine.collect(
            self._collector,
            params,
            segments,
            config.vine_spacing,
            config.vine_length,
            config.vine_actions,
            self._advantages,
            self._learned,
        )
        better = branches.values - branches.values.mean(axis=0)  # than the others of the same state
        return trajectory, episodes, branches._replace(values=policies.standardized(better, self.comm))

    @property
    def _place(self) -> str:
        return f"batch {self.batches}, step {self.steps}"

    def _update(self) -> "runs.Update":
        import tensorflow as tf

        comm = self.comm
        batch, returns, trajectory, episodes = self.play()
        (step, entropy), (loss, unexplained) = self._learn(batch, returns, trajectory)
        self.params = tf.convert_to_tensor(step.params)
        metrics = {name: float(part) for name, part in step._asdict().items() if name != "params"}
        metrics |= {"entropy": float(entropy), "value_loss": loss, "explained_variance": 1.0 - unexplained}
        if wrong := [name for name, value in metrics.items() if not np.isfinite(value)]:
            raise TrainingError(
                f"{self._place}: observations, rewards, parameters or the critic are not finite (NaN or infinity), by "
                + ", ".join(wrong)
            )
        self._statistics.add(trajectory.observations, self._among)
        self.params = self._statistics.tell(self.policy, self.params)
        self.critic.tell(self._statistics)
        self.steps, self.batches = self.steps + self._batch_steps, self.batches + 1
        episodes = [episode for part in comm.gather(episodes) for episode in part]
        self._schedule.add(episodes, self.steps)
        ranks.require_equal(comm, np.asarray(self.params), "the policy's parameters")
        if comm.size > 1:  # a checkpoint is the first rank's, and may come at any time
            self._played = functools.reduce(operator.or_, comm.gather(self._saved()))
        return runs.Update(self.steps, metrics, episodes, self._schedule.end)

    def _learn(self, batch: "policies.Batch", returns: np.ndarray, trajectory: "Trajectory") -> tuple[Any, Any]:
        """The step with the entropy before it, and what came of fitting the critic; neither needs the other."""
        import tensorflow as tf

        left = self._schedule.left(self.steps) if self.config.decay_max_kl else 1.0
        find = functools.partial(self._step, self.params, batch, tf.constant(left * self.config.max_kl))
        fit = functools.partial(self.critic.fit, trajectory, returns)
        comm = self.comm
        if comm.size == 1:  # each keeps one core busy
            fitting = self._beside.submit(fit)
            return find(), fitting.result()
        if self._among.size > 1:  # they take turns to talk
            return find(), fit()
        first, last = comm.rank == 0, comm.rank == comm.size - 1
        found = tf.nest.map_structure(np.asarray, find()) if first else None
        fitted = (fit(), self.critic.arrays()) if last else None
        heard = comm.gather((found, fitted))
        loss, arrays = heard[-1][1]
        self.critic.restore(arrays)
        return heard[0][0], loss

    def checkpoint(self) -> "runs.Checkpoint":
        """All that a later process needs to go on."""
        arrays = {f"policy/{name}": part for name, part in self.policy.named(np.asarray(self.params)).items()}
        arrays |= {f"observations/{name}": part for name, part in self._statistics.arrays().items()}
        arrays |= {f"critic/{name}": part for name, part in self.critic.arrays().items()}
        arrays |= self._saved() if self.comm.size == 1 else self._played
        counters = {"batches": self.batches, "begun": self._begun, "schedule": self._schedule.state()}
        return runs.Checkpoint(self.steps, arrays, counters)

    def _saved(self) -> dict[str, np.ndarray]:
        """This rank's environments and how far they are, for a checkpoint; nothing where they cannot be saved."""
        place = _place_of(self.comm.rank)
        return {f"{place}/{name}": part for name, part in (self._collector.save() or {}).items()}

    def _restore(self, checkpoint: "runs.Checkpoint") -> dict[str, np.ndarray]:
        """Go on from a checkpoint; what it holds of the environments of as many ranks, if it does."""
        import tensorflow as tf

        self.params = tf.constant(self.policy.flatten(runs.subset(checkpoint.arrays, "policy")))
        self._statistics.restore(runs.subset(checkpoint.arrays, "observations"))
        self.critic.restore(runs.subset(checkpoint.arrays, "critic"))
        self.steps, self.batches = checkpoint.steps, checkpoint.counters["batches"]
        self._schedule.restore(checkpoint.counters["schedule"], checkpoint.steps)
        saved = {name: part for name, part in checkpoint.arrays.items() if name.startswith(_place_of(0))}
        places = {_place_of(rank) for rank in range(self.comm.size)}
        return saved if {name.partition("/")[0] for name in saved} == places else {}


def _place_of(rank: int) -> str:
    """Where a checkpoint has a rank's environments."""
    return f"collector-{rank}" if rank else "collector"


def check_sizes(config: Config, size: int) -> Config:
    """The settings with as many shares as there are on so many ranks.

    Raises BadInputError where a batch does not divide as it must.
    """
    config = dataclasses.replace(config, shares=threads.shares(config.shares, size))
    threads.require_multiple("--parallel-envs", config.parallel_envs, config.shares)
    if config.batch_size % config.parallel_envs:
        raise BadInputError(
            f"--batch-size must be a multiple of the {config.parallel_envs} environments, not {config.batch_size}"
        )
    time = config.batch_size // config.parallel_envs
    if config.sampling == "vine" and time % config.vine_spacing:
        raise BadInputError(f"--vine-spacing must divide {time} steps of each environment, not {config.vine_spacing}")
    if config.sampling == "vine" and config.vine_actions == 1:
        raise BadInputError("--vine-actions must be at least 2, to be compared, or 0, not 1")
    return config


def _check_minibatch(config: Config) -> None:
    """Raise BadInputError where a batch does not divide into minibatches."""
    each, over = divmod(config.critic_minibatch, config.parallel_envs)
    if over or not each or config.batch_size % config.critic_minibatch:
        raise BadInputError(
            f"--critic-minibatch must be a multiple of the {config.parallel_envs} environments that divides the batch "
            f"of {config.batch_size} steps, not {config.critic_minibatch}"
        )

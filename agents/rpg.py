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
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

# These packages load TensorFlow only when it is used, so that `--help` answers at once.
from agents import tuning
from agents.agent import drive
from rlab import ops, policies, rewards, rollout, runs
from rlab.errors import BadInputError, TrainingError, fault_at
from rlab.parallel import calls, threads, watch
from rlab.parallel import comm as ranks
from rlab.schedules import Schedule
from rlab.seeding import derive
from rlab.settings import field

if TYPE_CHECKING:
    import tensorflow as tf

    from rlab.types import EpisodeBatch

_CHUNK = 16  # steps that are differentiated at once


@dataclasses.dataclass(frozen=True)
class Config(tuning.Tuned, agent="rpg"):
    """The settings of RPG; each is a command-line flag. `defaults/rpg.toml` tunes them by environment."""

    episodes_per_batch: int = field(4, "N, episodes to an update, over all ranks", low=1)
    shares: int = field(0, "shares of a batch; as many give the same bits on any number of processes", low=0, auto=True)
    learning_rate: float = field(0.0, "step size of the optimizer; 0 for 0.005, or 0.0005 on images", low=0.0)
    decay_learning_rate: bool = field(True, "let the learning rate fall linearly to 0 at the last step")
    optimizer: str = field("adam", "any optimizer of Keras, by its name")
    max_gradient_norm: float = field(1.0, "bound on the gradient's Euclidean norm", low=0.0, above=True)
    discount: float = field(0.95, "γ, per step", low=0.0, high=1.0)
    baseline: str = field("recurrent", "what is expected", choices=("none", "constant", "linear", "recurrent"))
    baseline_clock: bool = field(False, "let the recurrent baseline see the time where a known limit ends episodes")
    baseline_learning_rate: float = field(3e-3, "step size of the recurrent baseline", low=0.0, above=True)
    normalize_advantages: bool = field(True, "scale the advantages of a batch to a root mean square of 1")
    entropy_weight: float = field(0.0, "β, weight of the entropy bonus, per nat and step", low=0.0)
    decay_entropy_weight: bool = field(False, "let β fall linearly to 0 at the last step")
    truncation: int = field(0, "steps beyond which no gradient flows back; 0 for whole episodes", low=0)
    observe_actions: bool = field(True, "let the policy see its previous action")
    normalize_observations: bool = field(False, "shift and scale observed vectors by what was seen of them so far")
    observation_scale: float = field(1.0, "factor on observed vectors, normalized or not", low=0.0, above=True)
    initial_std: float = field(0.25, "deviation of first real-valued actions, between −1 and 1", low=0.0, above=True)
    memory_horizon: int = field(0, "steps over which a new LSTM remembers; 0 for forget gates at a bias of 1", low=0)


class Chunk(NamedTuple):
    """C steps of N episodes."""

    observations: Any  # [C, N, ...]
    resets: Any  # [C, N]
    actions: Any  # [C, N, ...]
    valid: Any  # [C, N], 0 in padding
    advantages: Any  # [C, N], R_t − b_t


_Config = Config  # inside the class the name means its attribute


class RPG:
    """Learns from batches of whole episodes, with backpropagation through all of each.

    Args:
        config: the settings; None for those tuned for a named environment, or else `Config()`.
        env: what `envs.factory` takes: a name, which brings what is tuned for it; a class or function that makes one
            `gymnasium.Env`; or one that takes `num_envs` and makes a `VectorEnv`.
        policy: a backbone's name (`rlab.policies.BACKBONES`); None for that tuned for a named environment, or else the
            feed-forward one that fits the observations.
        seed: of parameters, actions and environments. The same seed gives the same bits, resumed or not.

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
        ops.optimizers.keras_optimizer(self.config.optimizer)
        self.env, self.seed = env, seed
        self.comm = ranks.world()
        self.config = check_sizes(self.config, self.comm.size)
        probe = env(num_envs=1, seed=0)
        self._limit = limit = getattr(probe, "episode_limit", None)  # of an environment that `envs.make` made
        if limit and self.config.truncation > limit:
            raise BadInputError(
                f"--truncation is {self.config.truncation}, and an episode has no more than {limit} steps"
            )
        self.policy = policies.build(
            probe.single_observation_space,
            probe.single_action_space,
            policy,
            observe_actions=self.config.observe_actions,
            normalize_observations=self.config.normalize_observations,
            observation_scale=self.config.observation_scale,
            horizon=self.config.memory_horizon,
            initial_std=self.config.initial_std,
        )
        probe.close()
        if not self.config.learning_rate:  # the larger one drives convolutions into one action for ever
            rate = 5e-4 if self.policy.reading.image else 5e-3
            self.config = dataclasses.replace(self.config, learning_rate=rate)
        if self.config.baseline == "linear" and self.policy.reading.kind != "vector":
            raise BadInputError(f"--baseline linear takes vectors, and not {self.policy.reading}")

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
        return self._train(runs.begin("rpg", self, run, *length, self.comm, checkpoint_every))

    @classmethod
    def resume(
        cls, run: str | Path, env: "str | Callable[..., Any] | None" = None, steps: int | None = None
    ) -> "runs.TrainingResult":
        """Go on with a run from its newest checkpoint, up to `steps` in all (None: as many as the run was begun with).

        The run goes on as if it had never stopped, to the bit. With `steps` the run's target score, if it has one, no
        longer ends it.
        """
        return tuning.resume(cls, run, env, steps)

    def _train(self, beginning: "runs.Beginning") -> "runs.TrainingResult":
        _, steps, target_score, checkpoint = beginning
        own = threads.ranks_of(self.comm, self.config.shares)
        with fault_at("before the first step"), watch.stepping(watch.START):
            learners = [Learner(self, Schedule(steps, target_score), rank) for rank in own]
        if checkpoint:
            with runs.restoring():
                for one in learners:
                    one.restore(checkpoint)
        return drive(self, beginning, own, learners, ("score", "success", "entropy"))

    def make_baseline(self) -> Any:
        """The baseline that the config names."""
        from rlab.policies import baselines
        from rlab.policies.critic import RecurrentBaseline, with_clock

        config = self.config
        if config.baseline == "recurrent":
            seed = derive(self.seed, "baseline")
            network, rate, clock = self.policy, config.baseline_learning_rate, 0
            if config.baseline_clock and self._limit and network.reading.kind == "vector":
                network, clock = network.of_observations(with_clock(network.observation_space)), self._limit
            return RecurrentBaseline(network, seed, rate, config.truncation, chunk_length(config), clock)
        kinds = {
            "none": baselines.NoBaseline,
            "constant": baselines.ConstantBaseline,
            "linear": baselines.LinearBaseline,
        }
        return kinds[config.baseline]()


class Learner:
    """One training run of RPG: parameters, optimizer and baseline, and the updates that change them."""

    def __init__(self, agent: RPG, schedule: Schedule, comm: ranks.Communicator | None = None) -> None:
        import keras

        self.config, self.policy, self.seed = agent.config, agent.policy, agent.seed
        self.comm = comm or agent.comm
        self._schedule = schedule
        self._rows = self.config.episodes_per_batch // self.comm.size
        self._first = self._rows * self.comm.rank
        self._env = agent.env(num_envs=self._rows, seed=0)
        rewards.count_first_episodes(self._env)
        share = policies.Share(self._first, self.config.episodes_per_batch)
        self._act = policies.compile_acting(self.policy, share=share if self.comm.size > 1 else None)
        loss = functools.partial(chunk_loss, self.policy)
        self._gradient = ops.sharing.once(lambda: ops.bptt.compile_gradient(loss, len(METRICS)), "rpg", self.policy)
        self.baseline = agent.make_baseline()
        parts = self.policy.unflatten(self.policy.initial_parameters(derive(self.seed, "parameters")))
        self._variables = [keras.Variable(part) for part in parts]
        self._optimizer = ops.optimizers.keras_optimizer(self.config.optimizer)
        self._optimizer.build(self._variables)
        self._change = self._compile_change()
        self._params = self.parameters()
        self._statistics = policies.ObservationStatistics(self.policy)
        self.steps = self.batches = 0

    def updates(self) -> "Generator[runs.Update | None, None, None]":
        """Play, differentiate, change the parameters; until the schedule is done."""
        while not self._schedule.done(self.steps):
            yield self._update()

    def close(self) -> None:
        """Close the environments, once no more updates are asked for."""
        calls.close_all([self._env])

    def _update(self) -> "runs.Update":
        import tensorflow as tf

        config, comm, params = self.config, self.comm, self._params
        batch, episodes = self._play(params)
        returns = ops.returns.discounted_returns(batch.rewards, config.discount)
        expected = self.baseline.predict(batch)
        advantages = (returns - expected) * batch.valid
        steps, squares, spread = self._moments(batch.valid, returns, advantages)
        self._check("rewards or what the baseline expects are", np.array([squares, spread]))
        if config.normalize_advantages:
            advantages = scaled(advantages, squares / steps)
        whole = Chunk(batch.observations, batch.resets, batch.actions, batch.valid, advantages)
        length = chunk_length(config)
        rate, entropy_weight = falling(config, self._schedule.left(self.steps))
        weight = tf.constant([1.0 / config.episodes_per_batch, entropy_weight], tf.float32)
        chunks = [(chunk, weight) for chunk in ops.bptt.split(whole, length)]
        gradient, sums = self._gradient(params, batch.states, chunks, config.truncation // length)
        gradient, sums = comm.sum(gradient.numpy()), comm.sum(sums.numpy())
        self._check("the loss or its gradient is", gradient, sums)
        norm = self._apply(gradient, rate)
        self._check("parameters are", self._params)
        self.baseline.fit(batch, returns, comm)
        if config.normalize_observations:
            self._statistics.add(batch.observations[batch.valid != 0.0], comm)
            self._set(self._statistics.tell(self.policy, self._params))
        self.steps, self.batches = self.steps + int(steps), self.batches + 1
        episodes = [episode for part in comm.gather(episodes) for episode in part]
        self._schedule.add(episodes, self.steps)
        metrics = dict(zip(METRICS, (sums / [1.0, steps]).tolist(), strict=True))
        metrics |= {"gradient_norm": norm, "explained_variance": 1.0 - squares / max(spread, 1e-12)}
        if reported := [episode.success for episode in episodes if episode.success is not None]:
            metrics["success"] = float(np.mean(reported))
        metrics["learning_rate"] = float(self._optimizer.learning_rate.numpy())
        return runs.Update(self.steps, metrics, episodes, self._schedule.end)

    def _play(self, params: "tf.Tensor") -> "tuple[EpisodeBatch, list[Any]]":
        stream = (self.seed, "batch", self.batches)
        with fault_at(self._place):
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
        sums = self.comm.sum(np.array([counted.size, squares, counted.sum(), np.square(counted).sum()]))
        return float(sums[0]), float(sums[1]), float(sums[3] - sums[2] ** 2 / sums[0])

    def _check(self, what: str, *arrays: "np.ndarray | tf.Tensor") -> None:
        """Raise TrainingError, naming the place, where not all numbers are finite."""
        if not all(np.isfinite(array).all() for array in arrays):
            raise TrainingError(f"{self._place}: {what} not finite (NaN or infinity)")

    @property
    def _place(self) -> str:
        return f"batch {self.batches}, step {self.steps}"

    def _apply(self, gradient: np.ndarray, rate: float) -> float:
        """Give the bounded gradient to the optimizer; returns its norm before."""
        gradient, norm = bounded(gradient, self.config.max_gradient_norm)
        self._optimizer.learning_rate = rate
        self._params = self._change(gradient)
        return norm

    def _compile_change(self) -> "Callable[[np.ndarray], tf.Tensor]":
        """A step of the optimizer along a gradient [D], and the parameters [D] after it; ten times as fast compiled."""
        import tensorflow as tf

        @tf.function(input_signature=[tf.TensorSpec((self.policy.size,))], autograph=False)
        def change(gradient: tf.Tensor) -> tf.Tensor:
            self._optimizer.apply(self.policy.unflatten(gradient), self._variables)
            return self.parameters()

        return change

    def parameters(self) -> "tf.Tensor":
        """The policy's parameters, float32 [D]."""
        import tensorflow as tf

        return tf.concat([tf.reshape(variable.value, (-1,)) for variable in self._variables], 0)

    def _set(self, params: "np.ndarray | tf.Tensor") -> None:
        """Make these the policy's parameters, float32 [D]."""
        for variable, part in zip(self._variables, self.policy.unflatten(params), strict=True):
            variable.assign(part)
        self._params = self.parameters()

    def checkpoint(self) -> "runs.Checkpoint":
        named = self.policy.named(self._params.numpy())
        arrays = {f"policy/{name}": array for name, array in named.items()}
        arrays |= {f"optimizer/{i:03}": part.numpy() for i, part in enumerate(self._optimizer.variables)}
        arrays |= {f"observations/{name}": array for name, array in self._statistics.arrays().items()}
        arrays |= {f"baseline/{name}": array for name, array in self.baseline.arrays().items()}
        return runs.Checkpoint(self.steps, arrays, {"batches": self.batches, "schedule": self._schedule.state()})

    def restore(self, checkpoint: "runs.Checkpoint") -> None:
        """Go on from a checkpoint as if there had been no stop."""
        self._set(self.policy.flatten(runs.subset(checkpoint.arrays, "policy")))
        kept = runs.subset(checkpoint.arrays, "optimizer")
        for variable, name in zip(self._optimizer.variables, sorted(kept), strict=True):
            variable.assign(kept[name])
        self._statistics.restore(runs.subset(checkpoint.arrays, "observations"))
        self.baseline.restore(runs.subset(checkpoint.arrays, "baseline"))
        self.steps, self.batches = checkpoint.steps, checkpoint.counters["batches"]
        self._schedule.restore(checkpoint.counters["schedule"], checkpoint.steps)


def check_sizes(config: Config, size: int) -> Config:
    """The settings with as many shares as there are on so many ranks.

    Raises BadInputError where a batch does not divide into them.
    """
    config = dataclasses.replace(config, shares=threads.shares(config.shares, size))
    threads.require_multiple("--episodes-per-batch", config.episodes_per_batch, config.shares)
    return config


def falling(config: Config, left: float) -> tuple[float, float]:
    """The optimizer's step size and β where the schedule has `left` so much, in [0, 1], of what falls with it."""
    rate = config.learning_rate * (left if config.decay_learning_rate else 1.0)
    return rate, config.entropy_weight * (left if config.decay_entropy_weight else 1.0)


def scaled(advantages: np.ndarray, square: float) -> np.ndarray:
    """Advantages, whose mean square over all ranks is `square`, at a root mean square of 1."""
    return advantages / np.float32(np.sqrt(square) + 1e-8)


def bounded(gradient: np.ndarray, bound: float) -> tuple[np.ndarray, float]:
    """A gradient [D] whose Euclidean norm is at most `bound`, and its norm before."""
    norm = float(np.linalg.norm(gradient))
    return gradient * min(1.0, bound / (norm + 1e-8)), norm


METRICS = ("policy_loss", "entropy")


def chunk_loss(
    policy: "policies.Policy", params: "tf.Tensor", state: Any, given: "tuple[Chunk, tf.Tensor]"
) -> "tuple[tf.Tensor, tf.Tensor, Any]":
    """−1/N Σ [ln π(a_t | history) A_t + β H] over one chunk, the METRICS' sums, and the memory after it.

    `given` is the chunk, and (1/N, β).
    """
    import tensorflow as tf

    chunk, weight = given
    output, state = policy.apply(params, chunk.observations, state, chunk.resets, chunk.actions)
    entropy = tf.reduce_sum(chunk.valid * output.distribution.entropy())
    # Padding has no advantage; where its log-probability is not finite, 0 times it would be NaN.
    log_prob = tf.where(chunk.valid != 0.0, output.distribution.log_prob(chunk.actions), 0.0)
    loss = -tf.reduce_sum(chunk.advantages * log_prob) * weight[0]
    return loss - weight[0] * weight[1] * entropy, tf.stack([loss, entropy]), state


def chunk_length(config: Config) -> int:
    """C: a truncation is a border between chunks."""
    return config.truncation or _CHUNK

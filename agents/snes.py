"""SNES: separable natural evolution strategies.

Wierstra, Schaul, Glasmachers, Sun, Peters, Schmidhuber: "Natural evolution strategies", JMLR 15, 2014 (the full form),
and Salimans, Ho, Chen, Sidor, Sutskever: "Evolution strategies as a scalable alternative to reinforcement learning",
2017 (the simple form). Nothing is differentiated: every member of a population plays with parameters of its own,

    ψ_i = μ + σ s_i,  s_i ~ N(0, I),  F_i its mean return,  u = utilities of the ranks of F
    simple:  ∇_μ = 1/(P σ) Σ u_i s_i, which an optimizer climbs; σ stays
    full:    μ ← μ + η_μ σ Σ u_i s_i,  σ ← σ exp(η_σ/2 Σ u_i (s_i² − 1))

Under `mpirun` each rank plays a share of the members. Nothing but returns, lengths and the moments of observations is
sent: the noise of a member is a function of (seed, generation, member), which every rank makes for itself, and all take
the same step. Members play in groups of one size, and what they found is counted in their order, so the result is the
same to the bit on any number of ranks. Policies of images may be normalized by a reference batch (virtual batch
normalization, Salimans et al. 2016), whose statistics are measured under the parameters of each member.

The mathematics is in `rlab/ops/evolution.py`; what each setting did is in docs/algorithms/snes.md.
"""

import contextlib
import dataclasses
import functools
import inspect
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import numpy as np

# These packages load TensorFlow only when it is used, so that `--help` answers at once.
from agents import tuning
from agents.agent import drive
from rlab import ops, policies, rewards, rollout, runs
from rlab.arrays import like
from rlab.errors import BadInputError, TrainingError, fault_at
from rlab.parallel import calls, watch
from rlab.parallel import comm as ranks
from rlab.schedules import Schedule
from rlab.seeding import derive
from rlab.settings import field
from rlab.types import Episode


@dataclasses.dataclass(frozen=True)
class Config(tuning.Tuned, agent="snes"):
    """The settings of SNES; each is a command-line flag. `defaults/snes.toml` tunes them by environment."""

    population: int = field(64, "P, members of a generation, over all ranks", low=2)
    group: int = field(0, "members that act at once, and that a rank is given; 0 for a quarter, at most 64", low=0)
    episodes: int = field(1, "episodes of each member", low=1)
    form: str = field("simple", "what is learned: μ alone by an optimizer, or μ and σ", choices=("simple", "full"))
    sigma: float = field(0.1, "σ, standard deviation of the parameters' noise, at first", low=0.0, above=True)
    mirrored: bool = field(True, "let members come in pairs of opposite noise")
    utilities: str = field(
        "auto", "what returns are worth; auto: nes of the full form", choices=("auto", "centered-ranks", "nes")
    )
    optimizer: str = field("adam", "of the simple form", choices=("adam", "sgd"))
    learning_rate: float = field(0.0, "of the optimizer; of the full form η_μ; 0 for 0.01, or 1 of the full", low=0.0)
    decay_learning_rate: bool = field(False, "let the step of μ fall linearly to 0 at the last step")
    sigma_rate: float = field(0.0, "η_σ of the full form; 0 for (3 + ln D)/(5 √D)", low=0.0)
    weight_decay: float = field(0.0, "of the simple form: so many times μ is taken from ∇_μ", low=0.0)
    deterministic: bool = field(True, "let members take their likeliest actions")
    normalize_observations: bool = field(False, "shift and scale observed vectors by what was seen of them so far")
    observation_scale: float = field(1.0, "factor on observed vectors, normalized or not", low=0.0, above=True)
    observe_actions: bool = field(False, "let policies see the previous action")
    memory_horizon: int = field(0, "steps over which a new LSTM remembers; 0 for forget gates at a bias of 1", low=0)
    reference_batch: int = field(128, "observations of random actions to which a `vbn-` backbone refers", low=2)
    verify_every: int = field(10, "generations after which the ranks compare their parameters", low=1)


_WANDERERS, _SPACING = 16, 20  # copies that collect a reference batch, and the steps between two observations

_Config = Config  # inside the class the name means its attribute


class SNES:
    """Learns by evolution: no gradient, and any number of ranks.

    Args:
        config: the settings; None for those tuned for a named environment, or else `Config()`.
        env: what `envs.factory` takes: a name, which brings what is tuned for it; a class or function that makes one
            `gymnasium.Env`; or one that takes `num_envs` and makes a `VectorEnv`.
        policy: a backbone's name (`rlab.policies.BACKBONES`); None for that tuned for a named environment, or else the
            feed-forward one that fits the observations.
        seed: of parameters, noise, actions and environments. The same seed gives the same bits on any number of ranks,
            resumed or not (with learned rewards, which each rank learns for itself, on one).

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
        probe = env(num_envs=1, seed=0)
        self.policy = policies.build(
            probe.single_observation_space,
            probe.single_action_space,
            policy,
            observe_actions=self.config.observe_actions,
            normalize_observations=self.config.normalize_observations,
            observation_scale=self.config.observation_scale,
            horizon=self.config.memory_horizon,
            measures_reference=True,
        )
        probe.close()

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
        return self._train(runs.begin("snes", self, run, *length, self.comm, checkpoint_every))

    @classmethod
    def resume(
        cls, run: str | Path, env: "str | Callable[..., Any] | None" = None, steps: int | None = None
    ) -> "runs.TrainingResult":
        """Go on with a run from its newest checkpoint, up to `steps` in all (None: as many as the run was begun with).

        The run goes on as if it had never stopped, to the bit, on any number of ranks. With `steps` the run's target
        score, if it has one, no longer ends it.
        """
        return tuning.resume(cls, run, env, steps)

    def _train(self, beginning: "runs.Beginning") -> "runs.TrainingResult":
        _, steps, target_score, checkpoint = beginning
        with fault_at("before the first step"), watch.stepping(watch.START):
            learner = Learner(self, Schedule(steps, target_score))
        if checkpoint:
            with runs.restoring():
                learner.restore(checkpoint)
        shown = ("score", "best", "sigma")
        return drive(self, beginning, [self.comm], [learner], shown, self.config.deterministic)


class Learner:
    """One training run of SNES: the search distribution, and the generations that move it."""

    def __init__(self, agent: SNES, schedule: Schedule) -> None:
        import tensorflow as tf

        self.config, self.policy, self.comm, self.seed = agent.config, agent.policy, agent.comm, agent.seed
        config, self._schedule = self.config, schedule
        self._noise = tf.constant(derive(self.seed, "noise"))
        self._learned = rewards.model_of(agent.env) is not None
        self._groups = config.population // config.group
        self._own = range(self.comm.rank, self._groups, self.comm.size)
        self._counted = _counted_groups(config, self.policy.normalized)
        # Where it can, a copy rests once the episode of the generation is over.
        single = {"single_episode": True} if "single_episode" in inspect.signature(agent.env).parameters else {}
        self._env = agent.env(num_envs=config.group * config.episodes, seed=0, **single)
        rewards.count_first_episodes(self._env)
        self._act = policies.compile_population(self.policy, config.episodes, config.deterministic)
        self._memory = policies.population_state(self.policy, config.group, config.episodes)
        self._statistics = policies.ObservationStatistics(self.policy)
        self._refer = policies.compile_reference(self.policy, self._reference(agent) if self.policy.refers else None)
        sought = policies.deciding(self.policy, config.deterministic)
        mean = self.policy.initial_parameters(derive(self.seed, "parameters"))
        self.search = ops.evolution.Search(tf.constant(mean), tf.constant(config.sigma * sought))
        self._sigma_rate = config.sigma_rate or ops.evolution.default_sigma_rate(int(sought.sum()))
        self._adam = ops.adam.initial_state(self.policy.size)
        divide = functools.partial(policies.divide, self.policy, deterministic=config.deterministic)
        ask, tell = functools.partial(make_members, config), functools.partial(move, config, self._sigma_rate)
        compiled = functools.partial(tf.function, jit_compile=True, autograph=False)
        once, size = ops.sharing.once, self.policy.size
        self._divide = once(lambda: compiled(divide), "divide", self.policy, config.deterministic)
        self._ask = once(lambda: compiled(ask), "ask", config)
        self._tell = once(lambda: compiled(tell), "tell", config, self._sigma_rate, size)
        self.steps = self.generation = 0

    def _reference(self, agent: SNES) -> np.ndarray:
        """Observations [N, ...] that every rank finds for itself; learned rewards do not learn of them."""
        seed, make = derive(self.seed, "reference"), rewards.unwrapped(agent.env)
        with contextlib.closing(make(num_envs=_WANDERERS, seed=seed)) as env:
            return rollout.wander(env, self.config.reference_batch, _SPACING, seed)

    def updates(self) -> "Generator[runs.Update | None, None, None]":
        """Play a generation, take a step; until the schedule is done. A request to stop ends a generation unplayed."""
        while not self._schedule.done(self.steps):
            yield self._update()

    def close(self) -> None:
        """Close the environments, once no more updates are asked for."""
        calls.close_all([self._env])

    def _update(self) -> "runs.Update | None":
        import tensorflow as tf

        config = self.config
        played = self._play()
        if played is None:
            return None
        returns, fitness, lengths = played
        fitness = fitness.mean(axis=1)
        if not np.isfinite(fitness).all():
            member = int(np.flatnonzero(~np.isfinite(fitness))[0])
            raise TrainingError(
                f"generation {self.generation}, step {self.steps}: a return is NaN or infinite, {fitness[member]} of "
                f"member {member}"
            )
        shape = {"centered-ranks": ops.evolution.centered_ranks, "nes": ops.evolution.nes_utilities}[config.utilities]
        utilities, generation = tf.constant(shape(fitness)), tf.constant(self.generation)
        left = self._schedule.left(self.steps) if config.decay_learning_rate else 1.0
        before, rate = self.search.mean, tf.constant(left * config.learning_rate)
        self.search, self._adam = self._tell(self._noise, self.search, self._adam, generation, utilities, rate)
        moved = float(tf.norm(self.search.mean - before))
        self.search = self.search._replace(mean=self._statistics.tell(self.policy, self.search.mean))
        self.steps, self.generation = self.steps + int(lengths.sum()), self.generation + 1
        if not bool(tf.reduce_all(tf.math.is_finite(self.search.mean) & tf.math.is_finite(self.search.sigma))):
            raise TrainingError(f"generation {self.generation}, step {self.steps}: parameters are not finite")
        if self.generation % config.verify_every == 0:
            ranks.require_equal(self.comm, np.concatenate(self.search), "the search distribution")
        episodes = [Episode(float(r), int(n)) for r, n in zip(returns.ravel(), lengths.ravel(), strict=True)]
        self._schedule.add(episodes, self.steps)
        sigma = self.search.sigma.numpy()
        metrics = {
            "best": float(fitness.max()),
            "mean": float(fitness.mean()),
            "spread": float(fitness.std()),
            "sigma": float(sigma[sigma > 0.0].mean()),
            "step_norm": moved,
        }
        return runs.Update(self.steps, metrics, episodes, self._schedule.end)

    def _play(self) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
        """Returns, fitness and lengths [P, E] of the generation, of all ranks; the observations' moments are counted.

        None once a rank was asked to stop: it comes at once, and nothing is counted.
        """
        import tensorflow as tf

        config, stream = self.config, (self.seed, "generation", self.generation)
        features, size = self.policy.normalized, self.comm.size
        played = config.group * config.episodes
        # Each group is a row of numbers: the only thing that is sent. Ranks with fewer groups send a row of nothing.
        sent = 3 if self._learned else 2
        rows = np.zeros((-(-self._groups // size), sent * played))
        seen = np.zeros((-(-self._counted // size), 1 + 2 * features))
        for i, group in enumerate(self._own):
            first = group * config.group
            params = self._refer(self._ask(self._noise, self.search, tf.constant(self.generation), tf.constant(first)))
            with fault_at(f"generation {self.generation}, members {first} to {first + config.group - 1}"):
                found = rollout.evaluate_members(
                    self._env,
                    self._act,
                    self._memory,
                    self._divide(params),
                    # A vector environment seeds its copies with successive numbers: members keep theirs in any group.
                    derive(*stream, "environments") + first * config.episodes,
                    derive(*stream, "actions", group),
                    features if group < self._counted else 0,
                    runs.stop_requested,
                    self.policy.to_environment,
                )
            if found is None:
                rows[i:] = -1.0
                break
            rows[i] = np.concatenate([found.lengths, found.returns, found.fitness][:sent], axis=None)
            if found.seen:
                seen[i] = np.concatenate([np.ravel(part) for part in found.seen])
        everywhere = self._in_order(rows, self._groups)
        if (everywhere[:, 0] < 0.0).any():  # the first of its lengths
            return None
        if features:
            for row in self._in_order(seen, self._counted):
                self._statistics.merge(ops.moments.Moments(*np.split(row, [1, 1 + features])))
        shape = (config.population, config.episodes)
        lengths, returns, *learned = (part.reshape(shape) for part in np.split(everywhere, sent, axis=1))
        return returns, learned[0] if learned else returns, lengths

    def _in_order(self, rows: np.ndarray, groups: int) -> np.ndarray:
        """The rows [groups, ...] of all ranks, which were dealt the groups in turn, in the order of the groups."""
        return np.swapaxes(self.comm.stack(rows), 0, 1).reshape(-1, rows.shape[1])[:groups]

    def checkpoint(self) -> "runs.Checkpoint":
        """All that a later process needs to go on."""
        mean = self._refer(self.search.mean[None]).numpy()[0]
        arrays = {f"policy/{name}": part for name, part in self.policy.named(mean).items()}
        arrays |= {f"adam/{name}": part.numpy() for name, part in self._adam._asdict().items()}
        arrays |= {f"observations/{name}": part for name, part in self._statistics.arrays().items()}
        arrays["search/sigma"] = self.search.sigma.numpy()
        counters = {"generation": self.generation, "schedule": self._schedule.state()}
        return runs.Checkpoint(self.steps, arrays, counters)

    def restore(self, checkpoint: "runs.Checkpoint") -> None:
        """Go on from a checkpoint as if there had been no stop."""
        import tensorflow as tf

        mean = self.policy.flatten(runs.subset(checkpoint.arrays, "policy"))
        sigma = like(checkpoint.arrays, "search/sigma", self.search.sigma)
        self.search = ops.evolution.Search(tf.constant(mean), tf.constant(sigma))
        self._adam = ops.adam.restored(self._adam, checkpoint.arrays)
        self._statistics.restore(runs.subset(checkpoint.arrays, "observations"))
        self.steps, self.generation = checkpoint.steps, checkpoint.counters["generation"]
        self._schedule.restore(checkpoint.counters["schedule"], checkpoint.steps)


def make_members(config: Config, noise: Any, search: Any, generation: Any, first: Any) -> Any:
    """The parameters [G, D] of a group; `noise` is its seed."""
    import tensorflow as tf

    members = first + tf.range(config.group)
    return ops.evolution.ask(search, noise, generation, members, config.mirrored)


def move(
    config: Config, sigma_rate: float, noise: Any, search: Any, state: Any, generation: Any, utilities: Any, rate: Any
) -> tuple[Any, Any]:
    """One step of the search distribution, and the state of Adam after it."""

    drawn = config.population // (2 if config.mirrored else 1)
    chunk = max(size for size in range(1, 33) if drawn % size == 0)
    found = ops.evolution.tell(noise, generation, utilities, search.mean.shape[0], config.mirrored, chunk)
    if config.form == "full":
        return ops.evolution.natural_step(search, found, rate, sigma_rate), state
    slope = ops.evolution.simple_slope(search, found, config.population, config.sigma, config.weight_decay)
    if config.optimizer == "sgd":
        return search._replace(mean=search.mean + rate * slope), state
    mean, state = ops.adam.adam(search.mean, state, -slope, rate)
    return search._replace(mean=mean), state


def _counted_groups(config: Config, features: int) -> int:
    """How many groups count F numbers of their observations: all, or as many as 32 bytes a member pay for.

    So much does a rank of two send at most; more ranks send less each, and one group is counted in any case.
    """
    if not features:
        return 0
    of_one = (32 - 8 * config.episodes) * config.population // (8 * (1 + 2 * features))
    return min(max(2 * of_one, 1), config.population // config.group)


def check_sizes(config: Config, size: int) -> Config:
    """The settings with what they leave open made up: group, utilities and step, whatever the number of ranks.

    Raises BadInputError where a population does not divide as it must.
    """
    pair, full = 2 if config.mirrored else 1, config.form == "full"
    if config.utilities == "auto":
        config = dataclasses.replace(config, utilities="nes" if full else "centered-ranks")
    if not config.learning_rate:
        config = dataclasses.replace(config, learning_rate=1.0 if full else 0.01)
    if config.population % pair:
        raise BadInputError(f"--population must be even for mirrored noise, not {config.population}")
    if config.population < size * pair:
        raise BadInputError(
            f"--population must have {'a pair' if pair == 2 else 'a member'} for each of the {size} ranks, "
            f"{size * pair} members at least, not {config.population}"
        )
    if not config.group:
        most = max(min(config.population // 4, 64), pair)
        fitting = [group for group in range(pair, most + 1, pair) if config.population % group == 0]
        config = dataclasses.replace(config, group=max(fitting))
    if config.mirrored and config.group % 2:
        raise BadInputError(f"--group must be even for mirrored noise, not {config.group}")
    if config.population % config.group:
        raise BadInputError(f"--group must divide the population of {config.population}, not {config.group}")
    if config.population // config.group < size:
        enough = range(pair, config.population // size + 1, pair)
        largest = max(group for group in enough if config.population % group == 0)
        raise BadInputError(
            f"--population must have a group of {config.group} for each of the {size} ranks, {config.group * size} "
            f"members at least, not {config.population}; --group {largest} would do"
        )
    return config

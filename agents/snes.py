"""SNES: separable natural evolution strategies.

Wierstra, Schaul, Glasmachers, Sun, Peters, Schmidhuber: "Natural evolution strategies", JMLR 15, 2014 (the full form),
and Salimans, Ho, Chen, Sidor, Sutskever: "Evolution strategies as a scalable alternative to reinforcement learning",
2017 (the simple form). Nothing is differentiated: every member of a population plays with parameters of its own,

    ψ_i = μ + σ s_i,  s_i ~ N(0, I),  F_i its mean return,  u = utilities of the ranks of F
    simple:  ∇_μ = 1/(P σ) Σ u_i s_i, which an optimizer climbs; σ stays
    full:    μ ← μ + η_μ σ Σ u_i s_i,  σ ← σ exp(η_σ/2 Σ u_i (s_i² − 1))

Under `mpirun` each rank plays a share of the members. No parameters and no noise are sent, only returns, lengths and
the moments of observations: the noise of a member is a function of (seed, generation, member), which every rank makes
for itself, and all take the same step. Members play in groups of one size, and what they found is counted in their
order, so the result is the same to the bit on any number of ranks. Policies of images may be normalized by a reference
batch (virtual batch normalization, Salimans et al. 2016), whose statistics are measured under each member's parameters.

Departures from the formulas: noise may be mirrored, μ may decay, statistics of observations in μ are counted and not
searched, and F may be learned rewards. The mathematics is in `rlab/ops/evolution.py`; what each setting did is in
docs/algorithms/snes.md.
"""

import contextlib
import functools
from collections.abc import Generator
from typing import Any

import numpy as np
import tensorflow as tf

from agents.agent import Agent, Made, Setup, in_step
from agents.configs import SNESConfig
from rlab import ops, policies, runs
from rlab.errors import TrainingError, fault_at
from rlab.parallel import calls
from rlab.parallel import comm as ranks
from rlab.sampling import rollout
from rlab.seeding import derive
from rlab.state import subset, unpack
from rlab.types import Episode

_WANDERERS, _SPACING = 16, 20  # copies that collect a reference batch, and the steps between two observations


def make_members(config: SNESConfig, noise: Any, search: Any, generation: Any, first: Any) -> Any:
    """The parameters [G, D] of a group; `noise` is its seed."""
    members = first + tf.range(config.group)
    return ops.evolution.member_parameters(search, noise, generation, members, config.mirrored)


def move(
    config: SNESConfig,
    sigma_rate: float,
    noise: Any,
    search: Any,
    state: Any,
    generation: Any,
    utilities: Any,
    rate: Any,
) -> tuple[Any, Any]:
    """One step of the search distribution, and the state of Adam after it."""

    drawn = config.population // (2 if config.mirrored else 1)
    chunk = max(size for size in range(1, 33) if drawn % size == 0)
    found = ops.evolution.natural_gradient(noise, generation, utilities, search.mean.shape[0], config.mirrored, chunk)
    if config.form == "full":
        return ops.evolution.snes_step(search, found, rate, sigma_rate), state
    slope = ops.evolution.simple_slope(search, found, config.population, config.sigma, config.weight_decay)
    if config.optimizer == "sgd":
        return search._replace(mean=search.mean + rate * slope), state
    mean, state = ops.adam.adam(search.mean, state, -slope, rate)
    return search._replace(mean=mean), state


class Learner:
    """One training run of SNES: the search distribution, and the generations that move it."""

    def __init__(self, setup: Setup[SNESConfig]) -> None:
        self.setup, self.config, self.policy, self._comm = setup, setup.config, setup.policy, setup.comm
        config = setup.config
        self.noise_seed = tf.constant(derive(self.setup.seed, "noise"))
        self._learned = setup.rewards is not None
        self._groups = config.population // config.group
        self._own = range(self._comm.rank, self._groups, self._comm.size)
        self._counted = _counted_groups(config, self.policy.normalized_features)
        # Where it can, a copy rests once the episode of the generation is over.
        self._env = setup.make_env(config.group * config.episodes, seed=0, single_episode=True)
        reference = self.reference() if self.policy.uses_reference_batch else None
        self._population = policies.Population(self.policy, config.episodes, config.deterministic, reference)
        self._normalizer = policies.ObservationNormalizer(self.policy)
        self._memory = self._population.initial_state(config.group)
        searched = self._population.action_mask
        mean = self.policy.initial_parameters(derive(self.setup.seed, "parameters"))
        self.search = ops.evolution.SearchDistribution(tf.constant(mean), tf.constant(config.sigma * searched))
        self._sigma_rate = config.sigma_rate or ops.evolution.default_sigma_rate(int(searched.sum()))
        self._adam = ops.adam.initial_state(self.policy.size)
        making = functools.partial(make_members, config)
        moving = functools.partial(move, config, self._sigma_rate)
        compiled = functools.partial(tf.function, jit_compile=True, autograph=False)
        once, size = ops.sharing.once, self.policy.size
        self._make_members = once(lambda: compiled(making), "members", config)
        self._move = once(lambda: compiled(moving), "move", config, self._sigma_rate, size)
        self.steps = self.generation = 0

    def reference(self) -> np.ndarray:
        """The reference batch, observations [N, ...] that each rank collects for itself, unseen by learned rewards."""
        seed = derive(self.setup.seed, "reference")
        with contextlib.closing(self.setup.env(num_envs=_WANDERERS, seed=seed)) as env:
            return rollout.random_observations(env, self.config.reference_batch, _SPACING, seed)

    def updates(self) -> Generator[runs.Update | None, None, None]:
        """Play a generation and take a step, until the schedule is done. A request to stop breaks a generation off."""
        return in_step(self)

    def _play(self) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
        """Play a generation: returns, fitness and lengths [P, E] over all ranks; observations' moments are accumulated.

        None, without waiting for the episodes' ends, once a rank was asked to stop; nothing is accumulated then.
        """
        config, stream = self.config, (self.setup.seed, "generation", self.generation)
        features, size = self.policy.normalized_features, self._comm.size
        played = config.group * config.episodes
        # Each group is a row: lengths, returns and, of learned rewards, fitness; moments are rows of their own. Ranks
        # with fewer groups send a row of zeros.
        sent = 3 if self._learned else 2
        rows = np.zeros((-(-self._groups // size), sent * played))
        seen = np.zeros((-(-self._counted // size), 1 + 2 * features))
        for i, group in enumerate(self._own):
            first = group * config.group
            params = self._make_members(self.noise_seed, self.search, tf.constant(self.generation), tf.constant(first))
            with fault_at(f"generation {self.generation}, members {first} to {first + config.group - 1}"):
                found = rollout.evaluate_members(
                    self._env,
                    self._population.act,
                    self._memory,
                    self._population.prepare(params),
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
                self._normalizer.merge(ops.moments.Moments(*np.split(row, [1, 1 + features])))
        shape = (config.population, config.episodes)
        lengths, returns, *learned = (part.reshape(shape) for part in np.split(everywhere, sent, axis=1))
        return returns, learned[0] if learned else returns, lengths

    def update(self) -> Made | None:
        """Play a generation, rank it, and step along the natural gradient."""
        config = self.config
        played = self._play()
        if played is None:
            return None
        returns, fitness, lengths = played
        fitness = fitness.mean(axis=1)
        if not np.isfinite(fitness).all():
            member = int(np.flatnonzero(~np.isfinite(fitness))[0])
            raise TrainingError(f"{self.place}: a return is NaN or infinite, {fitness[member]} of member {member}")
        names = {"centered-ranks": ops.evolution.centered_ranks, "nes": ops.evolution.nes_utilities}
        utilities, generation = tf.constant(names[config.utilities](fitness)), tf.constant(self.generation)
        left = self.setup.schedule.left(self.steps) if config.decay_learning_rate else 1.0
        before, rate = self.search.mean, tf.constant(left * config.learning_rate)
        self.search, self._adam = self._move(self.noise_seed, self.search, self._adam, generation, utilities, rate)
        moved = float(tf.norm(self.search.mean - before))
        self.search = self.search._replace(mean=self._normalizer.write_to(self.policy, self.search.mean))
        self.steps, self.generation = self.steps + int(lengths.sum()), self.generation + 1
        if self.generation % config.verify_every == 0:
            ranks.require_equal(self._comm, np.concatenate(self.search), "the search distribution")
        episodes = [Episode(float(r), int(n)) for r, n in zip(returns.ravel(), lengths.ravel(), strict=True)]
        sigma = self.search.sigma.numpy()
        metrics = {
            "best": float(fitness.max()),
            "mean": float(fitness.mean()),
            "spread": float(fitness.std()),
            "sigma": float(sigma[sigma > 0.0].mean()),
            "step_norm": moved,
        }
        return Made(metrics, episodes, tf.stack(self.search))

    @property
    def place(self) -> str:
        return f"generation {self.generation}, step {self.steps}"

    def _in_order(self, rows: np.ndarray, groups: int) -> np.ndarray:
        """The rows [groups, ...] of all ranks, which were dealt the groups in turn, in the order of the groups."""
        return np.swapaxes(self._comm.stack(rows), 0, 1).reshape(-1, rows.shape[1])[:groups]

    def state(self) -> dict[str, Any]:
        return {
            "policy": self.policy.named(self._population.refer(self.search.mean[None]).numpy()[0]),
            "adam": self._adam,
            "observations": self._normalizer.state(),
            "search": {"sigma": self.search.sigma},
            "generation": self.generation,
        }

    def restore(self, checkpoint: runs.Checkpoint) -> None:
        mean = tf.constant(self.policy.flatten(subset(checkpoint.arrays, "policy")))
        fresh: dict[str, Any] = {"adam": self._adam, "search": {"sigma": self.search.sigma}}
        found = unpack(fresh, checkpoint.arrays)
        self.search, self._adam = ops.evolution.SearchDistribution(mean, found["search"]["sigma"]), found["adam"]
        self._normalizer.restore(subset(checkpoint.arrays, "observations"))
        self.steps, self.generation = checkpoint.steps, checkpoint.counters["generation"]

    def close(self) -> None:
        calls.close_all([self._env])


def _counted_groups(config: SNESConfig, features: int) -> int:
    """Number of groups whose observations, of F numbers, are counted: all, or as many as 32 bytes a member pay for.

    That is the most that each of two ranks sends; of more ranks each sends less. One group is counted in any case.
    """
    if not features:
        return 0
    of_one = (32 - 8 * config.episodes) * config.population // (8 * (1 + 2 * features))
    return min(max(2 * of_one, 1), config.population // config.group)


class SNES(Agent[SNESConfig]):
    """Learns by evolution: no gradient, and the same bits on any number of ranks."""

    Config, learner_class = SNESConfig, Learner
    shown = ("score", "best", "sigma")
    uses_reference_batch = True

"""The frame that every agent has around its algorithm: construction, training, checkpoints, resuming.

The algorithm is a `Learner`, and an agent of your own is one more file of the same kind:

    class PPO(Agent[PPOConfig]):
        "Learns from several passes over each batch."

        Config, learner_class = PPOConfig, Learner

with a `PPOConfig(Tuned, agent="ppo")` of settings (`agents/configs.py`) and a `Learner` that is made from a `Setup`.
"""

import contextlib
import functools
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Any, ClassVar, Generic, NamedTuple, Protocol, TypeVar, runtime_checkable

import gymnasium as gym
import numpy as np

from agents import construction
from agents.tuning import Tuned
from rlab import policies, rewards, runs
from rlab.environments import EnvironmentFactory, VectorEnvironment
from rlab.errors import BadInputError, TrainingError, fault_at
from rlab.parallel import comm as ranks
from rlab.parallel import heartbeat, threads
from rlab.policies import Architecture, Policy
from rlab.rewards import RewardModel, RewardSettings
from rlab.schedules import Schedule
from rlab.seeding import derive
from rlab.settings import from_settings
from rlab.state import pack, subset
from rlab.types import Episode

C = TypeVar("C", bound=Tuned)

# A backbone's name, a policy, or what makes one of the spaces of observations and of actions.
PolicyLike = str | Policy | Callable[[gym.Space, gym.Space], Policy]

# Fields of a Config that are settings of its policies, and what `Policy` calls them.
_POLICY_SETTINGS = {
    "observe_actions": "observe_actions",
    "normalize_observations": "normalize_observations",
    "observation_scale": "observation_scale",
    "memory_horizon": "horizon",
    "initial_std": "initial_std",
}


class Setup(NamedTuple, Generic[C]):
    """The parts that a learner is made of."""

    config: C
    policy: Policy
    env: EnvironmentFactory
    seed: int
    schedule: Schedule
    comm: ranks.Communicator  # the ranks that train together
    rewards: RewardModel | None = None  # learned, in the place of the environment's own
    policy_is_final: bool = True  # False of a new policy, which may still be made for what the environment shows

    def make_env(
        self, num_envs: int, seed: int, *, single_episode: bool = False, first_episodes: bool = False
    ) -> VectorEnvironment:
        """Environments to train in, with learned rewards where the agent has some.

        With `single_episode` copies rest after an episode, where they can; with `first_episodes` rewards are given for,
        and learned of, first episodes after a reset alone, as they always are where copies may rest.
        """
        env = self.env(num_envs, seed, restorable=self.config.restorable, single_episode=single_episode)
        return rewards.Rewarded(env, self.rewards, first_episodes or single_episode) if self.rewards else env


class Learner(Protocol):
    """One training run of an algorithm. Environments may be made in the first update."""

    setup: Setup
    policy: Policy

    def __init__(self, setup: Setup) -> None: ...

    @property
    def steps(self) -> int:
        """Agent steps made so far, over all ranks."""

    def updates(self) -> Generator[runs.Update | None, None, None]:
        """Learn until the schedule is done, yielding each update; None where there was nothing new for a while."""

    def state(self) -> dict[str, Any]:
        """All that a later process needs to go on: arrays in nested mappings and named tuples, counters as integers.

        `policy` are the parameters by name.
        """

    def restore(self, checkpoint: runs.Checkpoint) -> None:
        """Go on from what `state` gave, before the first update."""

    def close(self) -> None:
        """Close the environments, once no more updates are asked for."""


class Made(NamedTuple):
    """The result of one update of a learner whose ranks are in step, the same on each of them."""

    metrics: dict[str, float]
    episodes: list[Episode]  # that ended in it, of all ranks
    learned: Any  # what it learned: the parameters after it, an array of any shape


class InStep(Protocol):
    """A learner whose ranks make every update together: play, step, and the numbers of both."""

    setup: Setup

    @property
    def steps(self) -> int:
        """Agent steps made so far, over all ranks."""

    @property
    def place(self) -> str:
        """The update that is made, for messages."""

    def update(self) -> Made | None:
        """Make one update; None where it was broken off, because a rank is asked to stop."""


def in_step(learner: InStep) -> Generator[runs.Update | None, None, None]:
    """The updates of a learner until its schedule is done.

    Raises TrainingError where a metric, or a number of what was learned, is not finite.
    """
    schedule = learner.setup.schedule
    while not schedule.done(learner.steps):
        place, made = learner.place, learner.update()
        if made is None:
            yield None
            continue
        wrong = [name for name, value in made.metrics.items() if not np.isfinite(value)]
        if not np.isfinite(made.learned).all():
            wrong.append("what was learned")
        if wrong:
            raise TrainingError(
                f"{place}: observations, rewards or parameters are not finite (NaN or infinity), by {', '.join(wrong)}"
            )
        schedule.add(made.episodes, learner.steps)
        yield runs.Update(learner.steps, made.metrics, made.episodes, schedule.end)


@runtime_checkable
class Asynchronous(Protocol):
    """A learner whose ranks are not in step, so that a signal to one of them has to be told to the others."""

    def agree(self, signal: int | None) -> int | None:
        """Tell this rank's signal, if it has had one; returns the number of the one that stops the run, if one does."""


class Agent(Generic[C]):
    """Trains a policy in environments.

    Args:
        config: the settings; None for those tuned for a named environment, or else `Config()`.
        env: what `envs.factory` takes: a name, which brings what is tuned for it; a class or function that makes one
            `gymnasium.Env`; or one that takes `num_envs` and makes a `VectorEnv`.
        policy: a backbone's name (`rlab.policies.BACKBONES`); a `rlab.policies.Policy`; or a callable that makes one of
            the spaces of observations and actions. None for the backbone tuned for a named environment, or else for
            the feed-forward one that fits the observations.
        seed: of parameters, actions and environments; the same gives the same bits, but of A3C with several workers.
        rewards: settings of rewards that are learned (`rlab.rewards`), such as `rewards.NoveltyConfig()`; None for the
            environment's own.
        comm: the ranks that train together; None for those of `mpirun` or of one command, if there are any.

    Raises BadInputError for settings out of range and for spaces that no policy fits.
    """

    Config: ClassVar[Any]
    learner_class: ClassVar[type[Learner]]
    shown: ClassVar[tuple[str, ...]] = ("score", "entropy")  # metrics of the progress display
    uses_reference_batch: ClassVar[bool] = False  # whether it measures what `vbn-` backbones refer to

    def __init__(
        self,
        config: C | None = None,
        env: str | Callable[..., Any] | None = None,
        policy: PolicyLike | None = None,
        seed: int = 0,
        comm: ranks.Communicator | None = None,
        rewards: RewardSettings | None = None,
    ) -> None:
        self._chosen = construction.choose(self.Config, config, env, policy, seed, rewards is not None)
        self.env, self.seed, self.comm = self._chosen.env, self._chosen.seed, comm or ranks.world()
        self.rewards, self.reward_model = rewards, self._make_rewards(rewards)
        sized = self._chosen.config.of_ranks(self.comm.size)
        sized.require_environment(self.env)
        self.policy, self._final = self._make_policy(sized), not _is_name(self._chosen.policy)
        self.config: C = self.settled(sized, self.policy, self.env)

    def settled(self, config: C, policy: Policy, env: EnvironmentFactory) -> C:
        """The settings completed for the policy and its environment; raises BadInputError where they do not fit."""
        return config

    def with_measurements(self) -> C:
        """The settings completed by measurements on this machine before a run is written; all ranks must call it."""
        return self.config

    def _make_rewards(self, settings: RewardSettings | None) -> RewardModel | None:
        return rewards.make_model(settings, self.env, derive(self.seed, "rewards")) if settings else None

    def _make_policy(self, config: C) -> Policy:
        spaces, given = (self.env.observation_space, self.env.action_space), self._chosen.policy
        if callable(given) and not isinstance(given, Policy):
            given = given(*spaces)
            if not isinstance(given, Policy):
                raise BadInputError(f"policy must give a rlab.policies.Policy for the spaces, not {given!r:.100}")
        if isinstance(given, Policy):
            policies.require_same_spaces(given, *spaces)
            return given
        fields = vars(config)
        settings = {name: fields[field] for field, name in _POLICY_SETTINGS.items() if field in fields}
        if isinstance(given, str) and policies.is_encoder(given):
            settings["encoder"] = runs.read_encoder(given)
        return policies.build(*spaces, given, self.uses_reference_batch, **settings)

    def train(
        self,
        run: str | Path,
        steps: int | None = None,
        target_score: float | None = None,
        checkpoint_every: float = 60.0,
    ) -> runs.TrainingResult:
        """Train in a new run directory for `steps` agent steps, summed over all workers and ranks.

        With `target_score` training ends early: when the last 100 episodes average it, the schedule of step sizes falls
        to 0 within a twentieth of `steps`, and the run ends if they average it then too (`rlab.schedules`). Without
        `steps` both are those tuned for a named environment. A checkpoint is saved every `checkpoint_every` seconds, 0
        being after each update. Ctrl-C raises KeyboardInterrupt after one, and the run can be resumed.
        """
        length = self._chosen.length(steps, target_score)
        return self._train(runs.begin_run(self, run, *length, self.comm, checkpoint_every))

    @classmethod
    def resume(
        cls,
        run: str | Path,
        env: str | Callable[..., Any] | None = None,
        steps: int | None = None,
        policy: PolicyLike | None = None,
        comm: ranks.Communicator | None = None,
        rewards: RewardSettings | None = None,
    ) -> runs.TrainingResult:
        """Go on with a run from its newest checkpoint, up to `steps` in all (None: as many as the run was begun with).

        The environment, the policy and learned rewards are those that the run describes, unless they are given: what
        code made has no description. A run whose environments' state can be saved goes on as if it had never stopped,
        to the bit, but for A3C, which begins new episodes. With `steps` the run's target score, if it has one, no
        longer ends it.
        """
        (made, rewards), comm = construction.to_resume(run, env, rewards), comm or ranks.world()
        beginning = runs.resume_run(cls.Config.agent, run, made, rewards, steps, comm)
        settings = beginning.run.config
        described: Any = policy or runs.read_architecture(run) or settings["backbone"]
        config = from_settings(cls.Config, settings["config"])
        return cls(config, made, described, settings["seed"], comm, rewards)._train(beginning)

    def learner(
        self,
        schedule: Schedule,
        checkpoint: runs.Checkpoint | None = None,
        comm: ranks.Communicator | None = None,
    ) -> Learner:
        """A learner, new or restored from a checkpoint; on one of the ranks that share a batch, if `comm` is given."""
        comm = comm or self.comm
        setup = Setup(self.config, self.policy, self.env, self.seed, schedule, comm, self.reward_model, self._final)
        made = type(self).learner_class(setup)
        if checkpoint:
            with runs.restoring():
                made.restore(checkpoint)
                if self.reward_model:
                    self.reward_model.restore(subset(checkpoint.arrays, "rewards"))
                if "schedule" in checkpoint.counters:  # runs of version 0.1 may not have it
                    schedule.restore(checkpoint.counters["schedule"], checkpoint.steps)
        return made

    def _train(self, beginning: runs.RunStart) -> runs.TrainingResult:
        """Train with one learner for each rank that this process has."""
        run, steps, target_score, checkpoint = beginning
        own = threads.ranks_of(self.comm, getattr(self.config, "shares", self.comm.size))
        with fault_at("before the first step"), heartbeat.stepping(heartbeat.START):
            learners = [self.learner(Schedule(steps, target_score), checkpoint, one) for one in own]
        first = learners[0]
        describe = functools.partial(runs.save_architecture, run.path, deterministic=_is_deterministic(self.config))
        return runs.run_loop(
            run,
            _described(threads.together(own, [one.updates() for one in learners]), first, self.comm, describe),
            lambda: checkpoint_of(first),
            steps,
            first.steps,
            graph=lambda: policies.trace_graph(first.policy),
            shown=self.shown,
            comm=self.comm,
            agree=first.agree if isinstance(first, Asynchronous) else None,
            contributors={"rewards": self.reward_model} if self.reward_model else None,
            close=lambda: _close(learners),
        )


def _described(
    updates: Generator[runs.Update | None, None, None],
    learner: Learner,
    comm: ranks.Communicator,
    describe: Callable[[Policy], None],
) -> Generator[runs.Update | None, None, None]:
    """Pass the updates on, and with the first one write the policy's description: it may have been measured for it."""
    with contextlib.closing(updates):
        for number, update in enumerate(updates):
            if number == 0 and comm.rank == 0:
                describe(learner.policy)
            yield update


def checkpoint_of(learner: Learner) -> runs.Checkpoint:
    """The state of a learner as it is saved, with that of its schedule."""
    state = learner.state()
    counters = {name: part for name, part in state.items() if isinstance(part, int)}
    arrays = pack({name: part for name, part in state.items() if name not in counters})
    return runs.Checkpoint(learner.steps, arrays, counters | {"schedule": learner.setup.schedule.state()})


def _close(learners: Sequence[Learner]) -> None:
    for one in learners:
        one.close()


def _is_deterministic(config: Any) -> bool:
    """Tell whether an agent's policy plays its likeliest actions while it learns."""
    return bool(getattr(config, "deterministic", False))


def _is_name(policy: Any) -> bool:
    return not isinstance(policy, Policy | Architecture) and not callable(policy)

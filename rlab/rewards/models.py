"""Rewards that are learned beside the agent: the environment's own with a bonus, or others in their place.

Any agent learns from them: `agents.TRPO(env="DeepSea", rewards=NoveltyConfig())`. An episode's score stays the
environment's own.
"""

from typing import Any, ClassVar, Protocol, cast

import gymnasium as gym
import numpy as np
from gymnasium.vector import VectorEnv, VectorWrapper

from rlab.environments import EnvironmentFactory, VectorEnvironment
from rlab.errors import BadInputError, TrainingError

_OURS = "rewarded/"  # begins the names of what this wrapper saves


class RewardModel(Protocol):
    """Gives rewards, and learns from what it sees. Environments share it, in as many threads as they like."""

    def give(
        self, before: np.ndarray, actions: np.ndarray, after: np.ndarray, rewards: np.ndarray, counts: np.ndarray
    ) -> np.ndarray:
        """Rewards float32 [B] of a step from `before` to `after` [B, ...], in the rows that count, bool [B].

        `actions` [B, ...] are as the environment takes them, `rewards` [B] what it gave.
        """

    def metrics(self) -> dict[str, float]:
        """Metrics since the last call; always of the same names."""

    def state(self) -> dict[str, Any]:
        """All that its next rewards depend on: arrays in nested mappings and named tuples."""

    def restore(self, arrays: dict[str, np.ndarray]) -> None:
        """Go on from what `state` gave, as `rlab.state.pack` names it."""


class RewardSettings(Protocol):
    """Settings of a reward model, from which an agent makes the model for its environments."""

    replaces: ClassVar[bool]  # its rewards stand in place of the environment's own, which nobody may see

    def make(self, observation_space: gym.Space, action_space: gym.Space, seed: int) -> RewardModel:
        """A new model; raises BadInputError for spaces that it cannot serve."""

    def describe(self) -> dict[str, Any]:
        """Its `kind` and settings, JSON data."""


def make_model(settings: RewardSettings, env: EnvironmentFactory, seed: int) -> RewardModel:
    """The model for these environments; raises BadInputError where it would see rewards that it is to replace."""
    if settings.replaces and env.shows_reward:
        raise BadInputError(
            "--imitate cannot go with --observe-reward: observations would show the environment's own rewards"
        )
    return settings.make(env.observation_space, env.action_space, seed)


class Rewarded(VectorWrapper):
    """Environments with the rewards of a model.

    Where an episode ends, `info["rewarded"]` float64 [B] is the sum of the rewards that were given in it. With
    `first_episodes` copies count no more once their first episode after a reset has ended, whether they rest then or
    play on. Raises TrainingError for a reward that is not finite.
    """

    def __init__(self, env: VectorEnvironment, model: RewardModel, first_episodes: bool = False) -> None:
        super().__init__(cast(VectorEnv, env))
        self.name, self.episode_limit, self.can_save = env.name, env.episode_limit, env.can_save
        self.shows_reward, self._inside = env.shows_reward, env
        self._model, self._first_episodes = model, first_episodes
        self._begin(np.zeros(0))

    def _begin(self, observations: np.ndarray) -> None:
        self._last = observations.copy()  # environments may write the next ones in their place
        self._sums, self._counts = np.zeros(self.num_envs), np.ones(self.num_envs, bool)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        observations, info = self.env.reset(seed=seed, options=options)
        self._begin(observations)
        return observations, info

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        observations, rewards, terminations, truncations, info = self.env.step(actions)
        ended = terminations | truncations
        after = observations
        if ended.any():
            rows = ended.reshape(-1, *[1] * (observations.ndim - 1))
            after = np.where(rows, info["final_obs"], observations)
        given = self._model.give(self._last, np.asarray(actions), after, rewards, self._counts)
        given = np.where(self._counts, given, 0.0).astype(np.float32)
        if not np.isfinite(given).all():
            copy = int(np.flatnonzero(~np.isfinite(given))[0])
            raise TrainingError(
                f"environment {copy}: the learned reward is {given[copy]} ({type(self._model).__name__})"
            )
        self._sums += given
        if ended.any():
            info = info | {"rewarded": self._sums.copy()}
            self._sums[ended] = 0.0
            if self._first_episodes:
                self._counts &= ~ended
        self._last = observations.copy()
        return observations, given, terminations, truncations, info

    def save_state(self) -> dict[str, np.ndarray] | None:
        """The environment's state, and what this wrapper remembers."""
        inside = self._inside.save_state()
        ours = {"last": self._last, "sums": self._sums, "counts": self._counts}
        return None if inside is None else inside | {f"{_OURS}{name}": part.copy() for name, part in ours.items()}

    def load_state(self, arrays: dict[str, np.ndarray]) -> None:
        """Go on from what `save_state` gave."""
        self._last, self._sums, self._counts = (arrays[f"{_OURS}{name}"].copy() for name in ("last", "sums", "counts"))
        self._inside.load_state({name: part for name, part in arrays.items() if not name.startswith(_OURS)})


class Averages:
    """Means of the values that were told since the last time they were taken."""

    def __init__(self, *names: str) -> None:
        self._names = names
        self._taken = dict.fromkeys(names, np.nan)
        self._told: dict[str, list[float]] = {name: [] for name in names}

    def tell(self, **values: float) -> None:
        for name, value in values.items():
            self._told[name].append(float(value))

    def take(self) -> dict[str, float]:
        """The mean of each name's values; the last mean of a name without new ones."""
        means = {name: float(np.mean(told)) for name, told in self._told.items() if told}
        self._taken |= means
        self._told = {name: [] for name in self._names}
        return dict(self._taken)

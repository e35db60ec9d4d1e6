"""Rewards that are learned beside the agent: the environment's own with a bonus, or others in their place.

Any agent learns from them: what it is handed is a factory of vector environments as ever. An episode's score stays the
environment's own.
"""

import functools
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import gymnasium as gym
import numpy as np
from gymnasium.vector import VectorEnv, VectorWrapper

from rlab.errors import BadInputError, TrainingError

REWARDS = "rewards"  # begins the names of what a model has learned, in a checkpoint
_OURS = "rewarded/"  # begins the names of what this wrapper saves


class RewardModel(Protocol):
    """What gives rewards, and learns from what it sees. Environments share it, in as many threads as they like."""

    def give(
        self, before: np.ndarray, actions: np.ndarray, after: np.ndarray, rewards: np.ndarray, counts: np.ndarray
    ) -> np.ndarray:
        """Rewards float32 [B] of a step from `before` to `after` [B, ...], in the rows that count, bool [B].

        `actions` [B, ...] are as the environment takes them, `rewards` [B] what it gave.
        """

    def metrics(self) -> dict[str, float]:
        """What it did since this was asked last; always of the same names."""

    def arrays(self) -> dict[str, np.ndarray]:
        """All that its next rewards depend on, by name."""

    def restore(self, arrays: dict[str, np.ndarray]) -> None:
        """Go on from what `arrays` gave."""

    def describe(self) -> dict[str, Any]:
        """What makes one of the same settings, as JSON data."""


class Rewarded:
    """A factory of vector environments with the rewards of one model.

    Args:
        factory: of the environments themselves, or whatever else `envs.factory` takes, such as a name.
        make: from the spaces of observations and of actions to the model.
        replaces: its rewards stand in place of the environment's own, which nobody may see.

    Raises BadInputError where the environment's rewards are to be replaced and its observations show them.
    """

    def __init__(
        self,
        factory: Callable[..., VectorEnv],
        make: Callable[[gym.Space, gym.Space], RewardModel],
        replaces: bool = False,
    ) -> None:
        import envs

        factory = envs.factory(factory)
        self.__wrapped__ = factory  # its signature is this one's too
        probe = factory(num_envs=1, seed=0)
        try:
            if replaces and any(getattr(layer, "shows_reward", False) for layer in _layers(probe)):
                raise BadInputError(
                    "--imitate cannot go with --observe-reward: observations would show the environment's own rewards"
                )
            self.model = make(probe.single_observation_space, probe.single_action_space)
        finally:
            probe.close()

    def __call__(self, **keywords: Any) -> VectorEnv:
        return _Rewarded(self.__wrapped__(**keywords), self.model, bool(keywords.get("single_episode")))


def model_of(factory: Callable[..., VectorEnv] | None) -> RewardModel | None:
    """The model whose rewards the factory's environments give, if there is one.

    It is found through `functools.partial` and through decorators that leave `__wrapped__` behind.
    """
    while factory is not None:
        if isinstance(factory, Rewarded):
            return factory.model
        factory = factory.func if isinstance(factory, functools.partial) else getattr(factory, "__wrapped__", None)
    return None


def unwrapped(factory: Callable[..., VectorEnv]) -> Callable[..., VectorEnv]:
    """The factory of the environments themselves, with all arguments that it was given meanwhile."""
    if isinstance(factory, Rewarded):
        return unwrapped(factory.__wrapped__)
    if isinstance(factory, functools.partial):
        return functools.partial(unwrapped(factory.func), *factory.args, **factory.keywords)
    return factory


def count_first_episodes(env: VectorEnv) -> None:
    """Let learned rewards, where the environment has any, be given for and learned of first episodes after a reset."""
    for layer in _layers(env):
        if isinstance(layer, _Rewarded):
            layer.rests = True


def _layers(env: VectorEnv | None) -> Iterator[VectorEnv]:
    """The environment and what it wraps, from the outside."""
    while env is not None:
        yield env
        env = getattr(env, "env", None)


class _Rewarded(VectorWrapper):
    """One vector environment of the factory.

    Where an episode ends, `info["rewarded"]` float64 [B] is the sum of the rewards that were given in it. With `rests`
    copies count no more once their first episode after a reset has ended, whether they rest then or play on. Raises
    TrainingError for a reward that is not finite.
    """

    def __init__(self, env: VectorEnv, model: RewardModel, rests: bool) -> None:
        super().__init__(env)
        self.episode_limit = getattr(env, "episode_limit", None)
        self.can_save = getattr(env, "can_save", False)
        self._model, self.rests = model, rests
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
            if self.rests:
                self._counts &= ~ended
        self._last = observations.copy()
        return observations, given, terminations, truncations, info

    def save_state(self) -> dict[str, np.ndarray] | None:
        """As of `envs.make`, and what this wrapper remembers."""
        inside = self.env.save_state() if self.can_save else None  # type: ignore[attr-defined]
        ours = {"last": self._last, "sums": self._sums, "counts": self._counts}
        return None if inside is None else inside | {f"{_OURS}{name}": part.copy() for name, part in ours.items()}

    def load_state(self, arrays: dict[str, np.ndarray]) -> None:
        self._last, self._sums, self._counts = (arrays[f"{_OURS}{name}"].copy() for name in ("last", "sums", "counts"))
        self.env.load_state({name: part for name, part in arrays.items() if not name.startswith(_OURS)})  # type: ignore[attr-defined]


class Averages:
    """Means of what was told since they were taken last."""

    def __init__(self, *names: str) -> None:
        self._names = names
        self._taken = dict.fromkeys(names, np.nan)
        self._told: dict[str, list[float]] = {name: [] for name in names}

    def tell(self, **values: float) -> None:
        for name, value in values.items():
            self._told[name].append(float(value))

    def take(self) -> dict[str, float]:
        """The mean of each; of one that was not told of, the last one."""
        means = {name: float(np.mean(told)) for name, told in self._told.items() if told}
        self._taken |= means
        self._told = {name: [] for name in self._names}
        return dict(self._taken)

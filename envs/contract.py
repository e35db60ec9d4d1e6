"""The one contract to which every vector environment is brought, whoever made it."""

from __future__ import annotations

import functools
import os
import warnings
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
from ale_py.vector_env import AtariVectorEnv
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv, VectorEnv, VectorWrapper

from envs import closing, snapshots
from envs.batched import SEEDS, RowVectorEnv
from envs.copies import Copy, add_info, array_kind
from rlab.errors import BadInputError, TrainingError, called, described, worded
from rlab.policies.observations import are_kept, are_known, choices, one_line
from rlab.seeding import check_seed

_RIGHT = "autoreset_mode=gymnasium.vector.AutoresetMode.SAME_STEP"
_SPACES = ("num_envs", "single_observation_space", "single_action_space")
_OURS = frozenset({"episode", "_episode", "rewarded"})  # of the information, what is told here of every environment
_LARGEST = np.finfo(np.float32).max


def conform(
    env: Any,
    name: str,
    seed: int = 0,
    num_envs: int | None = None,
    *,
    episode_limit: int | None = None,
    clip_rewards: bool = False,
    life_loss: bool = False,
) -> Conformed:
    """A vector environment, ours or anyone's, brought to the contract of `Conformed`.

    Args:
        env: what a factory made. Autoreset SAME_STEP is taken as it is; DISABLED, and NEXT_STEP of gymnasium's own
            vector environments, are adapted exactly: what has ended is reset by itself, in the same step.
        name: of the environment, for messages.
        seed: of the first reset that is called without one, at least 0.
        num_envs: B, how many copies were asked for; None for as many as there are.
        episode_limit: steps after which an episode is truncated, where that is known.
        clip_rewards: give rewards clipped to [-1, 1]; the score stays true.
        life_loss: `info["life_lost"]`, or that of `final_info`, says of an end that the game goes on after it.

    Raises BadInputError for what is no vector environment, or none that can be adapted, and for a bad seed.
    """

    def adapted() -> Conformed:
        masked = _check_once(env, name, num_envs)
        if _is_conformed(env):  # its own wrappers, or another's, are around it
            return env
        return Conformed(env, name, check_seed(seed), masked, episode_limit, clip_rewards, life_loss)

    # Spaces and metadata of others may be anything.
    unusable = lambda error: BadInputError(f"environment {name} is no usable VectorEnv: {described(error)}")  # noqa: E731
    return called(adapted, unusable, ours=(BadInputError,))


def _raised(method: str, error: BaseException) -> TrainingError:
    dead = isinstance(error, EOFError | ConnectionError)
    what = f"{worded(error)} (one of its processes has ended)" if dead else described(error)
    return TrainingError(f"{method}: {what}")


def _is_conformed(env: VectorEnv) -> bool:
    while isinstance(env, VectorWrapper):
        if isinstance(env, Conformed):
            return True
        env = env.env
    return False


def _check_once(env: Any, name: str, num_envs: int | None) -> bool:
    """Tell whether ended copies must be reset by a call of its own; raises BadInputError for what cannot be adapted."""
    if not isinstance(env, VectorEnv):
        kind = f"{type(env).__module__}.{type(env).__qualname__}"
        single = ", which is a single environment: envs.make takes its factory" if isinstance(env, gym.Env) else ""
        raise BadInputError(
            f"environment {name}: the factory must give a gymnasium.vector.VectorEnv, not {kind}{single}"
        )
    for attribute in _SPACES:
        if getattr(env, attribute, None) is None:
            raise BadInputError(f"environment {name}: its VectorEnv has no {attribute}")
    if num_envs is not None and env.num_envs != num_envs:
        raise BadInputError(
            f"environment {name}: {num_envs} copies were asked for, and the factory made {env.num_envs}"
        )
    mode = (env.metadata or {}).get("autoreset_mode")
    try:
        mode = AutoresetMode(mode)
    except ValueError:
        raise BadInputError(
            f"environment {name}: the metadata of its VectorEnv must say in 'autoreset_mode' how it resets, such as "
            f"{_RIGHT}, and says {mode!r}"
        ) from None
    inside = env.unwrapped
    resets_by_mask = isinstance(inside, SyncVectorEnv | AtariVectorEnv) or (
        isinstance(inside, AsyncVectorEnv) and inside.shared_memory
    )
    if mode is AutoresetMode.NEXT_STEP and not resets_by_mask:
        raise BadInputError(
            f"environment {name}: its VectorEnv resets in the next step, which cannot be adapted; make it with "
            f"{_RIGHT}, or give a factory of single environments"
        )
    masked = mode is not AutoresetMode.SAME_STEP
    if masked and env.single_observation_space.shape is None:
        raise BadInputError(f"environment {name}: observations must be arrays, not of {env.single_observation_space}")
    return masked


class Conformed(VectorWrapper):
    """B copies in autoreset SAME_STEP, whose boundaries of episodes look the same for every implementation.

    - Observations [B, ...] are of the space's dtype and no array that the environment changes later.
    - Rewards are float64 [B] (float32 where clipped), terminations and truncations bool [B].
    - `info["final_obs"]` is one array [B, ...], whose rows count where an episode ended.
    - `info["episode"]`: `r` float64 [B] and `l` int64 [B], the sum of the environment's own rewards, unclipped, and the
      steps of each episode that ended; `info["_episode"]` bool [B] says which did. Where a life was lost and the game
      goes on, they are those of the game so far and the mask is false.
    - `info["final_info"]` is the information on the steps that ended.

    NaN or infinity among observations or rewards, what the environment raises, and arrays of another shape or kind, are
    a TrainingError that names the environment. `close` raises nothing and waits some seconds at most.
    """

    shows_reward = False

    def __init__(
        self,
        env: VectorEnv,
        name: str,
        seed: int,
        masked: bool,
        episode_limit: int | None,
        clip_rewards: bool,
        life_loss: bool,
    ) -> None:
        super().__init__(env)
        self.name, self.episode_limit = name, episode_limit
        self._seed: int | None = seed
        self._masked, self._clips, self._lives = masked, clip_rewards, life_loss
        self._shut = False
        inside, B = env.unwrapped, env.num_envs
        if isinstance(inside, SyncVectorEnv):
            inside.envs = [copy if isinstance(copy, Copy) else Copy(copy, i) for i, copy in enumerate(inside.envs)]
        if isinstance(inside, SyncVectorEnv | AsyncVectorEnv):
            inside._add_info = functools.partial(_add_info, B)  # type: ignore[method-assign]
        if isinstance(inside, AsyncVectorEnv):
            inside._raise_if_errors = functools.partial(_raise_quietly, inside._raise_if_errors)  # type: ignore[method-assign]
        self.metadata = {**env.metadata, "autoreset_mode": AutoresetMode.SAME_STEP}
        shape, self._dtype = array_kind(env.single_observation_space)
        self._shape = None if shape is None else (B, *shape)
        self._float = self._dtype is not None and self._dtype.kind in "fc"
        self._counted = bool(choices(env.single_observation_space))
        # These give a new array each time, which nobody writes to.
        own = inside is env and isinstance(env, RowVectorEnv | AtariVectorEnv | SyncVectorEnv | AsyncVectorEnv)
        self._copies = not (own and getattr(env, "copy", True))
        self.episode_returns, self.episode_lengths = np.zeros(B), np.zeros(B, np.int64)

    def __del__(self) -> None:
        """Do nothing: the environment inside has a finalizer of its own."""

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        if seed is None:
            seed, self._seed = self._seed, None
        seed = None if seed is None else self._fold(check_seed(seed))
        begun = (options or {}).get("reset_mask", slice(None))
        observations, info = self._ask("reset", 2, seed=seed, **({"options": options} if options else {}))
        self.episode_returns[begun], self.episode_lengths[begun] = 0.0, 0
        return self._seen(observations), _dictionary(info)

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        observations, rewards, terminations, truncations, info = self._ask("step", 5, actions)
        self.episode_lengths += 1
        rewards = self._rewards(rewards)
        terminations, truncations = self._flags(terminations), self._flags(truncations)
        self.episode_returns += rewards
        ended, info = terminations | truncations, _without_ours(_dictionary(info))
        ends = ended.any()
        if ends and self._masked:
            observations, info = self._reset_rows(observations, info, ended)
        if ends:
            info = self._end(observations, info, ended, truncations)
        observations = self._seen(observations)
        if self._clips:
            rewards = np.clip(rewards, -1.0, 1.0).astype(np.float32)
        return observations, rewards, terminations, truncations, info

    def close(self, **kwargs: Any) -> None:
        if not self._shut:
            self._shut = True
            closing.close(self.env, self.name)

    @property
    def can_save(self) -> bool:
        """True if the environment's state can be saved and loaded."""
        return snapshots.can_save(self)

    def save_state(self) -> dict[str, np.ndarray] | None:
        """All that the next steps depend on, where the environment's state can be saved; else None."""
        return snapshots.save(self)

    def load_state(self, arrays: dict[str, np.ndarray]) -> None:
        """Go on, after a reset, from what `save_state` of an environment of the same make gave."""
        snapshots.load(self, arrays)

    def _fold(self, seed: int) -> Any:
        """The seed as the environment takes it: one for each copy, below 2^31, where Atari games would overflow."""
        over = seed + self.num_envs > SEEDS
        if over and isinstance(self.env.unwrapped, AtariVectorEnv):
            return ((seed + np.arange(self.num_envs, dtype=object)) % SEEDS).astype(np.int64)
        return seed

    def _ask(self, method: str, count: int, *arguments: Any, **keywords: Any) -> Any:
        """Call a method of the environment; raises TrainingError if it raises, or gives another number of values."""
        try:
            ask = functools.partial(getattr(self.env, method), *arguments, **keywords)
            given = called(ask, functools.partial(_raised, method))
        except TrainingError as error:
            raise TrainingError(f"environment {self.name}, {error}") from error
        if not isinstance(given, tuple) or len(given) != count:
            raise TrainingError(f"environment {self.name}: {method} must give {count} values")
        return given

    def _seen(self, observations: Any, ended: np.ndarray | None = None) -> Any:
        """Observations [B, ...] of the space's dtype, checked; given `ended` bool [B], in the numbers of those rows."""
        if self._shape is None or self._dtype is None:
            return observations
        array, what = as_array(observations), "the observation" if ended is None else "the last observation"
        array = array.copy() if self._copies else array
        if array.dtype != self._dtype and array.dtype.kind in "biufc" and np.can_cast(array, self._dtype, "same_kind"):
            with np.errstate(over="ignore"):
                given, array = array, array.astype(self._dtype)
            bent = array.shape == self._shape and not self._float
            if bent and not (right := are_kept(array, given)).all():
                self._refuse(given, right, what, ended)
        if array.shape != self._shape or array.dtype != self._dtype:
            raise TrainingError(
                f"environment {self.name} gave observations {array.dtype}{list(array.shape)}, not "
                f"{self._dtype}{list(self._shape)} as its space says"
            )
        if not (right := self._usable(array)).all():
            self._refuse(array, right, what, ended)
        return array

    def _usable(self, array: np.ndarray) -> Any:
        """The mask of numbers that a network can be shown: finite, or known to a discrete space."""
        if self._float:
            return _is_finite(array)
        return are_known(array, self.env.single_observation_space) if self._counted else np.True_

    def _rewards(self, rewards: Any) -> np.ndarray:
        """Rewards as finite float64 [B]; raises TrainingError where they are not one finite number a copy."""
        array = as_array(rewards)
        if array.size != self.num_envs or array.dtype.kind not in "biuf":
            raise TrainingError(
                f"environment {self.name} gave rewards {array.dtype}{list(array.shape)}, not one number for each of "
                f"{self.num_envs} copies"
            )
        array = array.reshape(self.num_envs).astype(np.float64)
        if not (right := _is_finite(array)).all():
            self._refuse(array, right, "the reward", None)
        return array

    def _flags(self, flags: Any) -> np.ndarray:
        """Flags as bool [B]; raises TrainingError where they are not one number a copy."""
        array = as_array(flags)
        if array.size != self.num_envs or array.dtype.kind not in "biuf":
            raise TrainingError(
                f"environment {self.name} gave {array.dtype}{list(array.shape)} for what has ended, not bool"
                f"[{self.num_envs}]"
            )
        return array.reshape(self.num_envs).astype(bool)

    def _refuse(self, array: np.ndarray, right: np.ndarray, what: str, ended: np.ndarray | None) -> None:
        """Raise a TrainingError that names the first wrong entry, if there is one in the rows that count."""
        wrong = ~right
        if ended is not None:
            wrong[~ended] = False
        if not wrong.any():
            return
        row, *entry = (int(i) for i in np.argwhere(wrong)[0])
        place, value = f" at {entry}" if entry else "", array[(row, *entry)]
        why = ""
        if np.isfinite(value):
            space = one_line(self.env.single_observation_space)
            why = f", which is not of {space}" if array.dtype.kind in "biu" else ", which float32 cannot express"
        raise TrainingError(
            f"environment {self.name}, copy {row}, step {self.episode_lengths[row]} of its episode: {what}{place} is "
            f"{value}{why}"
        )

    def _reset_rows(self, observations: Any, info: dict[str, Any], ended: np.ndarray) -> tuple[Any, dict[str, Any]]:
        """Reset the copies that have ended, of an environment that does not do so itself in the same step."""
        last = np.array(observations)  # before the reset may write into it
        begun, _ = self._ask("reset", 2, options={"reset_mask": ended.copy()})
        if np.shape(begun) != last.shape:
            raise TrainingError(
                f"environment {self.name}: reset gave observations {list(np.shape(begun))}, not {list(last.shape)}: it "
                "must give those of all copies, also where options['reset_mask'] names some"
            )
        rows = ended.reshape(-1, *[1] * (last.ndim - 1))
        if not np.array_equal(np.asarray(begun)[~ended], last[~ended]):
            raise TrainingError(
                f"environment {self.name}: reset must leave alone the copies that options['reset_mask'] does not name"
            )
        final = {key: value for key, value in info.items() if key not in ("final_obs", "final_info")}
        return np.where(rows, begun, last), {**final, "final_obs": last, "final_info": final}

    def _end(self, observations: Any, info: dict[str, Any], ended: np.ndarray, truncated: np.ndarray) -> dict[str, Any]:
        """The information on a step in which episodes ended; their statistics begin anew."""
        info, lost = dict(info), self._goes_on(info, ended, truncated)
        if self._shape is not None:
            info["final_obs"] = self._final(observations, info, ended, lost)
        info["episode"] = {
            "r": np.where(ended, self.episode_returns, 0.0),
            "l": np.where(ended, self.episode_lengths, 0),
        }
        info["_episode"] = over = ended & ~lost
        self.episode_returns[over], self.episode_lengths[over] = 0.0, 0
        return info

    def _goes_on(self, info: dict[str, Any], ended: np.ndarray, truncated: np.ndarray) -> np.ndarray:
        """The mask of ends that are those of a life only, bool [B]."""
        lost = info.get("life_lost", _dictionary(info.get("final_info")).get("life_lost")) if self._lives else None
        return np.zeros_like(ended) if lost is None else ended & ~truncated & np.asarray(lost, bool)

    def _final(self, observations: Any, info: dict[str, Any], ended: np.ndarray, lost: np.ndarray) -> np.ndarray:
        """The last observations [B, ...] of the episodes that ended, which nobody changes any more."""
        final = info.get("final_obs", info.get("final_observation"))
        rows = np.flatnonzero(ended)
        if final is None or len(final) != self.num_envs or any(final[row] is None for row in rows):
            raise TrainingError(
                f"environment {self.name} ended an episode without its last observation in info['final_obs']"
            )
        if self._copies and any(_share(final[row], observations) for row in rows):
            raise TrainingError(
                f"environment {self.name}: info['final_obs'] is the array of the observations, in which the next "
                "episode's first ones are already; it must be a copy"
            )
        if not isinstance(final, np.ndarray) or final.dtype == object:
            dense = np.zeros((self.num_envs, *np.shape(final[rows[0]])), np.asarray(final[rows[0]]).dtype)
            for row in rows:
                dense[row] = final[row]
            final = dense
        if lost.any():  # the game goes on from there
            final = np.where(lost.reshape(-1, *[1] * (final.ndim - 1)), observations, final)
        return self._seen(final, ended)


def _share(one: Any, other: Any) -> bool:
    return isinstance(one, np.ndarray) and isinstance(other, np.ndarray) and np.may_share_memory(one, other)


def as_array(given: Any) -> np.ndarray:
    """The given value as an array; one of objects where its parts do not fit together."""
    try:
        return np.asarray(given)
    except ValueError:
        return np.empty(len(given), object)


def _is_finite(array: np.ndarray) -> np.ndarray:
    """The mask of numbers that are finite in float32, which is what networks compute with."""
    return np.abs(array) <= _LARGEST if array.dtype == np.float64 else np.isfinite(array)


def _dictionary(info: Any) -> dict[str, Any]:
    return info if isinstance(info, dict) else {}


def _without_ours(info: dict[str, Any]) -> dict[str, Any]:
    """The information without the keys that are set here for every environment, whatever this one meant by them."""
    return info if _OURS.isdisjoint(info) else {key: value for key, value in info.items() if key not in _OURS}


def _raise_quietly(raise_: Callable[[Any], None], successes: Any) -> None:
    """gymnasium's `_raise_if_errors` without the process's traceback as a warning; the fault says where it was."""
    if not all(successes):
        with warnings.catch_warnings():
            warnings.simplefilter("default" if os.environ.get("RLAB_TRACEBACK") else "ignore")
            raise_(successes)


def _add_info(size: int, infos: dict[str, Any], info: dict[str, Any], row: int) -> dict[str, Any]:
    return add_info(infos, info, row, size)

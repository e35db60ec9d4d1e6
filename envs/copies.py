"""The single environments of a vector environment: results are checked and copied here, and errors name the copy."""

import warnings
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np

from envs.batched import SEEDS
from rlab.errors import TrainingError, called, described
from rlab.policies.observations import are_kept

_OBJECT = np.dtype(object)


class SingleEpisode(gym.Wrapper):
    """An environment that plays one episode after each seeded reset, then rests: no change, no reward, no cost."""

    def __init__(self, env: gym.Env) -> None:
        super().__init__(env)
        self._last: Any = None
        self._ended = False

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        if self._ended and seed is None:  # a vector environment resets what has ended
            return self._last, {}
        self._ended = False
        return self.env.reset(seed=seed, options=options)

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        if self._ended:
            return self._last, 0.0, False, False, {}
        self._last, reward, terminated, truncated, info = self.env.step(action)
        self._ended = bool(terminated or truncated)
        return self._last, reward, terminated, truncated, info


class Copy(gym.Wrapper):
    """Copy number `number` of a vector environment.

    Its last observation is its own, also where the environment writes the next episode's first one in its place; its
    reward is a number, whatever kind of number it was. What the environment raises, or gives amiss, is a TrainingError
    that names the copy, the episode's step and the line.
    """

    def __init__(self, env: gym.Env, number: int, filmed: bool = False) -> None:
        super().__init__(env)
        self.number, self.steps = number, 0
        self._filmed, self._last_picture = filmed, None
        self._shape, self._dtype = array_kind(env.observation_space)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        self.steps = 0
        given = self._ask(lambda: self.env.reset(seed=None if seed is None else seed % SEEDS, options=options), "reset")
        if not isinstance(given, tuple) or len(given) != 2:
            raise self._fault("reset must give an observation and a dictionary")
        return self._seen(given[0]), _dictionary(given[1])

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.steps += 1
        given = self._ask(lambda: self.env.step(action), "step")
        if not isinstance(given, tuple) or len(given) != 5:
            raise self._fault("step must give an observation, a reward, terminated, truncated and a dictionary")
        observation, reward, terminated, truncated, info = given
        self._seen(observation)
        if type(reward) is not float:
            reward = self._number(reward)
        ended = self._ask(lambda: (bool(terminated), bool(truncated)), "terminated and truncated")
        if ended[0] or ended[1]:
            observation = copied(observation)
            self._last_picture = copied(self._ask(self.render, "render")) if self._filmed else None
        return observation, reward, *ended, _dictionary(info)

    def render(self) -> Any:
        """The environment's picture, without gymnasium's warnings about its metadata."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return self.env.render()

    def last_picture(self) -> Any:
        """The picture at the end of the last episode, of a copy that is filmed."""
        return self._last_picture

    def _ask(self, call: Callable[[], Any], place: str) -> Any:
        return called(call, lambda error: self._fault(f"{place}: {described(error)}"), (TrainingError,))

    def _seen(self, observation: Any) -> Any:
        """The observation, which must have its space's shape and kind of numbers; raises TrainingError otherwise."""
        if self._shape is None or self._dtype is None:
            return observation
        array = self._ask(lambda: np.asarray(observation), "the observation is no array")
        if array.shape != self._shape or not np.can_cast(array.dtype, self._dtype, "same_kind"):
            given = f"{array.dtype}{list(array.shape)}" if array.dtype.kind in "biufc" else f"{observation!r:.40}"
            raise self._fault(f"the observation is {given}, not {self._dtype}{list(self._shape)} as its space says")
        # Integers gymnasium brings to the space's dtype without a look.
        bent = array.dtype != self._dtype and self._dtype.kind in "iu"
        if bent and not (kept := are_kept(array.astype(self._dtype), array)).all():
            entry = tuple(np.argwhere(~kept)[0].tolist())
            place = f" at {list(entry)}" if entry else ""
            raise self._fault(f"the observation{place} is {array[entry]}, beyond the {self._dtype} of its space")
        return observation

    def _number(self, reward: Any) -> float:
        try:
            array = np.asarray(reward)
            number = float(array.item()) if array.dtype.kind in "biuf" else None
        except Exception:  # whatever an object makes of being asked for its number
            number = None
        if number is None:
            raise self._fault(f"the reward is {reward!r:.60} and no number")
        return number

    def _fault(self, text: str) -> TrainingError:
        return TrainingError(f"copy {self.number}, step {self.steps} of its episode: {text}")


def array_kind(space: gym.Space) -> tuple[tuple[int, ...] | None, np.dtype | None]:
    """Shape and dtype of a space of arrays of numbers; None each for one of anything else."""
    numbers = space.shape is not None and space.dtype is not None and space.dtype.kind in "biufc"
    return (space.shape, space.dtype) if numbers else (None, None)


def copied(observation: Any) -> Any:
    """The observation as it is now, arrays within tuples and dictionaries too."""
    if isinstance(observation, np.ndarray):
        return observation.copy()
    if isinstance(observation, dict):
        return {key: copied(part) for key, part in observation.items()}
    return tuple(copied(part) for part in observation) if type(observation) is tuple else observation


def _dictionary(info: Any) -> dict[str, Any]:
    return info if isinstance(info, dict) else {}


def add_info(infos: dict[str, Any], info: dict[str, Any], row: int, size: int) -> dict[str, Any]:
    """gymnasium's `VectorEnv._add_info`, for values that may be of another kind in each copy, or nothing at all.

    There an array takes its kind from the first value that comes, and what comes after must fit, or is bent to fit:
    None becomes False. Here an array is of the kind that all of its values are, or else of objects.
    """
    for key, value in info.items():
        if isinstance(value, dict) and isinstance(infos.get(key, {}), dict) and key != "final_obs":
            infos[key] = add_info(infos.get(key, {}), value, row, size)
        else:
            array = np.full(size, None, object) if isinstance(infos.get(key), dict) else infos.get(key)
            infos[key] = _put(array, value, row, size, key == "final_obs")
        mask = infos.setdefault(f"_{key}", np.zeros(size, bool))
        if isinstance(mask, np.ndarray) and mask.shape == (size,) and mask.dtype == bool:
            mask[row] = True
    return infos


def _put(array: np.ndarray | None, value: Any, row: int, size: int, objects: bool) -> np.ndarray:
    """The array [B, ...] with the value in its row."""
    plain = not objects and isinstance(value, bool | int | float | np.generic | np.ndarray)
    kind, shape = (np.asarray(value).dtype, np.shape(value)) if plain else (_OBJECT, ())
    if kind.kind not in "biufc":
        kind, shape = _OBJECT, ()
    if array is None:
        array = np.full(size, None, object) if kind == _OBJECT else np.zeros((size, *shape), kind)
    elif array.dtype != _OBJECT and (array.dtype != kind or array.shape[1:] != shape):
        before, array = array, np.full(size, None, object)
        for other in range(size):
            array[other] = before[other]
    array[row] = value
    return array

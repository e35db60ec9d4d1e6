"""Environments that can be filmed."""

import os
from collections.abc import Callable
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
from gymnasium.vector import VectorEnv, VectorWrapper

from envs.atari import make_colour_twin
from envs.construction import is_atari, make, resolve
from envs.contract import conform
from rlab.errors import BadInputError, TrainingError, called, name_of, worded


class Filmed(NamedTuple):
    """One environment (B = 1) and its camera."""

    env: VectorEnv
    frame: Callable[[], np.ndarray]  # the present picture, uint8 [H, W, 3]
    last_frame: Callable[[], np.ndarray]  # that of the episode which ended in the last step
    fps: float  # agent steps per second of real time


def make_filmed(
    name: str | Callable[..., gym.Env], seed: int, *, asynchronous: bool | str = False, **options: Any
) -> Filmed:
    """The named environment with a camera; raises BadInputError when it cannot render here."""
    if isinstance(name, str):
        name = resolve(name)
        if is_atari(name):
            twins = _Twins(make(name, 1, seed, **options), make_colour_twin(name, **options), seed)
            return Filmed(twins, twins.frame, twins.last_frame, _speed(60.0 / options.get("frame_skip", 4)))
    mujoco = isinstance(name, str) and _is_mujoco(name)
    if mujoco and not os.environ.get("DISPLAY"):
        os.environ.setdefault("MUJOCO_GL", "egl")  # it looks for a screen otherwise
    # Mesa's drivers and TensorFlow bring an LLVM each, and crash in one process.
    env = make(name, 1, seed, asynchronous="spawn" if mujoco else asynchronous, filmed=True, **options)
    camera = _Camera(env, mujoco)
    return Filmed(env, camera.frame, camera.last_frame, _speed(env.metadata.get("render_fps")))


def _is_mujoco(name: str) -> bool:
    return "mujoco" in str(gym.spec(name).entry_point)


def _speed(told: Any) -> float:
    """Pictures a second, 30 where the metadata say nothing that can be used: a GIF shows one for minutes at most."""
    usable = isinstance(told, int | float | np.number) and 0.1 <= told < 1000.0
    return float(told) if usable else 30.0


class _Camera:
    """The camera on the only copy of a vector environment."""

    def __init__(self, env: VectorEnv, mujoco: bool) -> None:
        self._env, self._mujoco = env, mujoco

    def frame(self) -> np.ndarray:
        """The environment's present picture, uint8 [H, W, 3]."""
        return self._picture("render")

    def last_frame(self) -> np.ndarray:
        """The picture at the end of the last episode, uint8 [H, W, 3]."""
        return self._picture("last_picture")

    def _picture(self, what: str) -> np.ndarray:
        name = name_of(self._env)
        needs = "; without a screen MUJOCO_GL=egl needs libegl1, and MUJOCO_GL=osmesa libosmesa6" * self._mujoco
        (picture,) = called(
            lambda: self._env.unwrapped.call(what),  # type: ignore[attr-defined]
            lambda error: BadInputError(f"environment {name} cannot be filmed: {worded(error)}{needs}"),
            ours=(),
        )
        return as_picture(picture, name)


def as_picture(picture: Any, name: str) -> np.ndarray:
    """The rendered picture as uint8 [H, W, 3]; raises BadInputError for what is no picture."""
    if isinstance(picture, list | tuple) and len(picture):  # all frames since the last one
        picture = picture[-1]
    if picture is None:
        raise BadInputError(f"environment {name} cannot be filmed: its render() gives None, and no picture")
    try:
        array = np.asarray(picture)
        whole = array.dtype.kind in "biuf" and np.isfinite(array).all()
    except Exception:  # what objects make of being an array
        array, whole = np.zeros(0), False
    if array.ndim == 2:
        array = np.repeat(array[..., None], 3, axis=2)
    if not whole or array.ndim != 3 or array.shape[2] not in (1, 3, 4) or not array.size:
        given = f"{array.dtype}{list(array.shape)}" if whole else f"{type(picture).__name__}"
        raise BadInputError(f"environment {name} cannot be filmed: its render() gives {given}, not uint8[H, W, 3]")
    array = np.repeat(array, 3, axis=2) if array.shape[2] == 1 else array[..., :3]
    if array.dtype == bool or (array.dtype.kind == "f" and array.max() <= 1.0):
        array = array * 255.0
    return np.clip(array, 0, 255).astype(np.uint8)


class _Twins(VectorWrapper):
    """The game that the policy sees and the same game in colour: equal seeds and actions give equal games."""

    def __init__(self, env: VectorEnv, colour: VectorEnv, seed: int) -> None:
        super().__init__(env)
        self._colour, self._seed = conform(colour, name_of(env), seed), seed
        self._last: np.ndarray | None = None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        seed = self._seed if seed is None else seed
        self._picture, _ = self._colour.reset(seed=seed)
        return self.env.reset(seed=seed)

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        self._picture, _, *ends, info = self._colour.step(actions)
        self._last = info.get("final_obs", self._last)
        result = self.env.step(actions)
        if (ends[0] | ends[1] != result[2] | result[3]).any():
            raise TrainingError("the filmed game left the played one")
        return result

    def frame(self) -> np.ndarray:
        """The game as it stands, uint8 [210, 160, 3]."""
        return self._picture[0, -1]

    def last_frame(self) -> np.ndarray:
        """The end of the game that ended in the last step."""
        assert self._last is not None
        return self._last[0, -1]

    def close(self, **kwargs: Any) -> None:
        self._colour.close()
        super().close()

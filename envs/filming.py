"""Environments that can be filmed."""

import os
from collections.abc import Callable
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
from gymnasium.vector import VectorEnv, VectorWrapper

from envs.atari import make_colour_twin
from envs.making import is_atari, make, resolve
from rlab.errors import BadInputError


class Filmed(NamedTuple):
    """One environment (B = 1) and its camera."""

    env: VectorEnv
    frame: Callable[[], np.ndarray]  # the present picture, uint8 [H, W, 3]
    fps: float  # agent steps per second of real time


def make_filmed(name: str, seed: int, **options: Any) -> Filmed:
    """The named environment with a camera; raises BadInputError when it cannot render here."""
    name = resolve(name)
    if is_atari(name):
        twins = _Twins(make(name, 1, seed, **options), make_colour_twin(name, **options), seed)
        return Filmed(twins, twins.frame, 60.0 / options.get("frame_skip", 4))
    mujoco = "mujoco" in str(gym.spec(name).entry_point)
    if mujoco and not os.environ.get("DISPLAY"):
        os.environ.setdefault("MUJOCO_GL", "egl")  # it looks for a screen otherwise
    # Mesa's drivers and TensorFlow bring an LLVM each, and crash in one process.
    env = make(name, 1, seed, asynchronous="spawn" if mujoco else False, render_mode="rgb_array", **options)
    return Filmed(env, lambda: _picture(env, name), float(env.metadata.get("render_fps", 30)))


def _picture(env: VectorEnv, name: str) -> np.ndarray:
    try:
        pictures = env.render()
    except Exception as error:  # what a renderer raises without its libraries is its own affair
        mujoco = "mujoco" in str(gym.spec(name).entry_point)
        needs = "; without a screen MUJOCO_GL=egl needs libegl1, and MUJOCO_GL=osmesa libosmesa6" if mujoco else ""
        raise BadInputError(f"environment {name!r} cannot be filmed: {error}{needs}") from error
    if not pictures:
        raise BadInputError(f"environment {name!r} cannot be filmed: it renders nothing")
    return np.asarray(pictures[0])


class _Twins(VectorWrapper):
    """The game that the policy sees and the same game in colour: equal seeds and actions give equal games."""

    def __init__(self, env: VectorEnv, colour: VectorEnv, seed: int) -> None:
        super().__init__(env)
        self._colour, self._seed = colour, seed

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        seed = self._seed if seed is None else seed
        self._picture, _ = self._colour.reset(seed=seed)
        return self.env.reset(seed=seed)

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        self._picture, _, ended, _, _ = self._colour.step(actions)
        result = self.env.step(actions)
        if (ended != result[2]).any():
            raise RuntimeError("the filmed game left the played one")
        return result

    def frame(self) -> np.ndarray:
        return self._picture[0, -1]

    def close(self, **kwargs: Any) -> None:
        self._colour.close(**kwargs)
        super().close(**kwargs)

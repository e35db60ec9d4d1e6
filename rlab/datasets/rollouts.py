"""Images that an agent sees: what an environment shows while actions are drawn at random."""

import ast
import contextlib
from typing import Any

import numpy as np

import envs
from rlab.errors import BadInputError

_COPIES, _SPACING = 16, 4  # environments that are played, and the steps between two images of each


def frames(source: str, count: int, seed: int) -> np.ndarray:
    """The first `count` images, uint8 [count, H, W], of an environment named as `Pong` or `Pong,frame_size=42`.

    Of observations that hold the last few frames, channels first, the newest is taken; colours become grey. Raises
    BadInputError for an unknown environment, and for one whose observations are no images.
    """
    name, *given = source.split(",")
    options = dict(map(_option, given))
    for taken in sorted(options.keys() & {"num_envs", "seed"}):
        raise BadInputError(f"{taken!r} is no option of an environment")
    with contextlib.closing(envs.make(name, num_envs=_COPIES, seed=seed, **options)) as env:
        space = env.single_observation_space
        if space.dtype != np.uint8 or len(space.shape or ()) not in (2, 3):
            raise BadInputError(f"the observations of {name} are no images, but {space}")
        observations, _ = env.reset()
        generator, found = np.random.default_rng(seed), list[np.ndarray]()
        env.action_space.seed(int(generator.integers(2**31)))
        while len(found) * _COPIES < count:
            for _ in range(_SPACING):
                observations, *_ = env.step(env.action_space.sample())
            found.append(grey(np.asarray(observations)).copy())
    return np.concatenate(found)[:count]


def grey(observations: np.ndarray) -> np.ndarray:
    """The newest frame of each observation as it is stacked in them, brightness [B, H, W] from 0 to 255."""
    if observations.ndim == 3:
        return observations
    if observations.shape[1] < observations.shape[3]:  # channels first: the frames of the last few steps
        return observations[:, -1]
    return observations.mean(-1).astype(np.uint8)


def _option(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals:
        raise BadInputError(f"an option of an environment is name=value, not {text!r}")
    try:
        return name.replace("-", "_"), ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return name.replace("-", "_"), value

"""Images that an agent sees: what an environment shows while actions are drawn at random."""

import ast
import contextlib
from typing import Any

import numpy as np

from rlab import environments
from rlab.errors import BadInputError
from rlab.policies.observations import Reading, one_line, reading_of

_COPIES, _SPACING = 16, 4  # environments that are played, and the steps between two images of each


def frames(source: str, count: int, seed: int) -> np.ndarray:
    """The first `count` images, uint8 [count, H, W], of an environment named as `Pong` or `Pong,frame_size=42`.

    Of observations that hold the last few frames, channels first, the newest is taken; colours become grey, and the
    bounds 0 and 255. Raises BadInputError for an unknown environment, and for one whose observations are no images.
    """
    name, *given = source.split(",")
    options = dict(map(_option, given))
    if ways := set(environments.WAYS).intersection(options):
        raise BadInputError(f"{min(ways)!r} is no option of an environment")
    with contextlib.closing(environments.factory(name, **options)(num_envs=_COPIES, seed=seed)) as env:
        reading = reading_of(env.single_observation_space)
        if not reading.image:
            raise BadInputError(f"the observations of {name} are no images, but {one_line(reading.space)}")
        observations, _ = env.reset()
        generator, found = np.random.default_rng(seed), list[np.ndarray]()
        env.action_space.seed(int(generator.integers(2**31)))
        while len(found) * _COPIES < count:
            for _ in range(_SPACING):
                observations, *_ = env.step(env.action_space.sample())
            found.append(grey(np.asarray(observations), reading).copy())
    return np.concatenate(found)[:count]


def grey(observations: np.ndarray, reading: Reading) -> np.ndarray:
    """The newest frame of each stack of images as brightness, uint8 [B, H, W]."""
    for _ in range(reading.axes[0]):  # before height and width: the frames of the last few steps
        observations = observations[:, -1]
    while observations.ndim > 3:
        observations = observations.mean(-1)
    if (reading.low, reading.high) == (0.0, 255.0):
        return observations.astype(np.uint8)
    brightness = (observations.astype(np.float64) - reading.low) / (reading.high - reading.low)
    return (255.0 * np.clip(brightness, 0.0, 1.0)).astype(np.uint8)


def _option(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals:
        raise BadInputError(f"an option of an environment is name=value, not {text!r}")
    try:
        return name.replace("-", "_"), ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return name.replace("-", "_"), value

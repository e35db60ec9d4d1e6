"""The reading of observations by a policy: which arrays are images, and what a network sees of each space.

NumPy and gymnasium only, so that everything that looks at observations can go by the one rule.
"""

import dataclasses
import math
from typing import Any

import gymnasium as gym
import numpy as np

from rlab.errors import BadInputError

SMALLEST_IMAGE = 7  # pixels to a side; MiniGrid's views have as many
_MOST_CHOICES = 100_000  # numbers of a one-hot observation, and outputs of a policy's head


@dataclasses.dataclass(frozen=True)
class Reading:
    """The form in which a network is shown the observations of one space.

    Args:
        space: of one environment.
        kind: "image", "vector" (flattened, float32) or "one-hot".
        axes: of an image, those of height and width in the space's shape; the others become its channels.
        low, high: of an image, its least and greatest brightness.
        background: of an image, the brightness that is shown as 0, and a quarter of the range more as 1; None where
            each image is shown with mean 0 and deviation 1 over its own pixels.
    """

    space: gym.Space
    kind: str
    axes: tuple[int, int] = (0, 1)
    low: float = 0.0
    high: float = 1.0
    background: float | None = None

    @property
    def image(self) -> bool:
        return self.kind == "image"

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of a network's input for one observation: (H, W, C), or (F,)."""
        if self.kind == "one-hot":
            return (sum(choices(self.space)),)
        size = self.space.shape or ()
        if not self.image:
            return (math.prod(size),)
        height, width = (size[axis] for axis in self.axes)
        return height, width, math.prod(size) // (height * width)

    def __str__(self) -> str:
        size, shape = self.space.shape or (), self.shape
        if self.kind == "one-hot":
            return f"one-hot vector of {shape[0]} numbers"
        if not self.image:
            array = f", an array of {_times(size)} flattened" if len(size) > 1 else ""
            return f"vector of {shape[0]} {'number' if shape[0] == 1 else 'numbers'}{array}"
        where = ""
        if len(size) > 2:
            first, last = self.axes[0] > 0, self.axes[1] < len(size) - 1
            where = ", channels first" if not last else ", channels last" if not first else ", stacked frames"
        pixels = _times(shape[:2] if len(size) == 2 else shape)
        about = "" if self.background is None else f" about {self.background:g}"
        return f"image {pixels}{where}, scaled from [{self.low:g}, {self.high:g}]{about}"

    @property
    def doubtful(self) -> str:
        """The reason why observations with the shape of an image are read as a vector; empty where they are not."""
        if self.kind != "vector" or not _sides(self.space.shape or ()):
            return ""
        return (
            f"observations of {_times(self.space.shape or ())} have the shape of an image, but no finite bounds that "
            f"are the same for all of it, by which it could be scaled: they are taken as a {self}"
        )

    def to_json(self) -> dict[str, Any]:
        """The reading as JSON data, without the space."""
        if not self.image:
            return {"kind": self.kind}
        found = {"kind": self.kind, "axes": list(self.axes), "low": self.low, "high": self.high}
        return found if self.background is None else found | {"background": self.background}


def reading_of(space: gym.Space) -> Reading:
    """The reading of a space's observations; raises BadInputError for spaces that no network takes.

    An array of two to four axes is an image, whatever its dtype, if two adjacent axes are 7 long at least and all of it
    has the same finite bounds; of several such pairs those with the longest shorter side are height and width, and the
    first of equals. All other arrays are vectors, those without bounds among them.
    """
    if isinstance(space, gym.spaces.Discrete | gym.spaces.MultiDiscrete):
        require_few(space, "observations")
        return Reading(space, "one-hot")
    if not isinstance(space, gym.spaces.Box | gym.spaces.MultiBinary):
        raise BadInputError(
            f"no backbone takes observations of {one_line(space)}; "
            "Box, Discrete, MultiDiscrete and MultiBinary spaces would fit"
        )
    if not math.prod(space.shape):
        raise BadInputError(f"no backbone takes observations of {one_line(space)}: they hold no numbers")
    axes, bounds = _sides(space.shape), _bounds(space)
    return Reading(space, "image", axes, *bounds) if axes and bounds else Reading(space, "vector")


def first_reading_of(space: gym.Space) -> Reading:
    """The reading of a space by version 0.1: bytes of three axes were images, other arrays vectors."""
    if isinstance(space, gym.spaces.Box) and space.dtype == np.uint8 and len(space.shape) == 3:
        channels_first = space.shape[0] < space.shape[2]
        return Reading(space, "image", (1, 2) if channels_first else (0, 1), 0.0, 255.0)
    return Reading(space, "vector") if isinstance(space, gym.spaces.Box) else reading_of(space)


def reading_from_json(space: gym.Space, data: dict[str, Any]) -> Reading:
    """The inverse of `Reading.to_json`; raises ValueError for what is no reading of the space."""
    usual = reading_of(space)
    if data["kind"] == usual.kind != "image" or (data["kind"] == "vector" and usual.image):
        return Reading(space, data["kind"])
    first, second = (int(axis) for axis in data["axes"])
    low, high = float(data["low"]), float(data["high"])
    background = None if data.get("background") is None else float(data["background"])
    size = space.shape or ()
    numbers = isinstance(space, gym.spaces.Box | gym.spaces.MultiBinary)
    within = background is None or low <= background <= high
    sides = 0 <= first == second - 1 < len(size) - 1
    if data["kind"] != "image" or not (numbers and sides and within and _spans(low, high)):
        raise ValueError(f"observations of {one_line(space)} cannot be read as {data}")
    return Reading(space, "image", (first, second), low, high, background)


def choices(space: gym.Space) -> list[int]:
    """The count of values that each number of a discrete space can take; empty for other spaces."""
    if isinstance(space, gym.spaces.Discrete):
        return [int(space.n)]
    return np.ravel(space.nvec).tolist() if isinstance(space, gym.spaces.MultiDiscrete) else []


def one_line(space: gym.Space) -> str:
    """A space as text without line breaks; NumPy breaks the bounds of larger ones."""
    text = " ".join(str(space).split())
    # Of which gymnasium does not always tell.
    told = not isinstance(space, gym.spaces.MultiDiscrete) or space.dtype == np.int64
    return text if told or str(space.dtype) in text else f"{text} of {space.dtype}"


def are_kept(numbers: np.ndarray, given: np.ndarray) -> np.ndarray:
    """The mask of integers that were not changed by the cast to their dtype; True for real numbers."""
    return np.ones(numbers.shape, bool) if numbers.dtype.kind in "fc" else np.equal(numbers, given)


def are_known(numbers: np.ndarray, space: gym.Space) -> np.ndarray:
    """The mask of numbers of observations [..., *shape] that a discrete space has; True for other spaces."""
    counts = choices(space)
    if not counts:
        return np.ones(numbers.shape, bool)
    first = np.asarray(space.start)  # type: ignore[attr-defined]
    return (numbers >= first) & (numbers < first.astype(np.int64) + np.reshape(counts, space.shape or ()))


def require_few(space: gym.Space, what: str) -> None:
    """Raise BadInputError where one-hot rows would be too long for any network."""
    if sum(choices(space)) > _MOST_CHOICES:
        raise BadInputError(
            f"no policy takes {what} of {one_line(space)}: it has more than {_MOST_CHOICES:,} values, each of which "
            "would be a number of its own"
        )


def _sides(size: tuple[int, ...]) -> tuple[int, int] | None:
    """The axes that are height and width, where an array has the shape of an image."""
    if not 2 <= len(size) <= 4:
        return None
    first = max(range(len(size) - 1), key=lambda axis: min(size[axis : axis + 2]))
    return (first, first + 1) if min(size[first : first + 2]) >= SMALLEST_IMAGE else None


def _bounds(space: gym.spaces.Box | gym.spaces.MultiBinary) -> tuple[float, float] | None:
    """The bounds of all numbers of an array, if they are finite and the same everywhere."""
    if isinstance(space, gym.spaces.MultiBinary):
        return 0.0, 1.0
    if not space.is_bounded():
        return None
    low, high = float(space.low.flat[0]), float(space.high.flat[0])
    same = (space.low == space.low.flat[0]).all() and (space.high == space.high.flat[0]).all()
    return (low, high) if same and _spans(low, high) else None


def _spans(low: float, high: float) -> bool:
    """Tell whether the bounds differ, and by no more than float32 can express."""
    return 0.0 < high - low <= float(np.finfo(np.float32).max)


def _times(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape))

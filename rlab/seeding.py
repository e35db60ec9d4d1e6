"""Seeds: every random stream is derived from the run's one seed and the stream's own name."""

import operator
import zlib
from typing import Any, NamedTuple

import numpy as np

from rlab.errors import BadInputError


class Streams(NamedTuple):
    """Seeds for playing: of the environments, and of the actions."""

    environments: int
    actions: int


def check_seed(seed: Any) -> int:
    """The seed as an int; raises BadInputError for what is no whole number, or below 0."""
    try:
        number = -1 if isinstance(seed, bool) else operator.index(seed)
    except TypeError:
        number = -1
    if number < 0:
        raise BadInputError(f"a seed must be a whole number, at least 0, not {seed!r}")
    return number


def derive(seed: int, *path: int | str) -> int:
    """A seed in [0, 2^31) for the stream named by `path`, such as `derive(seed, "worker", 3)`.

    Streams of different names are statistically independent (NumPy's SeedSequence hashes the whole path), and a
    stream does not depend on how many others exist. Raises BadInputError for what is no seed.
    """
    seed = check_seed(seed)
    words = [seed & 0xFFFFFFFF, seed >> 32 & 0xFFFFFFFF]
    words += [zlib.crc32(part.encode()) if isinstance(part, str) else part for part in path]
    return int(np.random.SeedSequence(words).generate_state(1)[0] >> 1)


def playing(seed: int, *path: int | str) -> Streams:
    """The seeds for playing under the name `path`, such as `playing(seed, "worker", 3, first_step)`."""
    return Streams(derive(seed, *path, "environments"), derive(seed, *path, "actions"))

"""Seeds: every random stream is derived from the run's one seed and the stream's own name."""

import zlib
from typing import NamedTuple

import numpy as np


class Streams(NamedTuple):
    """Seeds of what plays."""

    environments: int
    actions: int


def derive(seed: int, *path: int | str) -> int:
    """A seed in [0, 2^31) for the stream named by `path`, such as `derive(seed, "worker", 3)`.

    Streams of different names are statistically independent (NumPy's SeedSequence hashes the whole path), and a
    stream does not depend on how many others exist.
    """
    words = [seed & 0xFFFFFFFF, seed >> 32 & 0xFFFFFFFF]
    words += [zlib.crc32(part.encode()) if isinstance(part, str) else part for part in path]
    return int(np.random.SeedSequence(words).generate_state(1)[0] >> 1)


def playing(seed: int, *path: int | str) -> Streams:
    """The seeds of who plays under the name `path`, such as `playing(seed, "worker", 3, first_step)`."""
    return Streams(derive(seed, *path, "environments"), derive(seed, *path, "actions"))

"""Seeds: every random stream is derived from the run's one seed and the stream's own name."""

import zlib

import numpy as np


def derive(seed: int, *path: int | str) -> int:
    """A seed in [0, 2^31) for the stream named by `path`, such as `derive(seed, "worker", 3)`.

    Streams of different names are statistically independent (NumPy's SeedSequence hashes the whole path), and a
    stream does not depend on how many others exist.
    """
    words = [seed & 0xFFFFFFFF, seed >> 32 & 0xFFFFFFFF]
    words += [zlib.crc32(part.encode()) if isinstance(part, str) else part for part in path]
    return int(np.random.SeedSequence(words).generate_state(1)[0] >> 1)

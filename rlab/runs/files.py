"""Files that are either whole or absent."""

import os
from pathlib import Path

# The trained parameters by name, in a run's `policy/` or, of a task, `model/`.
WEIGHTS = "weights.safetensors"


def write_atomically(path: Path, content: bytes) -> None:
    """Write a temporary file beside `path`, flush it to the disk, and rename it: a crash leaves the old or the new.

    Raises OSError, with no temporary file left, when the disk is full.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    # The rename itself is durable only when the directory is flushed.
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)

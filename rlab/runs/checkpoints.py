"""Checkpoints: one safetensors file each, data only, written atomically, the newest few kept."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rlab.arrays import DIGEST, Named, digest, read_safetensors, to_safetensors
from rlab.errors import BadInputError, TrainingError
from rlab.files import write_atomically

_NAME = "step-{:012d}.safetensors"
_PATTERN = re.compile(r"step-([0-9]{12})\.safetensors")
_COUNTS = ("updates", "batches", "generation", "begun")  # counters that are whole numbers
_ANYTHING = "collector/"  # begins the names of an environment's own state, which need not be finite


class Checkpoint(NamedTuple):
    """The state of a training run between two updates."""

    steps: int  # agent steps made; of a task, updates
    arrays: dict[str, np.ndarray]  # `policy/...` (of a task `model/...`) the parameters by name; the optimizer's
    counters: dict[str, Any]  # JSON data, such as the number of updates


def save(directory: Path, checkpoint: Checkpoint, keep: int) -> Path:
    """Write the checkpoint, then delete all but the newest `keep`.

    Raises TrainingError, and writes nothing, where a number that was learned is not finite: the last checkpoint stays
    the newest.
    """
    if name := _not_finite(checkpoint.arrays):
        raise TrainingError(
            f"step {checkpoint.steps}: {name!r} is not finite (NaN or infinity); the last checkpoint stays the newest"
        )
    metadata = {"steps": str(checkpoint.steps), "counters": json.dumps(checkpoint.counters)}
    metadata[DIGEST] = digest(checkpoint.arrays, metadata["steps"], metadata["counters"])
    path = directory / _NAME.format(checkpoint.steps)
    write_atomically(path, to_safetensors(checkpoint.arrays, metadata))
    for old in paths(directory)[:-keep]:
        old.unlink(missing_ok=True)
    return path


def load(path: Path) -> Checkpoint:
    """Read a checkpoint; raises BadInputError, naming the file, when it is cut short or damaged, or holds nonsense."""
    try:
        arrays, metadata = read_safetensors(path)
        whole = metadata[DIGEST] == digest(arrays, metadata["steps"], metadata["counters"])
        steps, counters = int(metadata["steps"]), json.loads(metadata["counters"])
    except (OSError, KeyError, TypeError, ValueError, RecursionError) as error:
        said = str(error).removeprefix(f"{path} is cut short or damaged: ")
        raise BadInputError(f"checkpoint {path} is cut short or damaged ({said}); {_remedy(path)}") from error
    if not whole:
        raise BadInputError(f"checkpoint {path} is damaged (its checksum differs); {_remedy(path)}")
    if wrong := _nonsense(path, steps, arrays, counters):
        raise BadInputError(f"checkpoint {path} is damaged ({wrong}); {_remedy(path)}")
    source = f"checkpoint {path}"
    return Checkpoint(steps, Named(arrays, source), Named(counters, source))


def _nonsense(path: Path, steps: int, arrays: dict[str, np.ndarray], counters: Any) -> str | None:
    """The fault of a checkpoint that no run has written, in words, though its digest is right; None without one."""
    if _PATTERN.fullmatch(path.name) and path.name != _NAME.format(steps):
        return f"it is of step {steps}"
    if not isinstance(counters, dict):
        return "its counters are none"
    for name in _COUNTS:
        if name in counters and not (type(counters[name]) is int and 0 <= counters[name] < 2**53):
            return f"{name!r} is {counters[name]!r}"
    wrong = _not_finite(arrays)
    return f"{wrong!r} is not finite" if wrong else None


def _not_finite(arrays: Mapping[str, np.ndarray]) -> str | None:
    """The name of an array with a number that is not finite, if there is one."""
    floats = {name: part for name, part in arrays.items() if np.issubdtype(np.asarray(part).dtype, np.floating)}
    return next(
        (name for name, part in floats.items() if not (name.startswith(_ANYTHING) or np.isfinite(part).all())), None
    )


def paths(directory: Path) -> list[Path]:
    """The checkpoints of a directory, oldest first."""
    return sorted(path for path in directory.glob("step-*.safetensors") if _PATTERN.fullmatch(path.name))


def steps_of(path: Path) -> int:
    """The steps of a checkpoint, by its name."""
    return int(path.name.removeprefix("step-").removesuffix(".safetensors"))


def _remedy(path: Path) -> str:
    earlier = [other.name for other in paths(path.parent) if other.name < path.name]
    if earlier:
        return f"move it away to go on from {earlier[-1]}"
    return "the run has no earlier checkpoint"

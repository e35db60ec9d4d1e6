"""Checkpoints: one safetensors file each, data only, written atomically, the newest few kept."""

import hashlib
import json
import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import safetensors
import safetensors.numpy

from rlab.errors import BadInputError
from rlab.runs.files import write_atomically

_NAME = "step-{:012d}.safetensors"
_PATTERN = re.compile(r"step-(\d{12})\.safetensors")


class Checkpoint(NamedTuple):
    """The state of a training run between two updates."""

    steps: int  # agent steps made; of a task, updates
    arrays: dict[str, np.ndarray]  # `policy/...` (of a task `model/...`) the parameters by name; the optimizer's
    counters: dict[str, Any]  # JSON data, such as the number of updates


def save(directory: Path, checkpoint: Checkpoint, keep: int) -> Path:
    """Write the checkpoint, then delete all but the newest `keep`."""
    metadata = {"steps": str(checkpoint.steps), "counters": json.dumps(checkpoint.counters)}
    metadata["sha256"] = _digest(checkpoint.arrays, metadata["steps"], metadata["counters"])
    path = directory / _NAME.format(checkpoint.steps)
    arrays = {name: _contiguous(array) for name, array in checkpoint.arrays.items()}
    write_atomically(path, safetensors.numpy.save(arrays, metadata))
    for old in [*paths(directory)[:-keep], *directory.glob(".step-*.tmp")]:  # a kill leaves a temporary file
        old.unlink(missing_ok=True)
    return path


def load(path: Path) -> Checkpoint:
    """Read a checkpoint; raises BadInputError, naming the file, when it is cut short or damaged."""
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        checkpoint = Checkpoint(int(metadata["steps"]), arrays, json.loads(metadata["counters"]))
        whole = metadata["sha256"] == _digest(arrays, metadata["steps"], metadata["counters"])
    except (safetensors.SafetensorError, KeyError, ValueError, OSError) as error:
        raise BadInputError(f"checkpoint {path} is cut short or damaged ({error}); {_remedy(path)}") from error
    if not whole:
        raise BadInputError(f"checkpoint {path} is damaged (its checksum differs); {_remedy(path)}")
    return checkpoint


def paths(directory: Path) -> list[Path]:
    """The checkpoints of a directory, oldest first."""
    return sorted(path for path in directory.glob("step-*.safetensors") if _PATTERN.fullmatch(path.name))


def subset(arrays: dict[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    """The arrays named `prefix/...`, by the rest of their names."""
    return {
        name.removeprefix(f"{prefix}/"): _contiguous(array)
        for name, array in arrays.items()
        if name.startswith(f"{prefix}/")
    }


def _contiguous(array: np.ndarray) -> np.ndarray:
    return np.require(array, requirements="C")  # np.ascontiguousarray would make a scalar a vector


def _remedy(path: Path) -> str:
    earlier = [other.name for other in paths(path.parent) if other.name < path.name]
    if earlier:
        return f"move it away to go on from {earlier[-1]}"
    return "the run has no earlier checkpoint"


def _digest(arrays: dict[str, np.ndarray], *texts: str) -> str:
    digest = hashlib.sha256("\n".join(texts).encode())
    for name in sorted(arrays):
        array = _contiguous(arrays[name])
        digest.update(f"{name} {array.dtype} {array.shape}".encode())
        digest.update(array.data)
    return digest.hexdigest()

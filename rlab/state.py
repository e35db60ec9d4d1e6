"""The state of a training as named parts: nested mappings and named tuples of arrays, to and from arrays by name."""

from collections.abc import Mapping
from typing import Any, Protocol, TypeVar

import numpy as np

from rlab.arrays import Named, like

T = TypeVar("T")


class Stateful(Protocol):
    """An object whose state can be saved and restored."""

    def state(self) -> Any:
        """All that it needs to go on: arrays in nested mappings and named tuples."""

    def restore(self, arrays: dict[str, np.ndarray]) -> None:
        """Go on from what `state` gave, as `pack` names it."""


def pack(parts: Any, path: str = "") -> dict[str, np.ndarray]:
    """The arrays of nested mappings and named tuples by their paths: `{"adam": AdamState(...)}` has "adam/mean"."""
    named = _named(parts)
    if named is None:
        return {path: np.asarray(parts)}
    found: dict[str, np.ndarray] = {}
    for name, part in named.items():
        found |= pack(part, f"{path}/{name}" if path else name)
    return found


def unpack(fresh: T, arrays: Mapping[str, np.ndarray], path: str = "") -> T:
    """The parts that `pack` named, in the structure of `fresh`; tensors where it has tensors, whole numbers likewise.

    Raises BadInputError for an array that is missing, or that has another shape or dtype than in `fresh`.
    """
    named = _named(fresh)
    if named is None:
        return _leaf(fresh, like(_with_scalar(arrays, path, fresh), path, np.asarray(fresh)))
    found = {name: unpack(part, arrays, f"{path}/{name}" if path else name) for name, part in named.items()}
    return fresh._replace(**found) if isinstance(fresh, tuple) else found  # type: ignore[attr-defined,return-value]


def _with_scalar(arrays: Mapping[str, np.ndarray], path: str, fresh: Any) -> Mapping[str, np.ndarray]:
    """The arrays, with a vector of one number as that number where a scalar is wanted: so ranks have sent it."""
    found = arrays[path]
    scalar = np.ndim(fresh) == 0 and np.shape(found) == (1,)
    return {path: np.reshape(found, ())} if scalar else arrays


def _named(parts: Any) -> Mapping[str, Any] | None:
    """The parts by name; None of a leaf."""
    if isinstance(parts, Mapping):
        return parts
    return parts._asdict() if isinstance(parts, tuple) and hasattr(parts, "_asdict") else None


def _leaf(fresh: Any, array: np.ndarray) -> Any:
    if isinstance(fresh, int):
        return int(array)
    if isinstance(fresh, np.ndarray):
        return array
    import tensorflow as tf

    return tf.constant(array)


def subset(arrays: Mapping[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    """The arrays named `prefix/...`, by the rest of their names."""
    found = {
        name.removeprefix(f"{prefix}/"): np.require(array, requirements="C")
        for name, array in arrays.items()
        if name.startswith(f"{prefix}/")
    }
    return Named(found, getattr(arrays, "source", "the checkpoint"))

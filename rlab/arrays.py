"""Named arrays on disk: safetensors with a digest, and .npz archives whose sizes are known before they are unpacked."""

import ast
import hashlib
import io
import json
import math
import os
import stat
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import safetensors
import safetensors.numpy

from rlab.errors import BadInputError
from rlab.files import LARGEST, read_file
from rlab.notify import notify

DIGEST = "sha256"  # of an archive's arrays, in its metadata or beside them
_UNPACKED = 512 << 20  # bytes that any archive may unpack to ...
_RATIO = 64  # ... and that one may in proportion to its size
_LARGEST_HEADER = 16 << 20  # bytes of the header of a safetensors file
_HEADER = 10_000  # bytes of the header of an .npz file's array


class Named(dict[str, Any]):
    """The content of a file by name; one that is missing raises BadInputError, which names the `source`."""

    def __init__(self, found: Mapping[str, Any], source: str) -> None:
        super().__init__(found)
        self.source = source

    def __missing__(self, name: str) -> Any:
        raise BadInputError(f"{self.source} holds no {name!r}: it is damaged, or of another kind of run")

    def __reduce__(self) -> tuple[Any, ...]:
        return Named, (dict(self), self.source)


class Arrays(NamedTuple):
    """A safetensors file."""

    arrays: dict[str, np.ndarray]
    metadata: dict[str, str]


def digest(arrays: Mapping[str, np.ndarray], *texts: str) -> str:
    """SHA-256 of texts, and of arrays with their names, dtypes and shapes."""
    found = hashlib.sha256("\n".join(texts).encode())
    for name in sorted(arrays):
        array = contiguous(arrays[name])
        found.update(f"{name} {array.dtype} {array.shape}".encode())
        found.update(array.data)
    return found.hexdigest()


def contiguous(array: np.ndarray) -> np.ndarray:
    """The array in the order of C; of a scalar np.ascontiguousarray would make a vector."""
    return np.require(array, requirements="C")


def to_safetensors(arrays: Mapping[str, np.ndarray], metadata: dict[str, str]) -> bytes:
    """The content of a file: the same bytes for the same arrays and metadata."""
    content = safetensors.numpy.save({name: contiguous(array) for name, array in arrays.items()}, metadata)
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    header["__metadata__"] = dict(sorted(metadata.items()))  # the library writes them in any order
    written = json.dumps(header, separators=(",", ":")).encode()
    written += b" " * (-len(written) % 8)
    return len(written).to_bytes(8, "little") + written + content[8 + length :]


def read_safetensors(path: Path, most: int = LARGEST) -> Arrays:
    """A file inside a run; raises as `read_file` does, and BadInputError where it is cut short or damaged.

    What is allocated is at most what the file holds: its header must describe just the bytes that follow it.
    """
    try:
        metadata = _read_header(path, most)
        arrays = safetensors.numpy.load(read_file(path, most))
    except BadInputError:
        raise
    except (
        safetensors.SafetensorError,
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
        RecursionError,
        MemoryError,
    ) as error:
        raise BadInputError(f"{path} is cut short or damaged: {error}") from error
    return Arrays(arrays, metadata)


def _read_header(path: Path, most: int) -> dict[str, str]:
    """The metadata of a file whose header describes as many bytes as it has."""
    length = int.from_bytes(read_file(path, most, first=8), "little")
    if length > _LARGEST_HEADER:
        raise ValueError(f"its header has {length:,} bytes")
    header = json.loads(read_file(path, most, first=8 + length)[8:])
    metadata = header.pop("__metadata__", None) or {}
    described = 8 + length + max((array["data_offsets"][1] for array in header.values()), default=0)
    if described != path.stat().st_size:
        raise ValueError(f"it has {path.stat().st_size:,} bytes, and its header describes {described:,}")
    return metadata


def weights_to_bytes(arrays: Mapping[str, np.ndarray], steps: int) -> bytes:
    """The content of a file of trained parameters, as they were after so many steps."""
    return to_safetensors(arrays, {"steps": str(steps), DIGEST: digest(arrays, str(steps))})


class Weights(NamedTuple):
    """Trained parameters."""

    arrays: dict[str, np.ndarray]  # float32, by name
    steps: int | None  # after which they were so; None in a file of version 0.1


def read_weights(path: Path, most: int = LARGEST) -> Weights:
    """Trained parameters; raises as `read_safetensors` does, and BadInputError where they are not what was written.

    A file of version 0.1 has no digest and is read with a note on standard error.
    """
    arrays, metadata = read_safetensors(path, most)
    for name, array in arrays.items():
        if array.dtype != np.float32 or not np.isfinite(array).all():
            raise BadInputError(f"{path} is damaged: {name!r} holds what is no finite float32 number")
    if not metadata:
        notify(f"note: {path} has no digest, as version 0.1 wrote it: damage would not be noticed")
        return Weights(arrays, None)
    steps = metadata.get("steps", "")
    if metadata.get(DIGEST) != digest(arrays, steps) or not (steps.isdecimal() and steps.isascii()):
        raise BadInputError(f"{path} is damaged: its digest differs")
    return Weights(arrays, int(steps))


def are_weights_of(path: Path, steps: int) -> bool:
    """Tell whether a file holds undamaged weights of that step."""
    try:
        arrays, metadata = read_safetensors(path)
    except (OSError, BadInputError):
        return False
    return metadata == {"steps": str(steps), DIGEST: digest(arrays, str(steps))}


def to_npz(arrays: Mapping[str, np.ndarray]) -> bytes:
    """The content of a compressed .npz file of the arrays, with their digest beside them."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays, **{DIGEST: np.array(digest(arrays))})  # type: ignore[arg-type]
    return buffer.getvalue()


def read_npz(path: str | Path, names: Iterable[str], digested: bool = False) -> dict[str, np.ndarray]:
    """The named arrays, and no others, of an .npz file of the user's.

    With `digested` they must be what `to_npz` wrote; one without a digest is of version 0.1, and noted. What the
    file's directory and its arrays' headers say of sizes is checked before anything is unpacked. Executes nothing.

    Raises BadInputError, naming the file, when it is missing or no .npz, and for an array that is not there.
    """
    path, names = Path(path), tuple(names)
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            raise BadInputError(f"{path} is {'a directory' if stat.S_ISDIR(status.st_mode) else 'no file'}")
        with zipfile.ZipFile(path) as archive:
            members = {info.filename: info for info in archive.infolist()}
            wanted = [*names, DIGEST] if digested and f"{DIGEST}.npy" in members else names
            missing = [name for name in names if f"{name}.npy" not in members]
            if missing:
                raise BadInputError(f"{path} has no array {missing[0]!r}; it must hold {', '.join(names)}")
            _check_sizes(path, [members[f"{name}.npy"] for name in wanted], status.st_size)
            found = {name: _read_array(path, archive, members[f"{name}.npy"]) for name in wanted}
    except BadInputError:
        raise
    except (FileNotFoundError, NotADirectoryError) as error:
        raise BadInputError(f"{path} is missing") from error
    except Exception as error:  # whatever zipfile, zlib and NumPy make of a damaged file
        raise BadInputError(f"{path} cannot be read as an .npz file: {error}") from error
    if digested:
        _check_digest(path, found)
    return {name: found[name] for name in names}


def _check_digest(path: Path, found: dict[str, np.ndarray]) -> None:
    written = found.pop(DIGEST, None)
    if written is None:
        notify(f"note: {path} has no digest, as version 0.1 wrote it: damage would not be noticed")
    elif str(written) != digest(found):
        raise BadInputError(f"{path} is damaged: its digest differs")


def _check_sizes(path: Path, members: list[zipfile.ZipInfo], size: int) -> None:
    """Raise BadInputError for an archive that would unpack to much more than it could be wanted for."""
    total, most = sum(member.file_size for member in members), max(_UNPACKED, _RATIO * size)
    if total > most:
        raise BadInputError(f"{path} would unpack to {total:,} bytes; at most {most:,} are read of a file of its size")


def _read_array(path: Path, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> np.ndarray:
    """One array: its header must describe just the bytes that its member has."""
    with archive.open(member) as file:
        version = np.lib.format.read_magic(file)
        length = int.from_bytes(file.read(2 if version == (1, 0) else 4), "little")
        if length > _HEADER:
            raise ValueError(f"the header of {member.filename} is too long")
        header = ast.literal_eval(file.read(length).decode("utf-8" if version >= (3, 0) else "latin1"))
        kind = np.dtype(header["descr"])
        shape, fortran = header["shape"], header["fortran_order"]
        whole = isinstance(shape, tuple) and all(type(side) is int and side >= 0 for side in shape)
        if kind.hasobject or kind.fields or not whole or len(shape) > 32:
            raise BadInputError(f"{path} holds what is no array of numbers: {member.filename}")
        bytes_ = math.prod(shape) * kind.itemsize
        if bytes_ != member.file_size - file.tell():
            raise BadInputError(f"{path} is damaged: {member.filename} does not hold the {bytes_:,} bytes it says")
        flat = np.frombuffer(bytearray(file.read(bytes_)), kind, math.prod(shape))
    return flat.reshape(shape, order="F" if fortran else "C")


def like(found: Mapping[str, np.ndarray], name: str, present: Any) -> np.ndarray:
    """The array of that name; raises BadInputError where its shape or dtype is not that of `present`."""
    array, shape, dtype = found[name], tuple(present.shape), np.asarray(present).dtype
    if array.shape != shape or array.dtype != dtype:
        source = getattr(found, "source", "the checkpoint")
        raise BadInputError(
            f"{source} does not fit: {name!r} is {array.dtype} {array.shape}, where {dtype} {shape} would be right"
        )
    return array

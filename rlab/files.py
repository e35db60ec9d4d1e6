"""Files that are either whole or absent, and that are what they seem: no link inside a run, no device, no surprise.

A run may come from elsewhere. Nothing inside it is read or written through a link; what is read is a regular file of a
size that its reader expects; what is written goes to a new file of an unpredictable name first.
"""

import contextlib
import errno
import hashlib
import json
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rlab.errors import BadInputError

FILMS = (".mp4", ".gif")  # what films' names end in
LARGEST = 4 << 30  # bytes of any file that is read at once
_LARGEST_JSON = 16 << 20
_LARGEST_HASHED = 64 << 30
_PARTS = ("config.json", "metrics.csv", "lock", "checkpoints", "tensorboard", "policy", "model", "pictures")
_DEEP = 4  # directories in one another, in a run
_MANY = 100_000  # entries of a run's directory
_PLAIN = sum(getattr(os, name, 0) for name in ("O_CLOEXEC", "O_BINARY", "O_NOCTTY", "O_NONBLOCK"))
_NO_LINK = getattr(os, "O_NOFOLLOW", 0)


def write_atomically(path: Path, content: bytes) -> None:
    """Write a temporary file beside `path`, flush it to the disk, and rename it: a crash leaves the old or the new.

    The temporary file is new and its name is drawn at random, so no link that lies ready is written through; a link at
    `path` itself is replaced. Raises OSError, with no temporary file left, when the disk is full.
    """
    temporary = path.with_name(f".{path.name[:100]}.{secrets.token_hex(8)}.tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NO_LINK | _PLAIN, 0o666)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    _flush_directory(path.parent)


def require_place(path: Path, *suffixes: str) -> None:
    """Raise BadInputError where no file can be written at `path`, or its name ends in none of the suffixes."""
    directory, reason = path.absolute().parent, ""
    if path.suffix.lower() not in suffixes:
        reason = f"its name must end in {' or '.join(suffixes)}"
    elif not directory.is_dir():
        reason = f"{path.parent} is not a directory"
    elif path.is_dir():
        reason = "it is a directory"
    elif not os.access(directory, os.W_OK | os.X_OK):
        reason = f"{path.parent} is a directory that nothing may be written in"
    if reason:
        raise BadInputError(f"{path} cannot be written: {reason}")


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """While entered, an OSError becomes a BadInputError that names what is written, and no temporary file."""
    try:
        yield
    except OSError as error:
        raise BadInputError(f"{path} cannot be written: {error.strerror or error}") from error


def _flush_directory(path: Path) -> None:
    """Make a rename durable, which is so only when its directory is flushed; not every system can."""
    with contextlib.suppress(PermissionError):
        directory = os.open(path, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


def make_directory(path: Path) -> None:
    """Make a directory, if there is none; raises BadInputError where something else stands there."""
    try:
        path.mkdir(exist_ok=True)
    except FileExistsError as error:
        raise BadInputError(f"{path} is no directory; move it away") from error


def remove_leftovers(directory: Path) -> None:
    """Delete the temporary files that kills have left in a directory; only of a run that this process has locked."""
    for path in directory.glob(".*.tmp"):
        with contextlib.suppress(OSError):
            path.unlink()


def open_to_append(path: Path) -> Any:
    """A text file of a run, opened to append to it: a file of its own, and no link of any kind to another."""
    file = os.fdopen(_open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | _NO_LINK), "a", newline="", encoding="utf-8")
    if os.fstat(file.fileno()).st_nlink > 1:
        file.close()
        raise BadInputError(f"{path} has a second name elsewhere (a hard link): it is not written to")
    return file


def read_file(path: str | Path, most: int = LARGEST, first: int | None = None) -> bytes:
    """The content of a regular file of at most so many bytes, or the `first` of it.

    Raises FileNotFoundError or NotADirectoryError where there is none, and BadInputError, naming the path, for anything
    else that cannot be read: a link, a device, a pipe, a directory, a file that is too large.
    """
    with os.fdopen(_open(Path(path), os.O_RDONLY | _NO_LINK), "rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size > most:
            raise BadInputError(f"{path} is too large: {size:,} bytes, where {most:,} are the most that would be right")
        try:
            return file.read(size if first is None else min(first, size))
        except (OSError, MemoryError) as error:
            raise BadInputError(f"{path} cannot be read: {error}") from error


def _open(path: Path, flags: int) -> int:
    """A descriptor of a regular file."""
    try:
        descriptor = os.open(path, flags | _PLAIN, 0o666)
    except (FileNotFoundError, NotADirectoryError):
        raise
    except (OSError, ValueError) as error:
        linked = isinstance(error, OSError) and error.errno == errno.ELOOP
        reason = "a link, and links inside a run are not followed" if linked else f"not to be opened ({_of(error)})"
        raise BadInputError(f"{path} is {reason}") from error
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        raise BadInputError(f"{path} is {_kind(mode)}, not a file")
    return descriptor


def read_json(path: str | Path) -> Any:
    """The data of a JSON file inside a run; raises as `read_file`, and BadInputError where it is no JSON."""
    try:
        return json.loads(read_file(path, _LARGEST_JSON).decode())
    except BadInputError:
        raise
    except (ValueError, RecursionError) as error:
        raise BadInputError(f"{path} is damaged: {error}") from error


def digest_of(path: str | Path) -> str:
    """The SHA-256 of a file that the user named, or whose digest a run has recorded."""
    digest = hashlib.sha256()
    try:
        descriptor = _open(Path(path), os.O_RDONLY)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise BadInputError(f"{path} is missing") from error
    with os.fdopen(descriptor, "rb") as file:
        if os.fstat(descriptor).st_size > _LARGEST_HASHED:
            raise BadInputError(f"{path} is too large")
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def require_same_file(path: str | Path, digest: str) -> None:
    """Raise BadInputError where a file is another than a run began with; an empty digest allows any (0.1 had none)."""
    if digest and digest_of(path) != digest:
        raise BadInputError(f"{path} is another file than the run began with, or it was changed (its SHA-256 differs)")


def require_plain(run: str | Path) -> None:
    """Raise BadInputError where a part of a run is a link, a device, a pipe, or anything but a file or a directory."""
    for name in _PARTS:
        _require_plain(Path(run) / name, _DEEP)


def _require_plain(path: Path, deep: int) -> None:
    try:
        mode = os.lstat(path).st_mode
        names = os.listdir(path) if stat.S_ISDIR(mode) else []
    except (OSError, ValueError):  # there is none, or it cannot be looked at, which its reader will say
        return
    if not stat.S_ISDIR(mode) and not stat.S_ISREG(mode):
        raise BadInputError(f"{path} is {_kind(mode)}; a run from anywhere holds files and directories only")
    if len(names) > _MANY or (names and not deep):
        raise BadInputError(f"{path} holds more than a run does")
    for name in names:
        _require_plain(path / name, deep - 1)


def _kind(mode: int) -> str:
    kinds = {stat.S_IFLNK: "a link", stat.S_IFIFO: "a pipe", stat.S_IFDIR: "a directory", stat.S_IFSOCK: "a socket"}
    return kinds.get(stat.S_IFMT(mode), "a device")


def _of(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)


def set_aside(path: Path) -> Path:
    """Give a damaged part of a run another name beside it, and return that."""
    for number in range(1, 1000):
        aside = path.with_name(f"{path.stem}-damaged-{number}{path.suffix}")
        if not os.path.lexists(aside):
            path.rename(aside)
            return aside
    raise BadInputError(f"{path} is damaged, and so are a thousand others beside it")

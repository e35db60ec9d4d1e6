"""A run's lock: one process trains it at a time, and says so in the file `lock`.

The kernel holds the lock and lets it go when its process ends, however it ends; over network file systems too, where
they know locks. Where they do not, the file itself is the lock: the process that it names counts as alive as long as it
touches the file four times a minute, or, on the same machine, as long as there is such a process.
"""

import contextlib
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from rlab.errors import BadInputError
from rlab.files import read_file
from rlab.parallel.heartbeat import status_of

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

BEAT = 15.0  # seconds between two touches
_SILENCE = 90.0  # after which a process elsewhere counts as gone
_held: set[tuple[int, int]] = set()  # files that this process has locked; the kernel would not tell its own apart


class Owner(NamedTuple):
    """The process that trains a run."""

    host: str
    pid: int
    started: str  # of the process, as its machine counts time, so that a later one of the same number is known
    job: str  # of a batch system; one that is queued again follows itself
    since: str  # for people

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host} since {self.since}"


def present() -> Owner:
    """The owner of the locks that this process takes."""
    job = os.environ.get("SLURM_JOB_ID", "")
    return Owner(socket.gethostname(), os.getpid(), started_at(os.getpid()), job, time.strftime("%Y-%m-%d %H:%M:%S"))


@contextlib.contextmanager
def locked(run: Path) -> Iterator[None]:
    """Hold a run's lock. Raises BadInputError, naming its owner, where another training has it."""
    path = run / "lock"
    descriptor, key = _acquire(path, run)
    done = threading.Event()
    beating = threading.Thread(target=_beat, args=(descriptor, done), name="lock", daemon=True)
    beating.start()
    try:
        yield
    finally:
        done.set()
        beating.join()
        _held.discard(key)
        with contextlib.suppress(OSError):
            if _identity(path) == key:
                path.unlink()
        with contextlib.suppress(OSError):
            os.close(descriptor)


def require_unlocked(run: Path) -> None:
    """Raise BadInputError where another process trains the run; nothing is written, and the lock is not taken."""
    path = run / "lock"
    try:
        content = read_file(path, 1 << 16)
    except (FileNotFoundError, NotADirectoryError):
        return
    if _identity(path) in _held:
        raise _refusal(run, present())
    owner, free = _parse(content), _is_free(path)
    if free is None:  # the kernel cannot tell
        free = owner is not None and _gone(owner, path)
    elif free and owner and owner.host != socket.gethostname():  # whose locks may not be known here
        free = _gone(owner, path)
    if not free:
        raise _refusal(run, owner)


def _acquire(path: Path, run: Path) -> tuple[int, tuple[int, int]]:
    flags = os.O_RDWR | os.O_CREAT | sum(getattr(os, name, 0) for name in ("O_NOFOLLOW", "O_CLOEXEC", "O_NONBLOCK"))
    for _ in range(100):  # until the file that is locked is the one that has the name
        require_unlocked(run)
        descriptor = os.open(path, flags, 0o666)
        status = os.fstat(descriptor)
        key = status.st_dev, status.st_ino
        try:
            if status.st_nlink > 1:
                raise BadInputError(f"{path} has a second name elsewhere (a hard link): it is not written to")
            taken = _lock(descriptor)
            if taken and _identity(path) == key:
                _held.add(key)
                content = json.dumps(present()._asdict()).encode()
                os.ftruncate(descriptor, 0)
                os.write(descriptor, content)
                return descriptor, key
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
        time.sleep(0.05)
    raise _refusal(run, _parse(read_file(path, 1 << 16)))


def _lock(descriptor: int) -> bool:
    """Ask the kernel for the lock, and tell whether it gives it; True where it knows no locks."""
    if not fcntl:
        return True
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    except OSError:  # a file system without locks
        return True
    return True


def _is_free(path: Path) -> bool | None:
    """Tell whether the kernel knows of no process that holds the lock of the file; None where it knows no locks."""
    if not fcntl:
        return None
    try:
        descriptor = os.open(path, os.O_RDWR | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
    except FileNotFoundError:  # it has just been let go
        return True
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    except OSError:
        return None
    finally:
        os.close(descriptor)
    return True


def _gone(owner: Owner, path: Path) -> bool:
    """Tell whether the process that a lock names has ended, as far as can be told from here."""
    mine = present()
    if owner.host == mine.host:
        return owner.pid == mine.pid or started_at(owner.pid) != owner.started or not started_at(owner.pid)
    if owner.job and owner.job == mine.job:
        return True
    with contextlib.suppress(OSError):
        return abs(time.time() - path.stat().st_mtime) > _SILENCE
    return True


def started_at(pid: int) -> str:
    """The time when a process of this machine began, in its own count; empty where there is none, or it is unknown."""
    try:
        state, born = status_of(pid)
    except OSError:
        return ""
    return "" if state in "ZX" else born


def _parse(content: bytes) -> Owner | None:
    """The owner that a lock file names; None where it names none, as one that a kill left empty."""
    try:
        data: Any = json.loads(content)
        owner = Owner(*(data[name] for name in Owner._fields))
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    texts = all(isinstance(getattr(owner, name), str) for name in ("host", "started", "job", "since"))
    return owner if texts and type(owner.pid) is int and 0 < owner.pid < 2**31 else None


def _refusal(run: Path, owner: Owner | None) -> BadInputError:
    return BadInputError(
        f"{run} is being trained by {owner or 'another process'}; wait for it to end, or stop it, or, if it is gone, "
        f"delete {run / 'lock'}"
    )


def _identity(path: Path) -> tuple[int, int] | None:
    with contextlib.suppress(OSError):
        status = os.lstat(path)
        return status.st_dev, status.st_ino
    return None


def _beat(descriptor: int, done: threading.Event) -> None:
    """Touch the file until the training ends."""
    while not done.wait(BEAT):
        with contextlib.suppress(OSError):
            os.utime(descriptor)

"""Ranks that watch over each other: one that is lost, or hangs, ends the job, and is named.

Each rank tells the next, once a second, that it is alive, and listens to the one before. It does not where its
environment has not come back from a step for long, and cannot where the process stands still.
"""

import atexit
import contextlib
import os
import sys
import threading
import time
from collections.abc import Iterator

import numpy as np

from rlab.parallel.comm import MPI, Communicator, Wire

BEAT = 1.0  # seconds from one sign of life to the next
STUCK = 10.0  # that a step of an environment may take
SILENCE = 12.0  # after which a rank is given up
_FAREWELL = 1  # the tag of a rank's last sign

_stepping_since: dict[int, float] = {}  # of each thread that waits for an environment
_watching: set[int] = set()  # the communicators that are watched


@contextlib.contextmanager
def stepping() -> Iterator[None]:
    """While an environment steps; a thread that stays in it hangs."""
    thread = threading.get_ident()
    _stepping_since[thread] = time.monotonic()
    try:
        yield
    finally:
        del _stepping_since[thread]


def watch(comm: Communicator, help_line: str) -> None:
    """Begin to watch over the rank before this one, till this process ends; `help_line` follows the fault's name.

    All ranks call it together. Nothing happens at a second time, nor where this process is alone, nor where its MPI
    library lets only one thread talk.
    """
    if not isinstance(comm, MPI) or not comm.threads or id(comm) in _watching:
        return
    _watching.add(id(comm))
    wire, over = Wire(comm), threading.Event()
    thread = threading.Thread(target=_watch, args=(comm, wire, help_line, over), daemon=True, name="watch")
    thread.start()

    def leave() -> None:
        over.set()
        thread.join()

    atexit.register(leave)  # before MPI ends, which registered earlier


def _watch(comm: MPI, wire: Wire, help_line: str, over: threading.Event) -> None:
    before, after = (comm.rank - 1) % comm.size, (comm.rank + 1) % comm.size
    sign = np.zeros(1, np.int8)
    heard, left = time.monotonic(), False
    while not over.wait(BEAT):
        while not left and (come := wire.waiting(before)):
            wire.receive(np.empty(1, np.int8), *come)
            heard, left = time.monotonic(), come[1] == _FAREWELL
        now = time.monotonic()
        if not left and now - heard > SILENCE:
            _end(f"rank {before} is lost or hangs: nothing was heard of it for {SILENCE:.0f} s; {help_line}")
        if all(now - since < STUCK for since in list(_stepping_since.values())):
            wire.send(sign, after)
    wire.send(sign, after, _FAREWELL)


def _end(message: str) -> None:
    print(f"error: {message}", file=sys.stderr, flush=True)
    os._exit(1)  # the launcher ends the others

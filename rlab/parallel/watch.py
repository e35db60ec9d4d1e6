"""Ranks that watch over each other while they train: one that is lost, or hangs, ends the job, and is named.

Each rank tells the next, once a second, that it is alive, and listens to the one before. It does not where its
environment has not come back from a step for long, and cannot where the process stands still.
"""

import atexit
import contextlib
import os
import threading
import time
from collections.abc import Iterator

import numpy as np

from rlab.notify import notify
from rlab.parallel.comm import MPI, Communicator, Wire

BEAT = 1.0  # seconds from one sign of life to the next
STUCK = 10.0  # that a step of an environment may take
SILENCE = 12.0  # after which a rank is given up
GRACE = 60.0  # between the ends of training of two ranks, of which the first still has a checkpoint to write
_ALIVE, _FAREWELL = 0, 1  # tags

_stepping_since: dict[int, float] = {}  # of each thread that waits for an environment


@contextlib.contextmanager
def stepping() -> Iterator[None]:
    """While an environment steps; a thread that stays in it hangs."""
    thread = threading.get_ident()
    _stepping_since[thread] = time.monotonic()
    try:
        yield
    finally:
        del _stepping_since[thread]


def begin(comm: Communicator, help_line: str) -> None:
    """Watch over the rank before this one, until `end`; all ranks call it together. `help_line` follows a fault's name.

    Nothing happens where this process is alone, or its MPI library lets only one thread talk.
    """
    end()
    if isinstance(comm, MPI) and comm.threads:
        _watches.append(_Watch(comm, help_line))
        atexit.unregister(end)
        atexit.register(end)  # where training breaks off; who registers last is called first, before MPI


def end() -> None:
    """This rank's training has ended: the next one is told, and this one stops watching."""
    while _watches:
        _watches.pop().end()


_watches: list["_Watch"] = []  # the one that goes on, if one does


class _Watch:
    def __init__(self, comm: MPI, help_line: str) -> None:
        self._over, self._help = threading.Event(), help_line
        self._thread = threading.Thread(target=self._watch, args=(comm, Wire(comm)), daemon=True, name="watch")
        self._thread.start()

    def end(self) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self, comm: MPI, wire: Wire) -> None:
        before, after = (comm.rank - 1) % comm.size, (comm.rank + 1) % comm.size
        sign, heard, left = np.zeros(1, np.int8), time.monotonic(), False
        while not self._over.wait(BEAT):
            while come := wire.waiting(before):
                wire.receive(np.empty(1, np.int8), *come)
                heard, left = time.monotonic(), come[1] == _FAREWELL
            silent = time.monotonic() - heard
            if silent > SILENCE and not left:
                self._fail(f"rank {before} is lost or hangs: nothing was heard of it for {SILENCE:.0f} s")
            if silent > GRACE:
                self._fail(f"rank {comm.rank} hangs: rank {before} ended its training {GRACE:.0f} s ago")
            if all(time.monotonic() - since < STUCK for since in list(_stepping_since.values())):
                wire.send(sign, after, _ALIVE)
        wire.send(sign, after, _FAREWELL)

    def _fail(self, message: str) -> None:
        notify(f"error: {message}; {self._help}")
        os._exit(1)  # the launcher ends the others

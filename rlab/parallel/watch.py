"""Ranks that watch over each other while they train: one that is lost, or hangs, ends the job, and is named.

Each rank tells the next, once a second, that it is alive, and listens to the one before. It does not where its
environment has not come back from a step for long, and cannot where the process stands still. Silence is measured in
time in which the listener itself was running, so that a job that is stopped and continued as a whole goes on; one rank
that is stopped alone is waited for where the listener can see that. A rank whose training fails tells all others,
which may wait for it in a call that nothing else would end.
"""

import atexit
import contextlib
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, NoReturn

import numpy as np

from rlab.notify import notify
from rlab.parallel.comm import MPI, Communicator, Wire

BEAT = 1.0  # seconds from one sign of life to the next
STUCK = 10.0  # that a step of an environment may take
RESET = 60.0  # that the beginning of its episodes may take
SILENCE = 12.0  # after which a rank is given up
GRACE = 60.0  # between the ends of training of two ranks, of which the first still has a checkpoint to write
FAREWELL = 5.0  # in which a rank whose training failed may say so itself, and end the job
_ASLEEP = 5.0  # between two beats of this process, after which it was not running
_ALIVE, _ENDED, _FAULT = 0, 1, 2  # tags

# Of each thread that waits for an environment: since when, and how long it may.
_stepping: dict[int, tuple[float, float]] = {}


@contextlib.contextmanager
def stepping(patience: float | None = None) -> Iterator[None]:
    """While an environment steps; a thread that stays in it for longer than `patience`, STUCK of itself, hangs."""
    thread = threading.get_ident()
    _stepping[thread] = time.monotonic(), patience or STUCK
    try:
        yield
    finally:
        _stepping.pop(thread, None)


def begin(comm: Communicator, help_line: str) -> None:
    """Watch over the rank before this one, until `end`; all ranks call it together. `help_line` follows a fault's name.

    Nothing happens where this process is alone, or its MPI library lets only one thread talk.
    """
    end()
    if isinstance(comm, MPI) and comm.threads:
        _watches.append(_Watch(comm, help_line))
        atexit.unregister(_broken_off)
        atexit.register(_broken_off)  # who registers last is called first, before MPI


def end(fault: str | None = None) -> None:
    """This rank's training has ended, or failed by a fault: others are told, and this one stops watching."""
    while _watches:
        _watches.pop().end(fault)


def _broken_off() -> None:
    end("its program ended in the midst of training")


_watches: list["_Watch"] = []  # the one that goes on, if one does


class Clock:
    """Time in which this process was running, as far as it is asked often: a long sleep between two calls is none."""

    def __init__(self) -> None:
        self._now = time.monotonic()

    def passed(self) -> float | None:
        """Seconds since the last call, None where this process did not run in between."""
        before, self._now = self._now, time.monotonic()
        seconds = self._now - before
        return seconds if seconds < _ASLEEP else None


class _Peer(NamedTuple):
    """A process as another of its machine finds it."""

    machine: str  # this boot of it
    process: int
    born: str

    def stopped(self) -> bool:
        """Whether it can be seen from here that it was stopped, as by SIGSTOP or a debugger, and not continued."""
        here = _peer(self.process)
        return here == self and _status(self.process)[0] in "Tt"


class _Watch:
    def __init__(self, comm: MPI, help_line: str) -> None:
        self._over, self._help = threading.Event(), help_line
        self._fault: str | None = None
        peers = comm.gather(_peer(os.getpid()))
        self._comm, self._wire = comm, Wire(comm)
        self._before, self._after = (comm.rank - 1) % comm.size, (comm.rank + 1) % comm.size
        self._peer: _Peer | None = peers[self._before]
        self._silent, self._left, self._waits = 0.0, False, False
        self._steps: dict[int, tuple[float, float]] = {}  # of each thread: its step's beginning, and time that it took
        self._thread = threading.Thread(target=self._watch, daemon=True, name="watch")
        self._thread.start()

    def end(self, fault: str | None) -> None:
        self._fault = fault
        self._over.set()
        self._thread.join(FAREWELL)

    def _watch(self) -> None:
        clock = Clock()
        while not self._over.wait(BEAT):
            passed = clock.passed()
            if passed is None:  # others slept too, and wake one after another
                self._silent, self._steps = SILENCE - GRACE, {}
            else:
                self._silent += passed
            self._listen()
            self._judge()
            if not self._stuck(passed or 0.0):
                self._wire.send(np.zeros(1, np.int8), self._after, _ALIVE)
        if self._fault is None:
            self._wire.send(np.zeros(1, np.int8), self._after, _ENDED)
            return
        others = [rank for rank in range(self._comm.size) if rank != self._comm.rank]
        for posted in [self._wire.post(self._fault, None, rank, _FAULT) for rank in others]:
            posted.finish()

    def _listen(self) -> None:
        if come := self._wire.waiting(None, _FAULT):
            fault = self._wire.fetch(np.empty(0, np.int8), *come)
            if not self._over.wait(FAREWELL):  # else this rank found its own way out
                self._fail(f"rank {come[0]}: {fault}")
        while (come := self._wire.waiting(self._before)) and come[1] != _FAULT:
            self._wire.receive(np.empty(1, np.int8), *come)
            self._silent, self._left, self._waits = 0.0, come[1] == _ENDED, False

    def _judge(self) -> None:
        if self._silent > SILENCE and not self._left:
            if not (self._peer and self._peer.stopped()):
                self._fail(f"rank {self._before} is lost or hangs: nothing was heard of it for {SILENCE:.0f} s")
            if not self._waits:
                name = f"rank {self._before} is stopped (process {self._peer.process})"
                notify(f"{name}; waiting until it is continued (SIGCONT)")
            self._waits, self._silent = True, 0.0
        if self._silent > GRACE:
            self._fail(f"rank {self._comm.rank} hangs: rank {self._before} ended its training {GRACE:.0f} s ago")

    def _stuck(self, passed: float) -> bool:
        """Whether an environment has not come back for too long."""
        now, stuck = {}, False
        for thread, (since, patience) in list(_stepping.items()):
            began, taken = self._steps.get(thread, (since, 0.0))
            now[thread] = since, taken + passed if began == since else 0.0
            stuck |= now[thread][1] >= patience
        self._steps = now
        return stuck

    def _fail(self, message: str) -> NoReturn:
        notify(f"error: {message}; {self._help}")
        os._exit(1)  # the launcher ends the others


def _peer(process: int) -> _Peer | None:
    """A process of this machine, None where there is no /proc, or no such process."""
    try:
        return _Peer(Path("/proc/sys/kernel/random/boot_id").read_text().strip(), process, _status(process)[1])
    except OSError:
        return None


def _status(process: int) -> tuple[str, str]:
    """State and time of birth of a process, from /proc."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()  # a name may hold blanks
    return fields[0], fields[19]

"""Ranks that watch over each other while they train: one that is lost, or hangs, ends the job, and is named.

Each rank tells the next, once a second, that it is alive, and listens to the one before. It does not where its
environment has not come back from a step for long, and cannot where the process stands still. Silence is measured in
time in which the listener itself was running, so that a job that is stopped and continued as a whole goes on; one rank
that is stopped alone is waited for where the listener can see that. A rank whose training fails tells all others,
which may wait for it in a call that nothing else would end.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple, NoReturn

import numpy as np

from rlab.launchers import machine
from rlab.notify import notify
from rlab.parallel.comm import Communicator, Wire
from rlab.parallel.local import LocalWire

BEAT = 1.0  # seconds from one sign of life to the next
STUCK = 10.0  # that a step of an environment may take
RESET = 60.0  # that the beginning of its episodes may take
START = 300.0  # that the environments themselves may take to be made
SILENCE = 12.0  # after which a rank is given up
GRACE = 60.0  # between the ends of training of two ranks, of which the first still has a checkpoint to write
FAREWELL = 5.0  # in which a rank whose training failed may say so itself, and end the job
_ASLEEP = 5.0  # between two beats of this process, after which it was not running
_ALIVE, _ENDED, _FAULT = 0, 1, 2  # tags

# Of each thread that waits for an environment: since when, and how long it may.
_stepping: dict[int, tuple[float, float]] = {}


@contextlib.contextmanager
def stepping(patience: float | None = None) -> Iterator[None]:
    """Mark, while entered, that an environment steps; one that takes longer than `patience` (STUCK if None) hangs."""
    thread = threading.get_ident()
    around = _stepping.get(thread)
    _stepping[thread] = time.monotonic(), patience or STUCK
    try:
        yield
    finally:
        if around:
            _stepping[thread] = around
        else:
            del _stepping[thread]


def begin(comm: Communicator, help_line: str) -> None:
    """Watch over the rank before this one, until `end`; all ranks call it together. `help_line` follows a fault's name.

    Nothing happens where this process is alone, or its MPI library lets only one thread talk.
    """
    end()
    if wire := comm.wire():
        _watches.append(_Watch(comm, wire, help_line))
        atexit.unregister(_broken_off)
        atexit.register(_broken_off)  # who registers last is called first, before MPI


def end(fault: str | None = None) -> None:
    """End the watch: this rank's training has ended, or failed by a fault, which is told to the others."""
    while _watches:
        _watches.pop().end(fault)


def _broken_off() -> None:
    end("its program ended in the midst of training")


_watches: list[_Watch] = []  # the one that goes on, if one does


class Clock:
    """Time in which this process was running, as far as it is asked often: a long sleep between two calls is none."""

    def __init__(self) -> None:
        self._now = time.monotonic()

    def passed(self) -> float | None:
        """Seconds since the last call, None where this process did not run in between."""
        before, self._now = self._now, time.monotonic()
        seconds = self._now - before
        return seconds if seconds < _ASLEEP else None


class Process(NamedTuple):
    """A process as another of its machine finds it."""

    machine: str  # this boot of it
    number: int
    born: str

    def stopped(self) -> bool:
        """Tell whether it is seen from here to be stopped, as by SIGSTOP or a debugger, and not continued."""
        try:
            state, born = status_of(self.number)
        except OSError:
            return False
        return born == self.born and machine() == self.machine and state in "Tt"


class Neighbour:
    """The state of the rank that rank `own` listens to; `stopped` tells whether it is seen to be stopped."""

    def __init__(self, rank: int, own: int, stopped: Callable[[], bool]) -> None:
        self._rank, self._own, self._stopped = rank, own, stopped
        self._silent, self._ended, self._waits = 0.0, False, False

    def hear(self, ended: bool) -> None:
        """Note that it is alive, or that its training has ended."""
        self._silent, self._ended, self._waits = 0.0, ended, False

    def fault(self, passed: float | None) -> str | None:
        """The fault found after so many more seconds of silence, if any; None seconds where this process did not run.

        In that case the other may have slept too, and wake later.
        """
        self._silent = SILENCE - GRACE if passed is None else self._silent + passed
        if self._silent > SILENCE and not self._ended:
            if not self._stopped():
                return f"rank {self._rank} is lost or hangs: nothing was heard of it for {SILENCE:.0f} s"
            if not self._waits:
                notify(f"rank {self._rank} is stopped, and waited for until it is continued (SIGCONT)")
            self._silent, self._waits = 0.0, True
        if self._silent > GRACE:
            return f"rank {self._own} hangs: rank {self._rank} ended its training {GRACE:.0f} s ago"
        return None


class Steps:
    """The time that the threads of this process wait for their environments, while it was running."""

    def __init__(self) -> None:
        self._taken: dict[int, tuple[float, float]] = {}  # of each thread: when its step began, and seconds since

    def stuck(self, passed: float | None) -> bool:
        """Tell whether a thread waits for too long, after so many more seconds; None where the process did not run."""
        before, self._taken, stuck = self._taken if passed is not None else {}, {}, False
        for thread, (since, patience) in list(_stepping.items()):
            began, taken = before.get(thread, (-1.0, 0.0))
            self._taken[thread] = since, taken + (passed or 0.0) if began == since else 0.0
            stuck |= self._taken[thread][1] >= patience
        return stuck


class _Watch:
    """The thread that sends signs of life, and listens to those of the rank before."""

    def __init__(self, comm: Communicator, wire: Wire | LocalWire, help_line: str) -> None:
        self._over, self._help = threading.Event(), help_line
        self._fault: str | None = None
        found = comm.gather(process(os.getpid()))
        before = (comm.rank - 1) % comm.size
        self._comm, self._wire, self._before = comm, wire, before
        self._neighbour = Neighbour(before, comm.rank, lambda: bool(found[before] and found[before].stopped()))
        self._thread = threading.Thread(target=self._watch, daemon=True, name="watch")
        self._thread.start()

    def end(self, fault: str | None) -> None:
        self._fault = fault
        self._over.set()
        self._thread.join(FAREWELL)

    def _watch(self) -> None:
        clock, steps, after = Clock(), Steps(), (self._comm.rank + 1) % self._comm.size
        while not self._over.wait(BEAT):
            passed = clock.passed()
            self._listen()
            if fault := self._neighbour.fault(passed):
                self._fail(fault)
            if not steps.stuck(passed):
                self._wire.send(np.zeros(1, np.int8), after, _ALIVE)
        if self._fault is None:
            self._wire.send(np.zeros(1, np.int8), after, _ENDED)
            return
        others = [rank for rank in range(self._comm.size) if rank != self._comm.rank]
        for posted in [self._wire.post(self._fault, None, rank, _FAULT) for rank in others]:
            posted.finish()

    def _listen(self) -> None:
        if come := self._wire.waiting(None, _FAULT):
            fault = self._wire.fetch(np.empty(0, np.int8), *come)
            if not self._over.wait(FAREWELL):  # else this rank has found its own way out
                self._fail(f"rank {come[0]}: {fault}")
        while (come := self._wire.waiting(self._before)) and come[1] != _FAULT:
            self._wire.receive(np.empty(1, np.int8), *come)
            self._neighbour.hear(come[1] == _ENDED)

    def _fail(self, message: str) -> NoReturn:
        notify(f"error: {message}; {self._help}")
        os._exit(1)  # the launcher ends the others


def process(number: int) -> Process | None:
    """A process of this machine, None where there is no /proc, or no such process."""
    try:
        return Process(machine(), number, status_of(number)[1])
    except OSError:
        return None


def status_of(number: int) -> tuple[str, str]:
    """State and time of birth of a process, from /proc."""
    fields = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()  # a name may hold blanks
    return fields[0], fields[19]

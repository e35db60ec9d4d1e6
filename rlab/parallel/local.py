"""Ranks that a command starts by itself: forks of it, on the cores of one machine, that talk over sockets and memory.

They make the same calls as the ranks of `mpirun` (`rlab/parallel/comm.py`), and need no MPI. A fork begins with all
that its parent has imported, so that a rank costs neither the seconds nor the memory of another TensorFlow. No socket
and no memory has a name: however the ranks end, nothing is left. Rank 0 is the command itself; the others end with it.
"""

from __future__ import annotations

import contextlib
import ctypes
import math
import mmap
import os
import pickle
import signal
import socket
import struct
import sys
import threading
import time
from collections import defaultdict, deque
from typing import Any, NamedTuple

import numpy as np

from rlab import launchers
from rlab.errors import BadInputError, ElsewhereError, RankLostError

_SLOT = 4 << 20  # bytes of memory for each rank's part of an array that all put together
_CHUNK = 64 << 10  # bytes to a datagram; Linux takes 200 KiB
_HEADER = struct.Struct("<HHI?")  # channel, sender, tag, and whether more of the message follows
_TOGETHER = 0  # the channel of what all ranks do together
_LOOK = 0.5  # seconds to wait for a message before it is asked whether all ranks are there still
_GLANCE = 0.1  # seconds between two looks at the processes, however often it is asked
_FAREWELL = 5.0  # seconds in which a rank may end by itself
_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of <sys/prctl.h>

Place = tuple[int, int, int]  # channel, rank of the sender, tag


def allow() -> None:
    """Allow this process to be forked: it is a program of one command, from its beginning, which only that knows."""
    global _allowed
    _allowed = True


def possible() -> bool:
    """Tell whether this process may be forked, on a system that can watch over its children."""
    return _allowed and sys.platform.startswith("linux") and not _forked


def fork(size: int) -> None:
    """Become `size` ranks, each with its share of the cores: this process is rank 0, its children are the others.

    To be called once, by a program with one thread, before TensorFlow computes anything. Raises BadInputError where
    that is not certain (`allow`), or the system does not allow it.
    """
    global _forked
    if not possible():
        raise BadInputError(
            "only `python -m launch` itself can start several processes, and only on Linux; elsewhere mpirun can"
        )
    try:
        inboxes = [socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM) for _ in range(size)]
        memory = mmap.mmap(-1, 8 * size + size * _SLOT)
    except OSError as error:
        raise BadInputError(f"{size} processes cannot be started: {error.strerror}") from error
    cores, parent = launchers.usable_cores(), os.getpid()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()
    rank, children = 0, list[int]()
    for number in range(1, size):
        try:
            pid = os.fork()
        except OSError as error:
            _kill(children)
            raise BadInputError(f"{size} processes cannot be started: {error.strerror}") from error
        if not pid:
            rank, children = number, []
            break
        children.append(pid)
    if rank:
        _end_with(parent)
    if size <= len(cores) == len(os.sched_getaffinity(0)):  # and not a share of the time of more
        # Linux leaves a core idle beside another that two threads wait for, where there are few: each rank has its own.
        os.sched_setaffinity(0, cores[rank::size])
    launchers.become(rank, size)
    _forked = Local(rank, size, inboxes, memory, children)


def forked() -> Local | None:
    """The ranks that this process was forked into, if it was."""
    return _forked


_forked: Local | None = None
_allowed = False


def _end_with(parent: int) -> None:
    """Leave signals to rank 0, and end when it does."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
    # Processes that an environment forks may be ended by one.
    os.register_at_fork(after_in_child=lambda: signal.signal(signal.SIGTERM, signal.SIG_DFL))
    ctypes.CDLL(None).prctl(_DEATH_SIGNAL, signal.SIGKILL)
    if os.getppid() != parent:  # it has ended before
        os._exit(1)


def _kill(children: list[int]) -> None:
    for pid in children:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, 0)


class Local:
    """This process among the ranks of one command."""

    of_one_command = True

    def __init__(
        self, rank: int, size: int, inboxes: list[tuple[socket.socket, socket.socket]], memory: Any, children: list[int]
    ) -> None:
        self.rank, self.size = rank, size
        self.children = dict(zip(range(1, size), children, strict=False))
        self._ended: dict[int, int] = {}  # exit codes of ranks that have ended, a signal's number negative
        self._looking, self._looked = threading.Lock(), -math.inf
        for number, (inbox, _) in enumerate(inboxes):
            if number != rank:
                inbox.close()
        self._outboxes = [outbox for _, outbox in inboxes]
        self._sending = [threading.Lock() for _ in inboxes]
        self.mail = _Mail(inboxes[rank][0])
        self._channels = _TOGETHER
        # Each rank writes how often it has met the others, and its part of an array.
        self._meetings = np.frombuffer(memory, np.int64, size)
        self._slots = np.frombuffer(memory, np.uint8, size * _SLOT, 8 * size).reshape(size, _SLOT)

    def gather(self, value: Any) -> list[Any]:
        packed = pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
        if self.rank:
            self.send(packed, 0, _TOGETHER, 0)
            parts = pickle.loads(self._take(0))
        else:
            parts = [packed, *map(self._take, range(1, self.size))]
            joined = pickle.dumps(parts, pickle.HIGHEST_PROTOCOL)
            for other in range(1, self.size):
                self.send(joined, other, _TOGETHER, 0)
        return [pickle.loads(part) for part in parts]

    def _take(self, rank: int) -> bytes:
        while (found := self.mail.take((_TOGETHER, rank, 0), _LOOK)) is None:
            self.require_all()
        return found

    def stack(self, array: np.ndarray) -> np.ndarray:
        parts = np.empty((self.size, *np.shape(array)), np.asarray(array).dtype)
        given = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
        found = parts.reshape(self.size, -1).view(np.uint8)
        for start in range(0, given.size, _SLOT):
            part = given[start : start + _SLOT]
            self._slots[self.rank, : part.size] = part
            self.meet()
            found[:, start : start + part.size] = self._slots[:, : part.size]
            self.meet()  # before anybody writes the next part
        return parts

    def sum(self, array: np.ndarray) -> np.ndarray:
        return added(self.stack(array))

    def meet(self) -> None:
        """Wait until every rank is here."""
        self._meetings[self.rank] += 1
        number, looks = self._meetings[self.rank], 0
        while self._meetings.min() < number:
            looks += 1
            time.sleep(0.0 if looks < 100 else 1e-4)
            if looks % 1000 == 0:
                self.require_all()

    def wire(self) -> LocalWire:
        """A wire for messages between two ranks, apart from collective calls; all ranks make one at the same time."""
        self._channels += 1
        return LocalWire(self, self.mail, self._channels)

    def send(self, data: Any, rank: int, channel: int, tag: int) -> None:
        """Send a message of any bytes; messages from one rank to another arrive in order."""
        view = memoryview(data).cast("B")
        with self._sending[rank]:
            for start in range(0, max(len(view), 1), _CHUNK):
                part = view[start : start + _CHUNK]
                header = _HEADER.pack(channel, self.rank, tag, start + _CHUNK < len(view))
                try:
                    self._outboxes[rank].sendmsg([header, part])
                except OSError:  # it has ended, which whoever waits for it learns soon enough
                    return

    def require_all(self) -> None:
        """Raise RankLostError where a rank was ended by a signal, ElsewhereError where it has failed and said why.

        Only rank 0 sees it. The others end with rank 0.
        """
        if lost := self.lost():
            raise RankLostError(str(lost)) if lost.code < 0 else ElsewhereError(str(lost))

    def lost(self) -> Lost | None:
        """A rank that has ended by a signal or a fault, as rank 0 sees it; it looks some times a second at most."""
        with self._looking:
            if time.monotonic() - self._looked > _GLANCE:
                self._look()
                self._looked = time.monotonic()
            # A status above 128 is that of the signal which stopped all of them.
            return next((Lost(rank, code) for rank, code in self._ended.items() if code < 0 or 0 < code <= 128), None)

    def _look(self) -> None:
        for rank, pid in self.children.items():
            if rank not in self._ended:
                with contextlib.suppress(ChildProcessError):
                    ended, status = os.waitpid(pid, os.WNOHANG)
                    if ended:
                        self._ended[rank] = os.waitstatus_to_exitcode(status)

    def gone(self) -> set[int]:
        """The ranks that have ended, in whatever way, as rank 0 sees it."""
        self.lost()
        return set(self._ended)

    def finish(self, status: int) -> None:
        """End the other ranks, which may end by themselves first unless the work has failed; only rank 0 calls it."""
        until = time.monotonic() + (_FAREWELL if status in (0, *range(129, 256)) else 0.0)
        while len(self._ended) < len(self.children) and time.monotonic() < until:
            self.lost()
            time.sleep(0.01)
        _kill([pid for rank, pid in self.children.items() if rank not in self._ended])

    def await_fault(self) -> None:
        """Give a rank that has failed some seconds to say so itself."""
        until = time.monotonic() + _FAREWELL
        while not self.lost() and time.monotonic() < until:
            time.sleep(0.01)


def added(parts: np.ndarray) -> np.ndarray:
    """The sum of arrays [R, ...] in the order of the ranks, which gives the same bits everywhere."""
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total


class Lost(NamedTuple):
    """A rank that has ended before its time."""

    rank: int
    code: int  # exit status, or the number of a signal, negative

    def __str__(self) -> str:
        if self.code > 0:
            return f"rank {self.rank} has ended with status {self.code}"
        with contextlib.suppress(ValueError):
            return f"rank {self.rank} was ended by {signal.Signals(-self.code).name}"
        return f"rank {self.rank} was ended by signal {-self.code}"


class _Mail:
    """The messages that have come for this rank and were not taken yet."""

    def __init__(self, inbox: socket.socket) -> None:
        self._inbox = inbox
        self._come: defaultdict[Place, deque[bytes]] = defaultdict(deque)
        self._news = threading.Condition(threading.RLock())
        threading.Thread(target=self._read, name="mail", daemon=True).start()

    def take(self, place: Place, seconds: float) -> bytes | None:
        """The oldest message from there, once there is one; None where none comes within the seconds."""
        with self._news:
            come = self._news.wait_for(lambda: self._come.get(place), seconds)
            return self._come[place].popleft() if come else None

    def wait(self, channel: int, seconds: float) -> tuple[int, int] | None:
        with self._news:
            return self._news.wait_for(lambda: self.waiting(channel, None, None), seconds)

    def waiting(self, channel: int, rank: int | None, tag: int | None) -> tuple[int, int] | None:
        with self._news:
            for (where, source, name), messages in self._come.items():
                if messages and where == channel and rank in (None, source) and tag in (None, name):
                    return source, name
        return None

    def _read(self) -> None:
        begun: defaultdict[Place, bytearray] = defaultdict(bytearray)
        size = _HEADER.size + _CHUNK
        while True:
            data = self._inbox.recv(size)
            channel, source, tag, more = _HEADER.unpack_from(data)
            place = channel, source, tag
            begun[place] += memoryview(data)[_HEADER.size :]
            if not more:
                with self._news:
                    self._come[place].append(bytes(begun.pop(place)))
                    self._news.notify_all()


class LocalWire:
    """The counterpart of `rlab.parallel.comm.Wire` between the ranks of one command. No wait keeps a core busy."""

    def __init__(self, comm: Local, mail: _Mail, channel: int) -> None:
        self._comm, self.mail, self._channel = comm, mail, channel

    def send(self, array: np.ndarray, rank: int, tag: int = 0) -> None:
        self._comm.send(np.ascontiguousarray(array), rank, self._channel, tag)

    def receive(self, array: np.ndarray, rank: int, tag: int = 0) -> None:
        array[...] = np.frombuffer(self._take(rank, tag), array.dtype).reshape(array.shape)

    def waiting(self, rank: int | None = None, tag: int | None = None) -> tuple[int, int] | None:
        return self.mail.waiting(self._channel, rank, tag)

    def wait(self, seconds: float) -> tuple[int, int] | None:
        return self.mail.wait(self._channel, seconds)

    def post(self, note: Any, array: np.ndarray | None, rank: int, tag: int) -> Sent:
        packed = pickle.dumps((note, array is not None), pickle.HIGHEST_PROTOCOL)
        self._comm.send(packed, rank, self._channel, tag)
        if array is not None:
            self.send(array, rank, tag)
        return Sent()

    def fetch(self, array: np.ndarray, rank: int, tag: int) -> Any:
        note, more = pickle.loads(self._take(rank, tag))
        if more:
            self.receive(array, rank, tag)
        return note

    def _take(self, rank: int, tag: int) -> bytes:
        while (found := self.mail.take((self._channel, rank, tag), _LOOK)) is None:
            self._comm.require_all()
        return found


class Sent:
    """The counterpart of `rlab.parallel.comm.Posted`: what was posted here is in the other's mail already."""

    def finish(self) -> None:
        """Do nothing: the message is sent."""

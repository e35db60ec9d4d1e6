"""Ranks that work together: the only importer of mpi4py, with twins for a process alone and for ranks that are forks.

All results are the same bits on every rank: what is summed is gathered first and added in the order of the ranks.
"""

from __future__ import annotations

import atexit
import functools
import hashlib
import os
import pickle
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import numpy as np

from rlab.errors import BadInputError, TrainingError
from rlab.launchers import launched_ranks
from rlab.parallel import local

_WORDS = {"here": 1, "all": 2}  # tags of what ranks say to one another before they do anything together
_FAREWELL = 5.0  # seconds in which other ranks may speak after a fault


class Communicator(Protocol):
    """The ranks of a training, as agents see them; every rank makes the same calls in the same order."""

    rank: int
    size: int
    of_one_command: bool  # which shares the workers of its settings between them; else each rank has as many

    def gather(self, value: Any) -> list[Any]:
        """The values of all ranks, in their order, on every rank."""

    def stack(self, array: np.ndarray) -> np.ndarray:
        """The arrays of all ranks [R, ...], in their order, on every rank; of one shape and dtype."""

    def sum(self, array: np.ndarray) -> np.ndarray:
        """The sum over the ranks, on every rank; arrays of one shape and dtype."""

    def wire(self) -> Wire | local.LocalWire | None:
        """A wire for messages between two ranks, apart from collective calls; None where there can be none."""


class Serial:
    """One process, alone."""

    rank, size, of_one_command = 0, 1, True

    def gather(self, value: Any) -> list[Any]:
        return [value]

    def stack(self, array: np.ndarray) -> np.ndarray:
        return array[None]

    def sum(self, array: np.ndarray) -> np.ndarray:
        return array

    def wire(self) -> None:
        return None


class MPI:
    """The ranks of `mpirun`."""

    of_one_command = False

    def __init__(self) -> None:
        try:
            import mpi4py.MPI
        except (ImportError, RuntimeError) as error:
            raise BadInputError(f"mpirun needs mpi4py and an MPI library: pip install '.[mpi]' ({error})") from error
        self.mpi = mpi4py.MPI.COMM_WORLD
        self.rank, self.size = self.mpi.Get_rank(), self.mpi.Get_size()
        self.threads = mpi4py.MPI.Query_thread() == mpi4py.MPI.THREAD_MULTIPLE  # whether several may talk at once
        atexit.register(_leave)  # who registers last is called first: MPI's own farewell comes after it

    def knock(self, rank: int, word: str) -> None:
        """Send one of the `_WORDS` to a rank, which need not receive it."""
        self.mpi.isend(None, rank, _WORDS[word])  # small enough to be away at once

    def knocked(self, rank: int, word: str) -> bool:
        """True if that rank has said the word, which is taken from it: asked again, this is False."""
        come = self.mpi.iprobe(rank, _WORDS[word])
        if come:
            self.mpi.recv(source=rank, tag=_WORDS[word])
        return come

    def gather(self, value: Any) -> list[Any]:
        return self.mpi.allgather(value)

    def stack(self, array: np.ndarray) -> np.ndarray:
        parts = np.empty((self.size, *array.shape), array.dtype)
        self.mpi.Allgather(np.ascontiguousarray(array), parts)
        return parts

    def sum(self, array: np.ndarray) -> np.ndarray:
        return local.added(self.stack(array))

    def wire(self) -> Wire | None:
        return Wire(self) if self.threads else None


class Wire:
    """Messages from one rank to another, apart from collective calls; any thread may send and receive.

    A wait sleeps in between: an MPI library that waits keeps a core busy. All ranks make a wire together.
    """

    def __init__(self, comm: MPI) -> None:
        self._comm = comm.mpi.Dup()

    def send(self, array: np.ndarray, rank: int, tag: int = 0) -> None:
        """Send an array; returns once it may change."""
        _finish(self._comm.Isend(array, rank, tag))

    def receive(self, array: np.ndarray, rank: int, tag: int = 0) -> None:
        """Receive into an array of the sender's shape and dtype; returns once it is filled."""
        _finish(self._comm.Irecv(array, rank, tag))

    def waiting(self, rank: int | None = None, tag: int | None = None) -> tuple[int, int] | None:
        """Rank and tag of a message that has come and was not received, of any rank and tag, or of these."""
        from mpi4py import MPI as mpi  # noqa: N811

        status = mpi.Status()
        come = self._comm.Iprobe(mpi.ANY_SOURCE if rank is None else rank, mpi.ANY_TAG if tag is None else tag, status)
        return (status.Get_source(), status.Get_tag()) if come else None

    def wait(self, seconds: float) -> tuple[int, int] | None:
        """Rank and tag of a message, as `waiting`, once one has come; None after so many seconds."""
        until = time.monotonic() + seconds
        while not (come := self.waiting()) and time.monotonic() < until:
            time.sleep(_PAUSE)
        return come

    def post(self, note: Any, array: np.ndarray | None, rank: int, tag: int) -> Posted:
        """Begin to send a note, any small value, and an array with it; the array must not change on its way."""
        requests = [self._comm.isend((note, array is not None), rank, tag)]
        if array is not None:
            requests.append(self._comm.Isend(array, rank, tag))
        return Posted(requests, array)

    def fetch(self, array: np.ndarray, rank: int, tag: int) -> Any:
        """Receive what is posted: returns the note, and fills `array` with the array that came with it, if any."""
        while not self.waiting(rank, tag):
            time.sleep(_PAUSE)
        note, more = self._comm.recv(source=rank, tag=tag)
        if more:
            self.receive(array, rank, tag)
        return note


class Posted(NamedTuple):
    """A message on its way; while it is kept, so is the memory that is sent."""

    requests: list[Any]
    array: np.ndarray | None

    def finish(self) -> None:
        """Wait until it is sent; a large message is sent when the other rank receives it."""
        for request in self.requests:
            _finish(request)


def _finish(request: Any) -> None:
    while not request.Test():
        time.sleep(_PAUSE)


_PAUSE = 1e-4  # seconds


def world() -> Communicator:
    """The ranks that this process is one of: those of its command, or of `mpirun`, else this process alone."""
    return local.forked() or _launched()


@functools.cache
def _launched() -> Communicator:
    return MPI() if launched_ranks() > 1 else Serial()


def on_first(comm: Communicator, work: Callable[[], Any]) -> Any:
    """The result of `work` on rank 0, on every rank; an error that it raises there is raised on every rank.

    On the others an exit, or an error that cannot be sent, is a TrainingError; a result that cannot be sent, on all.
    """
    if comm.size == 1:
        return work()
    result, error = None, None
    if comm.rank == 0:
        try:
            result = work()
        except BaseException as raised:  # whatever it is, the others wait
            error = raised
    sent, error = _packed(result, error) if comm.rank == 0 else (None, None)
    sent = comm.gather(sent)[0]
    if comm.rank:
        result, error = pickle.loads(sent)
    if error is not None:
        raise error
    return result


def _packed(result: Any, error: BaseException | None) -> tuple[bytes, BaseException | None]:
    """The result and the error as bytes for the other ranks, and the error to raise here; see `on_first`."""
    sent: BaseException | None = error
    if error is not None and not isinstance(error, Exception):  # it ends this rank as it would have, the others by us
        sent = TrainingError(f"{type(error).__name__}: {error}")
    try:
        packed = pickle.dumps((result, sent))
        pickle.loads(packed)  # some errors cannot be made again from what they hold
    except Exception as unsent:
        sent = TrainingError(f"{type(error or unsent).__name__}: {error or unsent}")
        packed, error = pickle.dumps((None, sent)), error or sent
    return packed, error


def _leave() -> None:
    """End a program: after an error MPI's farewell would wait for ranks that wait for this one."""
    if getattr(sys, "last_value", None) is None:  # what the interpreter has shown on its way out
        return
    time.sleep(_FAREWELL)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(1)


def require_equal(comm: Communicator, array: np.ndarray, what: str) -> None:
    """Raise TrainingError on every rank when the ranks do not hold the same bits."""
    if comm.size == 1:
        return
    digests = comm.gather(hashlib.sha256(np.ascontiguousarray(array).data).hexdigest())
    if len(set(digests)) > 1:
        raise TrainingError(f"{what} differ between the ranks")

"""Shared parameters across ranks.

Ranks on the machine of rank 0 have them in memory in common, and their workers update them as threads do, in place and
without a lock; a worker sends only the report of its update. Elsewhere a worker's update is one round trip: its
gradient and its report go up to rank 0, fresh parameters and the word to go on or to stop come down. Each worker of a
rank has a tag of its own. What concerns a whole rank, signals up and the end down, goes over a wire of its own.
"""

import contextlib
import queue
import threading
import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from rlab.errors import BadInputError, ElsewhereError, TrainingError
from rlab.parallel.calls import Patience, join
from rlab.parallel.comm import Communicator, Posted, Wire
from rlab.parallel.local import Local, LocalWire, Sent
from rlab.parallel.memory import common
from rlab.parallel.shared import LocalParameters, Snapshot, UpdateReport, Work, WorkerParameters

_NOTHING = np.empty(0, np.float32)
_PATIENCE = 10.0  # seconds to wait for a rank to confirm that it knows of the end
_SERVER_PATIENCE = 0.01  # seconds to wait for a worker before anything else is looked at
_PAUSE = 2e-4  # seconds between two looks of the server for who asks


class _Leave(NamedTuple):
    """The message of a worker that goes, and asks no more."""

    fault: str | None


class _End(NamedTuple):
    """The end of a run, as rank 0 tells it."""

    steps: int
    signal: int | None  # that stopped it
    fault: str | None  # beginning with the rank's name


class _Updated(NamedTuple):
    """The message of an update that was made in shared memory."""

    work: Work
    staleness: int
    steps: int  # made after it, by all workers


def _connect(comm: Communicator) -> Wire | LocalWire | None:
    """A wire between the ranks, None for a process alone. All ranks call it together."""
    wire = comm.wire()
    if wire is None and comm.size > 1:
        raise BadInputError("A3C on several ranks needs an MPI library with MPI_THREAD_MULTIPLE")
    return wire


def _share(exchange: LocalParameters, comm: Communicator) -> bool:
    """Share the parameters among the ranks of a machine; returns whether this rank has a share. All ranks call it."""
    parameters = exchange.parameters
    memory, sharing = common(comm, parameters.bytes_in_common())
    if memory is not None and any(sharing[1:]):
        parameters.move_to(memory, fill=comm.rank == 0)
    if comm.rank == 0:
        exchange.announce()
    return sharing[comm.rank]


@contextlib.contextmanager
def _running(threads: Sequence[threading.Thread], stop: threading.Event) -> Iterator[None]:
    try:
        for thread in threads:
            thread.start()
        yield
    finally:
        stop.set()
        join(threads)


class ParameterServer:
    """Rank 0's side, or that of a process alone: its workers use the exchange, and a thread serves those of others."""

    def __init__(self, exchange: LocalParameters, comm: Communicator, workers: Sequence[int]) -> None:
        self._exchange, self._ranks, self._comm = exchange, range(1, comm.size), comm
        self._wire, self._words = _connect(comm), _connect(comm)
        _share(exchange, comm)
        self._signal: int | None = None
        self._open = {(rank, i) for rank in self._ranks for i in range(workers[rank])}
        self._threads: list[threading.Thread] = []
        self._patience = Patience()

    def connect(self, worker: int) -> LocalParameters:
        """The parameters that a worker of this rank pulls from and pushes to."""
        return self._exchange

    def hear(self, seconds: float) -> UpdateReport | None:
        """The next report, None when there is none for so long. Raises the fault of a worker, of whichever rank."""
        try:
            report = self._exchange.reports.get(timeout=seconds)
        except queue.Empty:
            report = None
        if isinstance(self._comm, Local):
            self._comm.require_all()
        if isinstance(report, TrainingError):
            raise report
        return report

    def over(self) -> bool:
        """Tell whether all workers of all ranks have gone, and all that they reported is heard.

        Once the schedule is done, a worker whose environment does not come back is not waited for.
        """
        if not self._exchange.reports.empty():
            return False
        alive = [thread for thread in self._threads if thread.is_alive()]
        return not alive or (self._exchange.schedule.is_over and self._patience.is_over(alive))

    def agree(self, signal: int | None) -> int | None:
        """The number of the signal that this rank has had, else of that which another had, else None."""
        if signal:  # the server writes it too, and what it wrote must not be lost
            self._signal = signal
        return self._signal

    @contextlib.contextmanager
    def running(self, threads: Sequence[threading.Thread]) -> Iterator[None]:
        """Run this rank's workers, and the server, meanwhile; in the end all workers of all ranks have stopped.

        Then the other ranks are told how the run ended. A GeneratorExit is an early end, and no fault.
        """
        servers = [threading.Thread(target=self._serve, name="server", daemon=True)] if self._ranks else []
        self._threads = [*threads, *servers]
        try:
            with _running(self._threads, self._exchange.stop):
                yield
        except GeneratorExit:
            self._tell(self._signal, None)
            raise
        except BaseException as error:
            self._tell(None, str(error) if isinstance(error, ElsewhereError) else f"rank 0: {error}")
            raise
        else:
            self._tell(None, None)  # a signal came when all was done

    def _tell(self, signal: int | None, fault: str | None) -> None:
        if self._words is None:
            return
        for rank in self._ranks:
            self._words.post(_End(self._exchange.parameters.steps, signal, fault), None, rank, 0).finish()
        # What is posted may need this rank's help to arrive. After a fault nobody may be there to confirm it.
        deaf, until = set(self._ranks), time.monotonic() + _PATIENCE
        while deaf and fault is None and time.monotonic() < until:
            if place := self._words.waiting():
                if self._words.fetch(_NOTHING, *place) is None:  # and no signal, which comes too late
                    deaf.discard(place[0])
            else:
                time.sleep(_PAUSE)

    def _serve(self) -> None:
        """The server thread: answer until each worker has been told to go, or has gone by itself."""
        assert self._wire is not None
        assert self._words is not None
        gradient = np.empty_like(self._exchange.parameters.vector)
        posted: dict[tuple[int, int], Posted | Sent] = {}
        try:
            while self._open:
                if isinstance(self._comm, Local):
                    gone = self._comm.gone()
                    self._open = {place for place in self._open if place[0] not in gone}
                if place := self._words.waiting():
                    self._signal = self._words.fetch(_NOTHING, *place)
                self._exchange.announce()
                place = self._wire.wait(_SERVER_PATIENCE)
                if place is None:
                    continue
                note = self._wire.fetch(gradient, *place)
                if place in posted:
                    posted.pop(place).finish()  # it was received, or there would be no new message
                if isinstance(note, _Updated):
                    self._exchange.report(*note)
                elif isinstance(note, _Leave):
                    self._bid_farewell(place, note)
                else:
                    posted[place] = self._answer(place, note, gradient)
        except BaseException as error:  # nothing may vanish with a thread
            self._exchange.reports.put(TrainingError(f"the server of parameters: {type(error).__name__}: {error}"))

    def _answer(self, place: tuple[int, int], work: Work | None, gradient: np.ndarray) -> Posted | Sent:
        assert self._wire is not None
        if work:
            self._exchange.push(gradient, work)
        vector, *rest = snapshot = self._exchange.pull()
        if not snapshot.done:
            return self._wire.post(rest, vector, *place)
        self._open.discard(place)
        return self._wire.post(rest, None, *place)  # who goes needs no parameters

    def _bid_farewell(self, place: tuple[int, int], note: _Leave) -> None:
        self._open.discard(place)
        if note.fault:
            self._exchange.stop.set()
            self._exchange.reports.put(ElsewhereError(f"rank {place[0]}: {note.fault}"))


class RankClient:
    """The side of a rank that is not the first, with the interface of `ParameterServer`.

    Of the exchange, which is this rank's own, it uses `stop` and `reports`, where its workers' faults are; where its
    parameters are not rank 0's, they only say how many there are, and after the end, how many steps were made.
    """

    def __init__(self, exchange: LocalParameters, comm: Communicator, workers: Sequence[int]) -> None:
        self._exchange = exchange
        wire, words = _connect(comm), _connect(comm)
        self._beside = _share(exchange, comm)
        assert wire is not None
        assert words is not None
        self._wire, self._words = wire, words
        self._end: _End | None = None
        self._told = False

    def connect(self, worker: int) -> WorkerParameters:
        """The parameters that a worker of this rank, counted from 0 on each, pulls from and pushes to."""
        return (SharedMemoryParameters if self._beside else RemoteParameters)(self._exchange, self._wire, worker)

    def hear(self, seconds: float) -> None:
        """Listen for so long. Raises the fault of a worker of this rank, and ElsewhereError for that of another."""
        try:
            report = self._exchange.reports.get(timeout=seconds)
        except queue.Empty:
            pass
        else:
            assert isinstance(report, TrainingError)
            raise report
        if self._words.waiting(0, 0):
            self._end = self._words.fetch(_NOTHING, 0, 0)
            self._words.post(None, None, 0, 0).finish()
            if not self._beside:
                self._exchange.parameters.steps = self._end.steps
            if self._end.fault:
                raise ElsewhereError(self._end.fault)

    def over(self) -> bool:
        """Tell whether rank 0 has said that the run has ended."""
        return self._end is not None

    def agree(self, signal: int | None) -> int | None:
        """Tell rank 0 the first signal that this rank has had; returns the one that stopped the run, once it has."""
        if signal and not self._told:
            self._words.post(signal, None, 0, 0).finish()
            self._told = True
        return self._end.signal if self._end else None

    def running(self, threads: Sequence[threading.Thread]) -> contextlib.AbstractContextManager[None]:
        """Run this rank's workers meanwhile; in the end they have stopped."""
        return _running(threads, self._exchange.stop)


class SharedMemoryParameters:
    """The parameters of a worker in another process of rank 0's machine, which are rank 0's own, in shared memory."""

    def __init__(self, exchange: LocalParameters, wire: Wire | LocalWire, tag: int) -> None:
        self._exchange, self._wire, self._tag = exchange, wire, tag

    def pull(self) -> Snapshot:
        """The parameters, and what the schedule says now."""
        parameters, stop = self._exchange.parameters, self._exchange.stop
        while True:
            steps, (line, over) = parameters.steps, parameters.announced()
            done = over or stop.is_set()
            if done or steps < line.end:
                return Snapshot(*parameters.pull(), steps, line.left(steps), done)
            time.sleep(_PAUSE)  # at the end of a line rank 0 decides whether another follows

    def push(self, gradient: np.ndarray, work: Work) -> None:
        """Apply a gradient, float32 [D], in place, count the steps made for it, and report."""
        done = _Updated(work, *self._exchange.parameters.apply(gradient, work))
        self._wire.post(done, None, 0, self._tag).finish()

    def leave(self, fault: TrainingError | None) -> None:
        """Report that the worker ends, with the fault that made it fail, if one did."""
        self._wire.post(_Leave(str(fault) if fault else None), None, 0, self._tag).finish()
        self._exchange.leave(fault)


class RemoteParameters:
    """The parameters of a worker that shares no memory with rank 0: pull and push are messages to it."""

    def __init__(self, exchange: LocalParameters, wire: Wire | LocalWire, tag: int) -> None:
        self._wire, self._tag, self._exchange = wire, tag, exchange
        self._size = exchange.parameters.vector.size
        self._fresh: Snapshot | None = None  # that came with the answer to a push
        self._dismissed = False

    def pull(self) -> Snapshot:
        """The parameters, and what the schedule said when they were sent."""
        snapshot, self._fresh = self._fresh or self._ask(None), None
        return snapshot._replace(done=snapshot.done or self._exchange.stop.is_set())

    def push(self, gradient: np.ndarray, work: Work) -> None:
        """Send a gradient, float32 [D], and its report; the answer brings what the next pull gives."""
        self._fresh = self._ask(work, gradient)

    def leave(self, fault: TrainingError | None) -> None:
        """Report that the worker ends, with the fault that made it fail, if one did."""
        if not self._dismissed:
            self._wire.post(_Leave(str(fault) if fault else None), None, 0, self._tag).finish()
        self._exchange.leave(fault)

    def _ask(self, work: Work | None, gradient: np.ndarray | None = None) -> Snapshot:
        posted = self._wire.post(work, gradient, 0, self._tag)
        vector = np.empty(self._size, np.float32)  # a new one each time: a tensor may be made of it in place
        snapshot = Snapshot(vector, *self._wire.fetch(vector, 0, self._tag))
        posted.finish()
        self._dismissed = snapshot.done
        return snapshot

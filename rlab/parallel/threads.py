"""Ranks that are threads of one process: a batch in so many shares is the same bits on any number of processes."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from rlab.errors import BadInputError
from rlab.parallel import local
from rlab.parallel.comm import Communicator


class ThreadRank:
    """One of the ranks of a process, of which every process has as many; made by `ranks_of`.

    The first of a process is its main thread's, and alone talks to other processes.
    """

    of_one_command = True

    def __init__(self, process: Communicator, team: _Team, number: int) -> None:
        self._process, self._team, self._number = process, team, number
        self.rank, self.size = process.rank * team.size + number, process.size * team.size

    def gather(self, value: Any) -> list[Any]:
        return self._team.exchange(
            self._number, value, lambda values: [one for part in self._process.gather(values) for one in part]
        )

    def stack(self, array: np.ndarray) -> np.ndarray:
        return self._team.exchange(self._number, array, self._stacked)

    def _stacked(self, arrays: list[np.ndarray]) -> np.ndarray:
        return self._process.stack(np.stack(arrays)).reshape(self.size, *np.shape(arrays[0]))

    def sum(self, array: np.ndarray) -> np.ndarray:
        return local.added(self.stack(array))

    def wire(self) -> None:
        return None


class _Team:
    """The exchange of values among the ranks of one process."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._given: list[Any] = [None] * size
        self._found: Any = None
        self._meeting = threading.Barrier(size)

    def exchange(self, number: int, value: Any, together: Callable[[list[Any]], Any]) -> Any:
        """The result of `together`, which the first rank calls on all values, for every rank; nobody may change it."""
        self._given[number] = value
        self._meeting.wait()
        if number == 0:
            self._found = together(self._given)
        self._meeting.wait()
        return self._found

    def part(self) -> None:
        """Break the exchange off: a rank that waits in it, or comes to it, fails."""
        self._meeting.abort()


def shares(asked: int, processes: int) -> int:
    """The number of ranks over all processes: as many as asked where these divide evenly, else one to each process.

    If 0 are asked for, one to each.
    """
    return asked if asked and asked % processes == 0 else processes


def require_multiple(flag: str, number: int, shares: int) -> None:
    """Raise BadInputError where so many cannot be dealt into the shares."""
    if number % shares:
        raise BadInputError(f"{flag} must be a multiple of the {shares} ranks that share it, not {number}")


def ranks_of(process: Communicator, number: int) -> list[Communicator]:
    """This process's ranks of `number` over all processes; itself where there is one to a process."""
    if number == process.size:
        return [process]
    team = _Team(number // process.size)
    return [ThreadRank(process, team, i) for i in range(team.size)]


def together(
    ranks: Sequence[Communicator], updates: Sequence[Generator[Any, None, None]]
) -> Generator[Any, None, None]:
    """The updates of the first of `ranks_of`, beside which the others make theirs, each in a thread of its own.

    A fault of any of them is raised, and ends all.
    """
    first, *others = updates
    if not others:
        yield from first
        return
    team = ranks[0]._team  # type: ignore[attr-defined]
    with contextlib.ExitStack() as ending:
        for one in updates:
            ending.callback(one.close)
        threads = ending.enter_context(ThreadPoolExecutor(len(others), "rank"))

        def step(one: Generator[Any, None, None]) -> Any:
            try:
                return next(one, _OVER)
            except BaseException:
                team.part()
                raise

        while True:
            beside = [threads.submit(step, one) for one in others]
            fault, update = None, None
            try:
                update = step(first)
            except threading.BrokenBarrierError as error:  # the fault is another's
                fault = error
            faults = [found for found in (one.exception() for one in beside) if found]
            own = [found for found in faults if not isinstance(found, threading.BrokenBarrierError)]
            if fault or own:
                raise own[0] if own else fault  # type: ignore[misc]
            if update is _OVER:
                return
            yield update


_OVER = object()

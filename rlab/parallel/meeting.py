"""Ranks that begin together: each must have come, with the same program, before anything that could wait for ever."""

import time
from typing import Any

from rlab.errors import BadInputError, TrainingError
from rlab.notify import notify
from rlab.parallel.comm import MPI, Communicator

NOTICE = 30.0  # seconds after which a rank that has not come is named
PATIENCE = 600.0  # after which it is given up; another may still be loading its libraries from a slow disk
_SHOWN = 3  # differences


def require_same(comm: Communicator, facts: dict[str, Any]) -> None:
    """Raise BadInputError on every rank, naming what differs, where the ranks' facts are not the same.

    `facts` are plain values by their names, None for what a rank has not. Raises TrainingError when a rank does not
    come.
    """
    if comm.size == 1:
        return
    if isinstance(comm, MPI):
        _await(comm)
    found = comm.gather({name: value for name, value in facts.items() if value is not None})
    if differences := _differences(found):
        more = f", and {len(differences) - _SHOWN} more" if len(differences) > _SHOWN else ""
        shown = "; ".join(differences[:_SHOWN])
        raise BadInputError(f"the ranks differ: {shown}{more}; start all with the same command and the same code")


def _differences(found: list[dict[str, Any]]) -> list[str]:
    """The facts that are not the same everywhere, each with the first rank that has another than rank 0."""
    told = []
    for name in dict.fromkeys(name for facts in found for name in facts):
        for rank, facts in enumerate(found):
            if facts.get(name) != found[0].get(name):
                told.append(f"rank {rank} has {_shown(name, facts)}, rank 0 has {_shown(name, found[0])}")
                break
    return told


def _shown(name: str, facts: dict[str, Any]) -> str:
    return f"{name} {facts[name]}" if name in facts else f"no {name}"


def _await(comm: MPI) -> None:
    """Wait until every rank is in this call. Rank 0 reports which ranks are missing; the others miss rank 0 alone.

    A collective call could not be given up again.
    """
    if comm.rank == 0:
        for rank in range(1, comm.size):
            comm.knock(rank, "here")
        _patiently(comm, set(range(1, comm.size)), "here")
        for rank in range(1, comm.size):
            comm.knock(rank, "all")
    else:
        comm.knock(0, "here")
        _patiently(comm, {0}, "here")
        _patiently(comm, {0}, "all", said=False)


def _patiently(comm: MPI, missing: set[int], word: str, said: bool = True) -> None:
    start, notice = time.monotonic(), said
    while missing := {rank for rank in missing if not comm.knocked(rank, word)}:
        waited = time.monotonic() - start
        names = f"rank {', '.join(map(str, sorted(missing)))}"
        if notice and waited > NOTICE:
            notify(f"rank {comm.rank} waits for {names} to begin the same training")
            notice = False
        if waited > PATIENCE:
            raise TrainingError(f"{names} did not begin the same training within {PATIENCE:.0f} s")
        time.sleep(0.01)

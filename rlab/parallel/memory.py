"""Memory that the ranks of one machine have in common."""

import mmap
import os

import numpy as np

from rlab.launchers import machine
from rlab.parallel.comm import Communicator


def common(comm: Communicator, size: int) -> tuple[np.ndarray | None, list[bool]]:
    """Shared memory of `size` bytes, 0 at first, for the ranks on the machine of rank 0; and which ranks have it.

    None on a rank that runs elsewhere, or that may not look at rank 0's files. The memory has no name and lies in no
    file system: it is gone with the last of them, however they end. All ranks call it together.
    """
    place = None
    if comm.rank == 0 and hasattr(os, "memfd_create") and comm.size > 1:
        descriptor = os.memfd_create("rlab")
        os.ftruncate(descriptor, size)
        place = machine(), os.getpid(), descriptor
    place = comm.gather(place)[0]
    memory = _mapped(place, size) if place else None
    shared = comm.gather(memory is not None)
    if comm.rank == 0 and place:
        os.close(descriptor)
    return memory, shared


def _mapped(place: tuple[str, int, int], size: int) -> np.ndarray | None:
    where, process, number = place
    try:
        if where != machine():
            return None
        descriptor = os.open(f"/proc/{process}/fd/{number}", os.O_RDWR)
    except OSError:  # another user's, or in a container of its own
        return None
    try:
        return np.frombuffer(mmap.mmap(descriptor, size), np.uint8)
    except OSError:
        return None
    finally:
        os.close(descriptor)

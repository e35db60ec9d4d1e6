"""Memory that stays with a process, and memory that the ranks of one machine have in common."""

import ctypes
import mmap
import os
import sys

import numpy as np

from rlab.launchers import machine
from rlab.parallel.comm import Communicator

# From glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3


def keep_freed_memory() -> bool:
    """Tell the C library to keep freed memory rather than give it back; True where that could be done (glibc).

    An acting step on sixteen Atari frames allocates two megabytes. By default each such block is mapped from the
    system and unmapped again, and touching it anew costs a page fault per 4 KiB: as much time as the network itself.
    This is a setting of the whole process, so a program makes it (`python -m launch` does), never a library.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    settings = {_M_MMAP_THRESHOLD: 1 << 30, _M_TRIM_THRESHOLD: 1 << 30, _M_TOP_PAD: 1 << 24}
    done = [mallopt(option, value) == 1 for option, value in settings.items()]
    return all(done)


def common(comm: Communicator, size: int) -> tuple[np.ndarray | None, list[bool]]:
    """So many bytes, 0 at first, that ranks on the machine of rank 0 have in common; and which ranks have them.

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

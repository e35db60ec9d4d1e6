"""Memory that stays with the process, for programs that allocate the same large arrays again and again."""

import ctypes
import sys

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

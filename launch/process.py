"""The process of a command: how it keeps memory, and how TensorFlow starts in it, without its greetings."""

import contextlib
import ctypes
import os
import sys

from rlab import quiet

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


def import_tensorflow() -> None:
    """Import TensorFlow, and let it start nothing yet: a process may still be forked."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    keep_freed_memory()
    quiet.hush_tensorflow()
    import tensorflow  # noqa: F401


def start_tensorflow(all_cores: bool = False) -> None:
    """Import TensorFlow and find its devices, with one compute thread inside an operation, or one to each core.

    Where workers are the parallelism, threads inside an operation would fight them for the cores.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    keep_freed_memory()
    with quiet.starting():
        import tensorflow as tf

        with contextlib.suppress(RuntimeError):  # it runs already, in a process of more than one command
            tf.config.threading.set_intra_op_parallelism_threads(0 if all_cores else 1)
        tf.constant(0.0)

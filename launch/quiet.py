"""Starting TensorFlow without its greetings."""

import contextlib
import os
from collections.abc import Iterator

from rlab.parallel.memory import keep_freed_memory


@contextlib.contextmanager
def _quiet_stderr() -> Iterator[None]:
    """Send file descriptor 2 to nowhere: TensorFlow's C++ writes there before any of its settings is read."""
    saved, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(nowhere)


def start_tensorflow(all_cores: bool = False) -> None:
    """Import TensorFlow and find its devices, with one compute thread inside an operation, or one to each core.

    Where workers are the parallelism, threads inside an operation would fight them for the cores. Python errors still
    show; only what C++ prints meanwhile is lost.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    keep_freed_memory()
    with _quiet_stderr():
        import tensorflow as tf

        with contextlib.suppress(RuntimeError):  # it runs already, in a process of more than one command
            tf.config.threading.set_intra_op_parallelism_threads(0 if all_cores else 1)
        tf.constant(0.0)

"""Starting TensorFlow without its greetings."""

import contextlib
import os

from rlab import quiet
from rlab.parallel.memory import keep_freed_memory


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

"""TensorFlow's first use without its greetings."""

import contextlib
import importlib
import os
import re
import sys
import tempfile
from collections.abc import Iterator

# Of C++'s log: what only informs, that of old too, the second line of one, and the absence of a graphics card.
_GREETING = re.compile(
    rb"I\d{4} |\d{4}-\d\d-\d\d [\d:.]+: I |WARNING: All log messages before absl::InitializeLog|"
    rb"To enable the following instructions|[WE]\d{4} .*(cuInit|Unable to register cu|computation_placer)"
)
_started = False


def import_tensorflow() -> None:
    """Import TensorFlow, if that is still to be done; its devices are left to be set up by whoever needs them."""
    if "tensorflow" not in sys.modules:
        with _without_greetings():
            importlib.import_module("tensorflow")


@contextlib.contextmanager
def starting() -> Iterator[None]:
    """While TensorFlow may find its devices for the first time; a decorator too."""
    global _started
    if _started:
        yield
        return
    with _without_greetings():
        yield
    _started = True


@contextlib.contextmanager
def _without_greetings() -> Iterator[None]:
    """What C++ writes meanwhile to file descriptor 2 comes afterwards, less the greetings.

    They are written before any setting of TensorFlow's is read, so nothing else keeps them away.
    """
    try:
        real = os.dup(2)
    except OSError:  # there is no standard error
        yield
        return
    with tempfile.TemporaryFile() as kept:
        os.dup2(kept.fileno(), 2)
        try:
            yield
        finally:
            with contextlib.suppress(OSError, ValueError, AttributeError):
                sys.stderr.flush()
            os.dup2(real, 2)
            os.close(real)
            kept.seek(0)
            with contextlib.suppress(OSError):
                os.write(2, b"".join(line for line in kept if not _GREETING.match(line)))

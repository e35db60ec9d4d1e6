"""TensorFlow's first use without its greetings."""

import contextlib
import functools
import importlib.abc
import importlib.machinery
import importlib.util
import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

# Of C++'s log: what only informs, that of old too, the second line of one, and the absence of a graphics card.
_GREETING = re.compile(
    rb"I\d{4} |\d{4}-\d\d-\d\d [\d:.]+: I |WARNING: All log messages before absl::InitializeLog|"
    rb"To enable the following instructions|[WE]\d{4} .*(cuInit|Unable to register cu|computation_placer)"
)
_started = False


class _Finder(importlib.abc.MetaPathFinder):
    """Finds TensorFlow, once, and has its module run without greetings; whichever module imports it first."""

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        if fullname != "tensorflow":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        if spec and spec.loader:
            spec.loader.exec_module = functools.partial(_execute, spec.loader.exec_module)  # type: ignore[method-assign]
        return spec


def _execute(execute: Callable[[Any], None], module: Any) -> None:
    with without_greetings():
        execute(module)


def hush_tensorflow() -> None:
    """Let TensorFlow be imported without its greetings, whenever it is; its devices are not looked for yet."""
    if "tensorflow" not in sys.modules and not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


@contextlib.contextmanager
def starting() -> Iterator[None]:
    """While entered, let TensorFlow find its devices for the first time, without greetings; a decorator too."""
    global _started
    if _started:
        yield
        return
    with without_greetings():
        yield
    _started = True


@contextlib.contextmanager
def without_greetings() -> Iterator[None]:
    """While entered, hold back what C++ writes to file descriptor 2; it comes afterwards, less the greetings.

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

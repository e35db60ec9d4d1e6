"""The ways to run a function of tensors: compiled by XLA, or as a plain graph of TensorFlow's own kernels.

Which is faster depends on the processor and on the function. XLA fuses the many small operations of MLPs and of scans
over time. Convolutions it runs at its best over blocks (`rlab.models.cnn`), while a graph runs the strided convolution
itself by oneDNN, which wins where the processor has AVX-512, and needs no compilation of seconds.
"""

import contextlib
import contextvars
import functools
import hashlib
import json
import os
import platform
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from rlab.files import write_atomically

GRAPH, XLA = "graph", "xla"
COMPILERS = (GRAPH, XLA)

FLOAT32, BFLOAT16 = "float32", "bfloat16"
PRECISIONS = (FLOAT32, BFLOAT16)


class Formulation(NamedTuple):
    """The way to run a function: by which compiler and in which precision."""

    compiler: str = XLA
    precision: str = FLOAT32  # in which the layers of `rlab.models.cnn` multiply


PLAIN_XLA = Formulation()
_traced_for = contextvars.ContextVar("formulation", default=PLAIN_XLA)
_ROUNDS = 5  # timed calls of each, of which the fastest counts


def compiled(function: Callable[..., Any], formulation: Formulation = PLAIN_XLA) -> Any:
    """The function as a `tf.function`, run by the compiler and in the precision of a formulation.

    In the precision `bfloat16` convolutions and the layer after them multiply numbers of 8 bits of mantissa, which
    processors with AVX-512 BF16 or AMX do in less time; sums within a product, parameters, and whatever follows those
    layers, are float32.
    """
    import tensorflow as tf

    @functools.wraps(function)
    def traced(*arguments: Any, **named: Any) -> Any:
        with _tracing(formulation):
            return function(*arguments, **named)

    return tf.function(traced, jit_compile=formulation.compiler == XLA, autograph=False)


def fused(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function of tensors, within a plain graph too by XLA, which passes over the data once."""
    if wants_blocks():
        return function(*arguments)
    import tensorflow as tf

    return tf.function(function, jit_compile=True, autograph=False)(*arguments)


def wants_blocks() -> bool:
    """Tell whether the function that is traced now runs strided convolutions fastest over blocks."""
    return _traced_for.get().compiler == XLA


def multiplies_in() -> str:
    """The precision in which the layers of the function that is traced now multiply."""
    return _traced_for.get().precision


@contextlib.contextmanager
def _tracing(formulation: Formulation) -> Iterator[None]:
    before = _traced_for.set(formulation)
    try:
        yield
    finally:
        _traced_for.reset(before)


def fastest(calls: Mapping[str, Callable[[], Any]], *key: Any) -> tuple[str, dict[str, float]]:
    """The name of the call that takes the least time on this machine, and the seconds of each.

    What was measured is kept in the user's cache directory, by the processor, the versions and the `key`, so that it is
    measured once, and the same choice is made the next time.
    """
    path = _cache() / f"{_digest(*key)}.json"
    seconds = _kept(path, set(calls))
    if seconds is None:
        seconds = _measure(calls)
        with contextlib.suppress(OSError):  # then it is measured again
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, json.dumps(seconds).encode())
    return min(seconds, key=lambda name: seconds[name]), seconds


def _kept(path: Path, names: set[str]) -> dict[str, float] | None:
    """The seconds that were measured before; None where the file is missing or not whole."""
    try:
        seconds = {str(name): float(taken) for name, taken in json.loads(path.read_text()).items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return None
    return seconds if seconds.keys() == names and all(taken > 0.0 for taken in seconds.values()) else None


def _measure(calls: Mapping[str, Callable[[], Any]]) -> dict[str, float]:
    """Seconds of each call's fastest round; calls take turns, so that what slows the machine down slows all."""
    for call in calls.values():
        call()
    seconds = dict.fromkeys(calls, float("inf"))
    for _ in range(_ROUNDS):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            seconds[name] = min(seconds[name], time.perf_counter() - start)
    return seconds


def _cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "rlab" / "compilers"


def _digest(*key: Any) -> str:
    import keras
    import tensorflow as tf

    found = repr((_processor(), tf.__version__, keras.__version__, os.environ.get("TF_ENABLE_ONEDNN_OPTS"), *key))
    return hashlib.sha256(found.encode()).hexdigest()[:24]


@functools.cache
def _processor() -> str:
    """The name of the processor and its features."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return f"{platform.machine()} {platform.processor()}"
    return " ".join(next((line for line in lines if line.startswith(name)), "") for name in ("model name", "flags"))

"""Compiled functions that the trainings of one process have in common.

XLA keeps what it has compiled for as long as the process lives, some 27 MiB of a training: a script of many trainings
must not compile the same thing for each of them.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any

from rlab.ops.compiling import compiled

KEPT = 64  # of those asked for last

MADE: OrderedDict[Hashable, Any] = OrderedDict()
_lock = threading.RLock()


def once(make: Callable[[], Any], *key: Hashable) -> Any:
    """The result of `make`, called once for a key of everything it depends on; objects in keys count by identity."""
    with _lock:
        if key not in MADE:
            MADE[key] = make()
            while len(MADE) > KEPT:
                MADE.popitem(last=False)
        MADE.move_to_end(key)
        return MADE[key]


def compiled_once(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function that depends on its arguments alone, compiled by XLA."""
    return once(lambda: compiled(function), function)

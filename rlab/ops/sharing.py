"""Compiled functions that the trainings of one process have in common.

XLA keeps what it has compiled for as long as the process lives, some 27 MiB of a training: a script of many trainings
must not compile the same thing for each of them.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any

from rlab.ops.compiling import compiled

_KEPT = 64  # of those asked for last

_made: OrderedDict[Hashable, Any] = OrderedDict()
_lock = threading.RLock()


def once(make: Callable[[], Any], *key: Hashable) -> Any:
    """What `make` gives, made once for a key that says everything it depends on. Objects in keys go by identity."""
    with _lock:
        if key not in _made:
            _made[key] = make()
            while len(_made) > _KEPT:
                _made.popitem(last=False)
        _made.move_to_end(key)
        return _made[key]


def compiled_once(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function that depends on its arguments alone, compiled by XLA."""
    return once(lambda: compiled(function), function)

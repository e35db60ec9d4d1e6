"""Settings as dataclass fields that carry their help, their unit and the range that is right."""

import dataclasses
import math
import numbers
from collections.abc import Sequence
from typing import Any

from rlab.errors import BadInputError, nearest

_LARGEST = 2**31 - 1  # of whole numbers, which TensorFlow and others keep in 32 bits


def field(
    default: Any,
    help: str,
    low: float = -math.inf,
    high: float = math.inf,
    above: bool = False,
    choices: Sequence[str] = (),
    auto: bool = False,
) -> Any:
    """A dataclass field; numbers must lie in [low, high], or in (low, high] with `above`, words among `choices`.

    One that is `auto` is chosen by a command to which it is not given.
    """
    metadata = {"help": help, "low": low, "high": high, "above": above, "choices": tuple(choices), "auto": auto}
    return dataclasses.field(default=default, metadata=metadata)


def check(config: Any) -> None:
    """Raise BadInputError, naming the flag and its range, for a setting of the wrong type or out of range."""
    for item in dataclasses.fields(config):
        value, flag = getattr(config, item.name), "--" + item.name.replace("_", "-")
        assert isinstance(item.type, type)
        right = isinstance(value, item.type) or (item.type is float and isinstance(value, int))
        if not right or (isinstance(value, bool) and item.type is not bool):
            raise BadInputError(f"{flag} must be of type {item.type.__name__}, not {value!r}")
        choices = item.metadata["choices"]
        if choices and value not in choices:
            raise BadInputError(f"{flag} cannot be {value!r}{nearest(value, choices)}")
        low, high, above = (item.metadata[key] for key in ("low", "high", "above"))
        if isinstance(value, int) and value > _LARGEST:
            raise BadInputError(f"{flag} must be at most {_LARGEST:,}, not {value:,}")
        if isinstance(value, float) and not math.isfinite(value):
            raise BadInputError(f"{flag} must be finite, not {value}")
        if isinstance(value, int | float) and not (low < value <= high if above else low <= value <= high):
            raise BadInputError(f"{flag} must be {_range(low, high, above)}, not {value}")


def check_whole(what: str, value: Any) -> int:
    """The value as an int; raises BadInputError for what is no whole number from 1 to 2^63 - 1."""
    number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not number or not 1 <= value < 2**63 or value != value // 1:
        raise BadInputError(f"{what} must be at least 1, and a whole number below 2^63, not {value!r}")
    return int(value)


def from_settings(kind: type, settings: dict[str, Any]) -> Any:
    """A config from names and values; an unknown name raises BadInputError with the nearest ones."""
    known = [item.name for item in dataclasses.fields(kind)]
    for name in settings:
        if name not in known:
            raise BadInputError(f"unknown setting {name!r}{nearest(name, known)}")
    return kind(**settings)


def _range(low: float, high: float, above: bool) -> str:
    if math.isinf(high):
        return f"above {low:g}" if above else f"at least {low:g}"
    return f"in {'(' if above else '['}{low:g}, {high:g}]"

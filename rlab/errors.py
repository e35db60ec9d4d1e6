"""The ways in which work can fail, kept apart because their exit statuses differ."""

import difflib
from collections.abc import Iterable


class BadInputError(ValueError):
    """What the user asked for cannot be done; the message is one line that names what would be right (status 2)."""


class TrainingError(RuntimeError):
    """A fault while running, such as a NaN or an environment that raised; the message names the place (status 1)."""


class ElsewhereError(TrainingError):
    """A fault of another rank, which says so itself; the message begins with `rank N: `."""


def described(error: BaseException) -> str:
    """What was raised, in a line; a TrainingError says it all itself."""
    text = " ".join(str(error).split())
    return text if isinstance(error, TrainingError) else f"{type(error).__name__}: {text}".rstrip(": ")


def nearest(name: str, choices: Iterable[str], count: int = 3) -> str:
    """A clause that suggests the choices nearest to a misspelt name, such as `; did you mean 'Pong'?`.

    Case is ignored. When nothing is near, and the choices are few, all of them are given.
    """
    by_lower = {choice.lower(): choice for choice in choices}
    lower = name.lower()
    # What contains the whole word is nearer than what shares letters with it.
    found = [choice for key, choice in sorted(by_lower.items()) if lower and (lower in key or key in lower)][:count]
    found += [by_lower[key] for key in difflib.get_close_matches(lower, by_lower, count, 0.6)]
    found = list(dict.fromkeys(found))[:count]
    if found:
        return "; did you mean " + " or ".join(repr(choice) for choice in found) + "?"
    if 0 < len(by_lower) <= 12:
        return "; there are " + ", ".join(sorted(by_lower.values()))
    return ""

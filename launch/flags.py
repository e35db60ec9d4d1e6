"""Command-line flags made from data: a Config's fields and an environment's options; and what all commands share."""

import contextlib
import dataclasses
import inspect
import itertools
import math
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from rlab.errors import BadInputError, nearest
from rlab.launchers import launched_rank


def config_options(kind: type, defaults: dict[str, Any]) -> list[click.Option]:
    """One flag for each field of a Config, in its order; `defaults` are the tuned values."""
    return [
        _option(
            item.name,
            defaults.get(item.name, AUTO if item.metadata["auto"] else item.default),
            AUTO_WHOLE if item.metadata["auto"] else item.type,
            _help(item.metadata),
        )
        for item in dataclasses.fields(kind)
    ]


def env_options(
    known: dict[str, Any], tuned: dict[str, Any], taken: set[str], texts: dict[str, str]
) -> list[click.Option]:
    """One flag for each option of an environment whose default is a plain value; names in `taken` are left out.

    `texts` says what they mean, where that is known.
    """
    options = []
    for name, default in (known | tuned).items():
        if name in taken or name in ("render_mode", "kwargs"):
            continue
        text = texts.get(name, "option of the environment")
        if default is None or default is inspect.Parameter.empty:
            # Nothing tells the type: what reads as a number is one.
            options.append(_option(name, None, _NUMBER_OR_TEXT, text))
        elif isinstance(default, int) and not isinstance(default, bool):
            options.append(_option(name, default, _NUMBER_OR_TEXT, text))
        elif isinstance(default, bool | float | str):
            options.append(_option(name, default, type(default), text))
    return options


class _NumberOrText(click.ParamType):
    name = "value"

    def convert(self, value: Any, param: click.Parameter | None, context: click.Context | None) -> Any:
        for kind in (int, float):
            try:
                return kind(value)
            except ValueError:
                continue
        return value


class _Whole(click.ParamType):
    name = "integer"

    def convert(self, value: Any, param: click.Parameter | None, context: click.Context | None) -> int:
        for read in (int, float):
            try:
                number = read(value)
            except ValueError:
                continue
            if math.isfinite(number) and number == int(number):
                return int(number)
        raise click.BadParameter(f"{value!r} is not a whole number, such as 100000 or 1e5.", context, param)


class _AutoWhole(_Whole):
    def convert(self, value: Any, param: click.Parameter | None, context: click.Context | None) -> Any:
        if value == AUTO:
            return value
        try:
            number = super().convert(value, param, context)
        except click.BadParameter:
            number = 0
        if number < 1:
            raise click.BadParameter(f"{value!r} is neither auto nor a whole number, at least 1.", context, param)
        return number


class _Seed(click.ParamType):
    name = "integer"

    def convert(self, value: Any, param: click.Parameter | None, context: click.Context | None) -> int:
        try:
            seed = int(value)
        except ValueError:
            seed = -1
        if not 0 <= seed < 2**64:
            raise click.BadParameter(f"a seed is a whole number from 0 to 2^64 - 1, not {value!r}.", context, param)
        return seed


class _Seconds(click.FloatRange):
    def convert(self, value: Any, param: click.Parameter | None, context: click.Context | None) -> float:
        seconds = super().convert(value, param, context)
        if not math.isfinite(seconds):  # no range excludes NaN
            raise click.BadParameter(f"a finite number of seconds is needed, not {value!r}.", context, param)
        return seconds


class _Path(click.ParamType):
    name = "path"

    def convert(self, value: Any, param: click.Parameter | None, context: click.Context | None) -> Path:
        if not str(value):
            raise click.BadParameter("a path is needed, not ''.", context, param)
        path = Path(value)
        try:
            path.lstat()
        except FileNotFoundError:
            pass
        except (OSError, ValueError) as error:  # such as one that is too long, or lies in a file
            reason = getattr(error, "strerror", None) or error
            raise click.BadParameter(f"{str(value)!r} is no path here ({reason}).", context, param) from error
        return path


class _NamedValue(click.ParamType):
    name = "name=value"

    def convert(self, value: Any, param: click.Parameter | None, context: click.Context | None) -> tuple[str, Any]:
        name, sign, text = value.partition("=")
        if not (name and sign):
            raise click.BadParameter(f"{value!r} is not of the form NAME=VALUE, such as corridor=100.", context, param)
        truths = {"true": True, "false": False}
        return name.replace("-", "_"), truths.get(text.lower(), _NUMBER_OR_TEXT.convert(text, param, context))


_NUMBER_OR_TEXT = _NumberOrText()
NAMED_VALUE = _NamedValue()  # what it parses is a pair, of which many make a dict
AUTO = "auto"  # what the command finds out
AUTO_WHOLE = _AutoWhole()
WHOLE = _Whole()  # 1e6 is a whole number too
SEED = _Seed()
PATH = _Path()


def checkpoint_option() -> click.Option:
    """The flag of every command that trains; the run's config keeps it for `resume`."""
    text = "seconds between checkpoints; 0 for one after each update"
    return click.Option(["--checkpoint-every"], type=_Seconds(0.0), default=60.0, show_default=True, help=text)


def value_of(flag: str, arguments: list[str]) -> str | None:
    """The last value of a flag among raw arguments, as `--flag VALUE` or `--flag=VALUE`."""
    value = None
    for position, argument in enumerate(arguments):
        if argument == flag and position + 1 < len(arguments):
            value = arguments[position + 1]
        elif argument.startswith(flag + "="):
            value = argument.partition("=")[2]
    return value


def without(flag: str, arguments: list[str]) -> list[str]:
    """Raw arguments without a flag and its values."""
    kept = [argument for argument in arguments if not argument.startswith(flag + "=")]
    while flag in kept:
        del kept[kept.index(flag) : kept.index(flag) + 2]
    return kept


def said(error: click.ClickException) -> str:
    """The message for a command line that cannot be read: click's own words, where they tell enough."""
    if isinstance(error, click.NoSuchOption):
        params = error.ctx.command.params if error.ctx else []
        known = [flag for param in params if isinstance(param, click.Option) for flag in param.opts]
        return f"no such option {error.option_name!r}{nearest(error.option_name, known)}"
    text = error.format_message()
    if found := re.fullmatch(r"Got unexpected extra arguments? \((.*)\)", text, re.DOTALL):
        return f"no flag takes {found[1]!r}; values follow their flags, and flags that are on or off have none"
    return text


def unknown_command(name: str, names: list[str]) -> BadInputError:
    """The error for a word that is no agent, task or command."""
    near = nearest(name, names) or "; `python -m launch` shows those there are"
    return BadInputError(f"unknown agent, task or command {name!r}{near}")


def reserve(base: Path) -> Path:
    """An empty directory that no other process has: `base`, or `base-2` and so on where that is taken."""
    try:
        base.parent.mkdir(parents=True, exist_ok=True)
        for number in itertools.count(1):
            path = base if number == 1 else base.with_name(f"{base.name}-{number}")
            with contextlib.suppress(FileExistsError):
                path.mkdir()
                return path
    except OSError as error:
        raise BadInputError(f"the run directory {base} cannot be made: {error.strerror}") from error
    raise AssertionError


def new_directory(*names: str) -> Path:
    """A run directory of its own, made and empty, named for what runs in it; the first of many ranks makes it."""
    base = named_directory(*names)
    return base if launched_rank() else reserve(base)


def named_directory(*names: str) -> Path:
    """A path in `runs/` for what runs in it and when it began."""
    return Path("runs") / "-".join([*(name.replace("/", "-") for name in names), time.strftime("%Y%m%d-%H%M%S")])


def _help(metadata: Mapping[str, Any]) -> str:
    choices = ", ".join(metadata["choices"])
    return f"{metadata['help']}: {choices}" if choices else metadata["help"]


def _option(name: str, default: Any, kind: Any, text: str) -> click.Option:
    flag = "--" + name.replace("_", "-")
    if kind is bool:
        return click.Option([f"{flag}/--no-{flag[2:]}"], default=default, help=text, show_default=True)
    kind = WHOLE if kind is int else kind
    return click.Option([flag], default=default, type=kind, help=text, show_default=default is not None)

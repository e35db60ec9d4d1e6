"""Command-line flags made from data: a Config's fields and an environment's options."""

import dataclasses
import inspect
from typing import Any

import click


def config_options(kind: type, defaults: dict[str, Any]) -> list[click.Option]:
    """One flag for each field of a Config, in its order; `defaults` are the tuned values."""
    return [
        _option(item.name, defaults.get(item.name, item.default), item.type, item.metadata["help"])
        for item in dataclasses.fields(kind)
    ]


def env_options(known: dict[str, Any], tuned: dict[str, Any], taken: set[str]) -> list[click.Option]:
    """One flag for each option of an environment whose default is a plain value; names in `taken` are left out."""
    options = []
    for name, default in (known | tuned).items():
        if name in taken or name in ("render_mode", "kwargs"):
            continue
        if default is None or default is inspect.Parameter.empty:
            # Nothing tells the type: what reads as a number is one.
            options.append(_option(name, None, _NUMBER_OR_TEXT, "option of the environment"))
        elif isinstance(default, int) and not isinstance(default, bool):
            options.append(_option(name, default, _NUMBER_OR_TEXT, "option of the environment"))
        elif isinstance(default, bool | float | str):
            options.append(_option(name, default, type(default), "option of the environment"))
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


_NUMBER_OR_TEXT = _NumberOrText()


def _option(name: str, default: Any, kind: Any, text: str) -> click.Option:
    flag = "--" + name.replace("_", "-")
    if kind is bool:
        return click.Option([f"{flag}/--no-{flag[2:]}"], default=default, help=text, show_default=True)
    return click.Option([flag], default=default, type=kind, help=text, show_default=default is not None)

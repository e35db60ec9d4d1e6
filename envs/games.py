"""Atari games by the ids that gymnasium has and had for them, which stand for different ways to play."""

import functools
import re

import ale_py.roms

from rlab.errors import BadInputError
from rlab.launchers import launched_rank
from rlab.notify import notify

_ID = re.compile(
    r"^(?:ale_py:)?(?P<ale>ale/)?(?P<game>.+?)(?P<ram>-?ram)?(?P<kind>-?deterministic|-?noframeskip)?(?:-v(?P<version>\d+))?$"
)


@functools.cache
def atari_games() -> dict[str, str]:
    """The games that ale-py brings, by the lower-case name without underscores: `mspacman` -> `MsPacman`."""
    ids = sorted(ale_py.roms.get_all_rom_ids())
    return {rom.replace("_", ""): "".join(part.capitalize() for part in rom.split("_")) for rom in ids}


def find(name: str) -> str | None:
    """The game of a name in any spelling (`Pong`, `ms_pacman`, `ALE/Pong-v5`, `PongNoFrameskip-v4`); None for no game.

    Raises BadInputError for the ids whose observations are the console's memory.
    """
    found = _parse(name)
    if found is None:
        return None
    game, parts = found
    if parts["ram"]:
        raise BadInputError(
            f"environment {name!r} shows the console's memory (RAM), which is not served; {game!r} is the game seen in "
            "pictures"
        )
    return game


@functools.cache
def say_convention(name: str) -> None:
    """Say once, on standard error, how the way to play that an id means differs from the one that is played."""
    found = _parse(name)
    convention = _convention(*(found[1][part] for part in ("kind", "version"))) if found else ""
    if found and convention and not launched_rank():
        notify(
            f"{name}: played as {found[0]!r} with the usual preprocessing (84x84 grey, 4 frames stacked, frame skip 4, "
            f"no sticky actions, rewards clipped); the id means {convention} (see frame_skip, sticky_actions)"
        )


def _parse(name: str) -> tuple[str, dict[str, str | None]] | None:
    """The game and the parts of an id; None where no game is meant."""
    match = _ID.match(name.strip().lower())
    if match is None:
        return None
    parts = match.groupdict()
    game = atari_games().get(re.sub(r"[_*\s-]", "", parts["game"] or ""))
    versions = (None, "5") if parts["ale"] else (None, "0", "4", "5")
    return (game, parts) if game and parts["version"] in versions else None


def _convention(kind: str | None, version: str | None) -> str:
    """The way to play that an id with a version means, in words; empty without one, which means what is played."""
    if version is None:
        return ""
    kind = (kind or "").strip("-")
    skip = {"noframeskip": "raw frames", "deterministic": "raw frames, 4 to an action"}.get(kind, "")
    skip = skip or ("raw frames, 4 to an action" if version == "5" else "raw frames, 2 to 4 to an action at random")
    sticky = "" if version == "4" else ", sticky actions of 0.25"
    return f"{skip}{sticky}"

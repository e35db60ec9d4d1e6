"""The environment of a run, as its config describes it."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rlab.errors import BadInputError
from rlab.runs.directory import Run
from rlab.seeding import derive
from rlab.settings import from_settings


def env_factory(config: dict[str, Any], run: Path) -> functools.partial:
    """The environment of a run, from its config; raises BadInputError when a user's own code made it."""
    import envs

    described = config.get("env")
    if not described:
        raise BadInputError(
            f"{run} was trained on an environment made by code: from Python its agent's `resume(run, env)` goes on "
            "with it, and `rlab.evaluation.play_episodes(policy, env, episodes, seed)` plays it"
        )
    name, options = described.get("name"), described.get("options")
    if not isinstance(name, str) or not isinstance(options, dict):
        raise BadInputError(f"{run}/config.json is damaged: 'env' is {described!r}")
    try:
        envs.require_options(options, envs.making.WAYS)
    except BadInputError as error:
        raise BadInputError(f"{run}/config.json is damaged: {error}") from error
    return functools.partial(envs.make, envs.resolve(name), **options)


def rewards_of(run: Run) -> dict[str, Any] | None:
    """The rewards of a run as its config describes them, if they are learned.

    Raises BadInputError where that names a file of demonstrations without a digest: no run of ours does, and one from
    elsewhere is not to say which files are read here.
    """
    described = run.config.get("rewards")
    if isinstance(described, dict) and described.get("kind") == "imitation" and not described.get("digest"):
        raise BadInputError(f"{run.path}/config.json is damaged: it names demonstrations without their digest")
    return described


def with_rewards(factory: Callable[..., Any], described: dict[str, Any] | None, seed: int) -> Any:
    """The factory with learned rewards as they are described, if they are."""
    if not described:
        return factory
    from rlab import imitation, novelty

    kinds: dict[str, Any] = {
        "novelty": (novelty.Config, novelty.with_bonus),
        "imitation": (imitation.Config, imitation.rewarded_by),
    }
    settings = dict(described) if isinstance(described, dict) else {}
    kind = settings.pop("kind", None)
    if not isinstance(kind, str) or kind not in kinds:
        raise BadInputError(f"unknown rewards {described!r}; there are {', '.join(kinds)}")
    config, add = kinds[kind]
    return add(factory, from_settings(config, settings), derive(seed, "rewards"))

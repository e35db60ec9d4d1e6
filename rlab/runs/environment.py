"""The environment of a run, as its config describes it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlab import environments, rewards
from rlab.environments import EnvironmentFactory
from rlab.errors import BadInputError
from rlab.runs.directory import Run
from rlab.settings import from_settings

if TYPE_CHECKING:
    from rlab.rewards import RewardSettings


def env_factory(config: dict[str, Any], run: Path) -> EnvironmentFactory:
    """The environment of a run, from its config; raises BadInputError when a user's own code made it."""
    described = config.get("env")
    if not described:
        raise BadInputError(
            f"{run} was trained on an environment made by code: from Python its agent's `resume(run, env)` goes on "
            "with it, and `rlab.sampling.evaluation.play_episodes(policy, env, episodes, seed)` plays it"
        )
    name, options = described.get("name"), described.get("options")
    if not isinstance(name, str) or not isinstance(options, dict):
        raise BadInputError(f"{run}/config.json is damaged: 'env' is {described!r}")
    if wrong := sorted(set(environments.GIVEN).intersection(options)):
        raise BadInputError(f"{run}/config.json is damaged: {wrong[0]!r} is no option of an environment")
    return environments.factory(name, **options)


def reward_settings(run: Run) -> RewardSettings | None:
    """The learned rewards of a run as its config describes them, if it has any.

    Raises BadInputError for a kind that there is not, and where a file of demonstrations is named without its digest:
    no run of ours does that, and one from elsewhere is not to say which files are read here.
    """
    described = run.config.get("rewards")
    if not described:
        return None
    settings = dict(described) if isinstance(described, dict) else {}
    kind = settings.pop("kind", None)
    if kind == "imitation":
        if not settings.get("digest"):
            raise BadInputError(f"{run.path}/config.json is damaged: it names demonstrations without their digest")
        return from_settings(rewards.ImitationConfig, settings)
    if kind == "novelty":
        return from_settings(rewards.NoveltyConfig, settings)
    raise BadInputError(f"unknown rewards {described!r}; there are novelty, imitation")

"""`python -m launch doctor`: checks of a run's mathematics on its own data."""

from pathlib import Path

import click

import agents
from agents.configs import TRPOConfig
from launch.flags import PATH
from launch.output import json_option, show_json
from launch.process import start_tensorflow
from launch.tasks import require_alone
from rlab.errors import BadInputError, launch_command
from rlab.notify import waiting
from rlab.runs.directory import Run
from rlab.runs.environment import env_factory, reward_settings
from rlab.schedules import Schedule
from rlab.settings import from_settings

_EXAMINED = ("trpo",)


@click.command()
@click.argument("agent", type=click.Choice(_EXAMINED), metavar="AGENT")
@click.argument("run", type=PATH)
@json_option
def doctor(agent: str, run: Path, as_json: bool) -> int:
    """Check a run's Fisher products, gradient and step on a batch of its newest policy; exit status 1 if one fails."""
    require_alone("doctor")
    opened = Run.open(run)
    settings = opened.config
    if settings.get("agent") != agent:
        raise BadInputError(f"{run} is a run of {settings.get('agent') or settings['task']}, not of {agent}")
    checkpoint = opened.latest_checkpoint()
    if checkpoint is None:
        raise BadInputError(f"{run} has no checkpoint yet; `{launch_command('resume', run)}` goes on with it")
    factory = env_factory(settings, run)
    start_tensorflow()
    from agents.trpo import Learner
    from agents.trpo_checks import check_trust_region

    config = from_settings(TRPOConfig, settings["config"])
    trained = agents.TRPO(config, factory, settings["backbone"], settings["seed"], rewards=reward_settings(opened))
    learner = trained.learner(Schedule(settings["steps"]), checkpoint)
    assert isinstance(learner, Learner)
    with waiting("checking"):
        batch, *_ = learner.play()
        checks = check_trust_region(learner.policy, learner.params, batch, learner.region)
    passed = all(check.passed for check in checks)
    if as_json:
        show_json({"passed": passed, "checks": [check._asdict() for check in checks]})
    else:
        for check in checks:
            click.echo(f"{'ok  ' if check.passed else 'FAIL'}  {check.name}: {check.found}")
    return 0 if passed else 1

"""`python -m launch doctor`: whether the mathematics of a run holds on its own data."""

from pathlib import Path

import click

import agents
from launch.flags import PATH
from launch.output import json_option, show_json
from launch.quiet import start_tensorflow
from launch.tasks import require_alone
from rlab.errors import BadInputError, launch_command
from rlab.notify import waiting
from rlab.runs.directory import Run
from rlab.runs.environment import env_factory, rewards_of, with_rewards
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
    from agents import trpo
    from rlab.policies.checking import check_trust_region
    from rlab.runs.beginning import restore_rewards

    factory = with_rewards(factory, rewards_of(opened), settings["seed"])
    restore_rewards(factory, checkpoint)
    config = from_settings(trpo.Config, settings["config"])
    learner = trpo.Learner(
        agents.TRPO(config, factory, settings["backbone"], settings["seed"]),
        Schedule(settings["steps"]),
        checkpoint,
    )
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

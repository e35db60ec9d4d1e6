"""The names of all there is: agents, tasks, environments, backbones."""

import click

from launch.output import json_option, show_json


def front_page() -> str:
    """The text that `python -m launch` alone shows."""
    return """rlab: reinforcement learning that you can read.

agents      a3c  rpg  snes  trpo
tasks       linear-regression  mnist  nback  copy  repeat-copy  addition  reverse
            vae  gan  pixelrnn
commands    resume RUN   evaluate RUN   record RUN --out video.mp4   doctor trpo RUN   list
            sample RUN --out grid.png   slurm -- COMMAND

Three to try:
  python -m launch a3c --env CartPole-v1      learns to balance in under a minute
  python -m launch a3c --env Pong             learns Atari Pong from pixels
  python -m launch rpg --env TMaze            learns to remember

`python -m launch list` shows every environment and backbone, `python -m launch a3c --help` all settings."""


@click.command("list")
@json_option
def list_names(as_json: bool) -> None:
    """Show the agents, tasks, environments and backbones."""
    import agents
    import envs
    from agents.tuning import tuned_names
    from rlab.policies.backbone_names import BACKBONES, RUN_BACKBONES
    from rlab.tasks import TASKS

    games = [name for name in envs.names() if envs.is_atari(name)]
    others = [name for name in envs.names() if not envs.is_atari(name)]
    if as_json:
        names = {"agents": list(agents.AGENTS), "tasks": list(TASKS)}
        show_json(names | {"environments": games + others, "backbones": BACKBONES})
        return
    for agent in agents.AGENTS:
        click.echo(f"agent {agent}: tuned for {', '.join(tuned_names(agent))}")
    click.echo(f"tasks: {', '.join(TASKS)}")
    for name, text in (BACKBONES | RUN_BACKBONES).items():
        click.echo(f"backbone {name}: {text}")
    click.echo(f"\nAtari games ({len(games)}):\n" + _wrapped(games))
    click.echo(f"\nother environments ({len(others)}):\n" + _wrapped(others))


def _wrapped(names: list[str]) -> str:
    return click.wrap_text(", ".join(names), 100, "  ", "  ")

"""The score of a trained policy (`evaluate`), and records of its play (`record`)."""

import os
from pathlib import Path
from typing import Any

import click

from launch.flags import NAMED_VALUE, PATH, SEED
from launch.output import json_option, show_json
from launch.process import start_tensorflow
from launch.tasks import evaluate_task
from rlab.errors import BadInputError
from rlab.files import FILMS, require_place, write_atomically, writing
from rlab.runs.directory import Run
from rlab.runs.environment import env_factory
from rlab.seeding import derive
from rlab.settings import check_whole

_env_option = click.option(
    "--env-option",
    "changes",
    type=NAMED_VALUE,
    multiple=True,
    help="an option of the environment, other than in training: corridor=100; may be repeated",
)

_deterministic_option = click.option(
    "--deterministic/--sample",
    "deterministic",
    default=None,
    help="take the likeliest action, or a sample  [default: as in training]",
)
_max_steps_option = click.option(
    "--max-steps",
    type=click.IntRange(1),
    default=200_000,
    show_default=True,
    help="steps after which an episode counts as one that never ends",
)


@click.command()
@click.argument("run", type=PATH)
@click.option("--episodes", type=int, default=20, show_default=True, help="whole episodes to play")
@click.option("--seed", type=SEED, default=0, show_default=True, help="of environments and actions")
@_deterministic_option
@_max_steps_option
@_env_option
@json_option
def evaluate(
    run: Path,
    episodes: int,
    seed: int,
    deterministic: bool | None,
    max_steps: int,
    changes: tuple[tuple[str, Any], ...],
    as_json: bool,
) -> None:
    """Play whole episodes with a run's newest policy and report the score; of a task, its test metrics."""
    check_whole("--episodes", episodes)
    opened = Run.open(run)
    if opened.of_task:
        if changes:
            raise BadInputError(f"--env-option: {run} is a run of a task, which has no environment")
        evaluate_task(opened, as_json)
        return
    name, options = env_to_play(opened, dict(changes))
    start_tensorflow()
    import envs
    from rlab.runs.policy_files import load_policy
    from rlab.sampling.evaluation import as_trained, play_episodes, summarize

    policy = load_policy(run, seed)
    chosen = as_trained(policy, deterministic)
    env = envs.factory(name, **options)
    summary = summarize(play_episodes(policy, env, episodes, seed, chosen, max_steps=max_steps))
    summary["deterministic"] = chosen
    if as_json:
        show_json(summary)
        return
    click.echo(
        f"{summary['mean_return']:.2f} ± {summary['std_return']:.2f} mean return over {counted(episodes)} "
        f"of {summary['mean_length']:.0f} steps on average"
        + (f", success {summary['success_rate']:.1%}" if "success_rate" in summary else "")
        + f", {actions_taken(chosen)}"
    )


def actions_taken(deterministic: bool) -> str:
    """The way in which actions were taken, in words."""
    return "likeliest actions (--deterministic)" if deterministic else "sampled actions (--sample)"


def env_to_play(run: Run, changes: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """The name and options of a run's environment, with some changed, and without an end at a lost life.

    A score is that of a whole game, and of every game; no state of one is restored.
    """
    import envs

    try:
        envs.require_options(changes)
    except BadInputError as error:
        raise BadInputError(f"--env-option: {error}") from error
    described = env_factory(run.config, run.path).description
    assert described is not None
    left_out = ("life_loss", "single_episode", "restorable")
    options = {key: value for key, value in described["options"].items() if key not in left_out}
    return described["name"], options | changes


def counted(episodes: int) -> str:
    """A count of episodes, in words."""
    return "1 episode" if episodes == 1 else f"{episodes:,} episodes"


@click.command()
@click.argument("run", type=PATH)
@click.option("--out", type=PATH, required=True, help="the file, such as video.mp4")
@click.option("--demonstrations", is_flag=True, help="keep what it saw and did in an .npz file, in place of a video")
@click.option("--episodes", type=int, default=1, show_default=True, help="whole episodes to film")
@click.option("--seed", type=SEED, default=0, show_default=True, help="of environment and actions")
@_deterministic_option
@_max_steps_option
@_env_option
def record(
    run: Path,
    out: Path,
    demonstrations: bool,
    episodes: int,
    seed: int,
    deterministic: bool | None,
    max_steps: int,
    changes: tuple[tuple[str, Any], ...],
) -> None:
    """Film a run's newest policy at play, or record its demonstrations for others to imitate."""
    check_whole("--episodes", episodes)
    require_place(out, *((".npz",) if demonstrations else FILMS))
    os.environ.setdefault("SDL_VIDEODRIVER", "dummy")  # pygame draws into memory, and need not look for a screen
    import envs

    opened = Run.open(run)
    if opened.of_task:
        raise BadInputError(f"{run} is a run of the task {opened.config['task']!r}, which plays nothing to film")
    name, options = env_to_play(opened, dict(changes))
    start_tensorflow()
    from rlab.runs.policy_files import load_policy
    from rlab.sampling.evaluation import as_trained, film_episodes

    policy = load_policy(run, seed)
    chosen = as_trained(policy, deterministic)
    if demonstrations:
        from rlab.rewards import demonstrations as demos

        found = demos.demonstrate(policy, envs.factory(name, **options), episodes, seed, chosen, max_steps)
        with writing(out):
            write_atomically(out.absolute(), demos.save(found))
        told = f"{counted(episodes)}, {len(found.actions):,} steps, mean score {found.returns.mean():g}"
        click.echo(f"{out}: {told}, {actions_taken(chosen)}", err=True)
        return
    filmed = envs.make_filmed(name, derive(seed, "recording"), **options)
    policy.require_fit(filmed.env)
    scores = film_episodes(policy, filmed, out, episodes, chosen, max_steps)
    told = f"{counted(episodes)}, score {', '.join(f'{score:g}' for score in scores)}, {actions_taken(chosen)}"
    click.echo(f"{out}: {told}", err=True)

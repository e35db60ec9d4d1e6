"""What a trained policy is worth (`evaluate`), and what it looks like (`record`)."""

import json
from pathlib import Path

import click

from launch.quiet import start_tensorflow
from launch.tasks import evaluate_task
from launch.train import env_factory, whole_games
from rlab.errors import BadInputError
from rlab.runs.directory import Run
from rlab.seeding import derive


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--episodes", type=int, default=20, show_default=True, help="whole episodes to play")
@click.option("--seed", type=int, default=0, show_default=True, help="of environments and actions")
@click.option("--deterministic", is_flag=True, help="take the likeliest action in place of a sample")
@click.option("--json", "as_json", is_flag=True, help="print one JSON object on standard output")
def evaluate(run: Path, episodes: int, seed: int, deterministic: bool, as_json: bool) -> None:
    """Play whole episodes with a run's newest policy and report the score; of a task, its test metrics."""
    if episodes < 1:
        raise BadInputError(f"--episodes must be at least 1, not {episodes}")
    opened = Run.open(run)
    if opened.of_task:
        evaluate_task(opened, as_json)
        return
    factory = whole_games(env_factory(opened.config, run))
    start_tensorflow()
    from rlab.evaluation import play_episodes, summarize
    from rlab.runs.loading import load_policy

    summary = summarize(play_episodes(load_policy(run, seed), factory, episodes, seed, deterministic))
    if as_json:
        click.echo(json.dumps(summary, allow_nan=False))
        return
    click.echo(
        f"{summary['mean_return']:.2f} ± {summary['std_return']:.2f} mean return over {counted(episodes)} "
        f"of {summary['mean_length']:.0f} steps on average"
        + (f", success {summary['success_rate']:.1%}" if "success_rate" in summary else "")
    )


def counted(episodes: int) -> str:
    """So many episodes, in words."""
    return "1 episode" if episodes == 1 else f"{episodes:,} episodes"


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), required=True, help="the video file, such as video.mp4")
@click.option("--episodes", type=int, default=1, show_default=True, help="whole episodes to film")
@click.option("--seed", type=int, default=0, show_default=True, help="of environment and actions")
@click.option("--deterministic", is_flag=True, help="take the likeliest action in place of a sample")
def record(run: Path, out: Path, episodes: int, seed: int, deterministic: bool) -> None:
    """Film a run's newest policy at play."""
    if episodes < 1:
        raise BadInputError(f"--episodes must be at least 1, not {episodes}")
    if out.suffix.lower() not in (".mp4", ".gif"):
        raise BadInputError(f"--out must end in .mp4 or .gif, not {out.name!r}")
    if not out.absolute().parent.is_dir():
        raise BadInputError(f"--out lies in {out.parent}, which is not a directory")
    import envs

    opened = Run.open(run)
    if opened.of_task:
        raise BadInputError(f"{run} is a run of the task {opened.config['task']!r}, which plays nothing to film")
    factory = whole_games(env_factory(opened.config, run))
    start_tensorflow()
    from rlab.evaluation import film_episodes
    from rlab.runs.loading import load_policy

    filmed = envs.make_filmed(factory.args[0], derive(seed, "recording"), **factory.keywords)
    policy = load_policy(run, seed)
    policy.require_fit(filmed.env)
    scores = film_episodes(policy, filmed, out, episodes, deterministic)
    click.echo(f"{out}: {counted(episodes)}, score {', '.join(f'{score:g}' for score in scores)}", err=True)

"""Tasks from the command line: what each model learns on its own."""

import importlib
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from launch.flags import config_options, new_directory, require_directory, value_of
from launch.quiet import start_tensorflow
from rlab.errors import BadInputError, nearest
from rlab.runs.directory import Run, require_free
from rlab.settings import from_settings
from rlab.tasks import GENERATIVE, TASKS
from rlab.tasks.configs import CONFIGS, defaults


def task_command(task: str, arguments: list[str], act: Callable[..., Any] | None = None) -> click.Command:
    """The command of a task; its defaults are those that suit the model which the arguments name.

    It trains, or calls `act` with the task's name, its settings, the seed and the run directory, if one is given.
    """
    kind = CONFIGS[task]
    options = config_options(kind, defaults(task, value_of("--model", arguments)))
    options += [
        click.Option(["--seed"], type=int, default=0, show_default=True, help="fixes all random numbers"),
        click.Option(["--run"], type=click.Path(path_type=Path), help="run directory  [default: a new one in runs/]"),
    ]

    def run(seed: int, run: Path | None, **values: Any) -> Any:
        return (act or _train)(task, from_settings(kind, values), seed, run)

    return click.Command(task, params=[*options], callback=run, help=f"Learn {_name(kind)}")


def _name(kind: type) -> str:
    """What a Config is the settings of, from its docstring."""
    return (kind.__doc__ or "").removeprefix("The settings of ")


def resume_task(run: Run, steps: int | None) -> int:
    """Go on with a task's run; where all its updates are made, show again what it learned."""
    task = _task_of(run)
    from rlab.tasks import training

    latest = run.latest_checkpoint()
    if steps is None and latest and latest.steps >= run.config["steps"]:
        return _show(task, run, latest.steps)
    return _report(task, training.resume(task, run, steps))


def evaluate_task(run: Run, as_json: bool) -> None:
    """Print the metrics of a task's run on its test data."""
    given = click.get_current_context().get_parameter_source
    for name in ("episodes", "seed", "deterministic", "max_steps"):
        if given(name) is not ParameterSource.DEFAULT:
            raise BadInputError(
                f"--{name.replace('_', '-')} is for agents; {run.path} is a run of the task {run.config['task']!r}"
            )
    task = _task_of(run)
    from rlab.tasks import training

    metrics = task.evaluate(training.load(task, run), "test")
    known = {name: value if math.isfinite(value) else None for name, value in metrics.items()}
    click.echo(json.dumps(known) if as_json else _listed(metrics))


def _train(name: str, config: Any, seed: int, run: Path | None) -> int:
    run = run or new_directory(name)
    require_free(run)
    task = make_task(name, config, seed)
    from rlab.tasks import training

    size = sum(variable.numpy().size for variable in task.model.trainable_variables)
    click.echo(f"{name}: {size:,} parameters, {task.updates_per_epoch} updates an epoch, run {run}", err=True)
    return _report(task, training.train(task, run))


def _report(task: Any, result: Any) -> int:
    """Say what came of it; the exit status."""
    if result.stopped_by:
        click.echo(f"stopped at {result.steps:,} updates; next: python -m launch resume {result.run}", err=True)
        return 128 + result.stopped_by
    click.echo(f"done: {result.steps:,} updates in {result.seconds:,.0f} s, run {result.run}", err=True)
    return _show(task, Run.open(result.run), result.steps)


def _show(task: Any, run: Run, steps: int) -> int:
    """Print predictions beside targets and the test metrics, and draw the pictures."""
    from rlab.tasks import training
    from rlab.tasks.pictures import save_pictures

    click.echo("testing ...", err=True)
    applied = training.load(task, run)
    report = task.report(applied)
    click.echo(report.text)
    save_pictures(run.path, report.pictures, steps)
    click.echo(f"test: {_listed(task.evaluate(applied, 'test'))}")
    return 0


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), required=True, help="the picture, such as grid.png")
@click.option("--count", type=int, default=64, show_default=True, help="images to draw")
@click.option("--seed", type=int, default=0, show_default=True, help="the same seed draws the same images")
def sample(run: Path, out: Path, count: int, seed: int) -> None:
    """Draw images from the newest model of a run of vae, gan or pixelrnn."""
    if count < 1:
        raise BadInputError(f"--count must be at least 1, not {count}")
    if out.suffix.lower() != ".png":
        raise BadInputError(f"--out must end in .png, not {out.name!r}")
    require_directory(out)
    opened = Run.open(run)
    if opened.config.get("task") not in GENERATIVE:
        kind = f"the task {opened.config['task']!r}" if opened.of_task else f"the agent {opened.config['agent']!r}"
        raise BadInputError(f"{run} is a run of {kind}, which draws no images; {', '.join(GENERATIVE)} do")
    task = _task_of(opened)
    from rlab.tasks import grids, training

    grids.save(task.sample(training.load(task, opened), count, seed), out)
    click.echo(f"{out}: {count} images", err=True)


def make_task(name: str, config: Any, seed: int) -> Any:
    """A task with its data and its model, in a TensorFlow that is started for it."""
    start_tensorflow(all_cores=getattr(config, "heavy", False))
    module, task = TASKS[name]
    return getattr(importlib.import_module(f"rlab.tasks.{module}"), task)(config, seed)


def _task_of(run: Run) -> Any:
    name = run.config["task"]
    if name not in TASKS:
        raise BadInputError(
            f"{run.path} is a run of task {name!r}, which this version does not know{nearest(name, TASKS)}"
        )
    config = from_settings(CONFIGS[name], run.config["config"])
    return make_task(name, config, run.config["seed"])


def _listed(metrics: dict[str, float]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {value:.4g}" for name, value in metrics.items())

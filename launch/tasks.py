"""Tasks from the command line: what each model learns on its own."""

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from launch.flags import (
    PATH,
    SEED,
    checkpoint_option,
    config_options,
    new_directory,
    value_of,
)
from launch.output import show_json
from launch.process import start_tensorflow
from rlab.errors import BadInputError, launch_command
from rlab.files import require_place, writing
from rlab.launchers import launched_ranks
from rlab.notify import waiting
from rlab.runs.directory import Run, require_free
from rlab.runs.weights import require_sizes
from rlab.settings import from_settings
from rlab.tasks import GENERATIVE, TASKS
from rlab.tasks.configs import CONFIGS, defaults, from_run

_MOST_IMAGES = 10_000  # of one picture


def task_command(task: str, arguments: list[str], act: Callable[..., Any] | None = None) -> click.Command:
    """The command of a task; its defaults are those that suit the model and the data which the arguments name.

    It trains, or calls `act` with the task's name, its settings, the seed and the run directory, if one is given.
    """
    kind = CONFIGS[task]
    options = config_options(kind, defaults(task, *(value_of(flag, arguments) for flag in ("--model", "--data"))))
    options += [
        click.Option(["--seed"], type=SEED, default=0, show_default=True, help="fixes all random numbers"),
        click.Option(["--run"], type=PATH, help="run directory  [default: a new one in runs/]"),
        checkpoint_option(),
    ]

    def run(seed: int, run: Path | None, checkpoint_every: float, **values: Any) -> Any:
        config = from_settings(kind, values)
        return act(task, config, seed, run) if act else _train(task, config, seed, run, checkpoint_every)

    return click.Command(task, params=[*options], callback=run, help=f"Learn {_name(kind)}")


def _name(kind: type) -> str:
    """The subject of a Config's settings, from its docstring."""
    return (kind.__doc__ or "").removeprefix("The settings of ")


def resume_task(run: Run, steps: int | None) -> int:
    """Go on with a task's run; where all its updates are made, show again what it learned."""
    require_alone("a task")
    latest = run.latest_checkpoint()
    made = latest.steps if latest else 0
    if steps is not None and made >= steps:  # said before anything is loaded
        raise BadInputError(f"{run.path} has made {made} updates; give a larger --steps to go on")
    task = _task_of(run)
    from rlab.tasks import training

    if steps is None and made >= run.config["steps"]:
        return _show(task, run, made)
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

    with waiting("testing"):
        metrics = task.evaluate(training.load(task, run), "test")
    if as_json:
        show_json(training.plain(metrics))
    else:
        click.echo(_listed(metrics))


def _train(name: str, config: Any, seed: int, run: Path | None, checkpoint_every: float) -> int:
    require_alone("a task")
    if run:
        require_free(run)
    task = make_task(name, config, seed)
    run = run or new_directory(name)
    from rlab.tasks import training

    size = sum(variable.numpy().size for variable in task.model.trainable_variables)
    click.echo(f"{name}: {size:,} parameters, {task.updates_per_epoch} updates an epoch, run {run}", err=True)
    return _report(task, training.train(task, run, checkpoint_every))


def require_alone(what: str) -> None:
    """Raise BadInputError under a launcher of several ranks, which would each do the same."""
    if (ranks := launched_ranks()) > 1:
        raise BadInputError(f"{what} runs in one process, not in {ranks} ranks: start it without mpirun or srun")


def _report(task: Any, result: Any) -> int:
    """Report the result of training on standard error, show what was learned, and return the exit status."""
    if result.stopped_by:
        click.echo(f"stopped at {result.steps:,} updates; next: {launch_command('resume', result.run)}", err=True)
        return 128 + result.stopped_by
    click.echo(f"done: {result.steps:,} updates in {result.seconds:,.0f} s, run {result.run}", err=True)
    return _show(task, Run.open(result.run), result.steps)


def _show(task: Any, run: Run, steps: int) -> int:
    """Print predictions beside targets and the test metrics, keep these, and draw the pictures."""
    from rlab.tasks import training
    from rlab.tasks.figures import save_pictures, show_pictures

    click.echo("testing ...", err=True)
    applied = training.load(task, run)
    with waiting("testing"):
        report, metrics = task.report(applied), training.test(task, applied, run, steps)
    click.echo(report.text)
    show_pictures(run.path, save_pictures(run.path, report.pictures, steps), steps)
    click.echo(f"test: {_listed(metrics)}")
    return 0


@click.command()
@click.argument("run", type=PATH)
@click.option("--out", type=PATH, required=True, help="the picture, such as grid.png")
@click.option("--count", type=int, default=64, show_default=True, help="images to draw")
@click.option("--seed", type=SEED, default=0, show_default=True, help="the same seed draws the same images")
def sample(run: Path, out: Path, count: int, seed: int) -> None:
    """Draw images from the newest model of a run of vae, gan or pixelrnn."""
    if not 1 <= count <= _MOST_IMAGES:
        raise BadInputError(f"--count must be at least 1 and at most {_MOST_IMAGES}, not {count}")
    require_place(out, ".png")
    opened = Run.open(run)
    if opened.config.get("task") not in GENERATIVE:
        kind = f"the task {opened.config['task']!r}" if opened.of_task else f"the agent {opened.config['agent']!r}"
        raise BadInputError(f"{run} is a run of {kind}, which draws no images; {', '.join(GENERATIVE)} do")
    task = _task_of(opened)
    from rlab.tasks import image_grids, training

    with waiting("drawing"):
        images = task.sample(training.load(task, opened), count, seed)
    with writing(out):
        image_grids.save(images, out)
    click.echo(f"{out}: {count} images", err=True)


def make_task(name: str, config: Any, seed: int) -> Any:
    """A task with its data and its model, in a TensorFlow that is started for it."""
    start_tensorflow(all_cores=getattr(config, "heavy", False))
    module, task = TASKS[name]
    return getattr(importlib.import_module(f"rlab.tasks.{module}"), task)(config, seed)


def _task_of(run: Run) -> Any:
    try:
        config = from_run(run.config)
    except BadInputError as error:
        raise BadInputError(f"{run.path}: {error}") from error
    require_sizes(run.path, "model", config)
    return make_task(run.config["task"], config, run.config["seed"])


def _listed(metrics: dict[str, float]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {value:.4g}" for name, value in metrics.items())

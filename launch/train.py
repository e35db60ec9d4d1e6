"""Training from the command line: one command for each agent, and `resume`."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

import agents
from agents.configs import CONFIGS
from agents.tuning import tuned
from launch import processes
from launch.flags import (
    AUTO,
    PATH,
    SEED,
    WHOLE,
    checkpoint_option,
    config_options,
    env_options,
    new_directory,
    value_of,
)
from launch.output import forget_failures
from launch.process import start_tensorflow
from launch.tasks import resume_task
from rlab import rewards
from rlab.errors import BadInputError, launch_command
from rlab.launchers import launched_rank, launched_ranks
from rlab.runs.directory import Run, require_free
from rlab.runs.environment import env_factory, reward_settings
from rlab.settings import check_whole, from_settings

_STEPS = "agent steps in all (each four frames of an Atari game); the last update is finished"
_NOVELTY = "weight of a bonus for observations that are new; 0 for none"
_IMITATE = "demonstrations, of `record --demonstrations`, to learn from in place of the environment's rewards"
_DEFAULT_ENV = {"a3c": "Pong", "rpg": "TMaze", "snes": "CartPole-v1", "trpo": "CartPole-v1"}


def train_command(agent: str, arguments: list[str], act: Callable[..., Any] | None = None) -> click.Command:
    """The command of an agent. Its flags are those of the agent and of the environment that the arguments name.

    It trains, or calls `act` with the agent's name, the environment's, its options, the agent's settings, all values.
    """
    kind = CONFIGS[agent]
    name, settings, known = _environment(agent, arguments)
    options = [
        click.Option(
            ["--env"],
            default=name,
            show_default=True,
            help="a game, a gymnasium id, a task of memory; `list` shows them",
        ),
        click.Option(["--steps"], type=WHOLE, default=settings["steps"], show_default=True, help=_STEPS),
        click.Option(
            ["--target-score"],
            type=float,
            default=settings["target_score"],
            show_default=settings["target_score"] is not None,
            help="end early, soon after the last 100 episodes average it; inf for never",
        ),
        click.Option(["--seed"], type=SEED, default=0, show_default=True, help="fixes all random numbers"),
        click.Option(["--run"], type=PATH, help="run directory  [default: a new one in runs/]"),
        click.Option(
            ["--backbone"], default=settings["backbone"], show_default=True, help="network; `list` shows them"
        ),
        click.Option(["--novelty"], type=click.FloatRange(0.0), default=0.0, help=_NOVELTY, show_default=True),
        click.Option(["--imitate"], type=PATH, help=_IMITATE),
        checkpoint_option(),
    ]
    options += config_options(kind, settings["config"])
    flags = {str(option.name) for option in options}
    of_env = env_options(known, settings["env"], flags, _texts(name) if known else {})

    def run(**values: Any) -> Any:
        import envs

        said = {key: values[key] for key in settings_of(kind)}
        # What is auto is found out where it trains.
        config = from_settings(kind, {key: value for key, value in said.items() if value != AUTO})
        chosen = {option.name: values[option.name] for option in of_env}
        # A game's options are all written to the config; of another environment's only those that differ from its own.
        atari = envs.is_atari(name)
        given = {
            key: value for key, value in chosen.items() if value is not None and (atari or value != known.get(key))
        }
        return (act or _train)(agent, name, given, config, values)

    command = click.Command(
        agent,
        params=[*options, *of_env],
        callback=run,
        help=f"Train {(kind.__doc__ or '').removeprefix('Settings of ')}\n\nDefaults are those tuned for --env.",
    )
    return processes.processes_option(command)


def _texts(env: str) -> dict[str, str]:
    """The meaning of each of the environment's options."""
    import envs

    return envs.option_help(env)


def settings_of(kind: type) -> list[str]:
    """The names of a Config's fields."""
    return list(kind.__dataclass_fields__)  # type: ignore[attr-defined]


@click.command()
@click.argument("run", type=PATH)
@click.option("--steps", type=WHOLE, help="steps in all (of a task, updates)  [default: as the run was begun]")
@processes.processes_option
def resume(run: Path, steps: int | None, **values: Any) -> int:
    """Go on with a run from its newest checkpoint."""
    opened = run_to_resume(run, steps)
    config = opened.config
    if opened.of_task:
        if values["processes"] not in (AUTO, 1):
            raise BadInputError(f"--processes is for agents, and {run} is a run of the task {config['task']!r}")
        return resume_task(opened, steps)
    env, rewards = env_factory(config, run), reward_settings(opened)
    settings = from_settings(CONFIGS[config["agent"]], config["config"])
    workers = getattr(settings, "workers", None)
    processes.start(config["agent"], settings, workers, values["processes"], rewards is not None)
    start_tensorflow()
    result = getattr(agents, agents.AGENTS[config["agent"]]).resume(run, env, steps)
    return _report(result)


def run_to_resume(path: Path, steps: int | None) -> Run:
    """The run that `resume` is to go on with; raises BadInputError for what it cannot."""
    opened = Run.open(path)
    if steps is not None:
        check_whole("--steps", steps)
    if not opened.of_task and opened.config["agent"] not in agents.AGENTS:
        raise BadInputError(f"{path} is a run of {opened.config['agent']!r}, which this version cannot resume")
    if not opened.of_task:
        from rlab.runs.start import find_run

        find_run(opened.config["agent"], path, steps)  # refused before anything is loaded
    return opened


def _environment(agent: str, arguments: list[str]) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """The environment's canonical name, its tuned settings, and its options with their defaults."""
    asked = value_of("--env", arguments)
    if asked is None:  # gymnasium is not imported for a plain --help
        settings = tuned(agent, _DEFAULT_ENV[agent])
        if {"-h", "--help"} & set(arguments):
            return _DEFAULT_ENV[agent], settings, {}
    import envs

    name = envs.resolve(_DEFAULT_ENV[agent] if asked is None else asked)
    return name, tuned(agent, name, envs.is_atari(name)), envs.options(name)


def make_agent(agent: str, env: str, options: dict[str, Any], config: Any, values: dict[str, Any]) -> Any:
    """The agent that a command asks for, ready to train; raises BadInputError for what cannot be made."""
    import envs

    _check(values)
    start_tensorflow()
    learned: rewards.RewardSettings | None = None
    if values["novelty"]:
        learned = rewards.NoveltyConfig(weight=values["novelty"])
    if values["imitate"]:
        learned = rewards.ImitationConfig(demonstrations=str(values["imitate"].resolve()))
    kind, factory = getattr(agents, agents.AGENTS[agent]), envs.factory(env, **options)
    return kind(config, env=factory, policy=values["backbone"], seed=values["seed"], rewards=learned)


def _check(values: dict[str, Any]) -> None:
    """Raise BadInputError for values that can be refused before anything is loaded."""
    from rlab.runs.start import check_target

    check_whole("--steps", values["steps"])
    if values["target_score"] != math.inf:
        check_target(values["target_score"], "--target-score")
    if not math.isfinite(values["novelty"]):
        raise BadInputError(f"--novelty must be finite, not {values['novelty']}")
    if values["novelty"] and values["imitate"]:
        raise BadInputError("--novelty and --imitate cannot go together: imitation replaces the rewards")
    if values["backbone"] == "":
        raise BadInputError("--backbone is empty; `python -m launch list` shows the names")
    if values["run"] and launched_rank() == 0:
        require_free(values["run"])


def _train(agent: str, env: str, options: dict[str, Any], config: Any, values: dict[str, Any]) -> int:
    _check(values)
    learns_rewards = bool(values["novelty"] or values["imitate"])
    if shares := getattr(config, "shares", 0):
        if learns_rewards:
            raise BadInputError("--shares cannot be used with --novelty or --imitate, whose model is one for a batch")
        if shares % launched_ranks():
            raise BadInputError(f"--shares must be a multiple of the {launched_ranks()} ranks, not {shares}")
    deals = processes.deals(agent, env, values["backbone"])
    config = processes.start(agent, config, values.get("workers"), values["processes"], learns_rewards, deals)
    learner = make_agent(agent, env, options, config, values)
    run = values["run"] or new_directory(agent, env)
    size = learner.policy.size
    learned = f", with {values['novelty']:g} times a bonus for novelty" if values["novelty"] else ""
    learned = f", imitating {values['imitate']}" if values["imitate"] else learned
    shared = processes.described(config)
    _say(f"{agent} on {env}{learned}: {learner.policy.describe()}; {size:,} parameters, {shared}run {run}")
    target = values["target_score"]
    result = learner.train(run, values["steps"], None if target == math.inf else target, values["checkpoint_every"])
    return _report(result)


def _report(result: Any) -> int:
    """Report the result of training on standard error, and return the exit status."""
    forget_failures()
    what = f"stopped at {result.steps:,} steps" if result.stopped_by else f"done: {result.steps:,} steps"
    score = f"mean score {result.mean_score:.1f} over the last {result.episodes} episodes"
    _say(f"{what} in {result.seconds:,.0f} s, {score if result.episodes else 'no episode ended'}")
    following = "resume" if result.stopped_by else "evaluate"
    _say(f"next: {launch_command(following, result.run)}")
    return 128 + result.stopped_by if result.stopped_by else 0


def _say(text: str) -> None:
    """Write a line on standard error; of several ranks the first one does."""
    if launched_rank() == 0:
        click.echo(text, err=True)

"""`python -m launch slurm`: a job script that trains on a cluster, and goes on after its time limit."""

import glob
import importlib.util
import os
import re
import secrets
import shutil
import subprocess
import sys
from pathlib import Path
from shlex import quote
from typing import Any, NamedTuple

import click

from agents import AGENTS
from agents.configs import CONFIGS
from launch.flags import named_directory, unknown_command, value_of, without
from launch.tasks import make_task, task_command
from launch.train import make_agent, resume, run_to_resume, train_command
from rlab.errors import BadInputError
from rlab.runs.directory import Run, require_free
from rlab.runs.environment import env_factory
from rlab.settings import from_settings
from rlab.tasks import TASKS
from rlab.tasks.configs import from_run

_EARLY = 60  # seconds by which Slurm's signal may come before its time
# Slurm's forms of a time, with a group for each of days, hours, minutes and seconds.
_TIMES = (
    r"()()(\d+)()",
    r"()()(\d+):(\d+)",
    r"()(\d+):(\d+):(\d+)",
    r"(\d+)-(\d+)()()",
    r"(\d+)-(\d+):(\d+)()",
    r"(\d+)-(\d+):(\d+):(\d+)",
)
_OWN = {"ntasks", "signal", "requeue", "no-requeue", "open-mode", "chdir", "wrap"}  # the script decides these


_ARRAY = re.compile(r"\d{1,7}(-\d{1,7}(:\d{1,7})?)?(,\d{1,7}(-\d{1,7}(:\d{1,7})?)?)*(%\d{1,7})?", re.ASCII)
_LARGEST = 4_000_000  # number of a member of an array, by Slurm


class Planned(NamedTuple):
    """A command that was checked, and what its job needs to know of it."""

    label: str  # what the job is called
    run: Path | None  # the directory that the command names
    threads: int = 1  # that compute in each rank
    agent: str | None = None  # None of a task
    config: Any = None  # the agent's settings


class Job(NamedTuple):
    """The resources that the script asks of Slurm, and the way it starts the ranks."""

    nodes: int
    ntasks_per_node: int
    cpus_per_task: int
    time: str | None
    partition: str | None
    account: str | None
    job_name: str
    grace: int
    array: str | None  # of seeds
    setup: tuple[str, ...]  # lines of bash before the training
    extra: tuple[str, ...]
    mpirun: str | None  # None for srun, and for one process

    @property
    def ranks(self) -> int:
        return self.nodes * self.ntasks_per_node


@click.command(context_settings={"allow_interspersed_args": False})
@click.option("--nodes", type=click.IntRange(1), default=1, show_default=True, help="machines")
@click.option("--ntasks-per-node", type=click.IntRange(1), default=1, show_default=True, help="ranks on each of them")
@click.option("--cpus-per-task", type=click.IntRange(1), help="cores of each rank  [default: 1; of a3c its --workers]")
@click.option("--time", help="limit, in Slurm's forms: minutes, 04:00:00, 2-12; then the job queues again")
@click.option("--partition", help="where to wait  [default: the cluster's]")
@click.option("--account", help="who pays  [default: the cluster's]")
@click.option("--job-name", help="[default: what runs]")
@click.option(
    "--grace",
    type=click.IntRange(1, 65535),
    default=120,
    show_default=True,
    help="seconds before the limit at which the job is asked to save; more than an update takes",
)
@click.option(
    "--launcher",
    type=click.Choice(["mpirun", "srun"]),
    default="mpirun",
    show_default=True,
    help="what starts the ranks; srun for a cluster's own MPI with PMIx",
)
@click.option("--array", help="seeds, each with a job and a run of its own: 0-4, or 1,3,5-9%2 for two at a time")
@click.option(
    "--setup", multiple=True, help='a line of bash before the training: "module load openmpi"; may be repeated'
)
@click.option("--sbatch", "extra", multiple=True, help="any other option of sbatch: --mem=4G; may be repeated")
@click.option("--submit", is_flag=True, help="hand the script to sbatch in place of printing it")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@click.pass_context
def slurm(
    context: click.Context,
    command: tuple[str, ...],
    cpus_per_task: int | None,
    job_name: str | None,
    launcher: str,
    submit: bool,
    **asked: Any,
) -> None:
    """Print a job script for Slurm that runs COMMAND: an agent or a task with its flags, or `resume RUN`.

    The command is checked at once. Before its time limit the job saves a checkpoint and queues up again.
    """
    check_options(asked, job_name)
    ranks = asked["nodes"] * asked["ntasks_per_node"]
    mpirun = _mpirun(launcher) if ranks > 1 else None
    group = context.parent and context.parent.command
    planned = _plan(command, group.list_commands(context) if isinstance(group, click.Group) else [])
    _check_ranks(planned, command[0], ranks)
    words, run = list(command), planned.run
    if run is None:  # named now, so that the job finds it when it comes again; two made in one second must differ
        run = named_directory(planned.label)
        run = run.with_name(f"{run.name}-{secrets.token_hex(2)}")
        words += ["--run", str(run)]
    if asked["array"] is not None:
        words = check_members(words, run, members(asked["array"]))
    job = Job(
        **asked, cpus_per_task=cpus_per_task or planned.threads, job_name=job_name or planned.label, mpirun=mpirun
    )
    text = script(job, words, run, Path.cwd(), sys.executable)
    runs = f"run {run}" if asked["array"] is None else f"runs {run}-seedN, N of {asked['array'].partition('%')[0]}"
    click.echo(f"job {_submit(text)}, {runs}" if submit else text, nl=submit)


def script(job: Job, words: list[str], run: Path, directory: Path, python: str) -> str:
    """The text of a job script, for bash.

    Args:
        job: what is asked of Slurm.
        words: the command of rlab that begins the run, or resumes it; for an array without `--seed` and `--run`.
        run: the run directory, as the command names it; for an array, what comes before `-seedN` in each.
        directory: where the command is to run.
        python: the interpreter.
    """
    launcher = '"${launcher[@]}" ' if job.ranks > 1 else ""
    return f"""#!/bin/bash
{_directives(job)}
# At SIGTERM (Slurm's before the time limit, or `scancel --signal=TERM --batch`) all ranks save and stop. They hear of
# it by SIGUSR1, since at a SIGTERM mpirun ends them; it is repeated, since it may come before there are any.
asked='' training=''
ask() {{
    trap '' TERM
    asked=1
    while [ "$training" ] && kill -USR1 "$training" 2>/dev/null; do sleep 2; done
}}
trap ask TERM

cd -- {quote(str(directory))} || exit 1
{_setup(job)}set -u
export OMP_NUM_THREADS={job.cpus_per_task} \
TF_NUM_INTRAOP_THREADS={job.cpus_per_task} TF_NUM_INTEROP_THREADS={job.cpus_per_task}

{_command(job, words, run, python)}{_launcher(job)}
status=143
if [ ! "$asked" ]; then
    {launcher}"${{command[@]}}" &
    training=$!
    [ "$asked" ] && ask
    wait "$training"
    wait "$training" # a signal breaks off the first one; its status is kept for the second
    status=$?
fi
if [ "$asked" ] && [ "$status" -gt 128 ]; then
    echo "stopped before its end: to be queued again, and to go on" >&2
    scontrol requeue "$SLURM_JOB_ID" || echo "it was not; the same script submitted again goes on" >&2
fi
exit "$status"
"""


def _directives(job: Job) -> str:
    named = ("job_name", "array", "nodes", "ntasks_per_node", "cpus_per_task", "time", "partition", "account")
    values = {name.replace("_", "-"): getattr(job, name) for name in named}
    options = [f"--{name}={quote(str(value))}" for name, value in values.items() if value is not None]
    options += [f"--signal=B:TERM@{job.grace}", "--requeue", "--open-mode=append", *job.extra]
    return "\n".join(f"#SBATCH {option}" for option in options)


def _setup(job: Job) -> str:
    # Before `set -u`, since modules and environments read variables that are not set.
    return "".join(f"{line} || exit\n" for line in job.setup)


def _command(job: Job, words: list[str], run: Path, python: str) -> str:
    """The lines of bash that begin the run, and those that go on with it."""
    launch = " ".join(map(quote, (python, "-m", "launch")))
    begin, seed, where = f"{launch} {' '.join(map(quote, words))}", "", quote(str(run))
    if words[0] == "resume":
        return f"command=({begin})\n"
    if job.array is not None:
        begin += ' --seed "$seed" --run "$run"'
        seed = f"""# Each member of the array has a seed of its own, and a run of its own.
seed=${{SLURM_ARRAY_TASK_ID:?is given by Slurm}}
run={where}-seed$seed
"""
        where = '"$run"'
    return f"""{seed}command=({begin})
# A job that was queued again, or submitted again, goes on with what it began.
if [ -e {where}/config.json ]; then
    command=({launch} resume {where})
fi
"""


def _launcher(job: Job) -> str:
    if job.ranks == 1:
        return ""
    if job.mpirun is None:
        arguments = f"--mpi=pmix --kill-on-bad-exit=1 --ntasks={job.ranks} --cpus-per-task={job.cpus_per_task}"
        return f"launcher=(srun {arguments})\n"
    start = f"{quote(job.mpirun)} -n {job.ranks}"
    return f"""# Each rank on cores of its own, where the machine's can be shared out so.
launcher=({start} --map-by slot:pe={job.cpus_per_task} --bind-to core:overload-allowed)
"${{launcher[@]}}" true >/dev/null 2>&1 || launcher=({start} --bind-to none)
"""


def check_options(asked: dict[str, Any], job_name: str | None) -> None:
    for name in ("partition", "account", "array"):
        _require_line(f"--{name}", asked[name])
    for line in asked["setup"]:
        _require_line("--setup", line)
        _require_bash(line)
    _require_line("--job-name", job_name)
    known = {name.replace("_", "-") for name in asked} | {"cpus-per-task", "job-name"}
    for option in asked["extra"]:
        _require_line("--sbatch", option)
        found = re.match(r"--([a-z][a-z-]*)(=|$)", option)
        if found is None:
            raise BadInputError(f"--sbatch takes an option in its long form, such as --mem=4G, not {option!r}")
        if found[1] in _OWN:
            raise BadInputError(f"--sbatch --{found[1]}: the script decides that")
        if found[1] in known:
            raise BadInputError(f"--sbatch --{found[1]}: give it without --sbatch")
    if asked["time"] is None:
        return
    limit = parse_time(asked["time"])
    if limit <= asked["grace"] + _EARLY:
        raise BadInputError(
            f"--time {asked['time']} leaves no time to train: the job is asked to save {asked['grace']} seconds before "
            f"(--grace), and Slurm may ask up to {_EARLY} sooner"
        )


def members(array: str) -> set[int]:
    """The numbers of an array's jobs, in the form of Slurm's `--array`."""
    wrong = f"--array must be seeds such as 0-4 or 1,3,5-9%2 (two at a time), not {array!r}"
    if not _ARRAY.fullmatch(array):
        raise BadInputError(wrong)
    seeds, _, together = array.partition("%")
    found: set[int] = set()
    for part in seeds.split(","):
        ends, _, step = part.partition(":")
        first, _, last = ends.partition("-")
        numbers = range(int(first), int(last or first) + 1, max(1, int(step or 1)))
        if not numbers or numbers[-1] > _LARGEST or step == "0":
            raise BadInputError(wrong)
        found.update(numbers)
    if together and not int(together):
        raise BadInputError(wrong)
    return found


def check_members(words: list[str], run: Path, members: set[int]) -> list[str]:
    """The words of an array's command without `--run`; raises BadInputError where a member's directory is taken."""
    if words[0] == "resume":
        raise BadInputError(
            "--array begins runs with seeds of their own; the script of a study, submitted again, resumes them"
        )
    if value_of("--seed", words) is not None:
        raise BadInputError("--array gives the seeds; leave out --seed")
    for path in run.parent.glob(f"{glob.escape(run.name)}-seed*"):
        number = path.name.removeprefix(f"{run.name}-seed")
        if number.isascii() and number.isdigit() and int(number) in members:
            require_free(path)
    return without("--run", words)


def _require_line(flag: str, text: str | None) -> None:
    if text is not None and (not text or not text.isprintable()):
        raise BadInputError(f"{flag} must be one line of text, not {text!r}")


def _require_bash(line: str) -> None:
    """Raise BadInputError where bash does not understand a line."""
    if bash := shutil.which("bash"):
        done = subprocess.run([bash, "-n"], input=f"{line} || exit\n", capture_output=True, text=True, check=False)
        if done.returncode:
            raise BadInputError(f"--setup is no line of bash: {line!r}")


def parse_time(text: str) -> int:
    """A time in one of Slurm's forms."""
    for form in _TIMES:
        if found := re.fullmatch(form, text, re.ASCII):
            days, hours, minutes, seconds = (int(part or 0) for part in found.groups())
            return ((days * 24 + hours) * 60 + minutes) * 60 + seconds
    raise BadInputError(f"--time must be a time of Slurm's, such as 90 (minutes), 04:00:00 or 2-12:00:00, not {text!r}")


def _mpirun(launcher: str) -> str | None:
    """The path of mpirun: this interpreter's own, or else the first that is found; None for srun."""
    if importlib.util.find_spec("mpi4py") is None:
        raise BadInputError("several ranks need mpi4py and an MPI library: pip install '.[mpi]'")
    if launcher == "srun":
        return None
    found = shutil.which("mpirun", path=f"{os.path.dirname(sys.executable)}:{os.environ.get('PATH', '')}")
    if found is None:
        raise BadInputError("there is no mpirun: pip install '.[mpi]', or take --launcher srun with the cluster's MPI")
    return os.path.abspath(found)


def _plan(command: tuple[str, ...], names: list[str]) -> Planned:
    """Check a command as it would itself, without running it."""
    name, *arguments = command
    if name in AGENTS:
        made = train_command(name, arguments, _plan_agent)
    elif name in TASKS:
        made = task_command(name, arguments, _plan_task)
    elif name == "resume":
        values = resume.make_context(name, arguments).params
        return _plan_resume(values["run"], values["steps"])
    elif name in names:
        raise BadInputError(f"a job trains: an agent, a task, or `resume RUN`, and not {name!r}")
    else:
        raise unknown_command(name, names)
    return made.invoke(made.make_context(name, arguments))


def _plan_agent(agent: str, env: str, options: dict[str, Any], config: Any, values: dict[str, Any]) -> Planned:
    make_agent(agent, env, options, config, values)
    label = f"{agent}-{env.replace('/', '-')}"
    return Planned(label, values["run"], getattr(config, "workers", 1), agent, config)


def _plan_task(task: str, config: Any, seed: int, run: Path | None) -> Planned:
    if run:
        require_free(run)
    make_task(task, config, seed)
    return Planned(task, run)


def _plan_resume(path: Path, steps: int | None) -> Planned:
    opened: Run = run_to_resume(path, steps)
    label = f"resume-{path.absolute().name}"
    if opened.of_task:
        from_run(opened.config)
        return Planned(label, path)
    agent = opened.config["agent"]
    env_factory(opened.config, path)
    from rlab.runs.start import find_run

    find_run(agent, path, steps)
    config = from_settings(CONFIGS[agent], opened.config["config"])
    return Planned(label, path, getattr(config, "workers", 1), agent, config)


def _check_ranks(planned: Planned, name: str, ranks: int) -> None:
    if ranks > 1 and planned.agent is None:
        raise BadInputError(f"{name}: a task learns in one process; leave out --nodes and --ntasks-per-node")
    if planned.agent:
        planned.config.of_ranks(ranks)


def _submit(text: str) -> str:
    """Hand a script to sbatch, and return the job's number."""
    if shutil.which("sbatch") is None:
        raise BadInputError("there is no sbatch here; without --submit the script is printed")
    done = subprocess.run(["sbatch", "--parsable"], input=text, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BadInputError(done.stderr.strip() or f"sbatch failed with status {done.returncode}")
    return done.stdout.strip().partition(";")[0]

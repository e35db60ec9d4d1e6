"""`python -m launch`: the front door.

Exit status: 0 done, 1 a fault, 2 bad input, 128 and the signal's number where one stopped it (130 of Ctrl-C).
"""

import os
import signal
import sys
import threading
import time
import traceback

import click

from agents import AGENTS
from launch.cluster import slurm
from launch.doctor import doctor
from launch.evaluate import evaluate, record
from launch.flags import said, unknown_command
from launch.listing import front_page, list_names
from launch.output import fill_descriptors, guard_streams, output_status
from launch.tasks import sample, task_command
from launch.train import resume, train_command
from rlab.errors import BadInputError, ElsewhereError, RankLostError, TrainingError, printable
from rlab.launchers import launched_rank, launched_ranks
from rlab.notify import notify
from rlab.parallel import local
from rlab.runs.signals import HEARD, results_of_stops
from rlab.tasks import TASKS

_FAREWELL_SECONDS = 5.0
_COMMANDS = {
    "resume": resume,
    "evaluate": evaluate,
    "record": record,
    "sample": sample,
    "slurm": slurm,
    "doctor": doctor,
    "list": list_names,
}
_OF_ONE = ("evaluate", "record", "sample", "list")  # which change no run; of several ranks the first does them alone


class _Launch(click.Group):
    """Agents and tasks are commands; each is made when it is asked for, since its flags depend on `--env`."""

    def list_commands(self, context: click.Context) -> list[str]:
        return [*AGENTS, *TASKS, *_COMMANDS]

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        if name in TASKS:
            return task_command(name, sys.argv[2:])
        return train_command(name, sys.argv[2:]) if name in AGENTS else _COMMANDS.get(name)

    def resolve_command(
        self, context: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        names = self.list_commands(context)
        if args and args[0] not in names:
            raise unknown_command(args[0], names)
        return super().resolve_command(context, args)


@click.group(cls=_Launch, invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.pass_context
def launch(context: click.Context) -> None:
    """rlab: train, resume, evaluate and record reinforcement-learning agents."""
    if context.invoked_subcommand is None:
        click.echo(front_page())


def main() -> int:
    """Run the command of the process's arguments, and return the exit status."""
    asked = sys.argv[1:2] or ["list"]
    if launched_rank() and (asked[0] in _OF_ONE or {"-h", "--help"} & set(sys.argv)):
        return 0  # the first rank does it
    try:
        with results_of_stops():
            return _run()
    except (KeyboardInterrupt, click.Abort):
        if launched_ranks() > 1:  # which wait for this one, and MPI's farewell for them
            os._exit(128 + signal.SIGINT)
        return 128 + signal.SIGINT


def _run() -> int:
    try:
        result = launch.main(standalone_mode=False)
    except (Exception, SystemExit) as error:  # an environment may raise SystemExit, whose status is not ours
        if os.environ.get("RLAB_TRACEBACK") and not isinstance(error, click.Abort):
            traceback.print_exc()
        return _explain(error)
    return result if isinstance(result, int) else 0


def _explain(error: BaseException) -> int:
    """Report an error on standard error, and return the exit status."""
    if isinstance(error, click.Abort):
        raise error
    if isinstance(error, BadInputError):
        return _fail(str(error), 2)
    if isinstance(error, click.ClickException):
        return _fail(said(error), 2)
    if isinstance(error, ElsewhereError):
        if ranks := local.forked():
            ranks.await_fault()
            return 1
        time.sleep(_FAREWELL_SECONDS)  # the rank that failed speaks for itself, and the launcher ends this one
    if isinstance(error, RankLostError):
        return _fail(str(error), 1, named=True)
    if isinstance(error, TrainingError):
        return _fail(str(error), 1)
    if isinstance(error, OSError):
        return _fail(f"{error.strerror or error}{f': {error.filename}' if error.filename else ''}", 1)
    return _fail(f"{type(error).__name__}: {error} (RLAB_TRACEBACK=1 shows where)", 1)


def _fail(message: str, status: int, named: bool = False) -> int:
    """Write one line on standard error, whatever the message, and return the status; of bad input the first rank alone.

    Of a fault the line says on which rank it was, unless the message has it `named`.
    """
    rank = launched_rank()
    if status == 2 and rank:
        time.sleep(_FAREWELL_SECONDS)  # the first rank's end is this one's too, unless it fares better
    where = f"rank {rank}: " if launched_ranks() > 1 and (status != 2 or rank) and not named else ""
    notify(f"error: {where}{' '.join(printable(message).split())}")
    return status


def _leave(status: int) -> None:
    """End the process with this exit status, whatever else is still going on in it."""
    if status > 128:
        # Stopped by a signal, with everything saved. Launchers send theirs twice, and of the second Python on its way
        # out would die with another status.
        for number in HEARD:
            signal.signal(number, signal.SIG_IGN)
    status = output_status(status)
    if ranks := local.forked():
        if ranks.rank:
            os._exit(status)
        ranks.finish(status)
    held = any(thread.name.startswith("worker-") for thread in threading.enumerate())
    if status == 1 or held or (status == 2 and launched_ranks() > 1):
        # After a fault nothing is left to be saved, and the event writer of TensorFlow can wait at exit for ever, as it
        # does on a full disk; so may a worker that its environment holds. Of several ranks, one that leaves MPI without
        # its farewell ends them all.
        os._exit(status)
    sys.exit(status)


if __name__ == "__main__":
    local.allow()
    fill_descriptors()
    guard_streams()
    _leave(main())

"""The closing of environments, which may raise or hang, and must neither stop nor delay what goes on."""

import contextlib
import threading
from typing import Any

from gymnasium.vector import VectorEnv

from rlab.errors import worded
from rlab.notify import notify

LIMIT = 5.0  # seconds for an environment to close


def close(env: VectorEnv, name: str) -> None:
    """Close an environment; an error or a hang is reported in one line, and its processes do not outlive it."""
    faults: list[BaseException] = []

    def shut() -> None:
        try:
            env.close()
        except BaseException as error:  # SystemExit too: it is the environment's, and not ours
            faults.append(error)

    try:
        thread = threading.Thread(target=shut, name=f"close {name}", daemon=True)
        thread.start()
        thread.join(LIMIT)
        hangs = thread.is_alive()
    except RuntimeError:  # the interpreter is ending, and starts no thread any more
        return
    if hangs:
        notify(f"environment {name} did not close within {LIMIT:g} s and is left as it is")
    elif faults:
        notify(f"environment {name} could not be closed: {worded(faults[0])}")
    if hangs or faults:
        _kill(env)


def _kill(env: Any) -> None:
    """End the processes of an asynchronous environment, which this one would wait for at its own end."""
    while env is not None:
        for process in getattr(env, "processes", ()):
            with contextlib.suppress(Exception):
                process.kill()
        with contextlib.suppress(Exception):
            env.closed = True
        env = env.__dict__.get("env")

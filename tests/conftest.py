"""The fixtures and settings that all tests share."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

ROOT = Path(__file__).parents[1]
# Modules whose tests are mathematics, laws and refusals, of tenths of a second each: `python -m pytest -m fast`.
_FAST = {
    *["architecture", "distributions", "evolution", "flags", "laws", "linear", "map", "memory_envs", "moments"],
    *["notify", "optimizers", "returns", "schedules", "signals", "state", "tuning", "types"],
}


def pytest_collection_modifyitems(items):
    for item in items:
        if item.path.stem.removeprefix("test_") in _FAST:
            item.add_marker(pytest.mark.fast)


@pytest.fixture(scope="session")
def fork_server():
    from forkserver import ForkServer

    server = ForkServer(ROOT)
    yield server
    server.close()


@pytest.fixture
def launch(tmp_path, fork_server):
    """Runs `python -m launch ...` as a process in an empty directory, and returns what it did.

    With `fresh` it is a Python of its own; else the child of one that has TensorFlow imported (`forkserver.py`).
    """

    def run(*arguments: str, timeout: float = 240, fresh: bool = False, **kwargs) -> subprocess.CompletedProcess:
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        words = [*map(str, arguments)]
        if not (fresh or kwargs):
            return fork_server.run(words, tmp_path, environment, timeout)
        return subprocess.run(
            [sys.executable, "-m", "launch", *words],
            **({"capture_output": True, "text": True, "cwd": tmp_path, "env": environment} | kwargs),
            timeout=timeout,
        )

    return run

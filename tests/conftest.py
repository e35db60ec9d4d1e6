"""What all tests share."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

ROOT = Path(__file__).parents[1]


@pytest.fixture
def launch(tmp_path):
    """Runs `python -m launch ...` as a real process in an empty directory, and returns what it did."""

    def run(*arguments: str, timeout: float = 240, **kwargs) -> subprocess.CompletedProcess:
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        return subprocess.run(
            [sys.executable, "-m", "launch", *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=timeout,
            cwd=tmp_path,
            env=environment,
            **kwargs,
        )

    return run

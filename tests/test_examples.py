"""The examples run as a reader would run them."""

import os
import subprocess
import sys

import pytest
from conftest import ROOT


@pytest.mark.parametrize(
    ("name", "says"), [("custom_environment.py", "one episode: 10 of 10"), ("pure_function.py", "norm of its gradient")]
)
def test_example(name, says):
    done = subprocess.run(
        [sys.executable, ROOT / "examples" / name],
        capture_output=True,
        text=True,
        timeout=240,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert says in done.stdout

"""The examples run as a reader would run them."""

import os
import re
import subprocess
import sys

import pytest
from conftest import ROOT

import rlab
from rlab.errors import BadInputError


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("custom_environment.py", "one episode: 10 of 10"),
        ("pure_function.py", "norm of its gradient"),
        ("ppo.py", r"mean return (4[89]\d|500) of 500 over 50 episodes"),
    ],
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
    assert re.search(says, done.stdout)


def test_an_agent_of_ones_own_is_one_short_file_and_resumes(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "examples")
    import ppo

    assert len((ROOT / "examples" / "ppo.py").read_text().splitlines()) <= 150
    config = ppo.PPOConfig(parallel_envs=4, rollout_length=8, epochs=1)
    ppo.PPO(config, "CartPole-v1").train(tmp_path / "run", 64)
    assert ppo.PPO.resume(tmp_path / "run", steps=128).steps == 128
    saved = rlab.runs.Run.open(tmp_path / "run").latest_checkpoint()
    assert (saved.counters["batches"], float(saved.arrays["adam/count"])) == (4, 8.0)
    with pytest.raises(BadInputError, match="PPO takes a policy without memory"):
        ppo.PPO(config, "CartPole-v1", "lstm")
    with pytest.raises(BadInputError, match="--clip must be above 0"):
        ppo.PPOConfig(clip=0.0)

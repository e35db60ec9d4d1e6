"""Command lines that cannot be right: one line, status 2, before anything is begun."""

import os
import shlex
import sys

import numpy as np
import pytest

from launch import tasks
from launch.__main__ import main
from launch.flags import without
from rlab.runs.checkpoints import Checkpoint
from rlab.runs.directory import Run

BOUND = "must be at least 1, and a whole number below 2^63"


@pytest.mark.parametrize(
    ("line", "names"),
    [
        ("a3c --env CartPole-v1 --seed -1", "'--seed': a seed is a whole number from 0 to 2^64 - 1, not '-1'"),
        ("nback --seed 99999999999999999999999", "from 0 to 2^64 - 1"),
        ("evaluate run --seed 1e3", "from 0 to 2^64 - 1"),
        ("record run --out a.mp4 --seed x", "from 0 to 2^64 - 1"),
        ("sample run --out a.png --seed ''", "from 0 to 2^64 - 1"),
        ("evaluate ''", "'RUN': a path is needed"),
        ("resume ''", "'RUN': a path is needed"),
        ("doctor trpo ''", "'RUN': a path is needed"),
        ("snes --env CartPole-v1 --run ''", "'--run': a path is needed"),
        ("nback --run ''", "'--run': a path is needed"),
        ("trpo --env CartPole-v1 --imitate ''", "'--imitate': a path is needed"),
        (f"nback --run {'a' * 300}", "is no path here (File name too long)"),
        ("nback --run file/run", "is no path here (Not a directory)"),
        ("a3c --env CartPole-v1 --target-score nan", "--target-score must be a number between -2^63 and 2^63"),
        ("a3c --env CartPole-v1 --target-score 1e19", "--target-score must be a number between -2^63 and 2^63"),
        ("a3c --env CartPole-v1 --steps 9223372036854775808", f"--steps {BOUND}, not 9223372036854775808"),
        ("slurm -- a3c --env CartPole-v1 --steps 1e30", f"--steps {BOUND}"),
        ("evaluate run --episodes 1e30", "'1e30' is not a valid integer"),
        ("evaluate run --episodes 9223372036854775808", f"--episodes {BOUND}"),
        ("a3c --env CartPole-v1 --checkpoint-every nan", "'--checkpoint-every': a finite number of seconds"),
        ("nback --checkpoint-every inf", "'--checkpoint-every': a finite number of seconds"),
        ("nback --checkpoint-every -1", "'--checkpoint-every'"),
        ("slurm -- nback --checkpoint-every nan", "'--checkpoint-every': a finite number of seconds"),
        ("slurm -- a3c --env CartPole-v1 --checkpoint-every -inf", "'--checkpoint-every'"),
        ("doctor trpo run --steps 0", "no such option '--steps'; there are --json\n"),
        ("a3c --env CartPole-v1 --nope", "no such option '--nope'"),
        ("a3c --env CartPole-v1 --learning_rate 1", "did you mean '--learning-rate'"),
        ("a3c --env CartPole-v1 --sutton-barto-reward yes", "no flag takes 'yes'"),
        ("list all", "no flag takes 'all'"),
        ("a3c --env Planet --help", "`python -m launch list` shows those there are"),
        ("train", "`python -m launch` shows those there are"),
        ("doctor a3c run", "'AGENT'"),
        ("sample run --out a.png --count 1000000000", "at most 10000"),
        ("mnist --data ''", "--data is empty"),
        ("slurm --array 0-4 -- nback --seed 3", "leave out --seed"),
    ],
)
def test_one_line_says_what_is_wrong(line, names, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    monkeypatch.setattr(sys, "argv", ["launch", *shlex.split(line)])
    assert main() == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert len(told.err.splitlines()) == 1
    assert told.err.startswith("error: ")
    assert names in told.err
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("steps", ["1", "20"])
def test_a_finished_task_is_refused_before_anything_is_loaded(steps, monkeypatch, capsys, tmp_path):
    run = Run.create(tmp_path / "run", {"task": "nback", "seed": 0, "steps": 20, "config": {}})
    run.save_checkpoint(Checkpoint(20, {"model/w": np.zeros(1, np.float32)}, {}))
    monkeypatch.setattr(tasks, "make_task", lambda *_: pytest.fail("loaded"))
    monkeypatch.setattr(sys, "argv", ["launch", "resume", str(run.path), "--steps", steps])
    assert main() == 2
    assert "has made 20 updates; give a larger --steps" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["agent", "task"])
def test_a_run_is_not_given_more_steps_than_it_can_keep(kind, monkeypatch, capsys, tmp_path):
    agents_own = {"agent": "trpo", "env": None, "backbone": "mlp", "target_score": None}
    own = agents_own if kind == "agent" else {"task": "nback"}
    run = Run.create(tmp_path / "run", {"seed": 0, "steps": 20, "config": {}} | own)
    before = (run.path / "config.json").read_bytes()
    for words in (["resume"], ["slurm", "--", "resume"]):
        monkeypatch.setattr(sys, "argv", ["launch", *words, str(run.path), "--steps", "1e25"])
        assert main() == 2
        assert f"--steps {BOUND}" in capsys.readouterr().err
    assert (run.path / "config.json").read_bytes() == before


@pytest.mark.parametrize(
    ("command", "suffix"), [("record run", ".mp4"), ("record run --demonstrations", ".npz"), ("sample run", ".png")]
)
def test_an_unwritable_output_is_refused_before_anything_is_loaded(command, suffix, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / f"taken{suffix}").mkdir()
    (tmp_path / "closed").mkdir()
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: path.name != "closed" and access(path, mode))
    for out, told in [
        ("out.txt", f"its name must end in {suffix}"),
        (f"taken{suffix}", "it is a directory"),
        (f"none/out{suffix}", "none is not a directory"),
        (f"closed/out{suffix}", "closed is a directory that nothing may be written in"),
    ]:
        monkeypatch.setattr(sys, "argv", ["launch", *command.split(), "--out", out])
        assert main() == 2
        assert capsys.readouterr().err.startswith(f"error: {out} cannot be written: {told}")


def test_words_without_a_flag():
    assert without("--run", ["a", "--run", "b", "--runs", "c", "--run=d", "--run", "e"]) == ["a", "--runs", "c"]
    assert without("--run", ["a", "--run"]) == ["a"]

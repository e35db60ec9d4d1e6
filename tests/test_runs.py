import json
import math
import os
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlab.errors import BadInputError, launch_command, nearest
from rlab.files import write_atomically
from rlab.runs import checkpoints
from rlab.runs.checkpoints import Checkpoint
from rlab.runs.directory import Run
from rlab.runs.metrics import MetricsWriter, read_metrics
from rlab.runs.policy_files import load_policy, space_from_json, space_to_json
from rlab.runs.progress import ProgressDisplay
from rlab.seeding import derive

CONFIG = {"agent": "a3c", "seed": 0, "steps": 100, "backbone": "mlp", "env": None, "config": {}}


def _checkpoint(steps):
    return Checkpoint(steps, {"policy/w": np.arange(6, dtype=np.float32).reshape(2, 3)}, {"updates": steps // 5})


def test_a_checkpoint_comes_back_as_it_was(tmp_path):
    path = checkpoints.save(tmp_path, _checkpoint(10), keep=3)
    loaded = checkpoints.load(path)
    assert loaded.steps == 10
    assert loaded.counters == {"updates": 2}
    np.testing.assert_array_equal(loaded.arrays["policy/w"], _checkpoint(10).arrays["policy/w"])


def test_the_newest_few_are_kept(tmp_path):
    for steps in (9, 10, 100, 1000):
        checkpoints.save(tmp_path, _checkpoint(steps), keep=2)
    assert [checkpoints.load(path).steps for path in checkpoints.paths(tmp_path)] == [100, 1000]


@settings(deadline=None, max_examples=40)
@given(st.data())
def test_no_cut_and_no_flipped_byte_goes_unnoticed(tmp_path_factory, data):
    directory = tmp_path_factory.mktemp("checkpoints")
    path = checkpoints.save(directory, _checkpoint(10), keep=3)
    content = bytearray(path.read_bytes())
    if data.draw(st.booleans()):
        content = content[: data.draw(st.integers(0, len(content) - 1))]
    else:
        content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(bytes(content))
    with pytest.raises(BadInputError, match="damaged"):
        checkpoints.load(path)


def test_a_damaged_checkpoint_names_the_one_before(tmp_path):
    run = Run.create(tmp_path / "run", CONFIG)
    run.save_checkpoint(_checkpoint(10))
    run.save_checkpoint(_checkpoint(20))
    newest = checkpoints.paths(run.checkpoints)[-1]
    newest.write_bytes(newest.read_bytes()[:-5])
    with pytest.raises(BadInputError, match=r"step-000000000020.*to go on from step-000000000010"):
        run.latest_checkpoint()


def test_a_failed_write_leaves_the_old_file_whole(tmp_path, monkeypatch):
    path = tmp_path / "file"
    write_atomically(path, b"old")

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_run_never_takes_a_directory_that_holds_something(tmp_path):
    Run.create(tmp_path / "run", CONFIG)
    with pytest.raises(BadInputError, match="launch resume"):
        Run.create(tmp_path / "run", CONFIG)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").write_text("mine")
    with pytest.raises(BadInputError, match="not empty"):
        Run.create(tmp_path / "other", CONFIG)
    assert (tmp_path / "other" / "thesis.tex").read_text() == "mine"
    (tmp_path / "empty").mkdir()
    Run.create(tmp_path / "empty", CONFIG)


def test_a_directory_that_is_no_run_is_named(tmp_path):
    with pytest.raises(BadInputError, match=r"no config\.json"):
        Run.open(tmp_path / "nothing")
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(BadInputError, match="cannot be read"):
        Run.open(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"colour": "blue"}))
    with pytest.raises(BadInputError, match="names no agent"):
        Run.open(tmp_path)


def test_the_config_holds_the_versions(tmp_path):
    Run.create(tmp_path / "run", CONFIG)
    config = Run.open(tmp_path / "run").config
    assert config["seed"] == 0
    assert {"python", "tensorflow", "numpy"} <= config["versions"].keys()


def test_metrics_continue_from_the_checkpoint(tmp_path):
    writer = MetricsWriter(tmp_path, 0)
    for steps in (10, 20, 30):
        writer.write({"steps": steps, "loss": steps / 7}, [1.0])
    writer.close()
    with (tmp_path / "metrics.csv").open("a") as file:
        file.write("40,5.")  # a kill in the middle of a line
    writer = MetricsWriter(tmp_path, 20)
    writer.write({"steps": 25, "loss": 1.0}, [])
    writer.close()
    assert [row["steps"] for row in read_metrics(tmp_path)] == [10, 20, 25]
    assert b"\r" not in (tmp_path / "metrics.csv").read_bytes()


def test_loading_a_policy_executes_nothing(tmp_path):
    run = Run.create(tmp_path / "run", CONFIG)
    with pytest.raises(BadInputError, match=r"architecture\.json"):
        load_policy(run.path)
    evil = {"backbone": f"__import__('os').mkdir({str(tmp_path / 'evil')!r})"}
    spaces = {"observation_space": {"type": "Discrete", "n": 2, "start": 0}}
    spaces["action_space"] = spaces["observation_space"]
    (run.path / "policy" / "architecture.json").write_text(json.dumps(evil | spaces))
    with pytest.raises(BadInputError, match="unknown backbone"):
        load_policy(run.path)
    assert not (tmp_path / "evil").exists()


@pytest.mark.parametrize("damage", ["3", "[]", '{"backbone": []}', "[" * 100_000, "\xff", '{"observation_space": {}}'])
def test_a_damaged_description_is_named(tmp_path, damage):
    run = Run.create(tmp_path / "run", CONFIG)
    (run.path / "policy" / "architecture.json").write_text(damage)
    with pytest.raises(BadInputError, match="damaged"):
        load_policy(run.path)


@pytest.mark.parametrize(
    "change", [{"agent": ["a3c"]}, {"env": "Pong"}, {"config": []}, {"steps": "x"}, {"seed": 1.5}, {"backbone": []}]
)
def test_a_damaged_config_is_named(tmp_path, change):
    run = Run.create(tmp_path / "run", CONFIG)
    (run.path / "config.json").write_text(json.dumps(run.config | change))
    with pytest.raises(BadInputError, match=r"damaged|names no agent"):
        Run.open(run.path)


@pytest.mark.parametrize(
    "space",
    [
        gym.spaces.Discrete(5, start=2),
        gym.spaces.MultiDiscrete([3, 2], start=[0, 1]),
        gym.spaces.MultiBinary(4),
        gym.spaces.Box(0, 255, (4, 84, 84), np.uint8),
        gym.spaces.Box(np.array([-1.0, -np.inf], np.float32), np.array([2.0, np.inf], np.float32)),
    ],
)
def test_spaces_survive_json(space):
    assert space_from_json(json.loads(json.dumps(space_to_json(space)))) == space


@settings(max_examples=200)
@given(st.integers(0, 2**40), st.integers(0, 100), st.sampled_from(["worker", "evaluation"]))
def test_seeds_are_stable_and_in_range(seed, number, name):
    assert derive(seed, name, number) == derive(seed, name, number)
    assert 0 <= derive(seed, name, number) < 2**31
    assert derive(seed, name, number) != derive(seed, name, number + 1)


@pytest.mark.parametrize("seed", [None, 1.5, "x", -1, True])
def test_a_wrong_seed_is_refused(seed):
    with pytest.raises(BadInputError, match=f"a seed must be a whole number, at least 0, not {seed!r}"):
        derive(seed, "worker")


def test_nearest_names():
    assert nearest("pogn", ["Pong", "Breakout"]) == "; did you mean 'Pong'?"
    assert nearest("zzz", ["a", "b"]) == "; there are a, b"
    games = ["Et", "Hero", "Pong", "Tennis", "Breakout", "SpaceInvaders", "CartPole-v1", *map(str, range(10))]
    for name, found in {
        "PongNoFrameskip-v4": "Pong",
        "ALE/Pongg-v5": "Pong",
        "Break_Out": "Breakout",
        "cartpole": "CartPole-v1",
        "CartPole-v7": "CartPole-v1",
        "Invaders": "SpaceInvaders",
        "et": "Et",
    }.items():
        assert nearest(name, games) == f"; did you mean {found!r}?"
    for name in ("planet", "GetItDone", "test", "net", "superhero", "MyEnv-v0", "module:Planet", "", "x", "水"):
        assert nearest(name, games) == "", name


def test_suggested_commands_can_be_typed():
    assert launch_command("resume", Path("my run")) == "python -m launch resume 'my run'"
    assert launch_command("evaluate", Path("it's")) == "python -m launch evaluate 'it'\"'\"'s'"
    assert launch_command("resume", Path("-run")) == "python -m launch resume ./-run"


def test_the_display_says_what_is_known(capsys):
    display = ProgressDisplay(100, 0)
    display.show(10, {"score": math.nan, "entropy": 0.5})
    display.show(50, {"score": 3.0}, last=True, end=80)
    first, last = capsys.readouterr().err.splitlines()
    assert first == "10 steps  entropy 0.5"  # compilation lies before it: no speed, no time left
    assert last.startswith("50 steps  ")
    assert "score 3  target reached, cooling down until 80  0:00:00 left" in last
    display.show(50, {"score": 3.0}, last=True)
    assert capsys.readouterr().err == ""

"""Resuming: the state that a run goes on with, and the runs that are refused."""

import functools
import subprocess
import sys
import time

import gymnasium as gym
import numpy as np
import pytest
import toys
from conftest import ROOT

import agents
import envs
from agents.agent import checkpoint_of
from rlab.errors import BadInputError
from rlab.policies import Policy, build
from rlab.runs import checkpoints, start
from rlab.runs.checkpoints import Checkpoint
from rlab.runs.directory import Run
from rlab.runs.loop import Update, run_loop
from rlab.runs.metrics import read_metrics
from rlab.runs.policy_files import load_policy, read_architecture, save_architecture
from rlab.schedules import Schedule
from rlab.types import Episode

CONFIG = {"agent": "a3c", "seed": 0, "steps": 100, "backbone": "mlp", "env": None, "config": {}, "target_score": None}
ENV = functools.partial(envs.make, toys.Matching)


def _updates(first, last):
    time.sleep(0.1)
    for steps in range(first + 10, last + 1, 10):
        yield Update(steps, {"loss": 1.0}, [Episode(float(steps), 5, 1.0)])


def _train(run, first, last):
    state = Checkpoint(last, {"policy/w": np.zeros(1, np.float32)}, {"updates": 1})
    return run_loop(run, _updates(first, last), lambda: state._replace(steps=last), last, first)


def test_the_window_of_scores_goes_on_in_a_resumed_run(tmp_path):
    run = Run.create(tmp_path / "run", CONFIG)
    first = _train(run, 0, 100)
    assert (first.mean_score, first.episodes) == (55.0, 10)
    state = run.latest_checkpoint()
    assert [Episode(*found) for found in state.counters["episodes"]][-1] == Episode(100.0, 5, 1.0)

    def updates():
        yield Update(110, {"loss": 1.0}, [Episode(1155.0, 5)])

    second = run_loop(run, updates(), lambda: state._replace(steps=110), 110, 100)
    assert (second.mean_score, second.episodes) == (155.0, 11)
    before, last = read_metrics(run.path)[-2:]
    assert (last["score"], last["episodes"]) == (155.0, 11)
    assert last["seconds"] >= before["seconds"] >= 0.1  # of the training all in all


@pytest.mark.parametrize("cell", ["inf", "nan", ""])
def test_counts_that_are_no_numbers_are_those_of_the_row_before(tmp_path, cell):
    run = Run.create(tmp_path / "run", CONFIG)
    _train(run, 0, 100)
    *rows, last, _ = (run.path / "metrics.csv").read_text().split("\n")
    columns = rows[0].split(",")
    cells = last.split(",")
    for name in ("seconds", "episodes"):
        cells[columns.index(name)] = cell
    (run.path / "metrics.csv").write_text("\n".join([*rows, ",".join(cells), ""]))
    _train(run, 100, 120)
    found = read_metrics(run.path)
    assert found[-1]["episodes"] == found[-4]["episodes"] + 2
    assert found[-1]["seconds"] >= found[-4]["seconds"]


def test_a_finished_run_is_refused_before_tensorflow_is_loaded(tmp_path):
    run = Run.create(tmp_path / "run", CONFIG)
    checkpoints.save(run.checkpoints, Checkpoint(100, {"policy/w": np.zeros(1, np.float32)}, {}), 3)
    code = (
        "import sys\nfrom launch.train import run_to_resume\nfrom pathlib import Path\n"
        "try: run_to_resume(Path(sys.argv[1]), None)\nexcept ValueError as error: print(error)\n"
        "print('tensorflow' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, run.path], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == f"{run.path} has made 100 steps; give a larger --steps to go on\nFalse\n", done.stderr


def test_an_environment_of_other_bounds_is_refused_and_the_architecture_stays(tmp_path):
    run = Run.create(tmp_path / "run", CONFIG)
    actions = gym.spaces.Discrete(2)
    save_architecture(run.path, Policy(gym.spaces.Box(-1.0, 1.0, (3,), np.float32), actions))
    before = (run.path / "policy" / "architecture.json").read_bytes()
    save_architecture(run.path, Policy(gym.spaces.Box(-1.0, 1.0, (3,), np.float32), actions))
    for space, other in (
        (gym.spaces.Box(-1.0, 2.0, (3,), np.float32), actions),
        (gym.spaces.Box(-1.0, 1.0, (3,), np.float32), gym.spaces.Discrete(3)),
    ):
        with pytest.raises(BadInputError, match=r"the policy does not fit the environment: \w+s of .*, not of"):
            build(space, other, read_architecture(run.path))
        save_architecture(run.path, Policy(space, other))
    assert (run.path / "policy" / "architecture.json").read_bytes() == before


# Checkpoints whose digest is right and whose content is not.

SMALL = {
    "trpo": agents.TRPO.Config(batch_size=16, parallel_envs=2, critic_minibatch=8),
    "rpg": agents.RPG.Config(episodes_per_batch=2),
    "snes": agents.SNES.Config(population=4),
}


@pytest.fixture(scope="module", params=SMALL)
def learner(request):
    agent = getattr(agents, request.param.upper())(SMALL[request.param], ENV)
    return agent.learner(Schedule(100))


def _restore(learner, checkpoint):
    with start.restoring():
        learner.restore(checkpoint)


@pytest.mark.parametrize("way", ["missing", "shorter", "wider"])
def test_arrays_that_do_not_fit_are_refused(learner, way, tmp_path):
    whole = checkpoint_of(learner)
    path = checkpoints.save(tmp_path, whole, 3)
    _restore(learner, checkpoints.load(path))
    for name, array in whole.arrays.items():
        if name.startswith("collector/"):
            continue
        arrays = dict(whole.arrays)
        if way == "missing":
            del arrays[name]
        else:
            arrays[name] = np.ravel(array)[:0] if way == "shorter" else np.stack([array, array])
        path = checkpoints.save(tmp_path, whole._replace(arrays=arrays), 3)
        with pytest.raises(BadInputError):
            _restore(learner, checkpoints.load(path))


@pytest.mark.parametrize("value", ["x", -1, True, 1.5, None, [1], 2**70])
def test_counters_that_count_nothing_are_refused(learner, value, tmp_path):
    whole = checkpoint_of(learner)
    for name in whole.counters.keys() - {"schedule"}:
        path = checkpoints.save(tmp_path, whole._replace(counters=whole.counters | {name: value}), 3)
        with pytest.raises(BadInputError, match="damaged"):
            checkpoints.load(path)
    left = {name: count for name, count in whole.counters.items() if name == "nothing"}
    with pytest.raises(BadInputError, match="holds no"):
        _restore(learner, checkpoints.load(checkpoints.save(tmp_path, whole._replace(counters=left), 3)))


def test_a_run_of_every_agent_goes_on_after_it_was_killed_between_two_files(tmp_path):
    config = agents.A3C.Config(workers=1, envs_per_worker=2)
    agents.A3C(config, ENV).train(tmp_path / "run", 20)
    run = Run.open(tmp_path / "run")
    found = run.latest_checkpoint()
    moved = {name: part + 1.0 if name.startswith("policy/") else part for name, part in found.arrays.items()}
    checkpoints.save(run.checkpoints, Checkpoint(found.steps + 10, moved, dict(found.counters)), 3)
    newest = load_policy(run.path).parameters
    agents.A3C.resume(run.path, ENV, found.steps + 11)
    assert not np.array_equal(load_policy(run.path).parameters, newest)
    assert sorted(path.name for path in run.path.iterdir()) == [
        "checkpoints",
        "config.json",
        "metrics.csv",
        "policy",
        "tensorboard",
    ]

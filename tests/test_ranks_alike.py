"""Ranks that differ, that fail, and that draw what one process draws; started with mpirun, several points at a time."""

import re
import time

import numpy as np
import pytest
import test_mpi
from test_mpi import done_together, run_ranks

pytestmark = test_mpi.pytestmark

# Episodes are cut short at lengths of their own, so that the ranks' copies are truncated at other steps.
LEARN = """
import functools, sys
import numpy as np
import toys
import agents, envs
from agents import rpg, trpo
from rlab.parallel.comm import world
from rlab.schedules import Schedule
class Choices(toys.gym.Env):
    observation_space = toys.gym.spaces.Box(0.0, 1.0, (3,), np.float32)
    action_space = toys.gym.spaces.MultiDiscrete([3, 2])
    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self._left = int(self.np_random.integers(2, 9))
        return self.np_random.random(3).astype(np.float32), {}
    def step(self, action):
        self._left -= 1
        seen = self.np_random.random(3).astype(np.float32)
        return seen, float(action[0] == 1) + seen[0] * action[1], False, self._left == 0, {}
factory = functools.partial(envs.make, Choices)
small, few = dict(batch_size=64, parallel_envs=4), agents.RPG.Config(episodes_per_batch=4, baseline="constant")
learners = {
    "gathered": agents.TRPO(agents.TRPO.Config(**small, critic_minibatch=32), factory).learner(Schedule(10**9)),
    "shared": agents.TRPO(agents.TRPO.Config(**small, critic="linear"), factory, "rnn").learner(Schedule(10**9)),
    "episodes": agents.RPG(few, factory, "mlp").learner(Schedule(10**9)),
}
found = {}
for name, learner in learners.items():
    updates = learner.updates()
    for _ in range(2):
        next(updates)
    params = learner.parameters() if name == "episodes" else learner.params
    found[name] = np.asarray(params)
    updates.close()
if world().rank == 0:
    np.savez(sys.argv[-1], **found)
"""


def test_ranks_learn_what_one_process_does_with_truncations_and_several_choices_at_once(tmp_path):
    for ranks in (1, 2):
        code = LEARN.replace("sys.argv[-1]", repr(str(tmp_path / f"{ranks}.npz")))
        status, _, errors = done_together(run_ranks(ranks, code=code))
        assert status == 0, errors
    one, two = np.load(tmp_path / "1.npz"), np.load(tmp_path / "2.npz")
    for name in one.files:
        np.testing.assert_allclose(two[name], one[name], atol=1e-4, err_msg=name)


DIFFER = """
import functools, time
import toys
import agents, envs
from rlab.errors import BadInputError, TrainingError
from rlab.parallel import meeting
from rlab.parallel.comm import world
rank = world().rank
def differ(name, agent, run, **given):
    try:
        agent.train(run, **given) if name != "resume" else agent(run, factory, **given)
    except BadInputError as error:
        print(f"rank {rank}, {name}: {error}", flush=True)
factory, run = functools.partial(envs.make, "CartPole-v1"), RUN
differ("rate", agents.TRPO(agents.TRPO.Config(learning_rate=[0.2, 0.1][rank]), factory), run, steps=100)
differ("seed", agents.A3C(env=factory, seed=rank), run, steps=100)
differ("steps", agents.SNES(env=factory), run, steps=100 + rank)
other = functools.partial(envs.make, toys.Matching if rank else toys.Recall)
differ("factory", agents.RPG(env=other), run, steps=100)
differ("kind", agents.RPG(env=factory) if rank else agents.A3C(env=factory), run, steps=100)
differ("resume", agents.TRPO.resume, run, steps=200 + rank)
meeting.NOTICE, meeting.PATIENCE = 1.0, 2.0
if rank:
    time.sleep(1000)
try:
    agents.SNES(env=factory).train(run, 100)
except TrainingError as error:
    print(error, flush=True)
raise SystemExit(world().mpi.Abort(7))
"""


def test_ranks_that_differ_name_what_differs_and_one_that_does_not_come_is_named(tmp_path):
    code = DIFFER.replace("RUN", repr(str(tmp_path / "run")))
    status, output, errors = done_together(run_ranks(2, code=code))
    told = {}
    for line in output.splitlines():
        if found := re.match(r"rank (\d), (\w+): the ranks differ: (.*); start all with the same command", line):
            told.setdefault(found[2], {})[int(found[1])] = found[3]
    assert all(words[0] == words[1] for words in told.values()), output + errors
    assert {name: words[0] for name, words in told.items() if name not in ("factory", "kind")} == {
        "rate": "rank 1 has --learning-rate 0.1, rank 0 has --learning-rate 0.2",
        "seed": "rank 1 has --seed 1, rank 0 has --seed 0",
        "steps": "rank 1 has --steps 101, rank 0 has --steps 100",
        "resume": "rank 1 has --steps 201, rank 0 has --steps 200",
    }
    assert "toys.Matching" in told["factory"][0]
    assert "observations Box" in told["factory"][0]
    assert told["kind"][0].startswith("rank 1 has command train rpg, rank 0 has command train a3c")
    assert not (tmp_path / "run").exists()
    assert "rank 0 waits for rank 1 to begin the same training" in errors
    assert "rank 1 did not begin the same training within 2 s" in output
    assert status == 7


ONLY_HERE = """
import os, runpy, sys
import gymnasium as gym
import toys
from rlab.launchers import launched_rank
class Leaving(toys.Matching):
    def step(self, action):
        if launched_rank() == 1 and self.np_random.random() < 0.01:
            sys.exit(3)
        return super().step(action)
if launched_rank() == 0 or os.environ["EVERYWHERE"] == "1":
    gym.register("Leaving-v0", Leaving)
flags = ["--steps", "1000000", "--run", os.environ["RUN"]]
sys.argv = ["launch", os.environ["AGENT"], "--env", "Leaving-v0", *flags]
runpy.run_module("launch", run_name="__main__")
"""


@pytest.mark.parametrize(
    ("agent", "everywhere", "expected", "named"),
    [
        ("trpo", "1", 1, r"error: rank 1: batch 0, step 0: .*SystemExit: 3 "),
        ("trpo", "0", 2, "error: rank 1: .*Leaving-v0"),
    ],
)
def test_a_fault_of_one_rank_ends_all_and_is_named(tmp_path, monkeypatch, agent, everywhere, expected, named):
    for name, value in {"AGENT": agent, "EVERYWHERE": everywhere, "RUN": str(tmp_path / "run")}.items():
        monkeypatch.setitem(test_mpi.ENVIRONMENT, name, value)
    start = time.monotonic()
    status, _, errors = done_together(run_ranks(2, code=ONLY_HERE), timeout=120)
    assert status == expected, errors
    lines = [line for line in errors.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, errors
    assert re.match(named, lines[0])
    assert time.monotonic() - start < 90

"""A3C on real ranks, started with mpirun."""

import os
import re
import signal
import time

import numpy as np
import pytest
import test_mpi
from test_mpi import done_together, rank_processes, run_ranks

from rlab.runs import Run
from rlab.runs.metrics import read_metrics

pytestmark = test_mpi.pytestmark
TASK = ("a3c", "--env", "CartPole-v1", "--workers", "1", "--target-score", "inf")
ROLLOUT = 8 * 16  # steps to an update, by the settings for CartPole

EXCHANGE = """
import os, threading
import numpy as np
from rlab.parallel import remote, shared
from rlab.parallel.comm import world
remote.common = lambda comm, size: (None, [False] * comm.size)  # as of ranks on several machines
from rlab.schedules import Schedule
comm, workers, pushes, size = world(), int(os.environ["WORKERS"]), 20, 300_000
if workers > 1:  # plain steps, since with mean squares the order of updates counts
    shared.rmsprop_update = lambda vector, square, gradient, rate, *_: np.subtract(vector, rate * gradient, out=vector)
make = lambda: shared.SharedParameters(np.zeros(size), decay=0.9, epsilon=2.0**-4, workers=workers)
exchange = shared.LocalParameters(make(), Schedule(10 * workers * pushes))
side = (remote.RankClient if comm.rank else remote.ParameterServer)(exchange, comm, [0, workers])
def gradient(worker, number):
    # Whole numbers, so that a sum is exact in any order.
    return np.random.default_rng([worker, number]).integers(-8, 9, size).astype(np.float32)
def work(worker):
    line, serial = side.connect(worker), make()
    for number in range(pushes):
        snapshot = line.pull()
        assert not snapshot.done and snapshot.steps == 10 * snapshot.updates
        if workers == 1:
            assert np.array_equal(snapshot.vector, serial.vector) and snapshot.updates == number
            assert snapshot.left == 1.0 - number / pushes
            serial.apply(gradient(worker, number), shared.Work(2.0**-6, 0, 0, {}, []))
        line.push(gradient(worker, number), shared.Work(2.0**-6, snapshot.updates, 10, {"of": worker}, [], worker))
    line.leave(None)
threads = [threading.Thread(target=work, args=(i,)) for i in range(workers * comm.rank)]
reports = []
with side.running(threads):
    while not side.over():
        reports += filter(None, [side.hear(0.02)])
if comm.rank == 0:
    expected = make()
    for number in range(pushes):
        for worker in range(workers):
            expected.apply(gradient(worker, number), shared.Work(2.0**-6, 0, 0, {}, []))
    parameters = exchange.parameters
    assert np.array_equal(parameters.vector, expected.vector)
    assert np.array_equal(parameters.mean_square, expected.mean_square)
    assert [report.steps for report in reports] == list(range(10, 10 * workers * pushes + 1, 10))
    late = [report.metrics["staleness"] for report in reports]
    assert max(late) == 0.0 if workers == 1 else max(late) > 0.0
    print(parameters.updates, parameters.steps, sorted({report.metrics["of"] for report in reports}))
else:
    print("rank 1 ends with", exchange.parameters.steps)
"""


@pytest.mark.parametrize("workers", [1, 3])
def test_served_parameters_are_those_of_the_same_pushes_one_after_another(workers, monkeypatch):
    monkeypatch.setitem(test_mpi.ENVIRONMENT, "WORKERS", str(workers))
    status, output, errors = done_together(run_ranks(2, code=EXCHANGE), timeout=60)
    assert status == 0, errors
    counts = f"{20 * workers} {200 * workers}"
    assert sorted(output.splitlines()) == [f"{counts} {list(range(workers))}", f"rank 1 ends with {200 * workers}"]


def test_ranks_of_one_machine_have_memory_in_common():
    code = """
import numpy as np
from rlab.parallel.comm import world
from rlab.parallel.memory import common
comm = world()
memory, sharing = common(comm, 16)
memory.view(np.int64)[comm.rank] = comm.rank + 5
comm.gather(None)
print(sharing, memory.view(np.int64).tolist())
"""
    status, output, errors = done_together(run_ranks(2, code=code), timeout=60)
    assert status == 0, errors
    assert output.splitlines() == ["[True, True] [5, 6]"] * 2


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    run = tmp_path_factory.mktemp("trained") / "run"
    status, output, errors = done_together(run_ranks(2, *TASK, "--steps", "40000", "--run", run))
    assert status == 0, errors
    assert errors.count("done: ") == 1
    assert output == ""
    return run


def test_two_ranks_learn_and_count_the_steps_of_both(trained):
    rows, final = read_metrics(trained), Run.open(trained).latest_checkpoint()
    assert rows[-1]["steps"] == final.steps == final.counters["updates"] * ROLLOUT
    assert 40_000 <= final.steps < 40_000 + 2 * ROLLOUT  # the other rank finishes what it has begun
    assert np.mean([row["staleness"] for row in rows[-100:]]) > 0.3  # one worker alone has none
    assert rows[-1]["score"] > 60.0  # chance is 22


def test_a_run_resumes_on_another_number_of_ranks(trained):
    before = (trained / "metrics.csv").read_text()
    status, _, errors = done_together(run_ranks(3, "resume", trained, "--steps", "44000"))
    assert status == 0, errors
    final = Run.open(trained).latest_checkpoint()
    assert final.steps == final.counters["updates"] * ROLLOUT
    assert 44_000 <= final.steps < 44_000 + 3 * ROLLOUT
    assert (trained / "metrics.csv").read_text().startswith(before)


def _started(run):
    """Ranks that have made a few thousand steps, as the first row says."""
    process = run_ranks(2, *TASK, "--steps", "2000000", "--run", run)
    deadline = time.monotonic() + 120
    while not (run / "metrics.csv").exists() or len((run / "metrics.csv").read_text().splitlines()) < 2:
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return process


@pytest.mark.parametrize(("number", "hit"), [(signal.SIGTERM, slice(1, 2)), (signal.SIGINT, slice(0, 2))])
def test_a_signal_to_the_second_rank_or_to_all_stops_all_with_a_checkpoint(tmp_path, number, hit):
    process = _started(tmp_path / "run")
    ranks = rank_processes(process)
    assert len(ranks) == 2
    for rank in ranks[hit]:
        os.kill(rank, number)
    status, _, errors = done_together(process, timeout=60)
    assert status == 128 + number, errors
    assert errors.count("stopped at ") == 1
    assert "error" not in errors
    final = Run.open(tmp_path / "run").latest_checkpoint()
    assert final.steps == final.counters["updates"] * ROLLOUT >= 4000
    assert f"stopped at {final.steps:,} steps" in errors


FAULT = """
import os, runpy, sys
import gymnasium as gym
from rlab.launchers import launched_rank
class Fragile(gym.Env):
    observation_space, action_space = gym.spaces.Box(0.0, 1.0, (2,)), gym.spaces.Discrete(2)
    steps = 0
    def reset(self, *, seed=None, options=None):
        return self.observation_space.low, {}
    def step(self, action):
        self.steps += 1
        if launched_rank() == int(os.environ["FRAGILE"]) and self.steps > 100:
            raise SystemExit("the simulator broke")
        return self.observation_space.low, 0.0, False, self.steps % 10 == 0, {}
gym.register("Fragile-v0", Fragile)
sys.argv = ["launch", "a3c", "--env", "Fragile-v0", "--workers", "2", "--steps", "1000000", "--run", os.environ["RUN"]]
"""
AS_COMMAND = FAULT + 'runpy.run_module("launch", run_name="__main__")'
# A program of one's own has no launcher's farewell: each rank must find its way out.
AS_PROGRAM = FAULT + 'import launch.train as t; t.train_command("a3c", sys.argv[2:]).main(sys.argv[2:])'


@pytest.mark.parametrize(("rank", "code"), [(0, AS_COMMAND), (1, AS_COMMAND), (1, AS_PROGRAM)])
def test_a_fault_on_one_rank_ends_all_and_is_named(tmp_path, monkeypatch, rank, code):
    monkeypatch.setitem(test_mpi.ENVIRONMENT, "FRAGILE", str(rank))
    monkeypatch.setitem(test_mpi.ENVIRONMENT, "RUN", str(tmp_path / "run"))
    start = time.monotonic()
    status, _, errors = done_together(run_ranks(2, code=code), timeout=90)
    assert status == 1
    named = rf"worker [{2 * rank}{2 * rank + 1}], step \d+: .*SystemExit: the simulator broke"
    if code is AS_COMMAND:
        lines = [line for line in errors.splitlines() if line.startswith("error: ")]
        assert len(lines) == 1, errors
        assert re.match(f"error: rank {rank}: {named}", lines[0])
    else:
        assert re.search(f"TrainingError: {named}", errors), errors
        assert re.search(f"ElsewhereError: rank {rank}: {named}", errors), errors
    assert time.monotonic() - start < 80  # a hang would last for longer


def test_a_killed_rank_ends_the_job_and_leaves_whole_checkpoints(tmp_path):
    process = _started(tmp_path / "run")
    os.kill(rank_processes(process)[-1], signal.SIGKILL)
    start = time.monotonic()
    status, _, _ = done_together(process, timeout=60)
    assert status != 0
    assert time.monotonic() - start < 30
    Run.open(tmp_path / "run").latest_checkpoint()  # raises where one is damaged

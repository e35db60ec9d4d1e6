"""Real ranks, started with mpirun."""

import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import safetensors.numpy
from conftest import ROOT

from rlab import launchers
from rlab.arrays import digest, read_weights

MPIRUN = shutil.which("mpirun", path=f"{os.path.dirname(sys.executable)}:{os.environ['PATH']}")
pytestmark = pytest.mark.skipif(MPIRUN is None, reason="there is no mpirun; pip install '.[mpi]'")

ENVIRONMENT = os.environ | {
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
    "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}",
}
TASK = ("rpg", "--env", "CartPoleNoVel-v1", "--backbone", "lstm", "--episodes-per-batch", "12", "--steps", "2000")


def run_ranks(number, *arguments, code=None):
    program = [*(["-c", code] if code else ["-m", "launch"]), *map(str, arguments)]
    command = [MPIRUN, "-n", str(number), sys.executable, *program]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT, cwd=ROOT
    )


def done_together(process, timeout=240):
    output, errors = process.communicate(timeout=timeout)
    return process.returncode, output, errors


def _weights(run):
    return safetensors.numpy.load_file(run / "policy" / "weights.safetensors")


def test_ranks_gather_and_sum_the_same_bits():
    code = (
        "import numpy as np; from rlab.parallel.comm import world, on_first; c = world()\n"
        "parts = c.gather(c.rank * 10)\n"
        "total = c.sum(np.array([0.1 * (c.rank + 1), 1e8], np.float32))\n"
        "first = on_first(c, lambda: 'only ' + str(c.rank))\n"
        "try:\n    on_first(c, lambda: 1 / 0)\n"
        "except ZeroDivisionError:\n    print(c.rank, c.size, parts, total.tobytes().hex(), first)"
    )
    status, output, errors = done_together(run_ranks(3, code=code))
    assert status == 0, errors
    lines = sorted(output.splitlines())
    total = np.array([np.float32(0.1) + np.float32(0.2) + np.float32(0.1 * 3), 3e8], np.float32).tobytes().hex()
    assert lines == [f"{rank} 3 [0, 10, 20] {total} only 0" for rank in range(3)]


@pytest.mark.parametrize(
    ("given", "ranks", "rank"),
    [
        ({}, 1, 0),
        ({"OMPI_COMM_WORLD_SIZE": "3", "OMPI_COMM_WORLD_RANK": "2", "PMIX_RANK": "2"}, 3, 2),
        ({"PMI_SIZE": "4", "PMI_RANK": "1"}, 4, 1),
        ({"PMIX_RANK": "5", "SLURM_STEP_NUM_TASKS": "6"}, 6, 5),  # srun --mpi=pmix
        ({"SLURM_STEP_NUM_TASKS": "6", "SLURM_PROCID": "5"}, 1, 0),  # tasks that do not know of MPI
    ],
)
def test_launchers_say_how_many_ranks_there_are(monkeypatch, given, ranks, rank):
    for name in [name for names in launchers.LAUNCHERS for name in names]:
        monkeypatch.delenv(name, raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    assert (launchers.launched_ranks(), launchers.launched_rank()) == (ranks, rank)


def test_two_ranks_learn_what_one_does(tmp_path):
    for ranks in (1, 2):
        status, _, errors = done_together(run_ranks(ranks, *TASK, "--run", tmp_path / str(ranks)))
        assert status == 0, errors
        assert errors.count("done: ") == 1
    one, two = _weights(tmp_path / "1"), _weights(tmp_path / "2")
    for name, array in one.items():
        np.testing.assert_allclose(two[name], array, atol=2e-3, err_msg=name)
    counts = [(tmp_path / str(ranks) / "metrics.csv").read_text().splitlines()[-1].split(",")[0] for ranks in (1, 2)]
    assert counts[0] == counts[1]


TRUST = """
import sys
from launch.process import start_tensorflow
start_tensorflow()
import agents
ways = {
    "normalized": ({"normalize_observations": True}, "mlp"),
    "with memory": ({}, "rnn"),
    "linear critic": ({"critic": "linear"}, "mlp"),
    "vine": ({"sampling": "vine", "vine_actions": 3, "vine_length": 8}, "mlp"),
}
for name, (changes, backbone) in ways.items():
    small = {"batch_size": 256, "parallel_envs": 4, "critic_minibatch": 64}
    config = agents.TRPO.Config.for_env("CartPole-v1", **small, **changes)
    agents.TRPO(config, "CartPole-v1", backbone).train(f"{sys.argv[1]}/{name}", 1024)
"""


def test_a_trust_region_does_not_depend_on_how_its_batch_is_split(tmp_path):
    """All in one job, since most of a job is its start."""
    for ranks in (1, 2):
        status, _, errors = done_together(run_ranks(ranks, tmp_path / str(ranks), code=TRUST))
        assert status == 0, errors
    ways = sorted(path.name for path in (tmp_path / "1").iterdir())
    assert len(ways) == 4
    for way in ways:
        one, two = (_weights(tmp_path / ranks / way) for ranks in ("1", "2"))
        for name, array in one.items():
            np.testing.assert_allclose(two[name], array, atol=2e-3, err_msg=f"{way}: {name}")


def test_ranks_that_differ_are_found_out():
    code = (
        "import numpy as np; from rlab.parallel import comm; c = comm.world()\n"
        "comm.require_equal(c, np.ones(3), 'numbers')\n"
        "try:\n    comm.require_equal(c, np.ones(3) * c.rank, 'the parameters')\n"
        "except Exception as error:\n    print(type(error).__name__, error)"
    )
    status, output, errors = done_together(run_ranks(2, code=code))
    assert status == 0, errors
    assert output.splitlines() == ["TrainingError the parameters differ between the ranks"] * 2


def test_batches_must_divide_among_the_ranks(tmp_path):
    status, _, errors = done_together(run_ranks(2, *TASK, "--episodes-per-batch", "5", "--run", tmp_path / "run"))
    assert status == 2
    assert errors.count("error: --episodes-per-batch must be a multiple of the 2 ranks that share it, not 5") == 1
    assert not (tmp_path / "run").exists()


def _started(run):
    process = run_ranks(2, *TASK[:-1], "1000000", "--run", run)
    deadline = time.monotonic() + 120
    while not (run / "metrics.csv").exists() or len((run / "metrics.csv").read_text().splitlines()) < 1:
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.2)
    return process


def rank_processes(process):
    listed = subprocess.run(["ps", "-eo", "pid,ppid,args"], capture_output=True, text=True, check=True).stdout
    rows = [line.split(None, 2) for line in listed.splitlines()[1:]]
    below = {process.pid}
    for _ in range(4):
        below |= {int(pid) for pid, parent, _ in rows if int(parent) in below}
    return sorted(int(pid) for pid, _, args in rows if int(pid) in below and args.startswith(sys.executable))


def test_a_killed_rank_ends_the_job(tmp_path):
    process = _started(tmp_path / "run")
    os.kill(rank_processes(process)[-1], signal.SIGKILL)
    start = time.monotonic()
    status, _, errors = done_together(process, timeout=60)
    assert status != 0
    assert time.monotonic() - start < 30
    assert "process rank 1 " in errors  # Open MPI's own words


HOLDING = (
    "import ctypes, functools, toys, envs, agents; from rlab.parallel import heartbeat\n"
    "heartbeat.SILENCE, heartbeat._ASLEEP = 4.0, 3.0\n"
    "from rlab.parallel.comm import world\n"
    "class Holding(toys.Matching):\n"
    "    def step(self, action):\n"
    "        if world().rank == 1 and self.np_random.random() < 0.01:\n"
    "            ctypes.PyDLL(None).sleep(10000)\n"  # with Python's lock: no other thread of the process runs
    "        return super().step(action)\n"
    "config = agents.SNES.Config(population=8, group=4)\n"
    "agents.SNES(config, functools.partial(envs.make, Holding)).train(RUN, 10**9)\n"
)


def test_a_rank_that_stands_still_ends_the_job(tmp_path):
    code = HOLDING.replace("RUN", repr(str(tmp_path / "run")))
    start = time.monotonic()
    status, _, errors = done_together(run_ranks(2, code=code), timeout=120)
    assert status == 1
    assert time.monotonic() - start < 60  # most of them to start
    assert errors.count("error: rank 1 is lost or hangs: nothing was heard of it for 4 s; ") == 1
    assert f"resume {tmp_path / 'run'}` goes on from the last checkpoint" in errors


def test_a_job_that_is_stopped_and_continued_goes_on(tmp_path):
    """All ranks, as schedulers suspend them, and then one of them alone."""
    run = tmp_path / "run"
    flags = ("--env", "CartPole-v1", "--population", "8", "--group", "4", "--max-episode-steps", "15", "--steps", "1e9")
    code = (
        "import runpy, sys; from rlab.parallel import heartbeat\n"
        "heartbeat.SILENCE, heartbeat._ASLEEP = 4.0, 3.0\n"
        f"sys.argv = ['launch', 'snes', *{flags!r}, '--run', {str(run)!r}]\n"
        "runpy.run_module('launch', run_name='__main__')"
    )
    process = run_ranks(2, code=code)
    deadline = time.monotonic() + 120
    while not list((run / "tensorboard").glob("*")):
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.1)
    ranks = rank_processes(process)
    for some in (ranks, ranks[1:]):
        for number, seconds in ((signal.SIGSTOP, 8), (signal.SIGCONT, 3)):
            for pid in some:
                os.kill(pid, number)
            time.sleep(seconds)
            assert process.poll() is None, process.communicate()[1]
    os.kill(ranks[0], signal.SIGTERM)
    status, _, errors = done_together(process, timeout=60)
    assert status == 143, errors
    assert errors.count("stopped at ") == 1
    assert "error: " not in errors
    assert errors.count("rank 1 is stopped, and waited for until it is continued (SIGCONT)") == 1
    assert list((run / "checkpoints").iterdir())


def test_an_environment_that_does_not_come_back_ends_the_job(tmp_path):
    """Its rank is alive, and so is the thread that says so."""
    code = (
        "import time, functools, toys, envs, agents; from rlab.parallel import heartbeat\n"
        "heartbeat.STUCK, heartbeat.SILENCE = 3.0, 4.0\n"
        "from rlab.parallel.comm import world\n"
        "class Hanging(toys.Matching):\n"
        "    def step(self, action):\n"
        "        if world().rank == 1 and self.np_random.random() < 0.01:\n            time.sleep(10000)\n"
        "        return super().step(action)\n"
        "config = agents.SNES.Config(population=8, group=4)\n"
        f"agents.SNES(config, functools.partial(envs.make, Hanging)).train({str(tmp_path / 'run')!r}, 10**6)\n"
    )
    start = time.monotonic()
    status, _, errors = done_together(run_ranks(2, code=code), timeout=120)
    assert status == 1
    assert time.monotonic() - start < 60  # most of them to start
    assert errors.count("error: rank 1 is lost or hangs: nothing was heard of it for 4 s") == 1


def test_a_rank_whose_training_ended_without_the_others_is_found_out():
    code = (
        "import time; from rlab.parallel import heartbeat; from rlab.parallel.comm import world\n"
        "heartbeat.GRACE, c = 5.0, world()\n"
        "heartbeat.begin(c, 'so it is')\n"
        "if c.rank:\n    time.sleep(1000)\n"
        "heartbeat.end()\n"
    )
    status, _, errors = done_together(run_ranks(2, code=code), timeout=60)
    assert status == 1
    assert "error: rank 1 hangs: rank 0 ended its training 5 s ago; so it is" in errors


def test_a_signal_to_one_rank_stops_all_with_a_checkpoint(tmp_path):
    process = _started(tmp_path / "run")
    os.kill(rank_processes(process)[-1], signal.SIGTERM)
    status, _, errors = done_together(process, timeout=60)
    assert status == 143, errors
    assert "stopped at" in errors
    assert list((tmp_path / "run" / "checkpoints").iterdir())


def test_a_signal_to_mpirun_leaves_no_rank_behind(tmp_path):
    process = _started(tmp_path / "run")
    ranks = rank_processes(process)
    assert len(ranks) == 2
    process.terminate()
    status, _, _ = done_together(process, timeout=60)
    assert status != 0
    deadline = time.monotonic() + 10
    while any(os.path.exists(f"/proc/{pid}") for pid in ranks):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_a_signal_ends_a_generation_before_it_is_over(tmp_path):
    """Ranks of evolution may play for long before they meet: one that was asked to stop does not wait for that."""
    run = tmp_path / "run"
    flags = ("--env", "Pendulum-v1", "--population", "128", "--group", "64", "--episodes", "40", "--steps", "1e9")
    process = run_ranks(2, "snes", *flags, "--run", run)
    deadline = time.monotonic() + 120
    while not list((run / "tensorboard").glob("*")):  # the loop that heeds signals writes there first
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.kill(rank_processes(process)[0], signal.SIGTERM)
    status, _, errors = done_together(process, timeout=60)
    assert status == 143, errors
    assert "stopped at 0 steps" in errors
    assert list((run / "checkpoints").iterdir())


EVOLUTION = ("snes", "--population", "24", "--group", "4", "--verify-every", "3", "--normalize-observations")
EVOLUTION += ("--max-episode-steps", "15")


def test_evolution_is_the_same_to_the_bit_on_any_number_of_ranks(tmp_path):
    """Also of four, which made more than 20 generations before two went on with them."""
    steps = "12000"
    for ranks in (1, 3):
        status, _, errors = done_together(
            run_ranks(ranks, *EVOLUTION, "--steps", steps, "--run", tmp_path / str(ranks))
        )
        assert status == 0, errors
    status, _, errors = done_together(run_ranks(4, *EVOLUTION, "--steps", "8000", "--run", tmp_path / "cut"))
    assert status == 0, errors
    assert len((tmp_path / "cut" / "metrics.csv").read_text().splitlines()) > 20  # generations
    status, _, errors = done_together(run_ranks(2, "resume", tmp_path / "cut", "--steps", steps))
    assert status == 0, errors
    found = [read_weights(tmp_path / run / "policy" / "weights.safetensors") for run in ("1", "3", "cut")]
    assert len({digest(weights.arrays, str(weights.steps)) for weights in found}) == 1


@pytest.mark.parametrize("flags", ["", "normalize_observations=True"])
def test_evolution_sends_scalars_only(flags):
    """At most 32 bytes a member, whatever the number of parameters, and nothing but what is stacked."""
    code = (
        "import functools, toys, envs; from agents import snes; from rlab.schedules import Schedule; import agents\n"
        "class Wide(toys.Matching):\n"
        "    observation_space = toys.gym.spaces.Box(0.0, 1.0, (60,), toys.np.float32)\n"
        "    def _show(self):\n        return toys.np.resize(super()._show(), 60)\n"
        f"config = agents.SNES.Config(population=64, group=8, verify_every=10**9, {flags})\n"
        "learner = agents.SNES(config, functools.partial(envs.make, Wide)).learner(Schedule(10**9))\n"
        "comm, sent = learner.setup.comm, []\n"
        "stack = comm.stack\n"
        "comm.stack = lambda array: (sent.append(array.nbytes), stack(array))[1]\n"
        "comm.gather = comm.sum = None\n"
        "updates = learner.updates()\n"
        "[next(updates) for _ in range(3)]\n"
        "print(comm.rank, learner.policy.size, sent)"
    )
    status, output, errors = done_together(run_ranks(2, code=code))
    assert status == 0, errors
    for line in output.splitlines():
        sent = [int(number.strip("[],")) for number in line.split()[2:]]
        assert len(sent) == (6 if flags else 3)
        assert 0 < sum(sent) / 3 <= 32 * 64
    assert len(output.splitlines()) == 2


def test_evolution_needs_a_group_for_each_rank(tmp_path):
    flags = ("snes", "--population", "8", "--group", "4", "--run", tmp_path / "run")
    status, _, errors = done_together(run_ranks(3, *flags))
    assert status == 2
    expected = "12 members at least, not 8; --group 2 would do"
    assert errors.count(f"error: --population must have a group of 4 for each of the 3 ranks, {expected}") == 1

"""Ranks that a command forks: what they say to one another, and how they end."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from test_a3c_ranks import AS_COMMAND

import agents
from agents.configs import CONFIGS
from launch import processes
from launch.__main__ import main
from rlab import rewards
from rlab.errors import BadInputError
from rlab.parallel import local
from rlab.policies.backbone_names import REMEMBERING
from rlab.policies.backbones import MEMORIES
from rlab.runs import Run
from rlab.runs.metrics import read_metrics

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="other systems cannot fork safely")

TASK = ("a3c", "--env", "CartPole-v1", "--target-score", "inf")
ROLLOUT = 8 * 16  # steps to an update, by the settings for CartPole

BEGIN = """
import os, signal, sys, time
import numpy as np
from rlab.errors import TrainingError
from rlab.launchers import launched_rank, launched_ranks, usable_cores
from rlab.parallel import comm, local, memory
local.allow()
local.fork(int(sys.argv[1]))
ranks = comm.world()
rank, size = ranks.rank, ranks.size
assert (rank, size) == (launched_rank(), launched_ranks())
"""
END = """
if rank:
    os._exit(0)
ranks.finish(0)
assert not ranks.lost() and ranks.gone() == set(range(1, size))
print("done")
"""


def _ranks(size, code):
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", BEGIN + code, str(size)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60)


def test_a_process_that_is_no_program_of_one_command_is_never_forked(monkeypatch, capsys):
    with pytest.raises(BadInputError, match="only `python -m launch` itself"):
        local.fork(2)
    monkeypatch.setattr(sys, "argv", ["launch", *TASK, "--processes", "2", "--workers", "2"])
    assert main() == 2
    assert "only `python -m launch` itself" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("cores", "agent", "settings", "flags", "found"),
    [
        (4, "a3c", {}, ("auto", "auto"), (4, 4)),
        (1, "a3c", {}, ("auto", "auto"), (1, 1)),
        (64, "a3c", {}, ("auto", "auto"), (16, 16)),
        (4, "a3c", {}, (2, "auto"), (2, 2)),
        (4, "a3c", {}, (9, "auto"), (9, 4)),
        (4, "a3c", {}, ("auto", 2), (4, 2)),
        (4, "a3c", {}, ("auto", 6), (6, 6)),
        (4, "a3c", {}, (9, 1), (9, 1)),
        (4, "snes", {"population": 256}, (None, "auto"), (None, 4)),
        (4, "snes", {"population": 256, "group": 128}, (None, "auto"), (None, 2)),
        (3, "snes", {"population": 64}, (None, "auto"), (None, 3)),
        (2, "snes", {"population": 64}, (None, 8), (None, 8)),
        (4, "trpo", {}, (None, "auto"), (4, 4)),
        (1, "trpo", {}, (None, "auto"), (1, 1)),
        (64, "trpo", {"parallel_envs": 24}, (None, "auto"), (12, 12)),
        (4, "trpo", {}, (None, 1), (4, 1)),  # the same shares, and so the same bits
        (4, "trpo", {}, (None, 2), (4, 2)),
        (4, "trpo", {"shares": 8}, (None, "auto"), (8, 4)),
        (4, "trpo", {"shares": 6}, (None, "auto"), (6, 3)),
        (4, "rpg", {"episodes_per_batch": 6}, (None, "auto"), (3, 3)),
        (4, "rpg", {"episodes_per_batch": 6}, (None, 2), (2, 2)),
        (4, "rpg", {"episodes_per_batch": 3}, (None, 1), (3, 1)),
    ],
)
def test_the_numbers_of_workers_and_processes_follow_cores_and_flags(monkeypatch, cores, agent, settings, flags, found):
    begun = []
    monkeypatch.setattr(processes, "usable_cores", lambda: list(range(cores)))
    monkeypatch.setattr(local, "possible", lambda: True)
    monkeypatch.setattr(local, "fork", begun.append)
    config = CONFIGS[agent](**settings)
    asked, deals = config, agent in ("trpo", "rpg")
    config = processes.start(agent, asked, *flags, deals=deals)
    assert (getattr(config, "workers", getattr(config, "shares", None)), begun[0] if begun else 1) == found
    begun.clear()
    alone = processes.start(agent, asked, flags[0], "auto", learned_rewards=True, deals=deals)
    assert not begun  # each process would have a model of its own
    assert getattr(alone, "shares", 0) == (getattr(asked, "shares", 0) or int(deals))  # and each share


@pytest.mark.parametrize(
    ("cores", "settings", "asked", "group"),
    [
        (1, {"population": 256}, "auto", 256),
        (1, {"population": 4096}, "auto", 256),
        (2, {"population": 256}, "auto", 128),
        (2, {"population": 256}, 1, 128),  # the same group, and so the same bits
        (2, {"population": 256}, 8, 32),
        (3, {"population": 64}, "auto", 16),
        (2, {"population": 6}, "auto", 2),  # pairs stay together
        (2, {"population": 7, "mirrored": False}, "auto", 1),
        (16, {"population": 8}, "auto", 0),
        (2, {"population": 256, "group": 32}, "auto", 32),
    ],
)
def test_a_group_of_snes_is_what_a_core_has_of_the_population(monkeypatch, cores, settings, asked, group):
    monkeypatch.setattr(processes, "usable_cores", lambda: list(range(cores)))
    monkeypatch.setattr(local, "possible", lambda: True)
    monkeypatch.setattr(local, "fork", lambda count: None)
    config = agents.SNES.Config(**settings)
    assert processes.start("snes", config, None, asked).group == group


@pytest.mark.parametrize(
    ("agent", "env", "backbone", "dealt"),
    [
        ("rpg", "TMaze", "lstm", True),
        ("trpo", "HalfCheetah-v5", None, True),
        ("trpo", "CartPoleNoVel-v1", "lstm", False),
        ("trpo", "Pong", "lstm", True),
        ("snes", "CartPole-v1", "mlp", False),
        ("a3c", "Pong", "small-cnn", False),
    ],
)
def test_batches_are_divided_among_cores_by_agent_environment_and_backbone(agent, env, backbone, dealt):
    assert processes.deals(agent, env, backbone) == dealt
    assert set(REMEMBERING) == set(MEMORIES)


def test_a_process_has_one_share_if_rewards_are_learned():
    bonus = rewards.NoveltyConfig()
    assert [
        kind(kind.Config(shares=2), "CartPole-v1", rewards=bonus).config.shares for kind in (agents.TRPO, agents.RPG)
    ] == [1, 1]


def test_a_run_that_knows_of_no_shares_goes_on_as_one(monkeypatch):
    monkeypatch.setattr(processes, "usable_cores", lambda: list(range(4)))
    monkeypatch.setattr(local, "fork", lambda size: pytest.fail("forked"))
    for kind in (agents.TRPO, agents.RPG):
        assert processes.start(kind.Config.agent, kind.Config(), None, "auto").shares == 0


def test_under_mpirun_a_command_starts_no_processes(monkeypatch):
    monkeypatch.setattr(processes, "launched_ranks", lambda: 2)
    monkeypatch.setattr(processes, "usable_cores", lambda: list(range(8)))
    monkeypatch.setenv("OMPI_COMM_WORLD_LOCAL_SIZE", "2")
    monkeypatch.setattr(local, "fork", lambda size: pytest.fail("forked"))
    assert processes.start("a3c", agents.A3C.Config(), "auto", "auto").workers == 4
    assert processes.start("a3c", agents.A3C.Config(), 3, 1).workers == 3
    with pytest.raises(BadInputError, match="--processes 2 cannot be used under mpirun"):
        processes.start("a3c", agents.A3C.Config(), 3, 2)


@pytest.mark.parametrize("size", [2, 3, 5])
def test_all_ranks_find_the_same(size):
    code = f"""
large = "x" * 300_000
assert ranks.gather((rank, large)) == [(other, large) for other in range(size)]
for shape in ((), (0,), (7,), (3, 5), (1_500_000,)):  # the last is larger than a slot
    array = np.full(shape, rank + 1, np.float32) / 3
    parts = ranks.stack(array)
    assert parts.shape == (size, *shape) and parts.dtype == np.float32
    assert all((parts[other] == np.float32(other + 1) / 3).all() for other in range(size))
    total = np.zeros(shape, np.float32)
    for other in range(size):
        total = total + np.full(shape, other + 1, np.float32) / 3
    assert np.array_equal(ranks.sum(array), total)
assert comm.on_first(ranks, lambda: rank + 40) == 40
try:
    comm.on_first(ranks, lambda: 1 / 0)
except ZeroDivisionError:
    pass
else:
    raise AssertionError
common, sharing = memory.common(ranks, {size} * 8)
assert sharing == [True] * size
common.view(np.int64)[rank] = rank + 1
ranks.gather(None)
assert common.view(np.int64).tolist() == list(range(1, size + 1))
"""
    done = _ranks(size, code + END)
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr


def test_a_slow_rank_reads_what_was_put_together():
    code = """
meet = ranks.meet
def late():
    meet()
    time.sleep(0.1 * rank)
ranks.meet = late
for number in range(4):
    assert ranks.stack(np.array([10 * number + rank])).tolist() == [[10 * number], [10 * number + 1]]
"""
    assert _ranks(2, code + END).stdout == "done\n"


def test_each_rank_has_cores_of_its_own_where_there_are_enough():
    code = """
cores = sorted(os.sched_getaffinity(0))
found = ranks.gather(cores)
if rank == 0:
    print(found)
"""
    found = json.loads(_ranks(2, code + END).stdout.splitlines()[0])
    cores = sorted(os.sched_getaffinity(0))
    assert found == [cores[0::2], cores[1::2]] if len(cores) > 1 else [cores, cores]


def test_wires_keep_messages_apart():
    code = """
import threading
one, other = ranks.wire(), ranks.wire()
if rank:
    def send(tag):
        for n in range(5):
            one.post((tag, n), np.full(100_000, float(n)), 0, tag)
    for tag in (1, 2):  # at once
        threading.Thread(target=send, args=(tag,)).start()
    other.send(np.arange(3), 0)
    assert other.fetch(np.empty(0), 0, 9) == "bye"
else:
    array = np.empty(100_000)
    for tag in (2, 1):
        for n in range(5):
            for source in range(1, size):
                assert one.fetch(array, source, tag) == (tag, n) and (array == n).all()
    three = np.empty(3, np.int64)
    while not other.waiting():
        time.sleep(0.01)
    assert other.wait(1.0) in [(source, 0) for source in range(1, size)] and one.wait(0.05) is None
    for source in range(1, size):
        other.receive(three, source)
        assert three.tolist() == [0, 1, 2]
        other.post("bye", None, source, 9).finish()
"""
    assert _ranks(3, code + END).stdout == "done\n"


@pytest.mark.parametrize("wait", ["ranks.gather(None)", "ranks.stack(np.zeros(9))", "wire.fetch(np.empty(0), 1, 0)"])
@pytest.mark.parametrize(
    ("end", "said"),
    [
        ("os.kill(os.getpid(), signal.SIGKILL)", "RankLostError rank 1 was ended by SIGKILL"),
        ("os._exit(3)", "ElsewhereError rank 1 has ended with status 3"),
    ],
)
def test_a_rank_that_waits_for_one_that_has_ended_gets_an_error(wait, end, said):
    code = f"""
wire = ranks.wire()
if rank == 1:
    {end}
try:
    {wait}
except TrainingError as error:
    print(type(error).__name__, error, flush=True)
    ranks.finish(1)
"""
    start = time.monotonic()
    assert _ranks(3, code).stdout == f"{said}\n"
    assert time.monotonic() - start < 10


def test_a_rank_that_was_stopped_by_a_signal_as_all_are_is_no_fault():
    code = """
if rank == 1:
    os._exit(128 + signal.SIGINT)
if rank == 2:
    time.sleep(2.0)
    ranks.send(b"late", 0, 9, 0)
    os._exit(128 + signal.SIGINT)
while (found := ranks.mail.take((9, 2, 0), 0.2)) is None:
    ranks.require_all()
ranks.finish(130)
print(found, ranks.gone())
"""
    assert _ranks(3, code).stdout == "b'late' {1, 2}\n"


def test_a_process_forked_by_an_environment_can_be_terminated():
    code = """
if rank:
    child = os.fork()
    if not child:
        time.sleep(30)
        os._exit(0)
    time.sleep(0.2)
    os.kill(child, signal.SIGTERM)
    os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != -signal.SIGTERM)
ranks.finish(0)
print(ranks.lost())
"""
    assert _ranks(2, code).stdout == "None\n"


def test_a_rank_that_does_not_end_is_ended():
    code = """
local._FAREWELL = 0.5
if rank:
    time.sleep(60)
(child,) = ranks.children.values()
ranks.finish(0)
print(os.path.exists(f"/proc/{child}"))
"""
    assert _ranks(2, code).stdout == "False\n"


# The command.


def _started(run, *flags, task=TASK):
    """The command, once it has made some updates, and the processes that it has started."""
    command = [sys.executable, "-m", "launch", *task, "--steps", "50000000", "--run", run, *flags]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not (run / "metrics.csv").exists() or len((run / "metrics.csv").read_text().splitlines()) < 2:
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.1)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return process, [int(child) for child in children]


def _gone(children, seconds=5.0):
    until = time.monotonic() + seconds
    while alive := [child for child in children if os.path.exists(f"/proc/{child}")]:
        if time.monotonic() > until:
            return alive
        time.sleep(0.05)
    return []


@pytest.mark.parametrize("workers", [2, 3])
def test_processes_learn_together_and_count_the_steps_of_all(tmp_path, launch, workers):
    run = tmp_path / "run"
    done = launch(*TASK, "--steps", "60000", "--workers", workers, "--processes", 2, "--run", run)
    assert done.returncode == 0, done.stderr
    assert f"{workers} workers in 2 processes" in done.stderr
    rows, final = read_metrics(run), Run.open(run).latest_checkpoint()
    assert rows[-1]["steps"] == final.steps == final.counters["updates"] * ROLLOUT
    assert 60_000 <= final.steps < 60_000 + workers * ROLLOUT
    assert 0.3 < np.mean([row["staleness"] for row in rows[-100:]]) < workers
    assert rows[-1]["score"] > 60.0  # chance is 22
    # Step sizes fall in all processes, whose updates a row averages.
    assert rows[-1]["learning_rate"] < 0.05 * rows[0]["learning_rate"]
    again = launch("resume", run, "--steps", "64000", "--processes", 1)
    assert again.returncode == 0, again.stderr
    assert 64_000 <= Run.open(run).latest_checkpoint().steps < 64_000 + workers * ROLLOUT


def test_a_target_score_ends_all_processes(tmp_path, launch):
    run = tmp_path / "run"
    done = launch(*TASK[:3], "--steps", "1000000", "--target-score", "40", "--workers", 2, "--run", run)
    assert done.returncode == 0, done.stderr
    final = Run.open(run).latest_checkpoint()
    assert final.counters["schedule"]["over"]
    assert final.steps < 200_000


@pytest.mark.parametrize(("number", "all_of_them"), [(signal.SIGINT, False), (signal.SIGTERM, True)])
def test_a_signal_stops_all_with_a_checkpoint(tmp_path, number, all_of_them):
    process, children = _started(tmp_path / "run", "--workers", "2", "--processes", "2")
    for child in children if all_of_them else ():
        os.kill(child, number)  # it leaves it to its parent
        time.sleep(1.0)
        assert process.poll() is None
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + number, errors
    assert errors.count("stopping") == errors.count("stopped at ") == 1
    assert "error" not in errors
    final = Run.open(tmp_path / "run").latest_checkpoint()
    assert final.steps == final.counters["updates"] * ROLLOUT
    assert f"stopped at {final.steps:,} steps" in errors
    assert not _gone(children)


def test_a_killed_process_is_named_and_nothing_is_lost(tmp_path):
    flags = ("--workers", "3", "--processes", "3", "--checkpoint-every", "1000")
    process, children = _started(tmp_path / "run", *flags)
    before = read_metrics(tmp_path / "run")[-1]["steps"]
    os.kill(children[1], signal.SIGKILL)
    start = time.monotonic()
    _, errors = process.communicate(timeout=60)
    assert time.monotonic() - start < 5.0
    assert process.returncode == 1
    (line,) = [line for line in errors.splitlines() if line.startswith("error")]
    final = Run.open(tmp_path / "run").latest_checkpoint()
    assert line.startswith("error: rank 2 was ended by SIGKILL; `python -m launch resume ")
    assert line.endswith(f"` goes on from step {final.steps:,}")
    assert final.steps >= before  # though a checkpoint was not due
    assert not _gone(children)


def test_a_killed_rank_in_step_ends_the_run_at_the_last_checkpoint(tmp_path, launch):
    run = tmp_path / "run"
    flags = ("--processes", "2", "--checkpoint-every", "1")
    process, children = _started(run, *flags, task=("trpo", "--env", "CartPole-v1", "--target-score", "inf"))
    while not (saved := Run.open(run).latest_checkpoint()):
        time.sleep(0.1)
    os.kill(children[0], signal.SIGKILL)
    start = time.monotonic()
    _, errors = process.communicate(timeout=60)
    assert time.monotonic() - start < 5.0
    assert process.returncode == 1
    (line,) = [line for line in errors.splitlines() if line.startswith("error")]
    final = Run.open(run).latest_checkpoint()
    assert line.startswith("error: rank 1 was ended by SIGKILL; ")
    assert line.endswith(f"` goes on from step {final.steps:,}")
    assert final.steps >= saved.steps
    again = launch("resume", run, "--steps", final.steps + 1)
    assert again.returncode == 0, again.stderr


@pytest.mark.parametrize("rank", [0, 1])
def test_a_fault_in_any_process_is_named_once(tmp_path, rank):
    environment = os.environ | {"PYTHONPATH": str(ROOT), "FRAGILE": str(rank), "RUN": str(tmp_path / "run")}
    code = AS_COMMAND.replace('"--workers", "2"', '"--workers", "4", "--processes", "2"')
    start = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert time.monotonic() - start < 30.0
    assert done.returncode == 1
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error")]
    named = rf"worker [{2 * rank}{2 * rank + 1}], step \d+: .*SystemExit: the simulator broke"
    assert re.match(f"error: rank {rank}: {named}", line), done.stderr


def test_a_killed_command_takes_its_processes_along(tmp_path):
    process, children = _started(tmp_path / "run", "--workers", "2", "--processes", "2")
    assert len(children) == 1
    process.kill()
    process.wait()  # and not for what they hold open
    assert not _gone(children)
    process.communicate()


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--workers", "2", "--processes", "3"), "--processes 3 are more than --workers 2"),
        (("--processes", "0"), "'0' is neither auto nor a whole number"),
        (("--processes", "1.5"), "'1.5' is neither auto nor a whole number"),
        (("--ranks", "many"), "'many' is neither auto nor a whole number"),
        (("--workers", "none"), "'none' is neither auto nor a whole number"),
        (("--workers", "1025"), "--workers must be in [1, 1024], not 1025"),
        (("trpo", "--shares", "3"), "--parallel-envs must be a multiple of the 3 ranks that share it, not 32"),
        (("trpo", "--shares", "4", "--processes", "3"), "--processes 3 must divide --shares 4"),
        (("rpg", "--shares", "2", "--novelty", "1"), "--shares cannot be used with --novelty or --imitate"),
    ],
)
def test_impossible_numbers_of_workers_processes_and_shares_are_refused(tmp_path, launch, flags, said):
    agent = () if flags[0] in ("trpo", "rpg") else ("a3c",)
    done = launch(*agent, *flags, *TASK[1:], "--steps", "1000", "--run", tmp_path / "run")
    assert done.returncode == 2
    assert said in done.stderr
    assert done.stderr.count("\n") <= 2
    assert not (tmp_path / "run").exists()


SMALL = ("--frame-size", "36", "--backbone", "small-cnn", "--batch-size", "128", "--parallel-envs", "4")


@pytest.mark.parametrize(
    "command",
    [
        ("snes", "--env", "CartPole-v1", "--steps", "20000"),
        ("trpo", "--env", "CartPole-v1", "--steps", "6000", "--shares", "2"),
        ("trpo", "--env", "Pong", "--steps", "256", "--shares", "2", "--critic-minibatch", "64", *SMALL),
        ("rpg", "--env", "TMaze", "--steps", "9000", "--shares", "4"),
    ],
)
def test_processes_give_the_bits_of_one(tmp_path, launch, command):
    for count in (1, 2):
        done = launch(*command, "--ranks", count, "--run", tmp_path / str(count))
        assert done.returncode == 0, done.stderr
    one, two = (Run.open(tmp_path / name).latest_checkpoint() for name in ("1", "2"))
    assert one.arrays.keys() == two.arrays.keys()
    assert all(np.array_equal(one.arrays[name], two.arrays[name]) for name in one.arrays)


def test_the_shares_of_a_batch_go_on_where_they_stopped(tmp_path, launch):
    given = ("trpo", "--env", "CartPoleNoVel-v1", "--shares", "2", "--batch-size", "512", "--parallel-envs", "16")
    assert launch(*given, "--processes", "2", "--steps", "1024", "--run", tmp_path / "a").returncode == 0
    assert launch(*given, "--processes", "1", "--steps", "512", "--run", tmp_path / "b").returncode == 0
    again = launch("resume", tmp_path / "b", "--steps", "1024")  # in as many processes as there are cores for
    assert again.returncode == 0, again.stderr
    whole, parts = (Run.open(tmp_path / name).latest_checkpoint().arrays for name in ("a", "b"))
    assert "collector-1/acts" in whole
    assert all(np.array_equal(whole[name], parts[name]) for name in whole)

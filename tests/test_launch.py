"""The command line as a person meets it: a real process, its output, its exit status."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import safetensors.numpy
from conftest import ROOT

from launch.__main__ import launch as launch_group
from launch.__main__ import main
from rlab.errors import BadInputError, TrainingError
from rlab.rewards import demonstrations
from rlab.runs.directory import Run
from rlab.runs.metrics import read_metrics

QUICK = ("--env", "CartPole-v1", "--workers", "2", "--envs-per-worker", "4")


def _one_line(done):
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("error: ")
    assert done.returncode == 2
    return lines[0]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    path = tmp_path_factory.mktemp("trained") / "run"
    command = [sys.executable, "-m", "launch", "a3c", *QUICK, "--steps", "4000", "--run", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    return path, done


def test_alone_it_shows_what_there_is(launch):
    done = launch()
    assert done.returncode == 0
    assert done.stdout.count("python -m launch") >= 3
    assert "a3c" in done.stdout


def test_help_shows_defaults_and_does_not_start_tensorflow():
    code = (
        "import sys, runpy\nsys.argv = ['launch', 'a3c', '--env', 'Pong', '--help']\n"
        "try:\n    runpy.run_module('launch', run_name='__main__')\n"
        "except SystemExit as stop:\n    assert not stop.code\n"
        "assert 'tensorflow' not in sys.modules and 'keras' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    for flag in ("--learning-rate", "--rollout-length", "--sticky-actions", "--backbone"):
        assert flag in done.stdout
    told = " ".join(done.stdout.split())
    assert "[default: life-loss]" in told  # as all Atari games are tuned
    assert "probability of repeating the last action" in told


def test_list_as_data(launch):
    listed = json.loads(launch("list", "--json").stdout)
    assert listed["agents"] == ["a3c", "rpg", "snes", "trpo"]
    assert {"Pong", "CartPole-v1", "TMaze"} <= set(listed["environments"])
    assert {"mlp", "cnn", "lstm"} <= set(listed["backbones"])


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (("a3d",), "'a3c'"),
        (("a3c", "--env", "Pongg"), "'Pong'"),
        (("a3c", "--env", "CartPole-v1", "--backbone", "lsmt"), "'lstm'"),
        (("a3c", "--env", "CartPole-v1", "--backbone", "cnn"), "mlp, highway, residual"),
        (("a3c", "--env", "CartPole-v1", "--lerning-rate", "1"), "--learning-rate"),
        (("a3c", "--env", "CartPole-v1", "--steps", "0"), "--steps must be at least 1"),
        (("a3c", "--env", "CartPole-v1", "--steps", "1.5"), "'1.5' is not a whole number, such as 100000 or 1e5"),
        (("a3c", "--env", "CartPole-v1", "--workers", "-1"), "'-1' is neither auto nor a whole number, at least 1"),
        (("a3c", "--env", "CartPole-v1", "--envs-per-worker", "0"), "--envs-per-worker must be in [1, 65536]"),
        (("a3c", "--env", "CartPole-v1", "--discount", "high"), "not a valid float"),
        (("a3c", "--env", "Pong", "--sticky-actions", "3"), "probability"),
        (("a3c", "--env", "CartPole-v1", "--learning-rate", "inf"), "finite"),
        (("a3c", "--env="), "unknown environment ''"),
        (("trpo", "--novelty", "-1"), "'--novelty'"),
        (("trpo", "--imitate", "nowhere.npz"), "nowhere.npz is missing; `python -m launch record RUN --demonstrations"),
        (("trpo", "--imitate", "a.npz", "--novelty", "1"), "cannot go together"),
        (("evaluate", "nowhere"), "not a run"),
        (("resume", "nowhere"), "not a run"),
        (("record", "nowhere", "--out", "video.txt"), ".mp4"),
        (("record", "nowhere", "--demonstrations", "--out", "video.mp4"), ".npz"),
        (("rpg", "--env", "TMaze", "--corridor", "0"), "corridor must be a whole number, at least 1, not 0"),
        (("rpg", "--env", "TMaze", "--corridor", "long"), "corridor must be a whole number"),
        (("rpg", "--env", "CartPoleNoVel-v1", "--truncation", "501"), "no more than 500 steps"),
        (("rpg", "--env", "TMaze", "--backbone", "lsmt"), "'lstm'"),
        (("rpg", "--env", "TMaze", "--optimizer", "adan"), "'Adam'"),
    ],
)
def test_bad_input_gets_one_line(launch, tmp_path, arguments, names):
    assert names in _one_line(launch(*arguments))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", ["nback", "resume", "doctor"])
def test_commands_of_one_process_are_refused_on_several_ranks(monkeypatch, tmp_path, command):
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "2")
    monkeypatch.setenv("OMPI_COMM_WORLD_RANK", "0")
    task = Run.create(tmp_path / "run", {"task": "nback", "seed": 0, "steps": 10, "config": {}})
    arguments = {"nback": [], "resume": [str(task.path)], "doctor": ["trpo", str(task.path)]}[command]
    monkeypatch.setattr("sys.argv", ["launch", command, *arguments])
    with pytest.raises(BadInputError, match="runs in one process, not in 2 ranks: start it without mpirun or srun"):
        launch_group.main([command, *arguments], standalone_mode=False)


def test_a_command_that_only_reads_is_run_by_the_first_rank_alone(monkeypatch, capsys):
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "2")
    told = []
    for rank in ("0", "1"):
        monkeypatch.setenv("OMPI_COMM_WORLD_RANK", rank)
        monkeypatch.setattr("sys.argv", ["launch", "evaluate", "nowhere"])
        told.append((main(), capsys.readouterr().err))
    assert told == [(2, "error: nowhere is not a run: it has no config.json\n"), (0, "")]


def test_the_status_of_an_environment_that_leaves_is_not_the_programs(monkeypatch, capsys):
    def leave(**given):
        raise SystemExit(0)

    monkeypatch.setattr(launch_group, "main", leave)
    assert main() == 1
    assert capsys.readouterr().err.startswith("error: SystemExit: 0")


def test_training_leaves_a_whole_run_directory(trained):
    path, done = trained
    assert {entry.name for entry in path.iterdir()} == {
        "checkpoints",
        "config.json",
        "metrics.csv",
        "policy",
        "tensorboard",
    }
    header = (path / "metrics.csv").read_text().splitlines()[0].split(",")
    assert {"steps", "score", "entropy", "staleness", "steps_per_second"} <= set(header)
    assert "steps/s" in done.stderr
    assert done.stdout == ""


def test_an_existing_run_is_not_overwritten(launch, trained):
    path, _ = trained
    before = (path / "config.json").read_bytes()
    assert "launch resume" in _one_line(launch("a3c", *QUICK, "--run", path))
    assert (path / "config.json").read_bytes() == before


def test_evaluate_as_data(launch, trained):
    done = launch("evaluate", trained[0], "--episodes", "5", "--json")
    summary = json.loads(done.stdout)
    assert summary["episodes"] == 5
    assert 8 < summary["mean_return"] == summary["mean_length"] <= 500
    assert launch("evaluate", trained[0], "--episodes", "5", "--json").stdout == done.stdout


def test_a_policy_loads_without_a_word(trained):
    code = f"import rlab\nrlab.load_policy({str(trained[0])!r})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout + done.stderr == ""


def test_evaluate_in_a_changed_environment(launch, trained):
    command = ("evaluate", trained[0], "--episodes", "5", "--json", "--env-option")
    assert json.loads(launch(*command, "max-episode-steps=7").stdout)["mean_length"] == 7
    assert "'max_episode_steps'" in _one_line(launch(*command, "max-episode-step=7"))
    assert "NAME=VALUE" in _one_line(launch(*command, "7"))
    assert "max_episode_steps must be" in _one_line(launch(*command, "max-episode-steps=true"))
    for name in ("seed", "num-envs", "name-or-factory", "filmed", "single-episode", "restorable", "asynchronous"):
        told = f"--env-option: {name.replace('-', '_')!r} is no option of an environment"
        assert told in _one_line(launch(*command, f"{name}=7"))


def test_record_keeps_demonstrations(launch, trained, tmp_path):
    done = launch("record", trained[0], "--demonstrations", "--out", "demos.npz", "--episodes", 3, "--seed", 5)
    assert done.returncode == 0, done.stderr
    found = demonstrations.load(tmp_path / "demos.npz")
    assert len(found.returns) == 3
    # CartPole gives a point a step.
    np.testing.assert_array_equal(np.bincount(found.episodes), found.returns)
    assert found.observations.shape == (len(found.actions), 4)
    assert set(found.actions.tolist()) <= {0, 1}
    evaluated = json.loads(launch("evaluate", trained[0], "--episodes", 3, "--seed", 5, "--json").stdout)
    assert evaluated["mean_return"] == found.returns.mean()
    # The dynamics: what was done leads from each observation to the next of its episode.
    row = int(np.flatnonzero(found.episodes == 0)[0])
    step = found.observations[row + 1, 0] - found.observations[row, 0]
    np.testing.assert_allclose(step, 0.02 * found.observations[row, 1], atol=1e-6)
    told = _one_line(launch("record", trained[0], "--demonstrations", "--out", "/proc/demos.npz"))
    assert told.startswith("error: /proc/demos.npz cannot be written: ")
    imitating = ("trpo", "--imitate", "demos.npz", "--batch-size", 256)
    done = launch(*imitating, "--env", "CartPole-v1", "--steps", 256, "--run", "imitating")
    assert done.returncode == 0, done.stderr
    assert "imitation_reward" in (tmp_path / "imitating" / "metrics.csv").read_text().splitlines()[0]
    assert launch("resume", "imitating", "--steps", 512).returncode == 0
    assert launch("evaluate", "imitating", "--episodes", 1).returncode == 0
    assert "demos.npz was recorded in another environment" in _one_line(launch(*imitating, "--env", "Acrobot-v1"))
    (tmp_path / "no.npz").write_bytes(b"nothing")
    for name, message in (("no.npz", "is no .npz file"), ("missing.npz", "is missing")):
        with pytest.raises(BadInputError, match=message):
            demonstrations.load(tmp_path / name)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # imageio's reader leaves pipes open
def test_record_makes_a_video(launch, trained, tmp_path):
    pytest.importorskip("pygame")
    import imageio.v3 as iio

    done = launch("record", trained[0], "--out", "video.mp4")
    assert done.returncode == 0, done.stderr
    frames = iio.imread(tmp_path / "video.mp4", plugin="FFMPEG")
    assert len(frames) > 8
    assert (frames[0] != frames[-1]).any()


def test_a_finished_run_says_how_to_go_on(launch, trained):
    assert "larger --steps" in _one_line(launch("resume", trained[0]))


def test_a_cut_checkpoint_is_named_and_nothing_is_overwritten(launch, trained, tmp_path):
    import shutil

    shutil.copytree(trained[0], tmp_path / "run")
    (checkpoint,) = (tmp_path / "run" / "checkpoints").iterdir()
    checkpoint.write_bytes(checkpoint.read_bytes()[:1000])
    assert checkpoint.name in _one_line(launch("resume", tmp_path / "run", "--steps", "8000"))
    assert checkpoint.stat().st_size == 1000


def test_every_option_of_the_own_environments_is_explained():
    import envs
    from envs.batched import ROWS

    for name in ROWS:
        if "CartPole-v" not in name:
            assert envs.option_help(name).keys() == envs.options(name).keys() - {"render_mode"}, name


def test_whole_numbers_may_be_written_as_powers(launch, tmp_path):
    done = launch("a3c", *QUICK, "--steps", "1e3", "--run", "run")
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "run" / "config.json").read_text())["steps"] == 1000


def _steps(checkpoint):
    return int(checkpoint.stem.removeprefix("step-"))


def _start(path, *command, first=""):
    """A training process that writes checkpoints often, caught in the middle; it begins with the code `first`."""
    arguments = ["launch", *(command or ("a3c", *QUICK, "--steps", "10000000"))]
    arguments += ["--run", str(path), "--checkpoint-every", "0.2"]
    # Under `nohup`, as whole suites may run, a process would begin with SIGHUP ignored.
    heard = "import runpy, signal, sys; signal.signal(signal.SIGHUP, signal.SIG_DFL)"
    code = f"{heard}\n{first}\nsys.argv = {arguments!r}\nrunpy.run_module('launch', run_name='__main__')"
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT
    )
    deadline = time.monotonic() + 120
    while not any(_steps(file) > 0 for file in path.glob("checkpoints/step-*")):
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return process


@pytest.mark.parametrize(
    ("number", "times", "status"),
    [(signal.SIGINT, 1, 130), (signal.SIGHUP, 1, 129), (signal.SIGTERM, 2, 143)],
)
def test_a_signal_ends_with_a_checkpoint(launch, tmp_path, number, times, status):
    path = tmp_path / "run"
    # Launchers send one to the process and one to its group; the last of two comes when Python is on its way out.
    last_one = f"import atexit, os\natexit.register(os.kill, os.getpid(), {int(number)})"
    process = _start(path, first=last_one if times > 1 else "")
    for _ in range(times):
        process.send_signal(number)
        time.sleep(0.1)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == status, stderr
    assert "Traceback" not in stderr
    last = max((path / "checkpoints").iterdir())
    assert f"stopped at {_steps(last):,} steps" in stderr
    assert launch("evaluate", path, "--episodes", "2", "--json").returncode == 0


def test_a_killed_run_resumes(launch, tmp_path):
    path = tmp_path / "run"
    process = _start(path)
    time.sleep(0.5)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=60)
    reached = max(_steps(file) for file in (path / "checkpoints").glob("step-*"))
    done = launch("resume", path, "--steps", reached + 2000)
    assert done.returncode == 0, done.stderr
    steps = [int(line.split(",")[0]) for line in (path / "metrics.csv").read_text().splitlines()[1:]]
    assert steps == sorted(set(steps))
    assert steps[-1] >= reached + 2000
    assert launch("evaluate", path, "--episodes", "2", "--json").returncode == 0


def test_a_stopped_and_resumed_run_equals_an_uninterrupted_one(launch, tmp_path):
    command = ("rpg", "--env", "DelayedRecall", "--delay", "6", "--episodes-per-batch", "8", "--steps", "16000")
    options = ("--observe-reward", "--baseline", "constant")
    assert launch(*command, *options, "--run", tmp_path / "whole").returncode == 0
    path = tmp_path / "parts"
    process = _start(path, *command, *options)
    process.send_signal(signal.SIGTERM)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 143, stderr
    assert 0 < max(_steps(file) for file in (path / "checkpoints").iterdir()) < 16_000
    assert launch("resume", path).returncode == 0
    runs = [safetensors.numpy.load_file(run / "policy" / "weights.safetensors") for run in (tmp_path / "whole", path)]
    assert runs[0].keys() == runs[1].keys()
    for name, array in runs[0].items():
        np.testing.assert_array_equal(array, runs[1][name], err_msg=name)
    rows = [read_metrics(run)[-1] for run in (tmp_path / "whole", path)]
    assert rows[0]["episodes"] == rows[1]["episodes"] == 16_000 / 8  # of 1 + 6 + 1 steps


def test_ctrl_c_under_tee_keeps_a_checkpoint(tmp_path):
    """Tee dies of it first, and takes standard error with it."""
    path = tmp_path / "run"
    words = ["a3c", *QUICK, "--steps", "10000000", "--run", str(path), "--checkpoint-every", "1000"]
    process = subprocess.Popen(
        [sys.executable, "-m", "launch", *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=ROOT
    )
    line = b""
    while b"steps/s" not in line:
        line = process.stdout.readline()
        assert line, "it did not train"
    process.stdout.close()
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130
    assert [_steps(file) > 0 for file in (path / "checkpoints").iterdir()] == [True]


@pytest.mark.parametrize("redirection", ["> /dev/full", ">&-", "2>&-", "2> /dev/full", "| head -c 0"])
def test_a_result_that_cannot_be_written_is_no_crash(redirection):
    lost = "2" not in redirection
    command = f"set -o pipefail; {sys.executable} -m launch {redirection}; echo status $? >&3"
    done = subprocess.run(
        ["bash", "-c", f"exec 3>&1; {command}"], capture_output=True, text=True, cwd=ROOT, timeout=60, check=False
    )
    assert done.stdout.splitlines()[-1] == f"status {int(lost)}"
    assert done.stderr.splitlines() == (
        ["error: standard output: No space left on device"] if "full" in redirection and lost else []
    )


NOISY = """
import ctypes, os, subprocess, sys
import click
from launch.output import json_option, show_json

@click.command()
@json_option
def play(as_json):
    print("from Python")
    print("to the stream that was", file=sys.__stdout__)
    os.write(1, b"from the system\\n")
    ctypes.CDLL(None).puts(b"from C")
    subprocess.run(["echo", "from a process"])
    show_json({"score": 1})

play(standalone_mode=False)
print("afterwards")
"""


def test_nothing_but_json_is_on_standard_output():
    command = [sys.executable, "-c", NOISY, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=60, check=True)
    assert done.stdout == '{"score": 1}\nafterwards\n'
    said = {"from Python", "to the stream that was", "from the system", "from C", "from a process"}
    assert set(done.stderr.splitlines()) == said


@pytest.mark.parametrize(
    ("error", "status"), [(BadInputError("no"), 2), (TrainingError("fell"), 1), (OSError(28, "full"), 1)]
)
def test_a_traceback_can_be_asked_for_of_every_fault(monkeypatch, capsys, error, status):
    import launch.__main__ as front

    def fail(**_):
        raise error from KeyError("the cause")

    monkeypatch.setattr(front.launch, "main", fail)
    assert front.main() == status
    assert "Traceback" not in capsys.readouterr().err
    monkeypatch.setenv("RLAB_TRACEBACK", "1")
    assert front.main() == status
    said = capsys.readouterr().err
    assert "KeyError: 'the cause'" in said
    assert said.splitlines()[-1].startswith("error: ")

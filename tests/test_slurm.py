"""Job scripts for Slurm: their text, what they do by themselves, and what a real Slurm makes of them."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import pytest
from conftest import ROOT

from launch import cluster
from rlab import launchers
from rlab.errors import BadInputError
from rlab.runs.signals import StopRequest, stop_requested

SNES = ("snes", "--env", "CartPole-v1", "--population", "16", "--group", "4", "--max-episode-steps", "15")
LONG = ("--target-score", "inf", "--steps", "5000000")
ENVIRONMENT = os.environ | {
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "PYTHONPATH": str(ROOT),
}
MPIRUN = shutil.which("mpirun", path=f"{os.path.dirname(sys.executable)}:{os.environ['PATH']}")
needs_mpirun = pytest.mark.skipif(MPIRUN is None, reason="there is no mpirun; pip install '.[mpi]'")


_NAMES = ("partition", "account", "array")


def _without_slurm():
    """Why no job can be tried here; None where one can."""
    for tool in ("sbatch", "sinfo", "scontrol", "scancel"):
        if shutil.which(tool) is None:
            return f"there is no Slurm here: no {tool}"
    done = subprocess.run(["sinfo", "-h", "-o", "%T %c"], capture_output=True, text=True, timeout=30, check=False)
    if done.returncode:
        return f"Slurm does not answer: {done.stderr.strip()}"
    nodes = [line.split() for line in done.stdout.splitlines()]
    usable = any(state in ("idle", "mixed", "allocated") and int(cpus.strip("+")) >= 2 for state, cpus in nodes)
    return None if usable else f"Slurm has no usable node of two cores: {nodes}"


@pytest.fixture(scope="module")
def slurm():
    if reason := _without_slurm():
        pytest.skip(reason)


def _slurm(cwd, *arguments, **kwargs):
    return subprocess.run(
        [sys.executable, "-m", "launch", "slurm", *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=cwd,
        env=ENVIRONMENT,
        timeout=120,
        check=False,
        **kwargs,
    )


def _text(cwd, *arguments):
    done = _slurm(cwd, *arguments)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    checked = subprocess.run(["bash", "-n"], input=done.stdout, capture_output=True, text=True, check=False)
    assert (checked.returncode, checked.stderr) == (0, "")
    return done.stdout


def _array(text, name):
    """The words of an array that a line of the script makes."""
    line = next(line.strip() for line in text.splitlines() if line.strip().startswith(f"{name}=("))
    code = f'{line}; printf "%s\\0" "${{{name}[@]}}"'
    return subprocess.run(["bash", "-c", code], capture_output=True, text=True, check=True).stdout.split("\0")[:-1]


def test_a_script_of_one_process(tmp_path):
    text = _text(tmp_path, "--time", "90", "--partition", "short", "--", *SNES, "--seed", "3")
    lines = text.splitlines()
    assert lines[:10] == [
        "#!/bin/bash",
        "#SBATCH --job-name=snes-CartPole-v1",
        "#SBATCH --nodes=1",
        "#SBATCH --ntasks-per-node=1",
        "#SBATCH --cpus-per-task=1",
        "#SBATCH --time=90",
        "#SBATCH --partition=short",
        "#SBATCH --signal=B:TERM@120",
        "#SBATCH --requeue",
        "#SBATCH --open-mode=append",
    ]
    assert "set -u" in lines
    assert "launcher" not in text
    assert "export OMP_NUM_THREADS=1 TF_NUM_INTRAOP_THREADS=1 TF_NUM_INTEROP_THREADS=1" in lines
    command = _array(text, "command")
    run = command[-1]
    assert command[:-1] == [sys.executable, "-m", "launch", *SNES, "--seed", "3", "--run"]
    assert re.fullmatch(r"runs/snes-CartPole-v1-\d{8}-\d{6}-[0-9a-f]{4}", run)
    assert f"    command=({sys.executable} -m launch resume {run})" in lines
    assert list(tmp_path.iterdir()) == []


def test_a_script_keeps_odd_words_and_directories_as_they_are(tmp_path):
    directory = tmp_path / "it's $HOME; a `dir`"
    directory.mkdir()
    run = 'my "run" #1'
    text = _text(
        directory, "--job-name", "it's $1", "--sbatch", "--mem=1G", "--sbatch", "--comment=x", *SNES, f"--run={run}"
    )
    assert _array(text, "command")[3:] == [*SNES, f"--run={run}"]
    changed = next(line for line in text.splitlines() if line.startswith("cd "))
    where = subprocess.run(["bash", "-c", f"{changed}; pwd"], capture_output=True, text=True, cwd="/", check=True)
    assert where.stdout.strip() == str(directory)
    assert "#SBATCH --mem=1G\n#SBATCH --comment=x\n" in text
    named = next(line for line in text.splitlines() if "--job-name" in line)
    assert named.removeprefix("#SBATCH ") == "--job-name='it'\"'\"'s $1'"


@needs_mpirun
def test_a_script_of_several_ranks(tmp_path):
    text = _text(tmp_path, "--nodes", "2", "--ntasks-per-node", "2", "--cpus-per-task", "3", *SNES)
    launcher = _array(text, "launcher")
    assert os.path.isabs(launcher[0])
    assert launcher[1:] == ["-n", "4", "--map-by", "slot:pe=3", "--bind-to", "core:overload-allowed"]
    assert "export OMP_NUM_THREADS=3 TF_NUM_INTRAOP_THREADS=3" in text
    text = _text(tmp_path, "--ntasks-per-node", "2", "--launcher", "srun", *SNES)
    assert _array(text, "launcher") == ["srun", "--mpi=pmix", "--kill-on-bad-exit=1", "--ntasks=2", "--cpus-per-task=1"]


def test_a3c_gets_a_core_for_each_worker(tmp_path):
    command = ("a3c", "--env", "CartPole-v1", "--workers", "3")
    assert "#SBATCH --cpus-per-task=3\n" in _text(tmp_path, "--", *command)
    assert "#SBATCH --cpus-per-task=2\n" in _text(tmp_path, "--cpus-per-task", "2", "--", *command)


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (("--", "a3d"), "unknown agent, task or command 'a3d'; did you mean 'a3c'?"),
        (("--", "list"), "a job trains: an agent, a task, or `resume RUN`, and not 'list'"),
        (("--",), "Missing argument"),
        (("--", "snes", "--env", "CartPole-v1", "--popluation", "8"), "--population"),
        (("--", "snes", "--env", "CartPol"), "'CartPole-v1'"),
        (("--", "snes", "--env", "CartPole-v1", "--steps", "0"), "--steps must be at least 1"),
        (("--", "snes", "--env", "CartPole-v1", "--steps", "1e30"), "--steps must be at least 1, and a whole number"),
        (("--", "nback", "--checkpoint-every", "nan"), "'--checkpoint-every': a finite number of seconds is needed"),
        (("--", "snes", "--env", "CartPole-v1", "--backbone", "lsmt"), "'lstm'"),
        (("--", "rpg", "--env", "TMaze", "--corridor", "long"), "corridor must be a whole number"),
        (("--", "mnist", "--model", "mlq"), "'mlp'"),
        (("--", "resume", "nowhere"), "nowhere is not a run"),
        (("--ntasks-per-node", "2", "--", "linear-regression"), "a task learns in one process"),
        (("--nodes", "2", "--", "nback"), "leave out --nodes and --ntasks-per-node"),
        (("--nodes", "0", "--", "nback"), "--nodes"),
        (("--time", "1:2:3:4", "--", "nback"), "--time must be a time of Slurm's"),
        (("--time", "3", "--", "nback"), "--time 3 leaves no time to train"),
        (("--time", "00:10:00", "--grace", "600", "--", "nback"), "leaves no time to train"),
        (("--partition", "a\nb", "--", "nback"), "--partition must be one line of text"),
        (("--sbatch", "-p short", "--", "nback"), "--sbatch takes an option in its long form"),
        (("--sbatch", "--time=3", "--", "nback"), "--sbatch --time: give it without --sbatch"),
        (("--sbatch", "--array=0-3", "--", "nback"), "--sbatch --array: give it without --sbatch"),
    ],
)
def test_bad_input_gets_one_line(tmp_path, arguments, names):
    done = _slurm(tmp_path, *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert done.stderr.startswith("error: ")
    assert names in done.stderr
    assert list(tmp_path.iterdir()) == []


@needs_mpirun
@pytest.mark.parametrize(
    ("ranks", "command", "names"),
    [
        (5, SNES, "20 members at least, not 16"),
        (2, ("trpo", "--env", "CartPole-v1", "--parallel-envs", "5", "--batch-size", "50"), "multiple of the 2 ranks"),
        (2, ("rpg", "--env", "TMaze", "--episodes-per-batch", "5"), "multiple of the 2 ranks"),
    ],
)
def test_a_batch_that_ranks_cannot_share_is_bad_input(tmp_path, ranks, command, names):
    if command[0] == "trpo":
        command += ("--critic-minibatch", "50")
    done = _slurm(tmp_path, "--ntasks-per-node", ranks, "--", *command)
    assert done.returncode == 2
    assert names in done.stderr


class _Study:
    """A script of an array of seeds, whose interpreter only notes its words."""

    def __init__(self, path, setup=()):
        self._path, python = path, path / "python"
        python.write_text('#!/bin/bash\necho "$LOADED $*"\n')
        python.chmod(0o755)
        job = cluster.Job(1, 1, 1, None, None, None, "study", 120, "0-4%2", tuple(setup), (), None)
        self.text = cluster.script(job, ["nback", "--k", "3"], path / "my run", path, str(python))

    def member(self, number):
        environment = {"PATH": os.environ["PATH"]} | ({"SLURM_ARRAY_TASK_ID": number} if number else {})
        return subprocess.run(
            ["bash"], input=self.text, env=environment, capture_output=True, text=True, cwd=self._path, check=False
        )


def test_members_of_an_array_have_seeds_and_runs_of_their_own(tmp_path):
    study = _Study(tmp_path)
    assert "\n#SBATCH --array=0-4%2\n" in study.text
    for seed in ("0", "3"):
        words = f" -m launch nback --k 3 --seed {seed} --run {tmp_path}/my run-seed{seed}\n"
        assert study.member(seed).stdout == words
    (tmp_path / "my run-seed3").mkdir()
    (tmp_path / "my run-seed3" / "config.json").touch()
    assert study.member("3").stdout == f" -m launch resume {tmp_path}/my run-seed3\n"
    assert "--seed 0" in study.member("0").stdout
    alone = study.member(None)
    assert (alone.returncode != 0, alone.stdout) == (True, "")
    assert "SLURM_ARRAY_TASK_ID" in alone.stderr


def test_setup_comes_before_the_training_and_its_failure_ends_the_job(tmp_path):
    study = _Study(tmp_path, ['export LOADED="a b" && : $NOT_SET', ": more"])
    assert study.member("0").stdout.startswith("a b -m launch nback")
    failed = _Study(tmp_path, ["source nowhere"]).member("0")
    assert (failed.returncode != 0, failed.stdout) == (True, "")


def test_the_members_of_an_array():
    assert cluster.members("0-4") == {0, 1, 2, 3, 4}
    assert cluster.members("1,3,5-9:2%2") == {1, 3, 5, 7, 9}
    for wrong in ("", "a", "-1", "4-2", "0-4%", "0-4%0", "1,,2", "0-9:0", "1 2", "0-9999999", "9" * 5000, "٣"):
        with pytest.raises(BadInputError, match="--array must be seeds such as 0-4"):
            cluster.members(wrong)


def test_an_array_decides_the_seeds_and_run_directories(tmp_path):
    run = tmp_path / "run"
    words = ["nback", "--run", str(run), "--k", "3", f"--run={run}"]
    assert cluster.check_members(words, run, {0, 1}) == ["nback", "--k", "3"]
    with pytest.raises(BadInputError, match="leave out --seed"):
        cluster.check_members(["nback", "--seed=3"], run, {0})
    with pytest.raises(BadInputError, match="seeds of their own"):
        cluster.check_members(["resume", "run"], run, {0})
    (tmp_path / "run-seed1").mkdir()
    (tmp_path / "run-seed1" / "config.json").touch()
    cluster.check_members(["nback"], run, {0, 2})
    with pytest.raises(BadInputError, match="run-seed1 exists and is not empty"):
        cluster.check_members(["nback"], run, {0, 1})


def test_setup_must_be_a_line_of_bash():
    for wrong in ("", "a\nb", "module load (", "if true"):
        with pytest.raises(BadInputError, match="--setup"):
            cluster.check_options({"extra": (), "time": None, "setup": (wrong,)} | dict.fromkeys(_NAMES), None)


def test_every_form_of_a_time_is_known():
    from launch.cluster import parse_time

    minute, hour, day = 60, 3600, 86400
    assert [parse_time(time) for time in ("90", "90:30", "01:30:05")] == [90 * minute, 90 * minute + 30, hour + 1805]
    assert [parse_time(time) for time in ("1-6", "1-06:30")] == [day + 6 * hour, day + 6 * hour + 30 * minute]
    assert parse_time("1-06:30:15") == day + 6 * hour + 30 * minute + 15


def test_a_repeated_sigusr1_is_one_sigterm(capfd):
    before = signal.getsignal(signal.SIGUSR1)
    signal.signal(signal.SIGUSR1, signal.SIG_DFL)
    try:
        with StopRequest() as stop:
            for _ in range(2):
                os.kill(os.getpid(), signal.SIGUSR1)
                stop.first_heard -= 60.0  # a later one, too
            assert stop.signal == signal.SIGTERM
            assert stop_requested()
        os.kill(os.getpid(), signal.SIGUSR1)
        stop.restore()
        with StopRequest() as stop:
            pass
        os.kill(os.getpid(), signal.SIGUSR1)  # of a run that ended by itself
        assert stop.signal is None
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
        signal.signal(signal.SIGUSR1, before)
    assert capfd.readouterr().err.count("stopping, and saving a checkpoint\n") == 1


def test_ranks_of_srun_are_known_where_mpi_joins_them(monkeypatch):
    for name in ("OMPI_COMM_WORLD_RANK", "PMI_RANK", "PMIX_RANK"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "4")
    monkeypatch.setenv("SLURM_PROCID", "3")
    assert (launchers.launched_rank(), launchers.launched_ranks()) == (0, 1)
    monkeypatch.setenv("PMIX_RANK", "3")
    assert (launchers.launched_rank(), launchers.launched_ranks()) == (3, 4)
    monkeypatch.setenv("OMPI_COMM_WORLD_RANK", "1")
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "2")
    assert (launchers.launched_rank(), launchers.launched_ranks()) == (1, 2)


def _wait(condition, what, seconds=100, process=None):
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, what
        assert process is None or process.poll() is None, process.communicate()
        time.sleep(0.2)
    return found


def _progress(run):
    """The number of rows of metrics that the run has: once there is a new one, it makes updates."""
    return len((run / "metrics.csv").read_text().splitlines()[1:]) if (run / "metrics.csv").exists() else 0


def _shorten(run, more):
    """Let the run end `more` steps after its newest checkpoint, which is given."""
    newest = max(int(file.stem.removeprefix("step-")) for file in (run / "checkpoints").iterdir())
    config = json.loads((run / "config.json").read_text()) | {"steps": newest + more}
    (run / "config.json").write_text(json.dumps(config))
    return newest


@needs_mpirun
def test_mpirun_passes_sigusr1_on_to_all_ranks(tmp_path):
    run = tmp_path / "run"
    command = [MPIRUN, "-n", "2", sys.executable, "-m", "launch", *SNES, *LONG, "--run", str(run)]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT | {"PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe"},
        cwd=ROOT,
    )
    _wait(lambda: _progress(run), "no progress", process=process)
    for _ in range(3):
        process.send_signal(signal.SIGUSR1)
        time.sleep(0.3)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 143, errors
    assert errors.count("stopping, and saving a checkpoint\n") == 2
    assert "stopped at" in errors
    assert list((run / "checkpoints").iterdir())


class _Alone:
    """A script that runs without Slurm, beside a `scontrol` that notes what it is asked."""

    def __init__(self, path):
        self.run, self.asked = path / "run", path / "asked"
        (path / "bin").mkdir()
        (path / "bin" / "scontrol").write_text(f'#!/bin/bash\necho "$@" >> {self.asked}\n')
        (path / "bin" / "scontrol").chmod(0o755)
        self._script = path / "job.sh"
        self._script.write_text(_text(path, *SNES, *LONG, "--run", "run"))
        self._environment = ENVIRONMENT | {"PATH": f"{path / 'bin'}:{os.environ['PATH']}", "SLURM_JOB_ID": "7"}

    def start(self):
        return subprocess.Popen(
            ["bash", self._script], stderr=subprocess.PIPE, text=True, env=self._environment, start_new_session=True
        )

    def requeued(self):
        asked = self.asked.read_text() if self.asked.exists() else ""
        self.asked.unlink(missing_ok=True)
        return asked == "requeue 7\n"


def test_a_job_that_is_asked_to_stop_is_queued_again_and_goes_on(tmp_path):
    job = _Alone(tmp_path)
    early = job.start()
    time.sleep(0.3)  # while Python starts
    early.terminate()
    _, errors = early.communicate(timeout=60)
    assert early.returncode > 128, errors
    assert job.requeued()

    before = _progress(job.run)
    process = job.start()
    _wait(lambda: _progress(job.run) > before, "no progress", process=process)
    process.terminate()
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 143, errors
    assert "stopped at" in errors
    assert job.requeued()

    newest = _shorten(job.run, 1000)
    process = job.start()
    _, errors = process.communicate(timeout=100)
    assert process.returncode == 0, errors
    last = (job.run / "metrics.csv").read_text().splitlines()[-1]
    assert int(last.split(",")[0]) >= newest + 1000
    assert not job.requeued()

    process = job.start()  # nothing is left to be done, which is bad input
    _, errors = process.communicate(timeout=100)
    assert process.returncode == 2, errors
    assert not job.requeued()


def _sbatch(cwd, text):
    command = ["sbatch", "--parsable"]
    done = subprocess.run(command, input=text, capture_output=True, text=True, cwd=cwd, env=ENVIRONMENT, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def _job(number):
    """The fields of a job, as Slurm shows them."""
    shown = subprocess.run(["scontrol", "show", "job", number], capture_output=True, text=True, check=True).stdout
    return dict(part.split("=", 1) for part in shown.split() if "=" in part)


def _ended(number, *states):
    return _wait(lambda: (job := _job(number))["JobState"] in states and job, f"job {number} is {_job(number)}")


@needs_mpirun
@pytest.mark.parametrize("launcher", ["mpirun", "srun"])
def test_slurm_queues_a_job_again_and_it_goes_on(slurm, tmp_path, launcher):
    if launcher == "srun":
        command = ["srun", "--mpi=pmix", "--immediate=20", "-n", "1", "--mem=1G", "true"]
        tried = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        if tried.returncode:
            pytest.skip(f"this Slurm has no PMIx: {tried.stderr.strip()}")
    directory = tmp_path / "a dir"
    directory.mkdir()
    run = directory / "run"
    words = ("--ntasks-per-node", "2", "--time", "00:10:00", "--job-name", "it's", "--launcher", launcher)
    text = _text(directory, *words, "--sbatch", "--mem=4G", "--", *SNES, *LONG, "--run", "run")

    number = _sbatch(directory, text)
    try:
        _wait(lambda: _progress(run), "no progress")
        assert _job(number)["NumTasks"] == "2"
        assert _job(number)["JobName"] == "it's"
        listed = subprocess.run(
            ["ps", "-eww", "-o", "args"], capture_output=True, text=True, check=True
        ).stdout.splitlines()
        ranks = [line for line in listed if line.startswith(f"{sys.executable} -m launch snes") and "--run run" in line]
        assert len(ranks) == 2
        subprocess.run(["scancel", "--signal=TERM", "--batch", number], check=True)
        assert _ended(number, "PENDING")["Restarts"] == "1"
        newest = _shorten(run, 1000)
        time.sleep(3)  # a start in the second in which the job was killed is refused, hence Slurm's own two minutes
        subprocess.run(["scontrol", "update", f"JobId={number}", "StartTime=now"], check=True)
        done = _ended(number, "COMPLETED", "FAILED", "CANCELLED", "TIMEOUT")
        output = (directory / f"slurm-{number}.out").read_text()
        assert (done["JobState"], done["ExitCode"], done["Restarts"]) == ("COMPLETED", "0:0", "1"), output
        assert output.count("stopped at") == output.count("done: ") == 1
        assert output.index("stopped at") < output.index("to be queued again") < output.index("done: ")
        last = (run / "metrics.csv").read_text().splitlines()[-1]
        assert int(last.split(",")[0]) >= newest + 1000
    finally:
        subprocess.run(["scancel", number], check=False)


def test_slurm_gets_the_status_of_what_ends_by_itself(slurm, tmp_path):
    text = _text(tmp_path, "--sbatch", "--mem=1G", "--", "linear-regression", "--run", "other")
    (tmp_path / "other").write_text("in the way, since the script was made")
    bad = _sbatch(tmp_path, text)
    done = _slurm(tmp_path, "--submit", "--sbatch", "--mem=1G", "--", "linear-regression", "--epochs", "1")
    assert done.returncode == 0, done.stderr
    good, run = re.fullmatch(r"job (\d+), run (runs/linear-regression-\S+)\n", done.stdout).groups()
    for number, state, status in ((bad, "FAILED", "2:0"), (good, "COMPLETED", "0:0")):
        ended = _ended(number, "COMPLETED", "FAILED")
        assert (ended["JobState"], ended["ExitCode"], ended["Restarts"]) == (state, status, "0")
    assert (tmp_path / run / "config.json").exists()


def test_slurm_trains_a_study(slurm, tmp_path):
    words = ("--submit", "--array", "0-1%1", "--sbatch", "--mem=1G", "--setup", "echo begun")
    done = _slurm(tmp_path, *words, "--", "linear-regression", "--epochs", "1", "--run", "study")
    assert done.returncode == 0, done.stderr
    (number,) = re.fullmatch(r"job (\d+), runs study-seedN, N of 0-1\n", done.stdout).groups()
    for seed in (0, 1):
        ended = _ended(f"{number}_{seed}", "COMPLETED", "FAILED")
        assert (ended["JobState"], ended["ExitCode"]) == ("COMPLETED", "0:0")
        assert json.loads((tmp_path / f"study-seed{seed}" / "config.json").read_text())["seed"] == seed
        assert "begun" in (tmp_path / f"slurm-{number}_{seed}.out").read_text()

"""Kill trainings at random moments, and see that nothing is lost: `python tests/kills.py --count 200 --seed 0`.

Short trainings of every agent and some tasks are started as processes of their own, and ended by SIGKILL, SIGTERM,
SIGINT, SIGHUP, or, a tenth of them under `2>&1 | tee`, by the SIGINT that Ctrl-C sends to both. Then the newest
checkpoint must be whole, the policy that of the newest checkpoint, the metrics readable, the exit status right, and the
run must go on, leaving no temporary file. Prints a JSON object; exit status 1 where something was lost. Not part of the
suite: a kill takes some twenty seconds of a core.
"""

import argparse
import concurrent.futures
import functools
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

ENDLESS = ["--steps", "1000000000"]
COMMANDS = {
    "a3c": ["a3c", "--env", "CartPole-v1", "--envs-per-worker", "2", *ENDLESS],
    "trpo": ["trpo", "--env", "CartPole-v1", "--batch-size", "256", "--parallel-envs", "8", *ENDLESS],
    "rpg": ["rpg", "--env", "TMaze", "--corridor", "5", "--episodes-per-batch", "8", *ENDLESS],
    "snes": ["snes", "--env", "CartPole-v1", "--population", "8", *ENDLESS],
    "nback": ["nback", "--epochs", "100000"],
    "linear-regression": ["linear-regression", "--epochs", "10000000"],
    "mnist": ["mnist", "--data", "digits", "--model", "mlp", "--epochs", "100000"],
}
KILLS = {"KILL": 2, "TERM": 3, "INT": 2, "HUP": 2, "TEE": 1}  # how often each, of ten
PATIENCE = 240.0  # seconds for what must end by itself


class Kill(NamedTuple):
    """One training and its end."""

    number: int
    name: str  # of the command
    how: str
    early: bool  # at any moment from the start of the process on, else once there is a checkpoint
    delay: float  # seconds after that
    every: float  # seconds between checkpoints


class LostError(Exception):
    """The loss that a kill has caused."""


def plan(count: int, seed: int) -> list[Kill]:
    """The kills; the same for the same seed."""
    draw = random.Random(seed)
    ways = [how for how, often in KILLS.items() for _ in range(often)]
    names = list(COMMANDS)
    kills = []
    for i in range(count):
        early = draw.random() < 0.15
        delay = draw.uniform(0.0, 12.0 if early else 3.0)
        kills.append(Kill(i, names[i % len(names)], ways[i % len(ways)], early, delay, draw.choice([0.0, 1.0])))
    return kills


def perform(kill: Kill, directory: Path) -> str:
    """Start, kill, judge, and go on; what came of it in a word. Raises LostError."""
    run, log = directory / f"{kill.number}-{kill.name}", directory / f"{kill.number}.log"
    words = [*COMMANDS[kill.name], "--run", str(run), "--checkpoint-every", str(kill.every)]
    process, tee = _start(words, log, kill.how == "TEE")
    since = time.monotonic()
    while not (kill.early or any(run.glob("checkpoints/step-*.safetensors"))):
        if process.poll() is not None or time.monotonic() - since > PATIENCE:
            process.kill()
            raise LostError(f"it did not train: {log.read_text()[-500:]}")
        time.sleep(0.02)
    time.sleep(kill.delay)
    if process.poll() is not None:
        raise LostError(f"it ended by itself, with status {process.returncode}: {log.read_text()[-500:]}")
    if tee:
        os.killpg(process.pid, signal.SIGINT)
    else:
        process.send_signal(getattr(signal, f"SIG{kill.how}"))
    try:
        status = process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        raise LostError("it did not end") from None
    if tee:
        tee.wait(PATIENCE)
    if not (run / "config.json").exists():
        return "nothing was begun"
    steps = judge(run)
    _check_status(kill, status, log.read_text(errors="replace"), steps)
    go_on(run, steps or 0, log)
    return "went on" if steps else "began again"


def _start(words: list[str], log: Path, tee: bool) -> tuple[subprocess.Popen, subprocess.Popen | None]:
    command = [sys.executable, "-m", "launch", *words]
    if not tee:
        with log.open("w") as file:
            return subprocess.Popen(command, cwd=ROOT, stdout=file, stderr=file, process_group=0), None
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, process_group=0)
    copy = ["tee", str(log)]
    reader = subprocess.Popen(copy, stdin=process.stdout, stdout=subprocess.DEVNULL, process_group=process.pid)
    process.stdout.close()
    return process, reader


def judge(run: Path) -> int | None:
    """The steps of a run's newest checkpoint, None where there is none. Raises LostError for what is not whole."""
    from rlab.errors import BadInputError
    from rlab.runs import checkpoints
    from rlab.runs.directory import Run
    from rlab.runs.metrics import read_metrics

    opened = Run.open(run)
    try:
        found = [checkpoints.load(path) for path in checkpoints.paths(opened.checkpoints)]
    except BadInputError as error:
        raise LostError(f"a checkpoint is not whole: {error}") from error
    if (run / "metrics.csv").exists():
        read_metrics(run)
    if not found:
        return None
    newest = found[-1]
    if not _is_in_use(opened, newest):
        raise LostError("the parameters in use are not those of the newest checkpoint")
    return newest.steps


def _is_in_use(run: "Run", newest: "Checkpoint") -> bool:  # noqa: F821
    """Tell whether the parameters that are loaded for use are those of the newest checkpoint."""
    import numpy as np

    import rlab
    from rlab.runs.weights import load_weights
    from rlab.state import subset

    if run.of_task:
        arrays, kept = load_weights(run.path, "model"), subset(newest.arrays, "model")
        return all(np.array_equal(arrays[name], kept[name]) for name in kept)
    policy = rlab.load_policy(run.path)
    kept = policy.policy.flatten(subset(newest.arrays, "policy"))
    return np.array_equal(policy.parameters, np.asarray(kept))


def _check_status(kill: Kill, status: int, said: str, steps: int | None) -> None:
    number = signal.SIGINT if kill.how == "TEE" else getattr(signal, f"SIG{kill.how}")
    asked = {-number} if kill.how == "KILL" else {128 + number}
    if kill.early:  # before training has begun a signal ends the process as any other
        asked |= {-number, 128 + number}
    if status not in asked:
        raise LostError(f"exit status {status}, not {128 + number}: {said[-500:]}")
    if "Traceback" in said and not kill.early:
        raise LostError(f"a traceback: {said[-1000:]}")
    if not kill.early and kill.how in ("TERM", "INT", "HUP") and f"stopped at {steps:,} " not in said:
        raise LostError(f"no checkpoint was made of {steps} steps: {said[-500:]}")


def go_on(run: Path, steps: int, log: Path) -> None:
    """Resume the run for a little, and look at it again. Raises LostError."""
    from rlab.runs.metrics import read_metrics

    command = [sys.executable, "-m", "launch", "resume", str(run), "--steps", str(steps + 300)]
    with log.with_suffix(".resume").open("w") as file:
        status = subprocess.run(command, cwd=ROOT, stdout=file, stderr=file, timeout=PATIENCE, check=False).returncode
    if status:
        raise LostError(f"resume ended with status {status}: {log.with_suffix('.resume').read_text()[-500:]}")
    if (judge(run) or 0) < steps + 300:
        raise LostError("the resumed run did not reach its steps")
    rows = [row["steps"] for row in read_metrics(run)]
    if rows != sorted(set(rows)):
        raise LostError("the rows of the metrics are not in order")
    left = [path.name for path in [*run.rglob(".*"), *run.rglob("*.tmp"), *run.parent.glob(f".{run.name}*")]]
    if left:
        raise LostError(f"temporary files are left: {left}")


def main() -> int:
    """Perform all kills, and print what came of them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--beside", type=int, default=2, help="kills at a time")
    given = parser.parse_args()
    # Ignored, with `&` or `nohup` in a shell, they would be by all below.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    kills, came, losses = plan(given.count, given.seed), Counter(), []
    with tempfile.TemporaryDirectory() as directory, concurrent.futures.ThreadPoolExecutor(given.beside) as pool:
        waited = {pool.submit(functools.partial(perform, kill, Path(directory))): kill for kill in kills}
        for future in concurrent.futures.as_completed(waited):
            kill = waited[future]
            try:
                came[future.result()] += 1
            except Exception as error:
                losses.append({**kill._asdict(), "lost": f"{type(error).__name__}: {error}"})
                print(losses[-1], file=sys.stderr, flush=True)
    counts = {"by_command": Counter(kill.name for kill in kills), "by_way": Counter(kill.how for kill in kills)}
    print(json.dumps({"kills": len(kills), "lost": len(losses), "came": came, **counts, "losses": losses}, indent=2))
    return 1 if losses else 0


if __name__ == "__main__":
    sys.exit(main())

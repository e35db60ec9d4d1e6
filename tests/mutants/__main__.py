"""Plants one error after another in copies of the project, and tells which of them no test notices.

    python tests/mutants [--only TEXT] [--jobs 2] [--timeout 300] [--no-baseline]

The errors are those of `mathematics.py`, `learners.py`, `surroundings.py`, `borders.py` and `keeping.py`. Each is
planted in a copy of the working tree, the tests named beside it are run there, and the file is put back: killed is one
for which a test fails, or does not end in time. One JSON object with the score goes to standard output, what happens
meanwhile to standard error. Exit status 0 when all were killed but those with a reason, 1 otherwise: for a survivor,
for an old text that does not occur exactly once, for tests that do not run.
"""

import argparse
import contextlib
import json
import os
import queue
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent import futures
from pathlib import Path

import borders
import keeping
import learners
import mathematics
import surroundings
from planting import Planted

ROOT = Path(__file__).parents[2]
PLANTED = mathematics.PLANTED + learners.PLANTED + surroundings.PLANTED + borders.PLANTED + keeping.PLANTED
PASSED, FAILED, LATE = 0, 1, 124


def copy_tree(target: Path) -> Path:
    """The files of the working tree that git knows or would, in a new directory."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", ":!benchmarks/results"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    ).stdout
    for name in filter(None, listed.decode().split("\0")):
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)
    return target


def run_tests(tree: Path, tests: tuple[str, ...], seconds: float) -> tuple[int, str]:
    """Pytest's exit status, or LATE, and the end of what it said."""
    command = [sys.executable, "-m", "pytest", "-n", "0", "-x", "-q", "-p", "no:cacheprovider", *tests]
    environment = os.environ | {"PYTHONDONTWRITEBYTECODE": "1"}
    try:
        done = subprocess.run(
            command, cwd=tree, env=environment, capture_output=True, text=True, timeout=seconds, check=False
        )
    except subprocess.TimeoutExpired:
        return LATE, "not done in time"
    return done.returncode, "\n".join(done.stdout.strip().splitlines()[-3:])


def plant(tree: Path, one: Planted, seconds: float) -> str:
    """`killed`, `survived`, or `error: ` and what is wrong with the entry."""
    path = tree / one.file
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    if (count := text.count(one.old)) != 1:
        return f"error: the old text occurs {count} times in {one.file}"
    path.write_text(text.replace(one.old, one.new), encoding="utf-8")
    try:
        status, said = run_tests(tree, one.tests, seconds)
    finally:
        path.write_text(text, encoding="utf-8")
    if status in (FAILED, LATE):
        return "killed"
    return "survived" if status == PASSED else f"error: pytest ended with status {status}: {said}"


def run(chosen: list[Planted], jobs: int, seconds: float, baseline: bool) -> dict[str, str]:
    """The fate of each planted error, by name."""
    with contextlib.ExitStack() as stack:
        made = [Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mutants-"))) for _ in range(jobs)]
        trees: queue.Queue[Path] = queue.Queue()
        for directory in made:
            trees.put(copy_tree(directory))
        if baseline:
            tests = tuple(sorted({test for one in chosen for test in one.tests}))
            status, said = run_tests(made[0], tests, 60.0 + seconds * len(tests))
            if status != PASSED:
                sys.exit(f"error: the tests fail with nothing planted (status {status}):\n{said}")

        def work(one: Planted) -> str:
            tree, start = trees.get(), time.monotonic()
            try:
                found = plant(tree, one, seconds)
            finally:
                trees.put(tree)
            print(f"{time.monotonic() - start:4.0f} s  {found:8}  {one.name}", file=sys.stderr, flush=True)
            return found

        with futures.ThreadPoolExecutor(jobs) as pool:
            return dict(zip((one.name for one in chosen), pool.map(work, chosen), strict=True))


def main() -> int:
    parser = argparse.ArgumentParser(description="Plant errors and see whether tests notice.", prog="tests/mutants")
    parser.add_argument("--only", action="append", metavar="TEXT", help="those whose name contains it; repeatable")
    parser.add_argument("--jobs", type=int, default=2, help="copies of the project that work side by side")
    parser.add_argument("--timeout", type=float, default=300.0, help="seconds for the tests of one")
    parser.add_argument("--no-baseline", action="store_true", help="do not run the tests with nothing planted first")
    given = parser.parse_args()
    chosen = [one for one in PLANTED if any(text in one.name for text in given.only or [""])]
    if not chosen:
        parser.error(f"no planted error's name contains {' or '.join(map(repr, given.only))}")
    found = run(chosen, given.jobs, given.timeout, not given.no_baseline)
    survived = {one.name: one.reason or "no reason known" for one in chosen if found[one.name] == "survived"}
    errors = {name: said for name, said in found.items() if said.startswith("error")}
    killed = sum(said == "killed" for said in found.values())
    summary = {"planted": len(chosen), "killed": killed, "score": round(killed / len(chosen), 4)}
    print(json.dumps(summary | {"survived": survived, "errors": errors}, indent=2, ensure_ascii=False))
    return int(bool(errors) or "no reason known" in survived.values())


if __name__ == "__main__":
    sys.exit(main())

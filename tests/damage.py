"""Damaged artefacts, read as the commands do: `python tests/damage.py --count 10000 --seed 0`, apart from the suite.

Small runs of every agent and of some tasks, policies, demonstrations and data are made once. Then each case damages one
file of one of them at random and calls what the commands call. Right is a BadInputError, or the very numbers that were
there. Wrong is any other exception, numbers that have changed without a word, a file outside that was read or written,
ten seconds, or a gigabyte. Prints a JSON summary; the exit status is 1 where something was wrong.
"""

import argparse
import contextlib
import functools
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

_SECONDS, _KILOBYTES = 10, 1 << 20
_OPENED: list[str] = []


def make_artefacts(place: Path) -> None:
    """Small runs of everything, an .npz file of images, and demonstrations."""
    import numpy as np

    import agents
    import envs
    import rlab
    from rlab.rewards import demonstrations
    from rlab.tasks import training
    from rlab.tasks.classification import ImageTask
    from rlab.tasks.configs import CONFIGS
    from rlab.tasks.sequences import NBack

    cartpole = functools.partial(envs.make, "CartPole-v1")
    small: dict[str, Any] = {
        "a3c": agents.A3C.Config(workers=1, envs_per_worker=2),
        "trpo": agents.TRPO.Config(batch_size=64, parallel_envs=4, critic_minibatch=16),
        "rpg": agents.RPG.Config(episodes_per_batch=2),
        "snes": agents.SNES.Config(population=4),
    }
    for name, config in small.items():
        getattr(agents, name.upper())(config, cartpole).train(place / name, 60)
    draw = np.random.default_rng(0)
    images = {f"x_{part}": draw.integers(0, 256, (24, 8, 8), np.uint8) for part in ("train", "test")}
    labels = {f"y_{part}": np.arange(24) % 3 for part in ("train", "test")}
    np.savez_compressed(place / "images.npz", **images, **labels)
    config = CONFIGS["mnist"](data=str(place / "images.npz"), epochs=1, batch_size=8)
    training.train(ImageTask(config, 0), place / "mnist")
    training.train(NBack(CONFIGS["nback"](epochs=1), 0), place / "nback")
    shown = demonstrations.demonstrate(rlab.load_policy(place / "a3c"), cartpole, 2, 0)
    (place / "shown.npz").write_bytes(demonstrations.save(shown))


class Reader:
    """The readers that the commands call, and the numbers that they give."""

    def __init__(self, place: Path) -> None:
        import agents
        from agents.configs import CONFIGS
        from rlab.files import digest_of
        from rlab.runs.directory import Run
        from rlab.schedules import Schedule
        from rlab.settings import from_settings

        self.digest = digest_of(place / "images.npz")
        self.learners: dict[str, Any] = {}
        for name in ("a3c", "trpo", "rpg", "snes"):
            run = Run.open(place / name)
            config = from_settings(CONFIGS[name], run.config["config"])
            import envs

            factory = functools.partial(envs.make, "CartPole-v1")
            agent = getattr(agents, name.upper())(config, factory, run.config["backbone"], run.config["seed"])
            self.learners[name] = agent.learner(Schedule(10**6))

    def policy(self, run: Path) -> bytes:
        from rlab.runs.policy_files import load_policy, space_to_json

        found = load_policy(run)
        policy = found.policy
        spaces = [space_to_json(space) for space in (policy.observation_space, policy.action_space)]
        return found.parameters.tobytes() + json.dumps([spaces, policy.backbone]).encode()

    def checkpoint(self, run: Path) -> bytes:
        from rlab import runs
        from rlab.arrays import digest
        from rlab.runs.directory import Run
        from rlab.state import pack

        opened = Run.open(run)
        checkpoint = opened.latest_checkpoint()
        if opened.of_task or checkpoint is None:
            return digest(checkpoint.arrays).encode() if checkpoint else b"none"
        learner = self.learners[run.name]
        with runs.restoring():
            learner.restore(checkpoint)
            if run.name == "trpo":
                learner.play()
        return digest(pack(learner.state())).encode()

    def settings(self, run: Path) -> None:
        """Of `resume` and `evaluate`, as far as they go before anything is built."""
        from agents.configs import CONFIGS
        from launch.train import env_factory, reward_settings, run_to_resume
        from rlab.rewards import make_model
        from rlab.runs.directory import Run
        from rlab.settings import check, from_settings
        from rlab.tasks import TASKS
        from rlab.tasks import configs as tasks

        opened = Run.open(run)
        config = opened.config
        if opened.of_task:
            if config["task"] in TASKS:
                check(from_settings(tasks.CONFIGS[config["task"]], config["config"]))
            return
        run_to_resume(run, 10**9)
        factory, learned = env_factory(config, run), reward_settings(opened)
        if learned:
            make_model(learned, factory, config["seed"])
        from_settings(CONFIGS[config["agent"]], config["config"])
        factory(num_envs=1, seed=0).close()

    def metrics(self, run: Path) -> None:
        from rlab.errors import BadInputError
        from rlab.runs.metrics import MetricsWriter, read_metrics

        with contextlib.suppress(BadInputError):
            read_metrics(run)
        writer = MetricsWriter(run, 10**9)
        writer.write({"steps": 10**9, "loss": 1.0}, [])
        writer.close()
        if not any(row["steps"] == 10**9 for row in read_metrics(run)):
            raise RuntimeError("the row that was written is not there")

    def weights(self, run: Path) -> bytes:
        from rlab.arrays import digest
        from rlab.runs.weights import load_weights

        return digest(load_weights(run, "model")).encode()

    def demonstrations(self, file: Path) -> bytes:
        from rlab.rewards import demonstrations

        return b"".join(part.tobytes() for part in demonstrations.load(file))

    def images(self, file: Path) -> bytes:
        from rlab.datasets.images import load_images
        from rlab.files import require_same_file

        load_images(str(file))  # without the digest too, as when a run begins with it
        require_same_file(file, self.digest)
        return load_images(str(file)).train.images.tobytes()

    def lock(self, run: Path) -> None:
        from rlab.runs.lock import locked

        with locked(run):
            pass


# Of each kind: what is called, which artefacts, which of their files are damaged.
KINDS: list[tuple[str, tuple[str, ...], tuple[str, ...]]] = [
    ("policy", ("a3c", "trpo", "rpg", "snes"), ("policy/architecture.json", "policy/weights.safetensors")),
    ("checkpoint", ("a3c", "trpo", "rpg", "snes", "mnist", "nback"), ("checkpoints/*",)),
    ("settings", ("a3c", "trpo", "rpg", "snes", "mnist", "nback"), ("config.json",)),
    ("metrics", ("a3c", "nback"), ("metrics.csv", "tensorboard")),
    ("weights", ("mnist", "nback"), ("model/weights.safetensors",)),
    ("demonstrations", ("shown.npz",), ("",)),
    ("images", ("images.npz",), ("",)),
    ("lock", ("a3c",), ("lock",)),
]


def damage(path: Path, outside: Path, draw: random.Random) -> str:
    """Damage a file, or what is in its place, in one of many ways; which."""
    ways = [flip, flip, flip, cut, insert, double, blot, replace, replace, replace, other]
    ways += [in_json] * 8 if path.suffix == ".json" else []
    ways += [in_header, in_header, rewritten, rewritten] if path.suffix == ".safetensors" else []
    way = draw.choice(ways)
    if path.is_dir() or not path.exists():
        way = replace
    way(path, outside, draw)
    return way.__name__


def flip(path: Path, outside: Path, draw: random.Random) -> None:
    content = bytearray(path.read_bytes())
    for _ in range(draw.choice((1, 1, 1, 2, 20))):
        place = draw.randrange(len(content) if draw.random() < 0.5 else min(2000, len(content)))
        content[place] ^= 1 << draw.randrange(8)
    path.write_bytes(content)


def cut(path: Path, outside: Path, draw: random.Random) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: draw.randrange(len(content))])


def insert(path: Path, outside: Path, draw: random.Random) -> None:
    content, place = path.read_bytes(), draw.randrange(path.stat().st_size)
    path.write_bytes(content[:place] + draw.randbytes(draw.choice((1, 8, 5000))) + content[place:])


def double(path: Path, outside: Path, draw: random.Random) -> None:
    path.write_bytes(path.read_bytes() * 2)


def blot(path: Path, outside: Path, draw: random.Random) -> None:
    content = bytearray(path.read_bytes())
    place, size = draw.randrange(len(content)), draw.choice((4, 64, 4096))
    content[place : place + size] = bytes(len(content[place : place + size]))
    path.write_bytes(content)


def replace(path: Path, outside: Path, draw: random.Random) -> None:
    """Something else in its place."""
    content = path.read_bytes() if path.is_file() else b"x"
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
    kind = draw.randrange(9)
    if kind == 0:
        path.symlink_to(draw.choice((outside / "secret", outside / "new", outside, Path("/dev/zero"), path)))
    elif kind == 1:
        os.link(outside / "secret", path)
    elif kind == 2:
        os.mkfifo(path)
    elif kind == 3:
        path.mkdir()
    elif kind == 4:
        path.write_bytes(b"")
    elif kind == 5:
        path.write_bytes(
            draw.choice((b"\xff\xfe\x00", b"[" * 200_000, b"null", b"{}", b"[]", b"NaN", b"1e999", b'"\\ud800"'))
        )
    elif kind == 6:
        with path.open("wb") as file:
            file.write(content)
            file.truncate(1 << 36)
    elif kind == 7:
        path.write_bytes(draw.randbytes(draw.choice((1, 100, 100_000))))
    # else it is missing


def other(path: Path, outside: Path, draw: random.Random) -> None:
    """A file of another kind."""
    path.write_bytes(Path(__file__).read_bytes())


_VALUES: list[Any] = [
    None, True, -1, 0, 1, 10**9, 10**18, 10**40, 0.5, -1e308, float("nan"), float("inf"), "", "x", "\x1b[2J\u202e",
    "../..", "/etc/passwd", "module:os", "vae:/etc", "\x00", [], [1], {}, {"a": 1}, [[[[]]]], "9" * 5000,
]  # fmt: skip


def in_json(path: Path, outside: Path, draw: random.Random) -> None:
    data = json.loads(path.read_text())
    _change(data, draw)
    path.write_text(json.dumps(data))


def _change(data: Any, draw: random.Random) -> None:
    """Change a value, or a key, somewhere."""
    places = list(_places(data))
    holder, key = draw.choice(places)
    way = draw.randrange(4)
    if way == 0 and isinstance(holder, dict):
        holder[draw.choice(("x", "\x1b[31m", "__class__", ""))] = holder.pop(key)
    elif way == 1:
        del holder[key]
    else:
        holder[key] = draw.choice(_VALUES)


def _places(data: Any) -> Any:
    for key in list(data) if isinstance(data, dict) else range(len(data)) if isinstance(data, list) else ():
        yield data, key
        yield from _places(data[key])


def in_header(path: Path, outside: Path, draw: random.Random) -> None:
    """A change in the header of a safetensors file."""
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    _change(header, draw)
    written = json.dumps(header).encode()
    path.write_bytes(len(written).to_bytes(8, "little") + written + content[8 + length :])


def rewritten(path: Path, outside: Path, draw: random.Random) -> None:
    """A safetensors file with a change in it, and a digest that is right."""
    import safetensors.numpy

    from rlab.arrays import DIGEST, digest

    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header, arrays = json.loads(content[8 : 8 + length]), safetensors.numpy.load(content)
    metadata = dict(header["__metadata__"])
    name, way = draw.choice(list(arrays)), draw.randrange(5)
    if way == 0:
        del arrays[name]
    elif way == 1:
        arrays[name] = arrays[name].astype("float64")
    elif way == 2:
        arrays[name] = arrays[name].reshape(-1)[: draw.randrange(4)]
    elif way == 3 and "counters" in metadata:
        counters = json.loads(metadata["counters"])
        _change({"counters": counters}, draw) if draw.random() < 0.2 else _change(counters, draw)
        metadata["counters"] = json.dumps(counters)
    else:
        arrays[name] = arrays[name] * float("nan")
    texts = [metadata[key] for key in ("steps", "counters") if key in metadata]
    metadata[DIGEST] = digest(arrays, *texts)
    path.write_bytes(safetensors.numpy.save(arrays, metadata))


def play(place: Path, first: int, count: int, seed: int) -> None:
    """Play cases; a line of JSON for each, before it and after it."""
    from rlab.errors import BadInputError

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    reader = Reader(place)
    right: dict[Any, Any] = {}
    for kind, names, _ in KINDS:
        for name in names:
            with tempfile.TemporaryDirectory() as directory:
                right[kind, name] = getattr(reader, kind)(_copy(place / name, Path(directory)))
    sys.addaudithook(lambda event, found: _OPENED.append(str(found[0])) if event == "open" else None)
    signal.signal(signal.SIGALRM, _too_long)
    for number in range(first, first + count):
        draw = random.Random(f"{seed} {number}")
        kind, names, files = draw.choice(KINDS)
        name, pattern = draw.choice(names), draw.choice(files)
        with tempfile.TemporaryDirectory() as directory:
            outside = Path(directory, "outside")
            outside.mkdir()
            (outside / "secret").write_text("secret")
            target = _copy(place / name, Path(directory, "in"))
            path = next(iter(target.glob(pattern)), target / pattern) if pattern else target
            way = damage(path, outside, draw)
            said = {"case": number, "kind": kind, "of": name, "file": path.name, "way": way}
            print(json.dumps(said | {"found": "died"}), flush=True)
            _OPENED.clear()
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            signal.alarm(_SECONDS)
            try:
                found = getattr(reader, kind)(target)
                came = "loaded" if found == right[kind, name] else "changed"
                came = "loaded" if kind in ("settings", "metrics", "lock") else came
                came = "rewritten" if came == "changed" and way == "rewritten" else came
            except BadInputError as error:
                came = "refused" if str(error).isprintable() else "not printable"
            except BaseException as error:
                came, said["error"] = "raised", f"{type(error).__name__}: {error}"[:300]
            finally:
                signal.alarm(0)
            if resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before > _KILOBYTES:
                came = "large"
            if any("outside" in Path(opened).parts for opened in _OPENED if "\x00" not in opened):
                came = "read outside"
            if [p.name for p in outside.iterdir()] != ["secret"] or (outside / "secret").read_text() != "secret":
                came = "wrote outside"
            print(json.dumps(said | {"found": came}), flush=True)


def _copy(artefact: Path, directory: Path) -> Path:
    directory.mkdir(exist_ok=True)
    target = directory / artefact.name
    return Path(shutil.copytree(artefact, target) if artefact.is_dir() else shutil.copy(artefact, target))


def _too_long(*_: Any) -> None:
    raise TimeoutError(f"more than {_SECONDS} seconds")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--artefacts", type=Path, help="directory of the artefacts, made where it is missing")
    parser.add_argument("--play", action="store_true", help="play the cases in this process")
    arguments = parser.parse_args()
    place = arguments.artefacts or Path(tempfile.mkdtemp()) / "artefacts"
    if arguments.play:
        play(place, arguments.first, arguments.count, arguments.seed)
        return 0
    if not place.exists():
        place.mkdir(parents=True)
        make_artefacts(place)
    cases: dict[int, dict[str, Any]] = {}
    number, last = arguments.first, arguments.first + arguments.count
    while number < last:  # in a process of their own, and in another once it died
        command = [sys.executable, __file__, "--play", "--artefacts", str(place), "--seed", str(arguments.seed)]
        command += ["--first", str(number), "--count", str(min(500, last - number))]
        lines = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        ).stdout.splitlines()
        found = {case["case"]: case for case in map(json.loads, lines)}
        if not found:
            raise SystemExit("no case could be played")
        cases |= found
        number = max(found) + 1
    wrong = [case for case in cases.values() if case["found"] not in ("refused", "loaded", "rewritten")]
    counted = Counter(case["found"] for case in cases.values())
    print(json.dumps({"cases": len(cases), "found": counted, "wrong": wrong}, indent=1))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())

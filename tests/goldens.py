"""Hashes of the parameters that short trainings end with: equal before and after a change that changes no behaviour.

    python tests/goldens.py --out before.json        # in the tree before
    python tests/goldens.py --against before.json    # in the tree after, on the same machine

Bits differ between processors, so the hashes are compared on one machine and not kept.
"""

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

# Name -> the words of a command.
COMMANDS = {
    "a3c, MLP": "a3c --env CartPole-v1 --workers 1 --steps 4000",
    "a3c, LSTM": "a3c --env CartPoleNoVel-v1 --backbone lstm --workers 1 --steps 2000",
    "a3c, Gaussian": "a3c --env Pendulum-v1 --workers 1 --steps 2000",
    "a3c, images": "a3c --env Catch --workers 1 --steps 2000",
    "a3c, Pong": "a3c --env Pong --workers 1 --steps 1280 --compiler graph",
    "a3c, Pong, XLA": "a3c --env Pong --workers 1 --steps 640 --compiler xla",
    "trpo, MLP": "trpo --env CartPole-v1 --steps 6000 --processes 1",
    "trpo, MLP, two shares": "trpo --env CartPole-v1 --steps 6000 --shares 2",
    "trpo, LSTM": "trpo --env CartPoleNoVel-v1 --backbone lstm --steps 4000",
    "trpo, LSTM, two shares": "trpo --env CartPoleNoVel-v1 --backbone lstm --steps 4000 --shares 2",
    "trpo, vine": "trpo --env CartPole-v1 --sampling vine --batch-size 512 --parallel-envs 16 --steps 10000",
    "trpo, normalized": "trpo --env HalfCheetah-v5 --steps 12000",
    "trpo, linear critic": "trpo --env CartPole-v1 --critic linear --steps 6000",
    "trpo, fewer states": "trpo --env CartPole-v1 --fisher-subsampling 4 --entropy-weight 0.01 --steps 6000",
    "trpo, images": "trpo --env Catch --steps 3000",
    "trpo, novelty": "trpo --env DeepSea --novelty 1 --steps 4000",
    "rpg, LSTM": "rpg --env TMaze --corridor 5 --backbone lstm --steps 3000",
    "rpg, one process": "rpg --env TMaze --corridor 5 --backbone lstm --steps 3000 --shares 1",
    "rpg, constant": "rpg --env CartPole-v1 --baseline constant --steps 2000",
    "rpg, linear": "rpg --env CartPole-v1 --baseline linear --steps 2000",
    "rpg, none, normalized": "rpg --env Pendulum-v1 --baseline none --normalize-observations --steps 4000",
    "rpg, clock, truncation": "rpg --env CartPoleNoVel-v1 --baseline-clock --truncation 8 --steps 2000",
    "rpg, images": "rpg --env Catch --steps 1000",
    "snes, MLP": "snes --env CartPole-v1 --population 32 --group 8 --steps 4000",
    "snes, full": "snes --env CartPole-v1 --population 32 --group 8 --form full --episodes 2 --steps 8000",
    "snes, normalized": "snes --env HalfCheetah-v5 --population 8 --group 4 --steps 16000",
    "snes, reference batch": "snes --env Catch --backbone vbn-small-cnn --population 8 --group 4 --steps 400",
    "snes, samples": "snes --env CartPole-v1 --population 16 --group 8 --no-deterministic --steps 2000",
    "linear regression": "linear-regression --epochs 3",
    "mnist, MLP": "mnist --data digits --epochs 1",
    "mnist, highway": "mnist --data digits --model highway --epochs 1",
    "mnist, CNN": "mnist --data digits --model cnn --epochs 1",
    "n-back, LSTM": "nback --epochs 1",
    "copy, DNC": "copy --model dnc --epochs 1",
    "addition": "addition --epochs 1",
    "vae": "vae --data digits --epochs 1",
    "gan": "gan --data digits --epochs 1",
    "pixelrnn": "pixelrnn --data digits --model pixelcnn --epochs 1",
}
RANKS = ("trpo, MLP", "rpg, LSTM", "snes, MLP")  # these over two ranks of mpirun too
RESUMED = (
    "trpo, MLP",
    "rpg, LSTM",
    "snes, MLP",
    "a3c, MLP",
)  # and these once more, from a checkpoint to four times the steps


def weights(run: Path) -> str:
    """The hash of all arrays of a run's policy or model, by name."""
    from safetensors.numpy import load_file

    part = run / "policy" if (run / "policy").exists() else run / "model"
    digest = hashlib.sha256()
    for name, array in sorted(load_file(next(part.glob("*.safetensors"))).items()):
        digest.update(f"{name}{array.shape}{array.dtype}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()[:16]


def launched(words: list[str], ranks: int = 0) -> None:
    command = [sys.executable, "-m", "launch", *words]
    if ranks:
        command = ["mpirun", "--oversubscribe", "--bind-to", "none", "-n", str(ranks), *command]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(words)}: {done.stderr[-1500:]}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path)
    parser.add_argument("--against", type=Path)
    parser.add_argument("--only", default="", help="cases that have this in their name")
    given = parser.parse_args()
    before = json.loads(given.against.read_text()) if given.against else {}
    found: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as directory:

        def note(name: str, run: Path, began: float) -> None:
            found[name] = weights(run)
            verdict = "" if not before else "same" if before.get(name) == found[name] else "DIFFERENT"
            print(f"{name:28} {found[name]} {time.monotonic() - began:5.1f} s {verdict}", flush=True)

        for number, (name, words) in enumerate(COMMANDS.items()):
            if given.only not in name:
                continue
            run, began = Path(directory) / str(number), time.monotonic()
            launched([*words.split(), "--run", str(run)])
            note(name, run, began)
            if name in RESUMED:
                steps = words.split()[words.split().index("--steps") + 1]
                began = time.monotonic()
                launched(["resume", str(run), "--steps", str(4 * int(steps))])
                note(f"{name}, resumed", run, began)
            if name in RANKS:
                again, began = Path(directory) / f"{number}-ranks", time.monotonic()
                launched([*words.split(), "--run", str(again)], ranks=2)
                note(f"{name}, two ranks", again, began)
    if given.out:
        given.out.write_text(json.dumps(found, indent=1) + "\n")
    if different := [name for name in found if before and before.get(name) != found[name]]:
        raise SystemExit(f"{len(different)} differ: {'; '.join(different)}")


if __name__ == "__main__":
    main()

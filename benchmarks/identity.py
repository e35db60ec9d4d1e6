"""What default settings learn of stable-baselines3's identity environments: `python benchmarks/identity.py`.

Each agent with its `Config()` names the symbol that it is shown, of 2 or of 10, or comes within 0.5 of a number between
-1 and 1; 100 steps to an episode, a point for each. Scores are means of 50 fresh episodes, as the agent was trained and
by its likeliest actions. Writes results/identity.json.
"""

import argparse
import functools
import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path.append(str(Path(__file__).parents[1] / "tests"))

import toys

import agents
import rlab
from rlab.sampling.evaluation import play_episodes

STEPS = {"A3C": 20_000, "TRPO": 20_000, "RPG": 60_000, "SNES": 500_000}
KINDS = {"2 symbols": 2, "10 symbols": 10, "Box": 0}


def measure(agent: str, kind: str, seed: int) -> dict[str, object]:
    """One training, and its two scores."""
    env = functools.partial(toys.Identity, KINDS[kind])
    with tempfile.TemporaryDirectory() as directory:
        start = time.perf_counter()
        getattr(agents, agent)(env=env, seed=seed).train(f"{directory}/run", STEPS[agent])
        seconds = time.perf_counter() - start
        policy = rlab.load_policy(f"{directory}/run")
        played = [play_episodes(policy, env, 50, seed=1, deterministic=how) for how in (None, True)]
    trained, likeliest = (round(float(np.mean([episode.score for episode in each])), 1) for each in played)
    return {
        "agent": agent,
        "kind": kind,
        "seed": seed,
        "as_trained": trained,
        "likeliest": likeliest,
        "steps": STEPS[agent],
        "seconds": round(seconds, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    seeds = parser.parse_args().seeds
    found = []
    for agent in STEPS:
        for kind in KINDS:
            for seed in seeds:
                found.append(measure(agent, kind, seed))
                print(json.dumps(found[-1]), flush=True)
    out = Path(__file__).parent / "results" / "identity.json"
    out.write_text("[\n" + ",\n".join(map(json.dumps, found)) + "\n]\n")


if __name__ == "__main__":
    main()

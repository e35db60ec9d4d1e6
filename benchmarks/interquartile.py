"""The interquartile mean of TRPO's scores on MuJoCo, as shares of the best library's, over tasks and seeds.

    python benchmarks/learning.py trpo-halfcheetah trpo-hopper trpo-walker2d trpo-swimmer
    python benchmarks/interquartile.py

Agarwal et al. 2021, "Deep reinforcement learning at the edge of the statistical precipice": the mean of the middle half
of all runs, with a 95 % interval from a bootstrap that draws the seeds of each task anew. Reads
`benchmarks/results/learning-trpo-*.json` and writes `benchmarks/results/trpo-mujoco.json`.
"""

import json
from pathlib import Path

import numpy as np
from scipy.stats import trim_mean

RESULTS = Path(__file__).resolve().parent / "results"
# The best of sb3-contrib, Tianshou, baselines and PFRL after 1M steps (PFRL 2M), published for earlier task versions.
BEST = {"halfcheetah": 4471.0, "hopper": 3372.0, "walker2d": 4502.0, "swimmer": 359.0}
DRAWS = 10_000


def main() -> None:
    scores = []
    for task, best in BEST.items():
        found = json.loads((RESULTS / f"learning-trpo-{task}.json").read_text())["seeds"]
        scores.append([result["evaluation"]["mean_return"] / best for result in found])
    shares = np.array(scores)  # [tasks, seeds]
    tasks, seeds = shares.shape
    drawn = np.random.default_rng(0).integers(seeds, size=(DRAWS, tasks, seeds))
    means = trim_mean(np.take_along_axis(shares[None], drawn, 2).reshape(DRAWS, -1), 0.25, axis=1)
    low, high = np.quantile(means, (0.025, 0.975))
    result = {
        "shares": dict(zip(BEST, shares.tolist(), strict=True)),
        "interquartile_mean": float(trim_mean(shares.ravel(), 0.25)),
        "interval_95": [float(low), float(high)],
    }
    (RESULTS / "trpo-mujoco.json").write_text(json.dumps(result, indent=1) + "\n")
    print(result)


if __name__ == "__main__":
    main()

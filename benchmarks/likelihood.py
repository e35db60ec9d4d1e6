"""The likelihood of test images under trained VAEs, by many importance samples each (Burda et al. 2016, equation 8).

    python benchmarks/likelihood.py runs/benchmarks/vae-0 runs/benchmarks/vae-1 --samples 5000 --images 10000

    python benchmarks/likelihood.py runs/benchmarks/vae-0 runs/benchmarks/vae-1 --samples 5000
samples and by the 50 that `evaluate` takes, with the standard error over images. Fewer samples give a larger number.
"""

import argparse
import dataclasses
import json
import time
from pathlib import Path

import numpy as np
from gan import opened

from launch.process import start_tensorflow

ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--samples", type=int, default=5000)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results")
    arguments = parser.parse_args()
    start_tensorflow(all_cores=True)
    results = []
    for run in arguments.runs:
        task, apply = opened(run)
        task.pixels.images["test"] = task.pixels.images["test"][: arguments.images]
        found: dict = {"run": run.name, "images": len(task.pixels.images["test"])}
        for samples in (50, arguments.samples):
            task.config = dataclasses.replace(task.config, importance_samples=samples)
            start = time.perf_counter()
            each = task.likelihoods(apply, "test")
            found[str(samples)] = {
                "nll": float(-each.mean()),
                "standard_error": float(each.std() / np.sqrt(len(each))),
                "seconds": time.perf_counter() - start,
            }
        results.append(found)
        print(json.dumps(found), flush=True)
    (arguments.out / "likelihood.json").write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()

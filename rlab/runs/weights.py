"""The trained parameters of a run, as of its newest checkpoint."""

from pathlib import Path
from typing import Any

import numpy as np

from rlab.arrays import Weights, read_weights
from rlab.errors import BadInputError, launch_command
from rlab.files import LARGEST, require_plain
from rlab.notify import notify
from rlab.runs import checkpoints
from rlab.state import subset

# The trained parameters by name, in a run's `policy/` or, of a task, `model/`.
WEIGHTS = "weights.safetensors"
_SIZES = ("units", "latents", "depth")
_SMALL = 1 << 10  # what is no danger
_HEADER = 1 << 20  # bytes, at most, of the names and shapes before the numbers


def require_sizes(run: Path, part: str, config: Any) -> None:
    """Raise BadInputError where a run's settings are of a model that is larger than its weights, before one is made."""
    files = [run / part / WEIGHTS, *checkpoints.paths(run / "checkpoints")[-1:]]
    held = max((path.stat().st_size // 4 for path in files if path.is_file()), default=-1)
    for name in _SIZES if held >= 0 else ():
        if isinstance(size := getattr(config, name, None), int) and size > max(held, _SMALL):
            raise BadInputError(
                f"{run}/config.json is damaged: {name!r} is {size:,}, and the weights hold {held:,} numbers"
            )


def load_weights(run: Path, part: str, numbers: int | None = None) -> dict[str, np.ndarray]:
    """The parameters by name, float32, of a run's `part`: `policy`, or `model` of a task.

    A kill may have left weights that are older than the checkpoint beside them; then those of the checkpoint are
    given. `numbers` is how many the model has, so that nothing much larger is read. Raises BadInputError when there are
    none, and for damaged ones.
    """
    require_plain(run)
    found = checkpoints.paths(run / "checkpoints")
    newest = found[-1] if found else None
    try:
        weights = read_weights(run / part / WEIGHTS, LARGEST if numbers is None else 4 * numbers + _HEADER)
    except (FileNotFoundError, NotADirectoryError) as error:
        if newest is None:
            raise BadInputError(
                f"{run} has no checkpoint yet; `{launch_command('resume', run)}` goes on with it"
            ) from error
        return subset(checkpoints.load(newest).arrays, part)
    return _or_newer(run, part, weights, newest)


def _or_newer(run: Path, part: str, weights: Weights, newest: Path | None) -> dict[str, np.ndarray]:
    """The weights, or those of the newest checkpoint, where they may be older than it."""
    if newest is None or (weights.steps is not None and weights.steps >= checkpoints.steps_of(newest)):
        return weights.arrays
    try:
        return subset(checkpoints.load(newest).arrays, part)
    except BadInputError as error:
        notify(f"note: {error}; until then the weights of {f'step {weights.steps}' if weights.steps else run} are used")
        return weights.arrays

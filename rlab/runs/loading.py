"""A run's `policy/`, for use: architecture as JSON, weights as safetensors, no code."""

import hashlib
import json
import math
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from rlab.arrays import DIGEST
from rlab.errors import BadInputError
from rlab.files import read_json, require_plain
from rlab.policies.policy import Policy
from rlab.policies.trained import TrainedPolicy
from rlab.runs import checkpoints
from rlab.runs.files import WEIGHTS, write_atomically
from rlab.runs.weights import load_weights

_ARCHITECTURE = "architecture.json"
_SMALL = 1 << 12  # numbers that are no danger


def save_architecture(run: Path, policy: Policy) -> None:
    """Write `policy/architecture.json`: the spaces and the backbone, from which the policy is built again.

    Raises BadInputError where one is there already, of a run that is resumed, and its spaces are others.
    """
    architecture = {
        "backbone": policy.backbone,
        "observe_actions": policy.observe_actions,
        "normalize_observations": policy.normalize_observations,
        "observation_scale": policy.observation_scale,
        **({"encoder": policy.encoder} if policy.encoder else {}),
        "observation_space": space_to_json(policy.observation_space),
        "action_space": space_to_json(policy.action_space),
    }
    require_plain(run)
    _require_same_spaces(run, policy)
    architecture[DIGEST] = _digest(architecture)
    (run / "policy").mkdir(exist_ok=True)
    write_atomically(run / "policy" / _ARCHITECTURE, json.dumps(architecture, indent=2, allow_nan=False).encode())


def _require_same_spaces(run: Path, policy: Policy) -> None:
    try:
        written = read_architecture(run)
    except (FileNotFoundError, NotADirectoryError):
        return
    for kind in ("observation", "action"):
        began, now = space_from_json(written[f"{kind}_space"]), getattr(policy, f"{kind}_space")
        if began != now:
            raise BadInputError(f"{run} began with {kind}s of {began}; those of the environment are now of {now}")


def read_architecture(run: Path) -> dict[str, Any]:
    """What `save_architecture` wrote; raises BadInputError where it is damaged. Version 0.1 wrote no digest."""
    path = run / "policy" / _ARCHITECTURE
    architecture = read_json(path)
    if not isinstance(architecture, dict):
        raise BadInputError(f"{path} is damaged: it describes no policy")
    written = architecture.pop(DIGEST, None)
    if written is not None and written != _digest(architecture):
        raise BadInputError(f"{path} is damaged: its digest differs")
    return architecture


def _digest(architecture: dict[str, Any]) -> str:
    """SHA-256 of JSON data, however it is laid out."""
    return hashlib.sha256(json.dumps(architecture, sort_keys=True).encode()).hexdigest()


def load_policy(run: str | Path, seed: int = 0) -> TrainedPolicy:
    """The policy of a run as of its newest checkpoint; raises BadInputError when there is none, or a damaged one.

    `seed` is that of the sampled actions. Loads data and never executes code found in the run, follows no link inside
    it, and builds nothing larger than its weights are.
    """
    run = Path(run)
    require_plain(run)
    try:
        architecture = read_architecture(run)
        _require_sizes(run, architecture)
        observations, actions = (space_from_json(architecture[f"{kind}_space"]) for kind in ("observation", "action"))
        optional = ("observe_actions", "normalize_observations", "observation_scale", "encoder")
        options = {name: architecture[name] for name in optional if name in architecture}
        policy = Policy(observations, actions, architecture["backbone"], **options)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise BadInputError(f"{run} holds no policy: {error.filename} is missing") from error
    except BadInputError:
        raise
    except Exception as error:  # whatever a damaged description makes the constructors raise
        raise BadInputError(f"{run}/policy/{_ARCHITECTURE} is damaged: {error}") from error
    return TrainedPolicy(policy, policy.flatten(load_weights(run, "policy", policy.size)), seed)


def _require_sizes(run: Path, architecture: dict[str, Any]) -> None:
    """Raise BadInputError for a description of more than its weights can be of, before any of it is built.

    Every backbone has a parameter, and more, to each number that it sees, and each action.
    """
    files = [run / "policy" / WEIGHTS, *checkpoints.paths(run / "checkpoints")[-1:]]
    held = max((path.stat().st_size // 4 for path in files if path.is_file()), default=0)
    sizes = [_numbers(architecture[f"{kind}_space"]) for kind in ("observation", "action")]
    encoder = architecture.get("encoder") or {}
    if encoder:
        units, latents, depth = (int(encoder[name]) for name in ("units", "latents", "depth"))
        sizes += [depth, 2 * units * latents, units * units * (depth - 1) if encoder["model"] == "mlp" else units]
    if max(sizes) > max(held, _SMALL):
        raise BadInputError(
            f"{run}/policy/{_ARCHITECTURE} is damaged: it speaks of {max(sizes):,} numbers, of which the "
            f"weights hold {held:,}"
        )


def _numbers(space: dict[str, Any]) -> int:
    """How many numbers a policy sees, or gives, of a space."""
    if space["type"] == "Box":
        return math.prod(int(side) for side in space["shape"])
    return sum(space["nvec"]) if space["type"] == "MultiDiscrete" else int(space["n"])


def space_to_json(space: gym.Space) -> dict[str, Any]:
    """A space that policies act on as JSON data; bounds that are one number everywhere are written as that number."""
    if isinstance(space, gym.spaces.Discrete):
        return {"type": "Discrete", "n": int(space.n), "start": int(space.start)}
    if isinstance(space, gym.spaces.MultiDiscrete):
        return {"type": "MultiDiscrete", "nvec": space.nvec.tolist(), "start": space.start.tolist()}
    if isinstance(space, gym.spaces.MultiBinary):
        return {"type": "MultiBinary", "n": space.n}
    if isinstance(space, gym.spaces.Box):
        low, high = (_shortened(bound) for bound in (space.low, space.high))
        return {"type": "Box", "low": low, "high": high, "shape": list(space.shape), "dtype": str(space.dtype)}
    raise BadInputError(
        f"a policy over {space} cannot be saved; those over Box, Discrete, MultiDiscrete and MultiBinary spaces can"
    )


def space_from_json(data: dict[str, Any]) -> gym.Space:
    """The inverse of `space_to_json`."""
    if data["type"] == "Discrete":
        return gym.spaces.Discrete(data["n"], start=data["start"])
    if data["type"] == "MultiDiscrete":
        return gym.spaces.MultiDiscrete(data["nvec"], start=data["start"])
    if data["type"] == "MultiBinary":
        return gym.spaces.MultiBinary(data["n"])
    dtype = np.dtype(data["dtype"])
    low, high = (np.broadcast_to(np.array(data[key], dtype), data["shape"]) for key in ("low", "high"))
    return gym.spaces.Box(low, high, dtype=dtype.type)


def _shortened(bound: np.ndarray) -> Any:
    # JSON knows no infinity; NumPy reads the words "inf" and "-inf" as numbers.
    written = np.where(np.isinf(bound), np.where(bound > 0, "inf", "-inf"), bound.astype(object))
    flat = written.ravel()
    return flat[0] if (flat == flat[0]).all() else written.tolist()

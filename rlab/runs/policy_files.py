"""A run's `policy/`, for use: architecture as JSON, weights as safetensors, no code."""

import hashlib
import json
import math
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from rlab import quiet
from rlab.arrays import DIGEST
from rlab.errors import BadInputError
from rlab.files import make_directory, read_json, require_plain, write_atomically
from rlab.policies.encoders import Encoder
from rlab.policies.inference import InferencePolicy
from rlab.policies.observations import first_reading_of, reading_from_json
from rlab.policies.policy import Architecture, Policy
from rlab.runs import checkpoints
from rlab.runs.directory import path_of
from rlab.runs.weights import WEIGHTS, load_weights

_ARCHITECTURE = "architecture.json"
_SMALL = 1 << 12  # numbers that are no danger


def save_architecture(run: Path, policy: Policy, deterministic: bool = False) -> None:
    """Write `policy/architecture.json`: the spaces and the backbone, from which the policy is built again.

    `deterministic` is how it acts while it learns. The description of a run that has one is never changed.
    """
    require_plain(run)
    if (run / "policy" / _ARCHITECTURE).exists():
        return
    architecture = {
        "backbone": policy.backbone,
        "observe_actions": policy.observe_actions,
        "normalize_observations": policy.normalize_observations,
        "observation_scale": policy.observation_scale,
        **({"encoder": policy.encoder} if policy.encoder else {}),
        "scale_actions": policy.scale_actions,
        "reading": policy.reading.to_json(),
        "deterministic": deterministic,
        "observation_space": space_to_json(policy.observation_space),
        "action_space": space_to_json(policy.action_space),
    }
    architecture[DIGEST] = digest(architecture)
    make_directory(run / "policy")
    write_atomically(run / "policy" / _ARCHITECTURE, json.dumps(architecture, indent=2, allow_nan=False).encode())


def digest(architecture: dict[str, Any]) -> str:
    """SHA-256 of JSON data, however it is laid out."""
    return hashlib.sha256(json.dumps(architecture, sort_keys=True).encode()).hexdigest()


@quiet.starting()
def load_policy(run: str | Path, seed: int = 0) -> InferencePolicy:
    """The policy of a run as of its newest checkpoint; raises BadInputError when there is none, or a damaged one.

    `seed` is that of the sampled actions. Loads data and never executes code found in the run, follows no link inside
    it, and builds nothing larger than its weights are.
    """
    run = path_of(run)
    found = read_architecture(run)
    if found is None:
        raise BadInputError(f"{run} holds no policy: {run / 'policy' / _ARCHITECTURE} is missing")
    try:
        policy = Policy(found.observation_space, found.action_space, found.backbone, **found.options)
    except BadInputError:
        raise
    except Exception as error:  # whatever a damaged description makes the constructors raise
        raise BadInputError(f"{run}/policy/{_ARCHITECTURE} is damaged: {error}") from error
    deterministic = _first_deterministic(run) if found.deterministic is None else found.deterministic
    return InferencePolicy(policy, policy.flatten(load_weights(run, "policy", policy.size)), seed, deterministic)


def read_architecture(run: str | Path) -> Architecture | None:
    """The description of a run's policy, by which training goes on too; None where there is none.

    What a run of version 0.1 leaves out was as it was then: actions cut off at their bounds, bytes of three axes read
    as images. Raises BadInputError where the description is damaged, or missing beside weights.
    """
    run = path_of(run)
    require_plain(run)
    path = run / "policy" / _ARCHITECTURE
    try:
        data = _read(path)
        _require_sizes(run, data)
        observed, actions = (space_from_json(data[f"{kind}_space"]) for kind in ("observation", "action"))
        optional = ("observe_actions", "normalize_observations", "observation_scale")
        options = {name: data[name] for name in optional if name in data}
        if "encoder" in data:  # whose weights are among the policy's
            options["encoder"] = Encoder(data["encoder"])
        options["scale_actions"] = bool(data.get("scale_actions", False))
        options["reading"] = (
            reading_from_json(observed, data["reading"]) if "reading" in data else first_reading_of(observed)
        )
        return Architecture(observed, actions, data["backbone"], options, _flag(data.get("deterministic")))
    except (FileNotFoundError, NotADirectoryError) as error:
        if path.with_name(WEIGHTS).exists():
            raise BadInputError(f"{path} is missing, beside weights that only it explains") from error
        return None
    except BadInputError:
        raise
    except Exception as error:  # whatever a damaged description makes the constructors raise
        raise BadInputError(f"{path} is damaged: {error}") from error


def _read(path: Path) -> dict[str, Any]:
    """The data that `save_architecture` wrote; version 0.1 wrote no digest."""
    data = read_json(path)
    if not isinstance(data, dict):
        raise BadInputError(f"{path} is damaged: it describes no policy")
    written = data.pop(DIGEST, None)
    if (written or "reading" in data or "scale_actions" in data) and written != digest(data):  # 0.1 knew none of these
        raise BadInputError(f"{path} is damaged: its digest differs")
    return data


def _flag(data: Any) -> bool | None:
    if data is None or isinstance(data, bool):
        return data
    raise ValueError(f"'deterministic' is {data!r}, neither true nor false")


def _first_deterministic(run: Path) -> bool:
    """Tell whether the policy of a run of version 0.1 learned by likeliest actions: SNES by its config, others not."""
    try:
        config = read_json(run / "config.json")
        return config["agent"] == "snes" and bool(config["config"].get("deterministic", True))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):  # a policy may be given away without its config
        return False


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
    """The count of numbers that a policy sees, or gives, of a space."""
    if space["type"] == "Box":
        return math.prod(int(side) for side in space["shape"])
    if space["type"] == "MultiDiscrete":
        return int(np.sum(space["nvec"]))
    return math.prod(np.atleast_1d(space["n"]).tolist())


def space_to_json(space: gym.Space) -> dict[str, Any]:
    """A space that policies act on as JSON data; bounds that are one number everywhere are written as that number."""
    if isinstance(space, gym.spaces.Discrete):
        return {"type": "Discrete", "n": int(space.n), "start": int(space.start), "dtype": str(space.dtype)}
    if isinstance(space, gym.spaces.MultiDiscrete):
        values = {"nvec": space.nvec.tolist(), "start": space.start.tolist()}
        return {"type": "MultiDiscrete", **values, "dtype": str(space.dtype)}
    if isinstance(space, gym.spaces.MultiBinary):
        return {"type": "MultiBinary", "n": space.n}
    if isinstance(space, gym.spaces.Box):
        low = _shortened(space.low, ~space.bounded_below, "-inf")
        high = _shortened(space.high, ~space.bounded_above, "inf")
        return {"type": "Box", "low": low, "high": high, "shape": list(space.shape), "dtype": str(space.dtype)}
    raise BadInputError(
        f"a policy over {space} cannot be saved; those over Box, Discrete, MultiDiscrete and MultiBinary spaces can"
    )


def space_from_json(data: dict[str, Any]) -> gym.Space:
    """The inverse of `space_to_json`."""
    if data["type"] == "MultiBinary":
        return gym.spaces.MultiBinary(data["n"])
    dtype = np.dtype(data.get("dtype", np.int64))  # version 0.1 did not write that of choices
    if data["type"] in ("Discrete", "MultiDiscrete"):
        if dtype.kind not in "iu":
            raise ValueError(f"choices are integers, not {dtype}")
        if data["type"] == "Discrete":
            return gym.spaces.Discrete(data["n"], start=data["start"], dtype=dtype.type)
        return gym.spaces.MultiDiscrete(data["nvec"], start=data["start"], dtype=dtype.type)
    shape = tuple(data["shape"])
    low, high = (_bound(data[key], dtype, shape) for key in ("low", "high"))
    with np.errstate(invalid="ignore"):  # gymnasium brings an infinite bound to integers
        return gym.spaces.Box(low, high, shape, dtype.type)


def _bound(data: Any, dtype: np.dtype, shape: tuple[int, ...]) -> np.ndarray | float:
    """A bound of an array space; integers that have none are written as the words that floats have for it."""
    bound = np.array(data)
    if bound.dtype.kind == "U":
        bound = bound.astype(np.float64)
    unbounded = dtype.kind != "f" and np.isinf(bound.astype(np.float64)).any()
    if unbounded and not bound.ndim:
        return float(bound)
    kept = unbounded and dtype.kind != "f"  # gymnasium brings an infinite bound to integers itself
    return np.broadcast_to(bound if kept else bound.astype(dtype), shape).copy()


def _shortened(bound: np.ndarray, unbounded: np.ndarray, word: str) -> Any:
    # JSON knows no infinity; NumPy reads the words "inf" and "-inf" as numbers.
    written = np.where(unbounded, word, bound.astype(object))
    flat = written.ravel()
    return flat[0] if (flat == flat[0]).all() else written.tolist()

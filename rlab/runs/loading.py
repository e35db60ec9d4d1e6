"""A run's `policy/`, for use: architecture as JSON, weights as safetensors, no code."""

import json
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import safetensors
import safetensors.numpy

from rlab.errors import BadInputError
from rlab.policies.observations import first_reading_of, reading_from_json
from rlab.policies.policy import Architecture, Policy
from rlab.policies.trained import TrainedPolicy
from rlab.runs.files import WEIGHTS, write_atomically

_ARCHITECTURE = "architecture.json"


def save_architecture(run: Path, policy: Policy, deterministic: bool = False) -> None:
    """Write `policy/architecture.json`: the spaces and the backbone, from which the policy is built again.

    `deterministic` is how it acts while it learns. The description of a run that has one is never changed.
    """
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
    write_atomically(run / "policy" / _ARCHITECTURE, json.dumps(architecture, indent=2, allow_nan=False).encode())


def load_policy(run: str | Path, seed: int = 0) -> TrainedPolicy:
    """The policy of a run as of its newest checkpoint; raises BadInputError when there is none, or a damaged one.

    `seed` is that of the sampled actions. Loads data and never executes code found in the run.
    """
    run = Path(run)
    found = read_architecture(run)
    if found is None:
        raise BadInputError(f"{run} holds no policy: {run / 'policy' / _ARCHITECTURE} is missing")
    try:
        policy = Policy(found.observation_space, found.action_space, found.backbone, **found.options)
    except BadInputError:
        raise
    except Exception as error:  # whatever a damaged description makes the constructors raise
        raise BadInputError(f"{run}/policy/{_ARCHITECTURE} is damaged: {error}") from error
    try:
        arrays = safetensors.numpy.load_file(run / "policy" / WEIGHTS)
    except FileNotFoundError as error:
        raise BadInputError(f"{run} has no checkpoint yet; `python -m launch resume {run}` goes on with it") from error
    except safetensors.SafetensorError as error:
        raise BadInputError(f"{run}/policy/{WEIGHTS} is cut short or damaged: {error}") from error
    deterministic = _first_deterministic(run) if found.deterministic is None else found.deterministic
    return TrainedPolicy(policy, policy.flatten(arrays), seed, deterministic)


def read_architecture(run: str | Path) -> Architecture | None:
    """What a run says of its policy, by which it goes on too; None where it says nothing.

    What a run of version 0.1 does not say was as it was then: actions cut off at their bounds, bytes of three axes read
    as images. Raises BadInputError where the description is damaged, or missing beside weights.
    """
    path = Path(run) / "policy" / _ARCHITECTURE
    try:
        data = json.loads(path.read_text())
        observed, actions = (space_from_json(data[f"{kind}_space"]) for kind in ("observation", "action"))
        optional = ("observe_actions", "normalize_observations", "observation_scale", "encoder")
        options = {name: data[name] for name in optional if name in data}
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


def _flag(data: Any) -> bool | None:
    if data is None or isinstance(data, bool):
        return data
    raise ValueError(f"'deterministic' is {data!r}, neither true nor false")


def _first_deterministic(run: Path) -> bool:
    """How the policy of a run of version 0.1 acted while it learned: that of SNES by its config, others by samples."""
    try:
        config = json.loads((run / "config.json").read_text())
        return config["agent"] == "snes" and bool(config["config"].get("deterministic", True))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):  # a policy may be given away without its config
        return False


def space_to_json(space: gym.Space) -> dict[str, Any]:
    """A space that policies act on as JSON data; bounds that are one number everywhere are written as that number."""
    if isinstance(space, gym.spaces.Discrete):
        return {"type": "Discrete", "n": int(space.n), "start": int(space.start)}
    if isinstance(space, gym.spaces.MultiDiscrete):
        return {"type": "MultiDiscrete", "nvec": space.nvec.tolist(), "start": space.start.tolist()}
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
    if data["type"] == "Discrete":
        return gym.spaces.Discrete(data["n"], start=data["start"])
    if data["type"] == "MultiDiscrete":
        return gym.spaces.MultiDiscrete(data["nvec"], start=data["start"])
    if data["type"] == "MultiBinary":
        return gym.spaces.MultiBinary(data["n"])
    dtype, shape = np.dtype(data["dtype"]), tuple(data["shape"])
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
    return np.broadcast_to(bound if unbounded else bound.astype(dtype), shape).copy()


def _shortened(bound: np.ndarray, unbounded: np.ndarray, word: str) -> Any:
    # JSON knows no infinity; NumPy reads the words "inf" and "-inf" as numbers.
    written = np.where(unbounded, word, bound.astype(object))
    flat = written.ravel()
    return flat[0] if (flat == flat[0]).all() else written.tolist()

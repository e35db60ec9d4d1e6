"""A run's `policy/`, for use: architecture as JSON, weights as safetensors, no code."""

import json
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import safetensors
import safetensors.numpy

from rlab import quiet
from rlab.errors import BadInputError, launch_command
from rlab.policies.policy import Policy
from rlab.policies.trained import TrainedPolicy
from rlab.runs.files import WEIGHTS, write_atomically

_ARCHITECTURE = "architecture.json"


def save_architecture(run: Path, policy: Policy) -> None:
    """Write `policy/architecture.json`: the spaces and the backbone, from which the policy is built again."""
    architecture = {
        "backbone": policy.backbone,
        "observe_actions": policy.observe_actions,
        "normalize_observations": policy.normalize_observations,
        "observation_scale": policy.observation_scale,
        **({"encoder": policy.encoder} if policy.encoder else {}),
        "observation_space": space_to_json(policy.observation_space),
        "action_space": space_to_json(policy.action_space),
    }
    write_atomically(run / "policy" / _ARCHITECTURE, json.dumps(architecture, indent=2, allow_nan=False).encode())


@quiet.starting()
def load_policy(run: str | Path, seed: int = 0) -> TrainedPolicy:
    """The policy of a run as of its newest checkpoint; raises BadInputError when there is none, or a damaged one.

    `seed` is that of the sampled actions. Loads data and never executes code found in the run.
    """
    run = Path(run)
    try:
        architecture = json.loads((run / "policy" / _ARCHITECTURE).read_text())
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
    try:
        arrays = safetensors.numpy.load_file(run / "policy" / WEIGHTS)
    except FileNotFoundError as error:
        raise BadInputError(
            f"{run} has no checkpoint yet; `{launch_command('resume', run)}` goes on with it"
        ) from error
    except safetensors.SafetensorError as error:
        raise BadInputError(f"{run}/policy/{WEIGHTS} is cut short or damaged: {error}") from error
    return TrainedPolicy(policy, policy.flatten(arrays), seed)


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

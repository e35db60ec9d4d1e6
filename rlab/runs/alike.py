"""The facts that the ranks of one training must have in common, as plain values that can be compared and shown."""

import functools
import hashlib
import json
import re
import sys
from pathlib import Path
from typing import Any

from rlab.environments import EnvironmentFactory
from rlab.rewards import RewardSettings
from rlab.runs.directory import package_versions

_OURS = ("rlab", "agents", "envs")  # packages whose code decides what is learned
_COMPUTING = ("rlab", "tensorflow", "keras", "numpy", "gymnasium", "ale-py")


def facts(
    command: str, agent: str, env: EnvironmentFactory, rewards: RewardSettings | None, given: dict[str, Any]
) -> dict[str, Any]:
    """The facts of `train` or `resume` of an agent: environment, code, libraries, and what else is given, by flag.

    None stands for what there is not.
    """
    versions = package_versions()
    libraries = {f"version of {name}": versions[name] for name in _COMPUTING}
    of_ours = libraries | {"source code": source_digest()}
    return {"command": f"{command} {agent}"} | _of_env(env) | _of_rewards(rewards) | given | of_ours


def flags(config: dict[str, Any]) -> dict[str, Any]:
    """Settings by the flags that set them."""
    return {f"--{name.replace('_', '-')}": value for name, value in config.items()}


def _of_env(factory: EnvironmentFactory) -> dict[str, Any]:
    if described := factory.description:
        options = {name: _shown(value) for name, value in described["options"].items()}
        return {"--env": described["name"]} | flags(options)
    return {"environment factory": _shown(factory.source)}


def _of_rewards(rewards: RewardSettings | None) -> dict[str, Any]:
    return {"rewards": json.dumps(rewards.describe(), sort_keys=True, default=str)} if rewards else {}


def spaces(observations: Any, actions: Any) -> dict[str, Any]:
    """The spaces of an environment."""
    return {"observations": repr(observations), "actions": repr(actions)}


def _shown(value: Any) -> str:
    """Text that is the same for the same code in another process: with no address in memory."""
    if isinstance(value, functools.partial):
        parts = [_shown(value.func), *map(_shown, value.args)]
        return ", ".join(parts + [f"{name}={_shown(part)}" for name, part in sorted(value.keywords.items())])
    if hasattr(value, "__qualname__"):
        return f"{value.__module__}.{value.__qualname__}"
    return re.sub(r" at 0x[0-9a-fA-F]+", "", repr(value))


@functools.cache
def source_digest() -> str:
    """The digest of the source code of this project's packages, as far as they are imported."""
    digest = hashlib.sha256()
    for name in _OURS:
        if file := getattr(sys.modules.get(name), "__file__", None):
            root = Path(file).parent
            for path in sorted(found for kind in ("*.py", "*.toml") for found in root.rglob(kind)):
                digest.update(f"{name}/{path.relative_to(root)}\n".encode() + path.read_bytes())
    return digest.hexdigest()[:12]

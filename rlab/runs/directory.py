"""The run directory: `config.json`, `metrics.csv`, `tensorboard/`, `checkpoints/`, `policy/` (a task's: `model/`)."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.metadata
import json
import os
import platform
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from rlab.arrays import are_weights_of, weights_to_bytes
from rlab.errors import BadInputError, launch_command
from rlab.files import make_directory, read_json, remove_leftovers, require_plain, write_atomically
from rlab.runs import checkpoints
from rlab.runs.checkpoints import Checkpoint
from rlab.runs.lock import locked
from rlab.runs.weights import WEIGHTS
from rlab.state import subset

# What a run's config holds, by type; `env` is None for an environment that research code made.
_COMMON: dict[str, Any] = {"seed": int, "steps": int, "config": dict}
_AGENT: dict[str, Any] = {"target_score": float | int | None, "backbone": str, "env": dict | None}
_KINDS: dict[str, Any] = {"agent": _COMMON | _AGENT, "task": _COMMON}
_PACKAGES = ("rlab", "tensorflow", "keras", "numpy", "gymnasium", "ale-py")


@dataclasses.dataclass(frozen=True)
class Run:
    """A run on disk. `config` holds every setting, the seed and the versions, as JSON data."""

    path: Path
    config: dict[str, Any]

    @classmethod
    def create(cls, path: str | Path, config: dict[str, Any]) -> Run:
        """A new run directory, complete in one rename; raises BadInputError when the path holds something already."""
        path = path_of(path)
        require_free(path)
        config = config | {"versions": package_versions()}
        content = _json(config)
        temporary = None
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
            temporary.chmod(0o777 & ~_umask())
            for name in ("checkpoints", "tensorboard", _part(config)):
                (temporary / name).mkdir()
            write_atomically(temporary / "config.json", content)
            temporary.rename(path)
        except OSError as error:
            if temporary:
                shutil.rmtree(temporary, ignore_errors=True)
            raise BadInputError(f"the run directory {path} cannot be made: {error.strerror}") from error
        return cls(path, config)

    @classmethod
    def open(cls, path: str | Path) -> Run:
        """An existing run; raises BadInputError when the path holds none, or one with a link inside."""
        path = path_of(path)
        require_plain(path)
        try:
            config = read_json(path / "config.json")
        except (FileNotFoundError, NotADirectoryError) as error:
            raise BadInputError(f"{path} is not a run: it has no config.json") from error
        except BadInputError as error:
            raise BadInputError(f"{path} is not a run, since its config.json cannot be read: {error}") from error
        kinds = [kind for kind in _KINDS if isinstance(config, dict) and isinstance(config.get(kind), str)]
        if not kinds:
            raise BadInputError(f"{path}/config.json does not describe a run: it names no agent and no task")
        if len(kinds) > 1:
            raise BadInputError(f"{path}/config.json is damaged: it names both an agent and a task")
        for key, kind in _KINDS[kinds[0]].items():
            value = config.get(key)
            if not isinstance(value, kind) or isinstance(value, bool) or not _in_range(key, value):
                raise BadInputError(f"{path}/config.json is damaged: {key!r} is {value!r}")
        if config["steps"] < 1:
            raise BadInputError(f"{path}/config.json is damaged: 'steps' is {config['steps']}")
        return cls(path, config)

    def with_steps(self, steps: int) -> Run:
        """The same run with another number of steps to make, written down, so that a later `resume` knows it."""
        if self.config.get("steps") == steps:
            return self
        config = self.config | {"steps": steps}
        write_atomically(self.path / "config.json", _json(config))
        return Run(self.path, config)

    @property
    def of_task(self) -> bool:
        """True if this is the run of a task, and not of an agent."""
        return "task" in self.config

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    def latest_checkpoint(self) -> Checkpoint | None:
        """The newest checkpoint, or None before the first; raises BadInputError when it is damaged, or all are gone."""
        found = checkpoints.paths(self.checkpoints)
        if not found and self._weights.exists():
            raise BadInputError(
                f"{self.path} has lost its checkpoints: its trained parameters can be used, and not learned further"
            )
        return checkpoints.load(found[-1]) if found else None

    def latest_steps(self) -> int | None:
        """Steps of the newest checkpoint, by its name, or None before the first."""
        found = checkpoints.paths(self.checkpoints)
        return checkpoints.steps_of(found[-1]) if found else None

    @contextlib.contextmanager
    def training(self, first_step: int, checkpoint: Callable[[], Checkpoint]) -> Iterator[None]:
        """Hold a run for training by this process alone, beginning from the checkpoint of `first_step`.

        `checkpoint` gives that checkpoint. Raises BadInputError where another process trains it, or has trained it
        since that checkpoint was read.
        """
        with locked(self.path):
            require_plain(self.path)
            latest = self.latest_steps()
            if (latest or 0) != first_step:
                raise BadInputError(f"{self.path} was trained by another process meanwhile: resume it again")
            for part in (".", "checkpoints", "pictures", _part(self.config)):
                remove_leftovers(self.path / part)
            for part in ("checkpoints", _part(self.config)):
                make_directory(self.path / part)
            if latest is not None:
                self._renew_weights(checkpoint, latest)
            yield

    def save_checkpoint(self, checkpoint: Checkpoint, keep: int = 3) -> None:
        """Write the checkpoint, for `resume`, and its parameters to `policy/` or `model/`, for use.

        Raises TrainingError, and writes nothing, where the state is not finite.
        """
        checkpoints.save(self.checkpoints, checkpoint, keep)
        self.save_weights(checkpoint)

    def save_weights(self, checkpoint: Checkpoint) -> None:
        """Write the checkpoint's parameters, for use; a kill may have come between the two files."""
        weights = weights_to_bytes(subset(checkpoint.arrays, _part(self.config)), checkpoint.steps)
        write_atomically(self._weights, weights)

    def _renew_weights(self, checkpoint: Callable[[], Checkpoint], steps: int) -> None:
        """Write the weights again where a kill, or a checkpoint that was moved away, left them of another step."""
        if not are_weights_of(self._weights, steps):
            self.save_weights(checkpoint())

    @property
    def _weights(self) -> Path:
        return self.path / _part(self.config) / WEIGHTS


def _part(config: dict[str, Any]) -> str:
    """The directory of a run's trained parameters, and the prefix of their names in its checkpoints."""
    return "policy" if "agent" in config else "model"


def path_of(run: str | Path) -> Path:
    """The path of a run; raises BadInputError for what names none."""
    try:
        path = Path(run)
        path.exists()
    except (TypeError, ValueError, OSError) as error:
        raise BadInputError(f"a run is named by the path of its directory, not by {run!r:.100} ({error})") from error
    return path


def require_free(path: Path) -> None:
    """Raise BadInputError when a new run may not go to `path`, because something is there."""
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        remedy = f"go on with it by `{launch_command('resume', path)}`, or " if (path / "config.json").exists() else ""
        raise BadInputError(f"{path} exists and is not empty; {remedy}name another directory with --run")


def _in_range(key: str, value: Any) -> bool:
    """Tell whether a number is one that a run can have; the NaN and the infinities of JSON are not."""
    return not isinstance(value, int | float) or abs(value) < (2**64 if key == "seed" else 2**63)


def _json(config: dict[str, Any]) -> bytes:
    try:
        return (json.dumps(config, indent=2) + "\n").encode()
    except TypeError as error:
        raise BadInputError(f"the run's settings must be JSON data: {error}") from error


def package_versions() -> dict[str, str]:
    """The versions of Python and of the packages that compute, by name."""
    versions = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:  # run from a checkout that is not installed
            versions[package] = "not installed"
    return versions


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current

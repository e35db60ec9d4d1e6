"""The contract between environments and the code that plays them.

An agent is handed an `EnvironmentFactory`, as `envs.factory` makes it of a name, a class or a function. What such
a factory makes is a `VectorEnvironment`, whose episodes begin and end as `envs` promises.

`rlab` knows no environment by name: `envs` registers a maker of factories when it is imported.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:  # settings are known without them, and `--help` waits for neither
    import gymnasium as gym
    import numpy as np


class Facts(Protocol):
    """Facts of environments that must be known before any is played."""

    @property
    def name(self) -> str:
        """For messages."""

    @property
    def episode_limit(self) -> int | None:
        """Steps after which an episode is truncated; None where that is not known."""

    @property
    def can_save(self) -> bool:
        """True if the environments' state can be saved and loaded; of a factory, if they are made `restorable`."""

    @property
    def shows_reward(self) -> bool:
        """True if observations hold the last reward."""


class WithSpaces(Protocol):
    """Several copies of something that is observed and acted upon."""

    @property
    def single_observation_space(self) -> gym.Space:
        """Observation space of one copy."""

    @property
    def single_action_space(self) -> gym.Space:
        """Action space of one copy."""


class VectorEnvironment(WithSpaces, Facts, Protocol):
    """B copies that step together and reset by themselves within the step, gymnasium's SAME_STEP."""

    @property
    def num_envs(self) -> int:
        """B, the number of copies."""

    @property
    def action_space(self) -> gym.Space:
        """Action space of all copies together."""

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """The first observations [B, ...], and information; without a seed from where the random streams stand."""

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Observations [B, ...], rewards, terminations and truncations [B] each, and information.

        At an episode's end the observation is the next one's first; `info["final_obs"]` has the last one and
        `info["episode"]` the score and length.
        """

    def save_state(self) -> dict[str, np.ndarray] | None:
        """All that the next steps depend on, finite or not; None where it cannot be saved."""

    def load_state(self, arrays: dict[str, np.ndarray]) -> None:
        """Go on, after a reset, from what `save_state` of an environment of the same kind gave."""

    def close(self) -> Any:
        """Release what the copies hold: processes, windows, memory."""


class EnvironmentFactory(Facts, Protocol):
    """A factory of environments of one kind, with what must be known of them before any is played."""

    @property
    def observation_space(self) -> gym.Space:
        """Observation space of one copy."""

    @property
    def action_space(self) -> gym.Space:
        """Action space of one copy."""

    @property
    def description(self) -> dict[str, Any] | None:
        """The `name` and `options`, JSON data to make the environments again; None where code makes them."""

    @property
    def source(self) -> Any:
        """The name or the code that makes them."""

    def __call__(
        self, num_envs: int, seed: int, *, restorable: bool = False, single_episode: bool = False
    ) -> VectorEnvironment:
        """B environments whose first reset is seeded; if asked for, restorable, or resting after their first episode.

        Copies of a factory that knows no `single_episode` play on.
        """


# The package whose `factory` makes factories: a plug-in by its name, so that nothing here depends on it.
_PLUGIN = "envs"
# What is given to `envs.make` anew each time, and is no option of an environment.
GIVEN = ("name_or_factory", "num_envs", "seed", "filmed")
# How copies are run, which factories and `envs.make` take beside an environment's own options.
WAYS = ("asynchronous", "restorable", "single_episode")


def factory(env: Any, /, **options: Any) -> EnvironmentFactory:
    """Return the factory of what a user calls an environment: a name, a class, a function, or a factory.

    Raises BadInputError for anything else.
    """
    return importlib.import_module(_PLUGIN).factory(env, **options)

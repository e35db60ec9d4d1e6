"""Factories of vector environments, which agents play, made of what a user calls an environment."""

import contextlib
import functools
import inspect
from collections.abc import Callable, Collection
from typing import Any, NamedTuple

import gymnasium as gym
from gymnasium.vector import VectorEnv

from envs.construction import is_atari, make, require_options, resolve
from envs.contract import conform
from rlab.environments import GIVEN, WAYS, EnvironmentFactory, VectorEnvironment
from rlab.errors import BadInputError, called, cannot_be_made

_WANTED = (
    "a name such as 'CartPole-v1', a class or function that makes one gymnasium.Env, or one that takes num_envs and "
    "makes a VectorEnv"
)


def factory(env: Any, /, **options: Any) -> EnvironmentFactory:
    """A factory of vector environments, called as `factory(num_envs=B, seed=S)`.

    Args:
        env: a name that `make` knows; a class or callable without `num_envs`, which makes a single environment; or one
            with `num_envs`, which makes a vector environment, and is given `seed`, `restorable` and `single_episode`
            too where it takes them. A partial of `make` is read, and a factory is given back as it is.
        options: keyword arguments of `make` or of the callable.

    Raises BadInputError for anything else, and for an unknown name.
    """
    if isinstance(env, str):
        require_options(options, WAYS)
        return _named(env, options)
    _require_callable(env)
    if options:
        env = functools.partial(env, **options)
    if all(hasattr(type(env), name) for name in ("can_save", "episode_limit", "observation_space")):
        return env  # a factory already, ours or another's
    if isinstance(env, functools.partial) and env.func is make and len(env.args) == 1:
        kept = {name: value for name, value in env.keywords.items() if name not in GIVEN}
        one = env.args[0]
        return _named(one, kept) if isinstance(one, str) else _of_one(one, kept)
    many = _makes_many(env)
    _require_complete(env, {"num_envs", "seed"} if many else set())
    return _of_many(env) if many else _of_one(env, {})


class _Facts(NamedTuple):
    """The facts about a factory's environments, known once one was made."""

    observation_space: gym.Space
    action_space: gym.Space
    episode_limit: int | None
    can_save: bool
    shows_reward: bool


class Factory:
    """A factory of environments of one kind; one is made to learn their spaces when these are first asked for.

    Args:
        name: of the environments, for messages.
        source: the name or the callable that makes them.
        made: from `num_envs`, `seed` and the ways of `taken` to environments in the shape of those of `make`.
        taken: which of `restorable` and `single_episode` it takes.
        description: `name` and `options` of a named environment.
        can_save: the state of what is made `restorable` can be saved, whatever that of others can.
    """

    def __init__(
        self,
        name: str,
        source: Any,
        made: Callable[..., VectorEnvironment],
        taken: Collection[str],
        description: dict[str, Any] | None = None,
        can_save: bool = False,
    ) -> None:
        self.name, self.source, self.description = name, source, description
        self._made, self._taken, self._can_save = made, taken, can_save

    def __call__(
        self, num_envs: int = 1, seed: int = 0, *, restorable: bool = False, single_episode: bool = False
    ) -> VectorEnvironment:
        asked = {"restorable": restorable, "single_episode": single_episode}
        ways = {name: True for name, wanted in asked.items() if wanted and name in self._taken}
        return self._made(num_envs=num_envs, seed=seed, **ways)

    @functools.cached_property
    def _facts(self) -> _Facts:
        with contextlib.closing(self(1, 0)) as one:
            spaces = one.single_observation_space, one.single_action_space
            return _Facts(*spaces, one.episode_limit, one.can_save, one.shows_reward)

    @property
    def observation_space(self) -> gym.Space:
        """Observation space of one copy."""
        return self._facts.observation_space

    @property
    def action_space(self) -> gym.Space:
        """Action space of one copy."""
        return self._facts.action_space

    @property
    def episode_limit(self) -> int | None:
        """Steps after which an episode is truncated, where that is known."""
        return self._facts.episode_limit

    @property
    def can_save(self) -> bool:
        """True if the state of environments that are made `restorable` can be saved."""
        return self._can_save or self._facts.can_save

    @property
    def shows_reward(self) -> bool:
        """True if observations hold the last reward."""
        return self._facts.shows_reward


def _named(name: str, options: dict[str, Any]) -> Factory:
    name = resolve(name)
    described = {"name": name, "options": options}
    return Factory(name, name, functools.partial(make, name, **options), WAYS, described, is_atari(name))


def _of_one(source: Callable[..., Any], options: dict[str, Any]) -> Factory:
    """A factory of copies of what a callable makes."""
    return Factory(_name(source), source, functools.partial(make, source, **options), WAYS)


def _of_many(source: Callable[..., VectorEnv]) -> Factory:
    """A factory of vector environments of any make, each brought into the shape of those of `make`."""
    name = _name(source)
    anything = _takes_any(source) and _innermost(source) is not gym.make_vec
    taken = {"seed"} if anything else set(_parameters(source))

    def made(num_envs: int, seed: int, **ways: bool) -> VectorEnvironment:
        seeded = {"seed": seed} if "seed" in taken else {}
        make_them = functools.partial(source, num_envs=num_envs, **seeded, **ways)
        found = called(make_them, functools.partial(cannot_be_made, name), ours=(BadInputError,))
        return conform(found, name, seed, num_envs)

    return Factory(name, source, made, taken, can_save="restorable" in taken)


def _require_callable(env: Any) -> None:
    if isinstance(env, gym.Env | VectorEnv):
        raise BadInputError(f"env is an environment already made, {env}, of which there must be many; give {_WANTED}")
    if not callable(env):
        raise BadInputError(f"env cannot be {env!r}; give {_WANTED}")


def _require_complete(env: Callable[..., Any], given: set[str]) -> None:
    """Raise BadInputError where a callable needs an argument that it will not be given."""
    variable = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    wanted = [
        name
        for name, parameter in _parameters(env).items()
        if parameter.default is parameter.empty and parameter.kind not in variable and name not in given
    ]
    if wanted:
        raise BadInputError(
            f"env {_name(env)!r} needs {', '.join(wanted)}, which it is not given; bind arguments by functools.partial"
        )


def _makes_many(env: Callable[..., Any]) -> bool:
    """Tell whether a callable makes vector environments."""
    inner = _innermost(env)
    if inner is gym.make or (inspect.isclass(inner) and issubclass(inner, gym.Env)):
        return False
    # Whoever takes any keyword takes `num_envs` too.
    return "num_envs" in _parameters(env) or _takes_any(env)


def _innermost(env: Any) -> Any:
    while isinstance(env, functools.partial):
        env = env.func
    return env


def _name(env: Any) -> str:
    inner = _innermost(env)
    return getattr(inner, "__name__", type(inner).__name__)


def _parameters(env: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    try:
        return dict(inspect.signature(env).parameters)
    except (TypeError, ValueError):  # written in C: it says nothing of itself
        return {}


def _takes_any(env: Callable[..., Any]) -> bool:
    return any(parameter.kind is parameter.VAR_KEYWORD for parameter in _parameters(env).values())

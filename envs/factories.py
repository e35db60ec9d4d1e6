"""From what a user calls an environment to a factory of vector environments, which is what an agent plays."""

import functools
import inspect
from collections.abc import Callable
from typing import Any

import gymnasium as gym
from gymnasium.vector import VectorEnv

from envs.contract import conform
from envs.making import make, resolve
from rlab.errors import BadInputError, worded

_WANTED = (
    "a name such as 'CartPole-v1', a class or function that makes one gymnasium.Env, or one that takes num_envs and "
    "makes a VectorEnv"
)


def factory(env: Any, **options: Any) -> Callable[..., VectorEnv]:
    """A factory of vector environments in the shape of `envs.make`, called as `factory(num_envs=B, seed=S)`.

    Args:
        env: a name that `make` knows; a class or callable without `num_envs`, which makes a single environment; or one
            with `num_envs`, which makes a vector environment, and is given `seed` too where it takes that. What this
            function gave, and a partial of `make`, are given back as they are.
        options: keyword arguments of `make` or of the callable.

    What the factory takes besides, such as `single_episode`, its signature says. Raises BadInputError for anything
    else, and for an unknown name.
    """
    if isinstance(env, str):
        return functools.partial(make, resolve(env), **options)
    _require_callable(env)
    if options:
        env = functools.partial(env, **options)
    if isinstance(env, ManyFactory) or _innermost(env) is make:
        return env
    many = _makes_many(env)
    _require_complete(env, {"num_envs", "seed"} if many else set())
    return ManyFactory(env) if many else functools.partial(make, env)


class ManyFactory:
    """A factory of vector environments of any make, each brought into the shape of those of `make`."""

    def __init__(self, made_by: Callable[..., VectorEnv]) -> None:
        self.__wrapped__ = made_by  # its signature is this one's too
        self._name = _name(made_by)
        anything = _takes_any(made_by) and _innermost(made_by) is not gym.make_vec
        self._seeded = anything or "seed" in _parameters(made_by)

    def __call__(self, num_envs: int, seed: int, **options: Any) -> VectorEnv:
        given = options | ({"seed": seed} if self._seeded else {})
        try:
            made = self.__wrapped__(num_envs=num_envs, **given)
        except BadInputError:
            raise
        except (Exception, SystemExit) as error:  # whatever a constructor raises
            raise BadInputError(f"environment {self._name!r} cannot be made: {worded(error)}") from error
        return conform(made, self._name, seed, num_envs)


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
    """Whether a callable makes vector environments."""
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

"""The project's own environments, by the names under which gymnasium and `envs.make` know them."""

import functools
from typing import Any

import gymnasium as gym
import numpy as np

from envs.batched import ROWS, register
from envs.catch import Catch
from envs.deep_sea import DeepSea
from envs.memory import DelayedRecall, NBack, TMaze
from envs.poles import CartPole, DoublePole, Pendulum, SinglePole


def lunar_lander_without_velocities(**options: Any) -> gym.Env:
    """gymnasium's LunarLander-v3 without ẋ, ẏ and the angular velocity; needs Box2D (`gymnasium[box2d]`)."""
    env = gym.make("LunarLander-v3", max_episode_steps=-1, disable_env_checker=True, **options)
    seen = np.array([0, 1, 4, 6, 7])
    space = env.observation_space
    assert isinstance(space, gym.spaces.Box)
    kept = gym.spaces.Box(space.low[seen], space.high[seen], dtype=np.float32)
    return gym.wrappers.TransformObservation(env, lambda observation: observation[seen], kept)


# The names of "NoVel" and their time limits are those that other libraries publish results under.
register("TMaze", TMaze)
register("NBack", NBack)
register("DelayedRecall", DelayedRecall)
register("DeepSea", DeepSea)
register("Catch", Catch)
register("CartPoleNoVel-v1", CartPole, 500)
register("PendulumNoVel-v1", Pendulum, 200)
register("SinglePoleNoVel", SinglePole, 1000)
register("DoublePoleNoVel", DoublePole, 1000)
gym.register("LunarLanderNoVel-v3", entry_point=lunar_lander_without_velocities, max_episode_steps=1000)

# gymnasium's own vectorised CartPole resets one step late.
ROWS["CartPole-v0"] = ROWS["CartPole-v1"] = functools.partial(CartPole, velocities=True)

"""Poles to balance and to swing up, with and without their velocities; without them the state must be remembered."""

import math
from collections.abc import Callable

import gymnasium as gym
import numpy as np

from envs import drawing
from envs.batched import Outcome


class CartPole:
    """gymnasium's CartPole-v1, many at a time; without `velocities` the agent sees position and angle only.

    State and observation: x in metres, ẋ, θ in radians, θ̇ (Barto, Sutton and Anderson 1983).

    Args:
        velocities: show them.
    """

    action_space = gym.spaces.Discrete(2)
    limit: int | None = None

    def __init__(self, velocities: bool = False) -> None:
        self._seen = [0, 1, 2, 3] if velocities else [0, 2]
        # Twice the angle at which an episode ends, so that its last observation is within the bounds.
        high = np.array([4.8, np.inf, 2.0 * _CARTPOLE_ANGLE, np.inf], np.float32)[self._seen]
        self.observation_space = gym.spaces.Box(-high, high, dtype=np.float32)

    def begin(self, rng: np.random.Generator) -> np.ndarray:
        return rng.uniform(-0.05, 0.05, 4)

    def step(self, states: np.ndarray, actions: np.ndarray) -> Outcome:
        x, x_dot, theta, theta_dot = states.T
        cos, sin = np.cos(theta), np.sin(theta)
        cart, pole, half_length, tau = 1.0, 0.1, 0.5, 0.02
        total = pole + cart
        force = np.where(actions == 1, 10.0, -10.0)
        temp = (force + pole * half_length * np.square(theta_dot) * sin) / total
        theta_acc = (9.8 * sin - cos * temp) / (half_length * (4.0 / 3.0 - pole * np.square(cos) / total))
        x_acc = temp - pole * half_length * theta_acc * cos / total
        after = (x + tau * x_dot, x_dot + tau * x_acc, theta + tau * theta_dot, theta_dot + tau * theta_acc)
        fallen = (np.abs(after[0]) > 2.4) | (np.abs(after[2]) > _CARTPOLE_ANGLE)
        return Outcome(np.stack(after, axis=1), np.ones(len(states)), fallen)

    def observe(self, states: np.ndarray) -> np.ndarray:
        return states[:, self._seen].astype(np.float32)

    def picture(self, state: np.ndarray) -> np.ndarray:
        return drawing.draw_cart(state[0], state[2:3], np.array([1.0]))


class Pendulum:
    """gymnasium's Pendulum-v1, many at a time; without `velocities` the agent sees cos θ and sin θ only.

    Args:
        velocities: show them.
    """

    action_space = gym.spaces.Box(-2.0, 2.0, (1,), np.float32)
    limit: int | None = None

    def __init__(self, velocities: bool = False) -> None:
        self._seen = 3 if velocities else 2
        high = np.array([1.0, 1.0, 8.0], np.float32)[: self._seen]
        self.observation_space = gym.spaces.Box(-high, high, dtype=np.float32)

    def begin(self, rng: np.random.Generator) -> np.ndarray:
        """State: θ in radians, 0 upright, and θ̇."""
        return rng.uniform([-np.pi, -1.0], [np.pi, 1.0])

    def step(self, states: np.ndarray, actions: np.ndarray) -> Outcome:
        theta, theta_dot = states.T
        torque = np.clip(np.asarray(actions, np.float64)[:, 0], -2.0, 2.0)
        angle = (theta + np.pi) % (2.0 * np.pi) - np.pi
        cost = angle**2 + 0.1 * theta_dot**2 + 0.001 * torque**2
        speed = np.clip(theta_dot + (15.0 * np.sin(theta) + 3.0 * torque) * 0.05, -8.0, 8.0)
        return Outcome(np.stack([theta + speed * 0.05, speed], axis=1), -cost, np.zeros(len(states), bool))

    def observe(self, states: np.ndarray) -> np.ndarray:
        theta, theta_dot = states.T
        return np.stack([np.cos(theta), np.sin(theta), theta_dot][: self._seen], axis=1).astype(np.float32)

    def picture(self, state: np.ndarray) -> np.ndarray:
        picture = drawing.blank(200, 200)
        tip = (100 - 80 * np.sin(state[0]), 100 - 80 * np.cos(state[0]))
        drawing.draw_line(picture, (100, 100), tip, 12, drawing.RED)
        drawing.draw_line(picture, (100, 100), (100, 100), 8, drawing.BLACK)
        return picture


class PoleBalancing:
    """Poles on one cart, pushed by a real-valued force (Wieland 1991; Gomez and Miikkulainen 1999).

    A fourth-order Runge-Kutta integration in steps of 0.01 s, one action to two of them; the force is ten newtons times
    the action in [−1, 1]. Reward 1 for each step; an episode ends when the cart leaves ±2.4 m or a pole leans more than
    `failure` radians. It begins with the first pole at 4.5° and all else at rest, as in the literature. Observations
    float32: x/2.4, each θ/failure and, with `velocities`, ẋ and each θ̇ in m/s and rad/s.

    State: x, ẋ, then θ and θ̇ of each pole.
    """

    action_space = gym.spaces.Box(-1.0, 1.0, (1,), np.float32)
    limit: int | None = None
    half_lengths: np.ndarray  # m
    masses: np.ndarray  # kg
    failure: float

    def __init__(self, velocities: bool = False) -> None:
        poles = len(self.masses)
        seen = np.arange(2 + 2 * poles)
        self._seen = np.concatenate([seen[::2], seen[1::2]]) if velocities else seen[::2]
        self._scale = np.concatenate([[2.4], np.full(poles, self.failure), np.ones(poles + 1)])[: len(self._seen)]
        # Twice what ends an episode, so that its last observation is within the bounds.
        high = np.where(np.arange(len(self._seen)) <= poles, 2.0, np.inf).astype(np.float32)
        self.observation_space = gym.spaces.Box(-high, high, dtype=np.float32)

    def begin(self, rng: np.random.Generator) -> np.ndarray:
        state = np.zeros(2 + 2 * len(self.masses))
        state[2] = math.radians(4.5)
        return state

    def step(self, states: np.ndarray, actions: np.ndarray) -> Outcome:
        force = 10.0 * np.clip(np.asarray(actions, np.float64)[:, 0], -1.0, 1.0)
        for _ in range(2):
            states = _runge_kutta(lambda now: self.derivatives(now, force), states, 0.01)
        failed = (np.abs(states[:, 0]) > 2.4) | (np.abs(states[:, 2::2]) > self.failure).any(axis=1)
        return Outcome(states, np.ones(len(states)), failed, ~failed)

    def observe(self, states: np.ndarray) -> np.ndarray:
        return (states[:, self._seen] / self._scale).astype(np.float32)

    def picture(self, state: np.ndarray) -> np.ndarray:
        return drawing.draw_cart(state[0], state[2::2], 2.0 * self.half_lengths)

    def derivatives(self, states: np.ndarray, force: np.ndarray) -> np.ndarray:
        """The time derivatives of the states [B, S] under a force [B] in newtons; Wieland's equations."""
        speed, angle, turning = states[:, 1], states[:, 2::2], states[:, 3::2]
        cos, sin = np.cos(angle), np.sin(angle)
        friction = _POLE_FRICTION * turning / (self.masses * self.half_lengths)
        # The force of each pole on the cart, and the mass that the cart feels of it.
        pull = self.masses * self.half_lengths * turning**2 * sin + 0.75 * self.masses * cos * (
            friction + _GRAVITY * sin
        )
        mass = self.masses * (1.0 - 0.75 * cos**2)
        push = force - _CART_FRICTION * np.sign(speed) + pull.sum(axis=1)
        acceleration = push / (_CART_MASS + mass.sum(axis=1))
        swing = -0.75 / self.half_lengths * (acceleration[:, None] * cos + _GRAVITY * sin + friction)
        changes = np.empty_like(states)
        changes[:, 0], changes[:, 1] = speed, acceleration
        changes[:, 2::2], changes[:, 3::2] = turning, swing
        return changes


class SinglePole(PoleBalancing):
    """One pole of a metre, which may lean 12°.

    Args:
        velocities: show them.
    """

    half_lengths, masses, failure = np.array([0.5]), np.array([0.1]), math.radians(12.0)


class DoublePole(PoleBalancing):
    """A pole of a metre and one of ten centimetres, which may lean 36°.

    Args:
        velocities: show them.
    """

    half_lengths, masses, failure = np.array([0.5, 0.05]), np.array([0.1, 0.01]), math.radians(36.0)


_CARTPOLE_ANGLE = 12 * 2 * math.pi / 360
_GRAVITY = -9.8  # m/s²; Wieland counts it upward
_CART_MASS = 1.0  # kg
_CART_FRICTION = 5e-4  # N, Coulomb's
_POLE_FRICTION = 2e-6  # N m s


def _runge_kutta(derivatives: Callable[[np.ndarray], np.ndarray], states: np.ndarray, seconds: float) -> np.ndarray:
    """One step of the classical fourth-order method."""
    first = derivatives(states)
    second = derivatives(states + 0.5 * seconds * first)
    third = derivatives(states + 0.5 * seconds * second)
    fourth = derivatives(states + seconds * third)
    return states + seconds / 6.0 * (first + 2.0 * second + 2.0 * third + fourth)

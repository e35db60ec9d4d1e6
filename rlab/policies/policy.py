"""The policy: a pure function of explicit parameters and explicit memory."""

from typing import NamedTuple

import gymnasium as gym
import keras
import numpy as np
import tensorflow as tf

from rlab.errors import BadInputError
from rlab.models.initializers import orthogonal, seed_stream
from rlab.models.parameters import ParameterLayout
from rlab.ops.distributions import Categorical, DiagonalGaussian, Distribution
from rlab.policies.backbones import build_backbone, default_backbone
from rlab.types import State


class PolicyOutput(NamedTuple):
    """What the policy says of each observation."""

    distribution: Distribution  # over actions, batch dimensions [T, B]
    values: tf.Tensor  # float32 [T, B], V(x_t)


class ActorCritic(keras.Model):
    """A backbone with a head for the action distribution's parameters and one for the value."""

    def __init__(self, observation_space: gym.Space, action_space: gym.Space, backbone: str, seed: int) -> None:
        super().__init__(name="actor_critic")
        seeds = seed_stream(seed)
        self.backbone = build_backbone(backbone, observation_space, seeds)
        # A nearly uniform first policy explores; the value head starts at the scale of its features.
        outputs = _head_size(action_space)
        self.policy_head = keras.layers.Dense(outputs, kernel_initializer=orthogonal(0.01, seeds), name="policy")
        self.value_head = keras.layers.Dense(1, kernel_initializer=orthogonal(1.0, seeds), name="value")
        self.log_std = None
        if isinstance(action_space, gym.spaces.Box):
            self.log_std = self.add_weight(shape=(outputs,), initializer="zeros", name="log_std")
        self.backbone.build()
        self.policy_head.build((None, None, self.backbone.units))
        self.value_head.build((None, None, self.backbone.units))
        self.built = True

    def call(self, observations: tf.Tensor, state: State, resets: tf.Tensor) -> tuple:
        features, state = self.backbone(observations, state, resets)
        outputs = self.policy_head(features)
        values = self.value_head(features)[..., 0]
        if self.log_std is None:
            return outputs, values, state
        return (outputs, tf.broadcast_to(self.log_std, outputs.shape)), values, state


class Policy:
    """Architecture without parameters: every method that needs parameters takes them.

    `params` is one float32 vector [D], or a list of the D parameters' tensors in the order of `layout.names`. Raises
    BadInputError for spaces that no backbone or head fits.
    """

    def __init__(self, observation_space: gym.Space, action_space: gym.Space, backbone: str | None = None) -> None:
        self.observation_space = observation_space
        self.action_space = action_space
        self.backbone = backbone or default_backbone(observation_space)
        try:
            self._model = self._build(0)
        except BadInputError:
            raise
        except ValueError as error:
            raise BadInputError(f"backbone {self.backbone!r} does not fit {observation_space}: {error}") from error
        self.layout = ParameterLayout(self._model)
        self.size = self.layout.size
        self.flatten, self.named, self.unflatten = self.layout.flatten, self.layout.named, self.layout.unflatten

    def _build(self, seed: int) -> ActorCritic:
        return ActorCritic(self.observation_space, self.action_space, self.backbone, seed)

    def initial_parameters(self, seed: int) -> np.ndarray:
        """Fresh parameters, float32 [D]; the same seed gives the same bits."""
        return ParameterLayout(self._build(seed)).initial()

    def initial_state(self, batch_size: int) -> State:
        """Empty memory for a batch; () for a feed-forward policy."""
        return self._model.backbone.initial_state(batch_size)

    def apply(
        self, params: tf.Tensor | list[tf.Tensor], observations: tf.Tensor, state: State, resets: tf.Tensor
    ) -> tuple[PolicyOutput, State]:
        """Observations [T, B, ...], memory before them and resets [T, B] to outputs [T, B] and the memory after."""
        outputs, values, state = self.layout.call(params, self._model, observations, state, resets)
        return PolicyOutput(self._distribution(outputs), values), state

    def _distribution(self, outputs: tf.Tensor | tuple[tf.Tensor, tf.Tensor]) -> Distribution:
        return DiagonalGaussian(*outputs) if isinstance(outputs, tuple) else Categorical(outputs)


def build(observation_space: gym.Space, action_space: gym.Space, backbone: str | None = None) -> Policy:
    """A policy for these spaces; without a backbone's name, `cnn` for images and `mlp` for vectors."""
    return Policy(observation_space, action_space, backbone)


def _head_size(action_space: gym.Space) -> int:
    """The number of outputs that the action distribution needs."""
    if isinstance(action_space, gym.spaces.Discrete):
        return int(action_space.n)
    if isinstance(action_space, gym.spaces.Box) and len(action_space.shape) == 1:
        return int(action_space.shape[0])
    raise BadInputError(f"no policy head gives actions of {action_space}; Discrete and flat Box spaces would fit")

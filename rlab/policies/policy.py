"""The policy: a pure function of explicit parameters and explicit memory."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Hashable
from typing import Any, NamedTuple

import gymnasium as gym
import keras
import numpy as np
import tensorflow as tf

from rlab import quiet
from rlab.errors import BadInputError
from rlab.launchers import launched_rank
from rlab.models.cnn import REFERENCE_DEVIATION, REFERENCE_MEAN
from rlab.models.initializers import orthogonal, seed_stream
from rlab.models.parameters import ParameterLayout
from rlab.notify import notify
from rlab.ops.distributions import Bernoulli, Categorical, DiagonalGaussian, Distribution, MultiCategorical
from rlab.ops.sharing import once
from rlab.policies.actions import head_size, to_environment
from rlab.policies.backbones import DEVIATION, MEAN, build_backbone, default_backbone, has_reference, torso_of
from rlab.policies.encoders import FROZEN, Encoder, is_encoder, with_absolute_run
from rlab.policies.observations import Reading, choices, one_line, reading_of
from rlab.types import State

_STATISTICS = (MEAN, DEVIATION, REFERENCE_MEAN, REFERENCE_DEVIATION)  # parameters that are counted, not learned


class PolicyOutput(NamedTuple):
    """The output of a policy for each observation."""

    distribution: Distribution  # over actions, batch dimensions [T, B]
    values: tf.Tensor  # float32 [T, B], V(x_t)


class Remembering(NamedTuple):
    """The state of a policy that is told its previous action."""

    memory: State  # of the backbone
    previous: tf.Tensor  # float32 [B, A]: the last action, one-hot where it is discrete; 0 before there was one


class ActorCritic(keras.Model):
    """A backbone with a head for the action distribution's parameters and one for the value."""

    def __init__(
        self,
        reading: Reading,
        action_space: gym.Space,
        backbone: str,
        seed: int,
        extra: int = 0,
        horizon: int = 0,
        initial_std: float = 1.0,
        normalize: bool = False,
        scale: float = 1.0,
        encoder: Encoder | None = None,
    ) -> None:
        super().__init__(name="actor_critic")
        seeds = seed_stream(seed)
        self.backbone = build_backbone(backbone, reading, seeds, extra, horizon, normalize, scale, encoder)
        # A nearly uniform first policy explores; the value head starts at the scale of its features.
        outputs = head_size(action_space)
        self.policy_head = keras.layers.Dense(outputs, kernel_initializer=orthogonal(0.01, seeds), name="policy")
        self.value_head = keras.layers.Dense(1, kernel_initializer=orthogonal(1.0, seeds), name="value")
        self.log_std = None
        if isinstance(action_space, gym.spaces.Box):
            initial = keras.initializers.Constant(math.log(initial_std))
            self.log_std = self.add_weight(shape=(outputs,), initializer=initial, name="log_std")
        self.backbone.build()
        self.policy_head.build((None, None, self.backbone.units))
        self.value_head.build((None, None, self.backbone.units))
        self.built = True

    def call(self, observations: tf.Tensor, state: State, resets: tf.Tensor, extra: tf.Tensor | None = None) -> tuple:
        features, state = self.backbone(observations, state, resets, extra)
        outputs = self.policy_head(features)
        values = self.value_head(features)[..., 0]
        if self.log_std is None:
            return outputs, values, state
        return (outputs, tf.broadcast_to(self.log_std, outputs.shape)), values, state


class Policy:
    """Architecture without parameters: every method that needs parameters takes them.

    `params` is one float32 vector [D], or a list of the D parameters' tensors in the order of `layout.names`. Actions
    are in units of the policy, and log-probabilities are of these, before they are cut off at any bound
    (`rlab.policies.actions`); `to_environment` makes the environment's of them. Raises BadInputError for spaces that no
    backbone or head fits.

    Args:
        observation_space, action_space: of one environment.
        backbone: a name; None for the feed-forward one that fits the observations.
        observe_actions: give the backbone the episode's previous action beside each observation.
        horizon: steps over which new LSTMs remember (`rlab.models.LSTM`).
        initial_std: standard deviation of new policies' real-valued actions, in units of the policy: 1 is half the way
            from one bound to the other where both are finite.
        normalize_observations: shift and scale vectors by the parameters that `with_statistics` sets; new ones do
            neither.
        observation_scale: a factor on vectors, normalized or not.
        encoder: of a backbone `vae:RUN`, as `rlab.runs.read_encoder` reads it.
        scale_actions: let [−1, 1] be all that lies between finite bounds; version 0.1 only cut actions off there.
        background: of images, the brightness that is shown as 0 (`Reading`); None to standardize each image.
        reading: how observations are read; None for what `reading_of` and `background` say.
    """

    def __init__(
        self,
        observation_space: gym.Space,
        action_space: gym.Space,
        backbone: str | None = None,
        observe_actions: bool = False,
        horizon: int = 0,
        initial_std: float = 1.0,
        normalize_observations: bool = False,
        observation_scale: float = 1.0,
        encoder: Encoder | None = None,
        scale_actions: bool = True,
        background: float | None = None,
        reading: Reading | None = None,
    ) -> None:
        self.observation_space = observation_space
        self.action_space = action_space
        self.reading = reading or dataclasses.replace(reading_of(observation_space), background=background)
        self.scale_actions = scale_actions
        self._outputs = head_size(action_space)
        self.backbone, self._encoder = backbone or default_backbone(self.reading), encoder
        if is_encoder(self.backbone):
            self.backbone = with_absolute_run(self.backbone)
        self.observe_actions, self.horizon, self.initial_std = observe_actions, horizon, initial_std
        self.normalize_observations, self.observation_scale = normalize_observations, observation_scale
        self._model = self._build(0)
        self.layout = ParameterLayout(self._model)
        self.size = self.layout.size
        self.normalized_features = self.reading.shape[0] if normalize_observations else 0  # numbers
        self.flatten, self.named, self.unflatten = self.layout.flatten, self.layout.named, self.layout.unflatten

    @property
    def parts(self) -> tuple[Policy]:
        """The policy itself, which alone decides what it does (`rlab.policies.acting.Acting`)."""
        return (self,)

    @property
    def is_cheap(self) -> bool:
        """True if it sees vectors and has no memory: an update then takes less time than ranks need to share it."""
        return not (self.is_recurrent or self.reading.image)

    @property
    def loops(self) -> bool:
        """True if its memory walks over time within a step."""
        return self.backbone == "seq2seq"

    def describe(self) -> str:
        """The network and its reading of observations, in words."""
        torso = torso_of(self.backbone, self.reading)
        below = f" over {torso}" if torso != self.backbone and self.reading.image else ""
        return f"{self.backbone}{below} over {self.reading}"

    def to_environment(self, actions: np.ndarray) -> np.ndarray:
        """Its actions [B, ...] as the environment takes them, [B, *shape] of the space's dtype."""
        return to_environment(actions, self.action_space, self.scale_actions)

    def of_observations(self, observation_space: gym.Space) -> Policy:
        """A policy of the same settings for other observations."""
        return self._changed(observation_space=observation_space, background=self.reading.background)

    def about(self, background: float) -> Policy:
        """The same policy over images in which this brightness is shown as 0."""
        reading = dataclasses.replace(self.reading, background=background)
        return once(lambda: self._changed(reading=reading), "about", self, background)

    def _changed(self, **changes: Any) -> Policy:
        settings: dict[str, Any] = {
            "observation_space": self.observation_space,
            "action_space": self.action_space,
            "backbone": self.backbone,
            "observe_actions": self.observe_actions,
            "horizon": self.horizon,
            "initial_std": self.initial_std,
            "normalize_observations": self.normalize_observations,
            "observation_scale": self.observation_scale,
            "encoder": self._encoder,
            "scale_actions": self.scale_actions,
        }
        return Policy(**(settings | changes))

    def _build(self, seed: int) -> ActorCritic:
        extra = self._outputs if self.observe_actions else 0
        spaces = self.reading, self.action_space
        seen = self.normalize_observations, self.observation_scale
        return ActorCritic(*spaces, self.backbone, seed, extra, self.horizon, self.initial_std, *seen, self._encoder)

    @property
    def encoder(self) -> dict[str, Any] | None:
        """The sizes of its encoder, if it has one from a run."""
        return self._encoder.sizes if self._encoder else None

    def initial_parameters(self, seed: int) -> np.ndarray:
        """Fresh parameters, float32 [D]; the same seed gives the same bits."""
        return ParameterLayout(self._build(seed)).initial()

    def with_statistics(self, params: np.ndarray, mean: np.ndarray, deviation: np.ndarray) -> np.ndarray:
        """The parameters [D] of a normalizing policy that knows its observations' mean and deviation, each [O]."""
        named = self.named(params)
        # What has not varied says nothing yet: it is shifted and not scaled.
        found = {MEAN: mean, DEVIATION: np.where(deviation > 1e-6, deviation, 1.0)}
        return self.flatten(named | {f"backbone/{name}": part.astype(np.float32) for name, part in found.items()})

    @property
    def is_recurrent(self) -> bool:
        """True if what it does depends on more than the present observation."""
        return bool(tf.nest.flatten(self.initial_state(1)))

    @property
    def trainable_mask(self) -> np.ndarray:
        """The mask of parameters that are learned, float32 [D]: 0 at statistics, and at an encoder that is kept."""
        named = self.named(np.ones(self.size, np.float32))
        kept = lambda name: name.split("/")[-1] in _STATISTICS or FROZEN in f"/{name}"  # noqa: E731
        return self.flatten({name: part * (not kept(name)) for name, part in named.items()})

    @property
    def uses_reference_batch(self) -> bool:
        """True if it normalizes by the statistics of a reference batch (virtual batch normalization)."""
        return any(name.endswith(f"/{REFERENCE_MEAN}") for name in self.layout.names)

    def with_reference(self, params: tf.Tensor, observations: tf.Tensor) -> tf.Tensor:
        """The parameters [D] of a policy that refers to these observations [N, ...]: their statistics measured anew."""
        parts = self.unflatten(params)
        found = self.layout.call(parts, self._model.backbone.measure, observations)
        for i, statistics in enumerate(found):
            for kind, part in zip((REFERENCE_MEAN, REFERENCE_DEVIATION), statistics, strict=True):
                (place,) = (n for n, name in enumerate(self.layout.names) if name.endswith(f"/norm_{i}/{kind}"))
                parts[place] = part
        return tf.concat([tf.reshape(part, (-1,)) for part in parts], 0)

    def initial_state(self, batch_size: int) -> State:
        """Empty memory for a batch; () for a feed-forward policy that is not told its actions."""
        memory = self._model.backbone.initial_state(batch_size)
        return Remembering(memory, tf.zeros((batch_size, self._outputs))) if self.observe_actions else memory

    def apply(
        self,
        params: tf.Tensor | list[tf.Tensor],
        observations: tf.Tensor,
        state: State,
        resets: tf.Tensor,
        actions: tf.Tensor | None = None,
    ) -> tuple[PolicyOutput, State]:
        """Observations [T, B, ...], memory before them and resets [T, B] to outputs [T, B] and the memory after.

        A policy that is told its actions needs those of the T steps too, [T, B, ...], and for a single step none: then
        `remember` completes the state once the action is chosen.
        """
        if not self.observe_actions:
            outputs, values, state = self.layout.call(params, self._model, observations, state, resets)
            return PolicyOutput(self._distribution(outputs), values), state
        memory, previous = state
        previous = previous[None]
        if actions is not None:
            told = self._as_features(actions)
            previous, last = tf.concat([previous, told[:-1]], 0), told[-1]
        elif observations.shape[0] == 1:
            last = tf.zeros_like(previous[0])
        else:
            raise ValueError("a policy that is told its actions needs those of all steps")
        previous = tf.where(resets[..., None] != 0.0, 0.0, previous)
        outputs, values, memory = self.layout.call(params, self._model, observations, memory, resets, previous)
        return PolicyOutput(self._distribution(outputs), values), Remembering(memory, last)

    def remember(self, state: State, actions: tf.Tensor) -> State:
        """The state after a single step in which `actions` [B, ...] were taken."""
        return Remembering(state[0], self._as_features(actions)) if self.observe_actions else state

    def _as_features(self, actions: tf.Tensor) -> tf.Tensor:
        """Actions as numbers, float32 [..., A]."""
        if isinstance(self.action_space, gym.spaces.Discrete):
            return tf.one_hot(actions, self._outputs)
        if isinstance(self.action_space, gym.spaces.MultiDiscrete):
            each = zip(tf.unstack(actions, axis=-1), choices(self.action_space), strict=True)
            return tf.concat([tf.one_hot(chosen, count) for chosen, count in each], -1)
        return tf.cast(actions, tf.float32)

    def _distribution(self, outputs: tf.Tensor | tuple[tf.Tensor, tf.Tensor]) -> Distribution:
        if isinstance(outputs, tuple):
            return DiagonalGaussian(*outputs)
        if isinstance(self.action_space, gym.spaces.MultiDiscrete):
            return MultiCategorical(tuple(map(Categorical, tf.split(outputs, choices(self.action_space), -1))))
        return Bernoulli(outputs) if isinstance(self.action_space, gym.spaces.MultiBinary) else Categorical(outputs)


class Architecture(NamedTuple):
    """The description of a run's policy in its `architecture.json`."""

    observation_space: gym.Space
    action_space: gym.Space
    backbone: str
    options: dict[str, Any]  # of `Policy`
    deterministic: bool | None = None  # how it acted while it learned; None where that is not said


@quiet.starting()
def build(
    observation_space: gym.Space,
    action_space: gym.Space,
    backbone: str | Architecture | None = None,
    measures_reference: bool = False,
    **options: Any,
) -> Policy:
    """A policy for these spaces; without a backbone's name, the feed-forward one that fits them.

    The architecture of a run in place of a name comes before the options, and raises BadInputError for other spaces.
    So does the name of a backbone with a reference batch, unless the caller `measures_reference`. The same spaces, name
    and options give the same object, so that what is compiled for it serves all trainings of a process; not so where
    an encoder is read from a run, which may change.
    """
    if isinstance(backbone, Architecture):
        require_same_spaces(backbone, observation_space, action_space)
        spaces = backbone.observation_space, backbone.action_space
        return Policy(*spaces, backbone.backbone, **(options | backbone.options))
    if backbone and has_reference(backbone) and not measures_reference:
        raise BadInputError(
            f"backbone {backbone!r} refers to a batch of observations that only snes measures; "
            f"{backbone.removeprefix('vbn-')} is the same without"
        )
    if not backbone and (doubt := reading_of(observation_space).doubtful):
        _say_once(f"note: {doubt}")
    make = functools.partial(Policy, observation_space, action_space, backbone, **options)
    keys = _space_key(observation_space), _space_key(action_space)
    if None in keys or is_encoder(backbone or ""):
        return make()
    return once(make, "policy", *keys, backbone, *sorted(options.items()))


@functools.cache
def _say_once(text: str) -> None:
    if not launched_rank():
        notify(text)


def _space_key(space: gym.Space) -> Hashable:
    """All that tells a space from another, as equal spaces are not equal keys; None for one that is no plain array."""
    names = {
        gym.spaces.Box: ("shape", "dtype", "low", "high"),
        gym.spaces.Discrete: ("n", "start", "dtype"),
        gym.spaces.MultiDiscrete: ("nvec", "start", "dtype"),
        gym.spaces.MultiBinary: ("shape",),
    }.get(type(space))
    found = [getattr(space, name, None) for name in names or ()]
    key = [part.tobytes() if isinstance(part, np.ndarray) else str(part) for part in found]
    return (type(space).__name__, *key) if names else None


def require_same_spaces(made_for: Any, observation_space: gym.Space, action_space: gym.Space) -> None:
    """Raise BadInputError where an environment's spaces are not those that a policy was made for."""
    for kind, theirs in (("observation", observation_space), ("action", action_space)):
        own = getattr(made_for, f"{kind}_space")
        if own != theirs or not _same_bounds(own, theirs):
            raise BadInputError(
                f"the policy does not fit the environment: {kind}s of {one_line(theirs)}, not of {one_line(own)}"
            )


def _same_bounds(one: gym.Space, other: gym.Space) -> bool:
    """Tell whether equal spaces have the same bounds; gymnasium takes those below 1e-8 for 0."""
    if not isinstance(one, gym.spaces.Box) or not isinstance(other, gym.spaces.Box):
        return True
    return all(np.allclose(getattr(one, end), getattr(other, end), rtol=1e-6, atol=0.0) for end in ("low", "high"))

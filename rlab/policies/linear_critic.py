"""A critic that is linear in features of observation and time, fitted to each batch by ridge regression."""

from typing import Any

import gymnasium as gym
import numpy as np
import tensorflow as tf

from rlab.errors import BadInputError
from rlab.parallel.comm import Communicator
from rlab.policies.baselines import LinearBaseline, linear_features, steps_within_episodes
from rlab.policies.critics import Fit, unexplained_variance
from rlab.policies.normalization import ObservationNormalizer, moments_of_ranks
from rlab.policies.observations import one_line, reading_of
from rlab.policies.policy import PolicyOutput
from rlab.state import unpack
from rlab.types import State, Trajectory


class LinearCritic:
    """V(x_t, t) = w·φ(x_t, t), the features of `rlab.policies.baselines`; its memory is the step within the episode.

    It acts a step at a time. Raises BadInputError for observations that are no vectors.
    """

    def __init__(self, observation_space: gym.Space) -> None:
        reading = reading_of(observation_space)
        if reading.kind != "vector":
            raise BadInputError(f"--critic linear takes vectors, and not {one_line(observation_space)}")
        self.size = 2 * reading.shape[0] + 4
        self.parts = ("linear", self.size)  # critics of one size do the same

    def initial_parameters(self, seed: int) -> np.ndarray:
        return np.zeros(self.size, np.float32)

    def initial_state(self, batch_size: int) -> State:
        return tf.zeros((batch_size,))

    def apply(self, params: Any, observations: Any, state: State, resets: Any, actions: Any = None) -> Any:
        time = tf.where(resets[0] != 0.0, 0.0, state)
        values = tf.linalg.matvec(linear_features(observations, time[None]), params)
        return PolicyOutput(None, values), time + 1.0  # type: ignore[arg-type]

    def remember(self, state: State, actions: Any) -> State:
        return state


class LinearFitter:
    """Keeps a `LinearCritic`'s parameters: ridge regression on each batch."""

    def __init__(self, critic: LinearCritic, comm: Communicator) -> None:
        self._comm, self._linear = comm, LinearBaseline()
        self.params = tf.constant(critic.initial_parameters(0))
        self.scale = tf.constant([0.0, 1.0])

    def fit(self, trajectory: Trajectory, returns: np.ndarray) -> Fit:
        times = steps_within_episodes(trajectory.resets, np.asarray(trajectory.state[1], np.int64))
        self._linear.fit_to(trajectory.observations, times, returns, self._comm)
        self.params = tf.constant(self._linear.weights)
        error = np.square(self._linear.predict_at(trajectory.observations, times) - returns).reshape(-1, 1)
        return Fit(
            float(moments_of_ranks(error, self._comm).mean[0]),
            unexplained_variance(trajectory.values, returns, self._comm),
        )

    def normalize_by(self, normalizer: ObservationNormalizer) -> None:
        """Do nothing: the features are of the observations as they are."""

    def state(self) -> dict[str, Any]:
        """The state for a checkpoint."""
        return {"weights": self.params}

    def restore(self, arrays: dict[str, np.ndarray]) -> None:
        """Go on from what `state` gave, as `rlab.state.pack` names it."""
        self.params = unpack(self.state(), arrays)["weights"]

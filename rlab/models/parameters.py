"""A model's parameters as one flat vector, as a list of tensors, and as named arrays."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from rlab.errors import BadInputError


class ParameterLayout:
    """The layout of the trainable variables of a built layer or model in one vector [D].

    `names`, `shapes` and `sizes` follow the order of the variables; a name is the variable's path inside the model.
    Raises ValueError when two variables have one name.
    """

    def __init__(self, model: keras.layers.Layer) -> None:
        self._variables = model.trainable_variables
        self.names = [variable.path.removeprefix(f"{model.name}/") for variable in self._variables]
        if len(set(self.names)) < len(self.names):
            raise ValueError(f"two parameters of {model.name} have one name: {', '.join(self.names)}")
        self.shapes = [tuple(variable.shape) for variable in self._variables]
        self.sizes = [math.prod(shape) for shape in self.shapes]
        self.size = sum(self.sizes)

    def initial(self) -> np.ndarray:
        """The variables' own values, float32 [D]."""
        return np.concatenate([variable.numpy().ravel() for variable in self._variables])

    def call(self, params: tf.Tensor | Sequence[tf.Tensor], function: Callable, *arguments: Any) -> Any:
        """Call `function(*arguments)`, a method of the model, with `params` ([D], or a list) as its variables."""
        if not isinstance(params, list | tuple):
            params = self.unflatten(params)
        with keras.StatelessScope(state_mapping=list(zip(self._variables, params, strict=True))):
            return function(*arguments)

    def unflatten(self, vector: tf.Tensor) -> list[tf.Tensor]:
        """A vector [D] as the list of parameter tensors."""
        parts = tf.split(vector, self.sizes)
        return [tf.reshape(part, shape) for part, shape in zip(parts, self.shapes, strict=True)]

    def named(self, vector: np.ndarray) -> dict[str, np.ndarray]:
        """A vector [D] as arrays by name, for a checkpoint."""
        parts = np.split(vector, np.cumsum(self.sizes)[:-1])
        return {n: part.reshape(s) for n, part, s in zip(self.names, parts, self.shapes, strict=True)}

    def flatten(self, arrays: dict[str, np.ndarray]) -> np.ndarray:
        """Arrays by name as one vector [D]; raises BadInputError when names or shapes are not this model's."""
        expected = dict(zip(self.names, self.shapes, strict=True))
        found = {name: tuple(array.shape) for name, array in arrays.items()}
        for name in expected.keys() | found.keys():
            if expected.get(name) != found.get(name):
                raise BadInputError(
                    f"the weights do not fit the model: {name!r} has shape {found.get(name)}, not {expected.get(name)}"
                )
        return np.concatenate([np.ravel(arrays[name]) for name in self.names]).astype(np.float32)

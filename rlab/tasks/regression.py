"""Linear regression: weights found by gradient, beside every closed form.

y = w·φ(x) + ε with w = 1 … D and ε ~ N(0, noise²); see rlab.models.linear for the mathematics.
"""

from typing import Any

import numpy as np
import tensorflow as tf

from rlab.errors import BadInputError
from rlab.models import linear
from rlab.models.initializers import seed_stream
from rlab.seeding import derive
from rlab.settings import check
from rlab.tasks import figures
from rlab.tasks.batches import Shuffled
from rlab.tasks.configs import RegressionConfig
from rlab.tasks.training import Apply, TaskReport

_FEATURES = {"identity": lambda _: linear.identity, "bias": lambda _: linear.bias, "polynomial": linear.polynomial}


class LinearRegressionTask:
    """Learns y = w·φ(x) from noisy samples."""

    name = "linear-regression"
    Config = RegressionConfig
    shown = ("loss", "validation_mean_squared_error")
    xla = True

    def __init__(self, config: RegressionConfig, seed: int = 0) -> None:
        check(config)
        self.config, self.seed = config, seed
        if config.features == "polynomial" and config.dimensions != 1:
            raise BadInputError(f"--features polynomial needs --dimensions 1, not {config.dimensions}")
        self.features = _FEATURES[config.features](config.degree)
        self.model = linear.LinearRegression(self.features, seed_stream(derive(seed, "parameters")))
        self.model.build((None, config.dimensions))
        width = self.model.w.shape[0]
        self.truth = np.arange(1, width + 1, dtype=np.float32)
        self.data = {name: self._sample(name, config.samples) for name in ("train", "validation", "test")}
        self._batches = Shuffled(config.samples, config.batch_size, seed)
        self.updates_per_epoch = self._batches.updates_per_epoch

    def _sample(self, split: str, count: int) -> tuple[np.ndarray, np.ndarray]:
        generator = np.random.default_rng(derive(self.seed, "data", split))
        x = generator.normal(size=(count, self.config.dimensions)).astype(np.float32)
        mean = self.features(tf.constant(x)).numpy() @ self.truth
        return x, (mean + self.config.noise * generator.normal(size=count)).astype(np.float32)

    def batch(self, update: int) -> Any:
        x, y = self.data["train"]
        rows = self._batches.rows(update)
        return x[rows], y[rows]

    def loss(self, batch: Any) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        x, y = batch
        return tf.reduce_mean(tf.square(self.model(x) - y)), {}

    def evaluate(self, apply: Apply, split: str) -> dict[str, float]:
        x, y = self.data[split]
        error = float(np.mean((apply(self.model, x) - y) ** 2))
        variance = self.config.noise**2
        return {"mean_squared_error": error, "nll": 0.5 * (error / variance + np.log(2 * np.pi * variance))}

    def report(self, apply: Apply) -> TaskReport:
        x, y = self.data["train"]
        phi, variance = self.features(tf.constant(x)), self.config.noise**2
        belief = linear.posterior(phi, tf.constant(y), variance, self.config.prior**2)
        columns = {
            "true": self.truth,
            "gradient": apply(self.model.coefficients),
            "maximum likelihood": linear.maximum_likelihood(phi, tf.constant(y)).numpy(),
            "maximum a posteriori": belief.mean.numpy(),
            "± posterior deviation": np.sqrt(np.diag(belief.covariance)),
        }
        lines = ["weight  " + "  ".join(columns)]
        for i in range(len(self.truth)):
            lines.append(f"{i:6d}  " + "  ".join(f"{w[i]:{len(name)}.4f}" for name, w in columns.items()))
        lines.append("the picture shows the posterior's predictions, the test error is that of the gradient's weights")
        x, y = self.data["test"]
        one = self.config.dimensions == 1
        order = np.argsort(x[:, 0] if one else self._predicted(belief, x).mean)
        at_data = self._predicted(belief, x[order])
        dense = np.linspace(x.min(), x.max(), 300, dtype=np.float32)[:, None]
        line = self._predicted(belief, dense) if one else at_data
        labels = ("x" if one else "predictive mean", "y")
        return TaskReport("\n".join(lines), {"fit": figures.fit(line, at_data, y[order], labels)})

    def _predicted(self, belief: linear.Posterior, x: np.ndarray) -> figures.Fit:
        """The posterior predictive at inputs x [N, D]; along x itself where D is 1, else along the mean."""
        mean, variance = linear.predictive(belief, self.features(tf.constant(x)), self.config.noise**2)
        at = x[:, 0] if self.config.dimensions == 1 else mean.numpy()
        return figures.Fit(at, mean.numpy(), np.sqrt(variance.numpy()))

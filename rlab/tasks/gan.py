"""Generative adversarial networks on images: two networks that learn against each other, judged by a kernel density."""

from typing import Any

import numpy as np
import tensorflow as tf

from rlab.models.gan import convolutional_gan, dense_gan
from rlab.models.initializers import seed_stream
from rlab.ops import parzen
from rlab.seeding import derive
from rlab.settings import check
from rlab.tasks import image_grids
from rlab.tasks.configs import GANConfig, with_absolute_data
from rlab.tasks.pixels import Pixels
from rlab.tasks.training import Apply, TaskReport

_CHUNK = 100  # images drawn at once
_SAMPLES = 10_000  # of which the density that judges is made; a tenth while training


class GANTask:
    """Learns to draw images that a discriminator cannot tell from real ones."""

    name = "gan"
    Config = GANConfig
    shown = ("discriminator_loss", "generator_loss", "validation_parzen")

    def __init__(self, config: GANConfig, seed: int = 0) -> None:
        check(config)
        self.config, self.seed = with_absolute_data(config), seed
        self.pixels = Pixels(self.config.data, "none", config.batch_size, seed)
        self.data_sha256 = self.pixels.splits.sha256
        self.updates_per_epoch = self.pixels.batches.updates_per_epoch
        self.xla = config.model == "mlp"
        seeds, shape = seed_stream(derive(seed, "parameters")), self.pixels.shape
        if config.model == "mlp":
            self.model = dense_gan(shape, config.latents, (config.units,) * 2, seeds)
        else:
            self.model = convolutional_gan(shape, config.latents, config.units, seeds)
        self.model.build()

    def batch(self, update: int) -> Any:
        noise = np.random.default_rng(derive(self.seed, "noise", update))
        return self.pixels.batch(update), noise.standard_normal(
            (self.config.batch_size, self.config.latents), np.float32
        )

    def loss(self, batch: Any) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        images, latents = batch
        discriminator, generator = self.model.losses(images, latents, self.config.penalty)
        return discriminator, {"discriminator_loss": discriminator, "generator_loss": generator}

    def evaluate(self, apply: Apply, split: str) -> dict[str, float]:
        """Nats an image under a kernel density of samples, whose width suits the validation images best."""
        flat = {name: images.reshape(len(images), -1) for name, images in self.pixels.images.items()}
        samples = self.sample(apply, _SAMPLES if split == "test" else _SAMPLES // 10, self.seed).reshape(
            -1, flat[split].shape[1]
        )
        width = parzen.best_deviation(samples, flat["validation"][:1000])
        data = flat[split] if split == "test" else flat[split][:1000]
        return {"parzen": float(parzen.log_likelihood(samples, data, width).mean())}

    def sample(self, apply: Apply, count: int, seed: int) -> np.ndarray:
        """G(z) of z drawn from the prior."""
        size = count + -count % _CHUNK
        latents = np.random.default_rng(derive(seed, "latents")).standard_normal(
            (size, self.config.latents), np.float32
        )
        parts = [apply(self.model, latents[start : start + _CHUNK]) for start in range(0, size, _CHUNK)]
        return np.concatenate(parts)[:count]

    def pictures(self, apply: Apply) -> dict[str, Any]:
        return {"samples": image_grids.grid(self.sample(apply, 64, self.seed))}

    def report(self, apply: Apply) -> TaskReport:
        latents = np.random.default_rng(derive(self.seed, "walks")).standard_normal((8, 2, self.config.latents))
        angles = np.linspace(0.0, 0.5 * np.pi, 11)
        # Along a circle, on which a mixture of two normal vectors is as long as either.
        walks = np.cos(angles)[:, None] * latents[:, :1] + np.sin(angles)[:, None] * latents[:, 1:]
        codes = walks.reshape(-1, self.config.latents).astype(np.float32)
        figures = {
            "samples": image_grids.grid(self.sample(apply, 64, self.seed)),
            "interpolations": image_grids.grid(apply(self.model, codes), columns=11),
        }
        real = apply(self.model.discriminator, self.pixels.images["test"][:_CHUNK])
        drawn = apply(self.model.discriminator, self.sample(apply, _CHUNK, self.seed))
        lines = ["images         called real"]
        lines += [
            f"{name:12s}   {np.mean(odds > 0.0):10.0%}" for name, odds in (("of the test", real), ("drawn", drawn))
        ]
        return TaskReport("\n".join(lines), figures)

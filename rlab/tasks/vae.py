"""The variational autoencoder on images: its bound, an estimate of the likelihood, and its latent space to look at."""

from typing import Any

import numpy as np
import tensorflow as tf

from rlab.errors import BadInputError
from rlab.models.initializers import seed_stream
from rlab.models.vae import importance_bound, make_vae
from rlab.seeding import derive
from rlab.settings import check
from rlab.tasks import image_grids
from rlab.tasks.configs import VAEConfig, with_absolute_data
from rlab.tasks.pixels import Pixels
from rlab.tasks.training import Apply, TaskReport

_CHUNK = 100  # images evaluated at once
_DRAWS = 50  # latents of each, at once


class VAETask:
    """Learns p(x) = ∫ p(x|z) p(z) dz of images."""

    name = "vae"
    Config = VAEConfig
    shown = ("loss", "validation_bound")

    def __init__(self, config: VAEConfig, seed: int = 0) -> None:
        check(config)
        if config.likelihood == "bernoulli" and config.binarization == "none":
            raise BadInputError("--binarization none needs --likelihood gaussian: bernoulli pixels are 0 or 1")
        self.config, self.seed = with_absolute_data(config), seed
        self.pixels = Pixels(self.config.data, config.binarization, config.batch_size, seed)
        self.data_sha256 = self.pixels.splits.sha256
        self.updates_per_epoch = self.pixels.batches.updates_per_epoch
        self.xla = config.model == "mlp"
        seeds, shape = seed_stream(derive(seed, "parameters")), self.pixels.shape
        sizes = config.latents, config.units, config.depth
        self.model = make_vae(config.model, shape, *sizes, config.likelihood, seeds)
        self.model.build()

    def batch(self, update: int) -> Any:
        noise = np.random.default_rng(derive(self.seed, "noise", update))
        shape = (self.config.draws, self.config.batch_size, self.config.latents)
        return self.pixels.batch(update), noise.standard_normal(shape, np.float32)

    def loss(self, batch: Any) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        if self.config.draws > 1:
            weights = self.model.log_weights(*batch)
            return -tf.reduce_mean(importance_bound(weights)), {"bound": tf.reduce_mean(weights)}
        likelihood, divergence = (tf.reduce_mean(part) for part in self.model.bound(*batch))
        return divergence - likelihood, {"kl": divergence}

    def evaluate(self, apply: Apply, split: str) -> dict[str, float]:
        """The bound, and of the test images the likelihood by importance sampling; nats an image."""
        draws = self.config.importance_samples if split == "test" else 1
        found = [self._measure(apply, split, start, draws) for start in range(0, self._count(split), _CHUNK)]
        bound, estimate = (float(np.concatenate(parts).mean()) for parts in zip(*found, strict=True))
        return {"bound": bound} | ({"nll": -estimate} if split == "test" else {})

    def likelihoods(self, apply: Apply, split: str) -> np.ndarray:
        """ln p(x) of each image by importance sampling, float64 [N], nats."""
        draws, starts = self.config.importance_samples, range(0, self._count(split), _CHUNK)
        return np.concatenate([self._measure(apply, split, start, draws)[1] for start in starts])

    def _count(self, split: str) -> int:
        return len(self.pixels.images[split])

    def _measure(self, apply: Apply, split: str, start: int, draws: int) -> tuple[np.ndarray, np.ndarray]:
        """The bound of a chunk of images, over all draws, and its importance-weighted bound of so many draws."""
        images = self.pixels.images[split][start : start + _CHUNK]
        count = len(images)
        images = np.concatenate([images, np.zeros((_CHUNK - count, *self.pixels.shape), np.float32)])
        weigh = self._weigh_one if draws == 1 else self._weigh
        weights = []
        for block in range(-(-draws // _DRAWS)):
            seed = np.array([derive(self.seed, split, start), block], np.int32)
            weights.append(apply(weigh, images, seed).astype(np.float64))
        found = np.concatenate(weights)[:draws, :count]
        most = found.max(0)
        return found.mean(0), most + np.log(np.exp(found - most).mean(0))

    def _weigh(self, images: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        return self._drawn_weights(images, seed, _DRAWS)

    def _weigh_one(self, images: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        return self._drawn_weights(images, seed, 1)

    def _drawn_weights(self, images: tf.Tensor, seed: tf.Tensor, draws: int) -> tf.Tensor:
        noise = tf.random.stateless_normal((draws, _CHUNK, self.config.latents), seed)
        return self.model.log_weights(images, noise)

    def sample(self, apply: Apply, count: int, seed: int) -> np.ndarray:
        """The means of p(x|z), of z drawn from the prior."""
        latents = np.random.default_rng(derive(seed, "latents")).standard_normal((count, self.config.latents))
        return self._decoded(apply, latents)

    def _decoded(self, apply: Apply, latents: np.ndarray) -> np.ndarray:
        padded = np.concatenate([latents, np.zeros((-len(latents) % _CHUNK, latents.shape[1]))]).astype(np.float32)
        parts = [apply(self.model.decode, padded[i : i + _CHUNK]) for i in range(0, len(padded), _CHUNK)]
        return np.concatenate(parts)[: len(latents)].clip(0.0, 1.0)

    def pictures(self, apply: Apply) -> dict[str, Any]:
        return {"samples": image_grids.grid(self.sample(apply, 64, self.seed))}

    def report(self, apply: Apply) -> TaskReport:
        test = self.pixels.images["test"][:1000]
        labels = self.pixels.splits.test.labels[:1000]
        padded = np.concatenate([test, np.zeros((-len(test) % _CHUNK, *self.pixels.shape), np.float32)])
        parts = [apply(self.model.encode, padded[i : i + _CHUNK]) for i in range(0, len(padded), _CHUNK)]
        mean, log_variance = (np.concatenate(part)[: len(test)] for part in zip(*parts, strict=True))
        # KL of each latent over the test images: those that the model does not use have none.
        used = 0.5 * (mean**2 + np.exp(log_variance) - log_variance - 1.0).mean(0)
        order = np.argsort(-used)
        lines = ["latent   KL, nats", *(f"{i:6d}   {used[i]:8.3f}" for i in order[:8])]
        lines.append(f"{int((used > 0.01).sum())} of {len(used)} latents carry more than 0.01 nats")
        paired = np.stack([test[:32], self._decoded(apply, mean[:32])], 1).reshape(-1, *self.pixels.shape)
        figures = {
            "samples": image_grids.grid(self.sample(apply, 64, self.seed)),
            "reconstructions": image_grids.grid(paired, columns=8),
            "traversals": image_grids.grid(self._traversals(apply, mean[0], order[:8]), columns=11),
            "latent_map": image_grids.latent_map(mean, labels),
        }
        if self.config.latents == 2:
            figures["plane"] = image_grids.grid(self._plane(apply), columns=20)
        return TaskReport("\n".join(lines), figures)

    def _traversals(self, apply: Apply, latents: np.ndarray, dimensions: np.ndarray) -> np.ndarray:
        """Images of one code [Z] while one latent after another goes from −2.5 to 2.5."""
        places = np.linspace(-2.5, 2.5, 11)
        codes = np.repeat(latents[None], len(dimensions) * len(places), 0)
        codes[np.arange(len(codes)), np.repeat(dimensions, len(places))] = np.tile(places, len(dimensions))
        return self._decoded(apply, codes)

    def _plane(self, apply: Apply) -> np.ndarray:
        """Images of the two-dimensional latent space, at equal steps of the prior's probability."""
        places = np.asarray(tf.math.ndtri(tf.constant((np.arange(20) + 0.5) / 20)))
        return self._decoded(apply, np.stack(np.meshgrid(places, places[::-1]), -1).reshape(-1, 2))

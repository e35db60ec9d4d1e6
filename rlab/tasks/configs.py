"""The settings of every task, apart from their code so that `--help` answers without TensorFlow."""

import dataclasses
from pathlib import Path
from typing import Any, Self

from rlab.datasets.images import Extent, extent
from rlab.errors import BadInputError, nearest
from rlab.settings import check, field, from_settings

# Where a model of `mnist` differs from ImageConfig's own defaults: first choices, not yet searched.
IMAGE_MODELS: dict[str, dict[str, Any]] = {
    "mlp": {},
    "cnn": {"units": 1024, "epochs": 8, "shift": 2},
    "highway": {"depth": 20, "units": 50, "epochs": 30},
    "residual": {"depth": 20, "units": 50, "epochs": 30},
    "highway-cnn": {"depth": 9, "units": 32, "epochs": 10, "shift": 2, "learning_rate": 3e-3},
    "residual-cnn": {"depth": 9, "units": 32, "epochs": 10, "shift": 2, "learning_rate": 3e-3},
}
# The same of `vae`, `gan` and `pixelrnn`.
VAE_MODELS: dict[str, dict[str, Any]] = {"mlp": {}, "cnn": {"units": 256, "latents": 32, "epochs": 20}}
PIXEL_MODELS: dict[str, dict[str, Any]] = {
    "diagonal-bilstm": {},
    "row-lstm": {"units": 32, "depth": 4, "epochs": 2},
    "pixelcnn": {"units": 32, "depth": 8, "epochs": 2},
}
GAN_MODELS: dict[str, dict[str, Any]] = {"mlp": {}, "cnn": {"units": 32, "epochs": 12, "penalty": 1.0}}
_MEMORIES = ("rnn", "lstm", "dnc")
_ASKED = "what is asked: where a symbol is that of n steps before, or which that was"
_DATA = "`mnist`, `digits` (no network needed), or the path of an .npz file"
_IMAGES = f"{_DATA}; `env:NAME[,option=value ...]` for what an environment shows"
_BINARIZATIONS = ("fixed", "fresh", "none")


class OnImages:
    """A config whose defaults suit the images to learn from."""

    @classmethod
    def for_data(cls, data: str, **changes: Any) -> Self:
        """The settings that the command line has as its defaults for this data (and `model`), with changes.

        Raises BadInputError for an unknown setting, and for a value out of range.
        """
        task = next(name for name, kind in CONFIGS.items() if kind is cls)
        config = from_settings(cls, defaults(task, changes.get("model"), data) | {"data": data} | changes)
        check(config)
        return config


@dataclasses.dataclass(frozen=True)
class RegressionConfig:
    """The settings of linear regression."""

    dimensions: int = field(10, "D, inputs", low=1, high=10_000)
    features: str = field("identity", "φ", choices=("identity", "bias", "polynomial"))
    degree: int = field(3, "of `polynomial` features, which need --dimensions 1", low=0, high=12)
    samples: int = field(1000, "training samples", low=2, high=10_000_000)
    noise: float = field(0.1, "standard deviation of the noise", low=1e-6, high=1e6)
    prior: float = field(10.0, "standard deviation of the prior over each weight", low=1e-6, high=1e6)
    epochs: int = field(200, "passes over the data", low=1)
    batch_size: int = field(100, "samples to an update", low=1)
    learning_rate: float = field(0.05, "step size of Adam", low=0.0, above=True)
    decay_learning_rate: bool = field(True, "let the step size fall linearly to 0")
    max_gradient_norm: float = field(100.0, "bound on the gradient's Euclidean norm", low=0.0, above=True)


@dataclasses.dataclass(frozen=True)
class ImageConfig(OnImages):
    """The settings of image classification."""

    model: str = field("mlp", "network", choices=list(IMAGE_MODELS))
    data: str = field("mnist", _DATA)
    depth: int = field(2, "layers; `cnn` has its own: two convolutions and a layer of --units", low=1, high=200)
    units: int = field(100, "units of a layer; filters, of convolutions", low=1, high=65_536)
    initializer: str = field("orthogonal", "initial weights of `mlp`", choices=("orthogonal", "truncated_normal"))
    shift: int = field(1, "pixels by which training images are moved at random; less than they have", low=0)
    epochs: int = field(20, "passes over the training images", low=1)
    batch_size: int = field(128, "images to an update", low=1)
    learning_rate: float = field(1e-3, "step size of Adam", low=0.0, above=True)
    decay_learning_rate: bool = field(True, "let the step size fall linearly to 0")
    max_gradient_norm: float = field(10.0, "bound on the gradient's Euclidean norm", low=0.0, above=True)

    @property
    def convolutional(self) -> bool:
        """True if the model is made of convolutions."""
        return self.model.endswith("cnn")

    @property
    def heavy(self) -> bool:
        """True if an update is work enough for a second core."""
        return self.convolutional


@dataclasses.dataclass(frozen=True)
class NBackConfig:
    """The settings of n-back."""

    model: str = field("lstm", "memory", choices=_MEMORIES)
    target: str = field("match", _ASKED, choices=("match", "symbol"))
    n: int = field(3, "how many steps back the answer lies", low=1, high=100)
    k: int = field(4, "how many symbols there are", low=2, high=100)
    mean_length: float = field(20.0, "mean length of a sequence, steps", low=2.0, high=1000.0)
    deviation: float = field(5.0, "standard deviation of the length, steps", low=0.0, high=1000.0)
    samples: int = field(512, "sequences to train on, and as many to validate", low=1, high=100_000)
    units: int = field(64, "H, units", low=1, high=65_536)
    epochs: int = field(256, "passes over the sequences", low=1)
    batch_size: int = field(64, "sequences to an update", low=1, high=65_536)
    learning_rate: float = field(1e-2, "step size of Adam", low=0.0, above=True)
    decay_learning_rate: bool = field(True, "let the step size fall linearly to 0")
    max_gradient_norm: float = field(1.0, "bound on the gradient's Euclidean norm", low=0.0, above=True)


@dataclasses.dataclass(frozen=True)
class RepeatCopyConfig:
    """The settings of repeated copying; sizes and lengths are deepmind/dnc's, the optimizer is not."""

    model: str = field("dnc", "memory", choices=_MEMORIES)
    bits: int = field(4, "bits of a word", low=1, high=64)
    min_length: int = field(1, "fewest words", low=1)
    max_length: int = field(2, "most words", low=1, high=100)
    min_repeats: int = field(1, "fewest repeats", low=1)
    max_repeats: int = field(2, "most repeats", low=1, high=20)
    units: int = field(64, "H, units of the controller or of the memory", low=1, high=65_536)
    epochs: int = field(100, "times 200 updates, each of a fresh batch", low=1)
    batch_size: int = field(16, "sequences to an update", low=1, high=65_536)
    learning_rate: float = field(1e-3, "step size of Adam", low=0.0, above=True)
    decay_learning_rate: bool = field(True, "let the step size fall linearly to 0")
    max_gradient_norm: float = field(50.0, "bound on the gradient's Euclidean norm", low=0.0, above=True)


@dataclasses.dataclass(frozen=True)
class CopyConfig(RepeatCopyConfig):
    """The settings of copying: one repeat of longer sequences."""

    max_length: int = field(8, "most words", low=1, high=100)
    max_repeats: int = field(1, "most repeats", low=1, high=20)


@dataclasses.dataclass(frozen=True)
class TranslationConfig:
    """The settings that addition and reversal have in common: those of a sequence-to-sequence model."""

    units: int = field(128, "H, units of encoder and decoder", low=1, high=65_536)
    attention: bool = field(True, "let the decoder look at all of the encoder's outputs")
    beam: int = field(4, "K, hypotheses that beam search keeps", low=1, high=32)
    samples: int = field(
        50_000, "training pairs; of `addition` no pair twice, so as many as there are", low=2, high=10_000_000
    )
    epochs: int = field(20, "passes over the pairs", low=1)
    batch_size: int = field(128, "pairs to an update", low=1)
    learning_rate: float = field(3e-3, "step size of Adam", low=0.0, above=True)
    decay_learning_rate: bool = field(True, "let the step size fall linearly to 0")
    max_gradient_norm: float = field(1.0, "bound on the gradient's Euclidean norm", low=0.0, above=True)


@dataclasses.dataclass(frozen=True)
class AdditionConfig(TranslationConfig):
    """The settings of addition."""

    digits: int = field(3, "most digits of a number", low=1, high=9)
    epochs: int = field(30, "passes over the pairs", low=1)
    learning_rate: float = field(2e-3, "step size of Adam", low=0.0, above=True)


@dataclasses.dataclass(frozen=True)
class ReverseConfig(TranslationConfig):
    """The settings of reversal."""

    symbols: int = field(10, "how many symbols there are", low=2, high=100)
    max_length: int = field(10, "most symbols of a sequence", low=1, high=100)
    epochs: int = field(5, "passes over the pairs", low=1)


@dataclasses.dataclass(frozen=True)
class VAEConfig(OnImages):
    """The settings of the variational autoencoder."""

    model: str = field("mlp", "encoder and decoder", choices=list(VAE_MODELS))
    data: str = field("mnist", _IMAGES)
    binarization: str = field("fresh", "of the training images; those to test are fixed", choices=_BINARIZATIONS)
    likelihood: str = field("bernoulli", "p(x|z)", choices=("bernoulli", "gaussian"))
    latents: int = field(50, "Z, numbers of z", low=1, high=10_000)
    depth: int = field(2, "layers of `mlp`, each way; `cnn` has two convolutions and a layer", low=1, high=20)
    units: int = field(500, "units of a layer", low=1, high=65_536)
    draws: int = field(1, "K, latents drawn for a training image; of several, the importance-weighted bound", low=1)
    importance_samples: int = field(50, "latents drawn for a test image to estimate its likelihood", low=1)
    epochs: int = field(40, "passes over the training images", low=1)
    batch_size: int = field(128, "images to an update", low=1)
    learning_rate: float = field(1e-3, "step size of Adam", low=0.0, above=True)
    decay_learning_rate: bool = field(True, "let the step size fall linearly to 0")
    max_gradient_norm: float = field(1000.0, "bound on the gradient's Euclidean norm", low=0.0, above=True)

    heavy = True


@dataclasses.dataclass(frozen=True)
class GANConfig(OnImages):
    """The settings of generative adversarial networks."""

    model: str = field("mlp", "both networks", choices=list(GAN_MODELS))
    data: str = field("mnist", _IMAGES)
    latents: int = field(64, "Z, numbers of z", low=1, high=10_000)
    units: int = field(
        512, "units of a layer of `mlp`; filters of the convolutions next to the image", low=1, high=65_536
    )
    penalty: float = field(2.0, "weight of half the squared slope of D at real images (R1)", low=0.0)
    averaging: float = field(
        0.999, "of the parameters that are kept: their part in the next average", low=0.0, high=0.999999
    )
    epochs: int = field(40, "passes over the training images", low=1)
    batch_size: int = field(64, "images to an update", low=1)
    learning_rate: float = field(2e-3, "step size of Adam", low=0.0, above=True)
    beta_1: float = field(0.5, "Adam's memory of gradients", low=0.0, high=0.999)
    decay_learning_rate: bool = field(True, "let the step size fall linearly to 0")
    max_gradient_norm: float = field(100.0, "bound on the gradient's Euclidean norm", low=0.0, above=True)

    heavy = True


@dataclasses.dataclass(frozen=True)
class PixelRNNConfig(OnImages):
    """The settings of PixelRNN and PixelCNN."""

    model: str = field("diagonal-bilstm", "what the blocks are made of", choices=list(PIXEL_MODELS))
    data: str = field("mnist", _IMAGES)
    binarization: str = field("fixed", "of the images; `none` for grey levels", choices=_BINARIZATIONS)
    levels: int = field(2, "values of a pixel", low=2, high=256)
    units: int = field(24, "h, of a block's layer; there are 2h features between them", low=1, high=4096)
    depth: int = field(3, "residual blocks", low=1, high=100)
    epochs: int = field(4, "passes over the training images", low=1)
    batch_size: int = field(16, "images to an update", low=1)
    learning_rate: float = field(5e-3, "step size of Adam", low=0.0, above=True)
    decay_learning_rate: bool = field(True, "let the step size fall linearly to 0")
    max_gradient_norm: float = field(50.0, "bound on the gradient's Euclidean norm", low=0.0, above=True)

    heavy = True


CONFIGS: dict[str, type] = {
    "linear-regression": RegressionConfig,
    "mnist": ImageConfig,
    "nback": NBackConfig,
    "copy": CopyConfig,
    "repeat-copy": RepeatCopyConfig,
    "addition": AdditionConfig,
    "reverse": ReverseConfig,
    "vae": VAEConfig,
    "gan": GANConfig,
    "pixelrnn": PixelRNNConfig,
}
_BEFORE: dict[str, dict[str, Any]] = {"nback": {"target": "symbol"}}  # of version 0.1, which had no such setting
_MNIST_SIDE = 28  # pixels, for which shifts are set
_DEEP_ON_FEW = {"learning_rate": 3e-3}  # residual, on digits: 98.9 and 98.6 % in place of 97.2 and 97.8 %
_FEWEST_UPDATES = 1500  # of any model of images, however few images there are
_MODELS = {"mnist": IMAGE_MODELS, "vae": VAE_MODELS, "gan": GAN_MODELS, "pixelrnn": PIXEL_MODELS}


def defaults(task: str, model: str | None = None, data: str | None = None) -> dict[str, Any]:
    """The settings that suit a task's model and its data, where they differ from its config's own.

    Of few images there are more epochs and smaller batches; small ones are shifted less. None is the config's own.
    """
    models = _MODELS.get(task)
    if models is None:
        return {}
    own: dict[str, Any] = {item.name: item.default for item in dataclasses.fields(CONFIGS[task])}
    model = own["model"] if model is None else model
    found = {"model": model, **models[model]} if model in models else {}
    images = extent(own["data"] if data is None else data)
    return found | _of_extent(own | found, images) if found and images else found


def _of_extent(settings: dict[str, Any], images: Extent) -> dict[str, Any]:
    """The changes to the settings for so many images of such a size."""
    batch = max(1, min(settings["batch_size"], max(images.images // 40, min(8, images.images))))
    epochs = -(-_FEWEST_UPDATES // max(1, images.images // batch))
    few = _DEEP_ON_FEW if epochs > settings["epochs"] and settings["model"] in ("highway", "residual") else {}
    found = {"batch_size": batch, "epochs": max(settings["epochs"], epochs), **few}
    if settings.get("shift") and images.side is not None:
        found["shift"] = min(settings["shift"], settings["shift"] * images.side // _MNIST_SIDE)
    return found


def from_run(settings: dict[str, Any]) -> Any:
    """The config of a task's run, from its config.json; what older versions did not write down means what they did.

    Raises BadInputError for a task or a setting that is not known.
    """
    task = settings["task"]
    if task not in CONFIGS:
        raise BadInputError(f"task {task!r} is not known to this version{nearest(task, CONFIGS)}")
    return from_settings(CONFIGS[task], _BEFORE.get(task, {}) | settings["config"])


def with_absolute_data(config: Any) -> Any:
    """The config with its data file's whole path, so that the run is understood from any directory."""
    if not config.data:
        raise BadInputError(f"--data is empty; it takes {_IMAGES}")
    if config.data in ("mnist", "digits") or config.data.startswith("env:"):
        return config
    return dataclasses.replace(config, data=str(Path(config.data).resolve()))

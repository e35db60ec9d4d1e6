"""The models: Keras layers that know shapes and not reinforcement learning. Modules load when first used."""

import importlib
from typing import Any

_HOMES = {
    "LinearRegression": "linear",
    "MLP": "mlp",
    "Classifier": "mlp",
    "CNN": "cnn",
    "ConvSpec": "cnn",
    "StridedConv2D": "cnn",
    "A3C_CONVOLUTIONS": "cnn",
    "NATURE_CONVOLUTIONS": "cnn",
    "DIGIT_CONVOLUTIONS": "cnn",
    "Residual": "residual",
    "Highway": "residual",
    "DeepMLP": "residual",
    "DeepCNN": "residual",
    "RNN": "recurrent",
    "LSTM": "recurrent",
    "Seq2Seq": "seq2seq",
    "DNC": "dnc",
    "VAE": "vae",
    "GAN": "gan",
    "PixelRNN": "pixelrnn",
    "MaskedConvolution": "causal",
    "RowLSTM": "causal",
    "DiagonalBiLSTM": "diagonal",
    "ParameterLayout": "parameters",
    "seed_stream": "initializers",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"rlab.models.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'rlab.models' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})

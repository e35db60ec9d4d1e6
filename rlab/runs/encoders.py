"""The encoder of a variational autoencoder from its run, for a backbone `vae:RUN`."""

from pathlib import Path
from types import SimpleNamespace

from rlab.errors import BadInputError
from rlab.policies.encoders import SIZES, Encoder
from rlab.runs.directory import Run
from rlab.runs.weights import load_weights, require_sizes

_PREFIX = "encoder/"  # of its parameters' names


def read_encoder(backbone: str) -> Encoder:
    """Read the encoder of a backbone `vae:RUN` or `vae-tuned:RUN`; raises BadInputError where RUN is no run of VAE."""
    run = Path(backbone.partition(":")[2])
    try:
        opened = Run.open(run)
        kind = opened.config.get("task") or opened.config.get("agent")
        if kind != "vae":
            raise BadInputError(f"{run} is a run of {kind!r}, not of `python -m launch vae`")
        missing = [name for name in SIZES if name not in opened.config["config"]]
        if missing:
            raise BadInputError(f"{run}/config.json is damaged: it has no {missing[0]!r}")
        sizes = {name: opened.config["config"][name] for name in SIZES}
        require_sizes(run, "model", SimpleNamespace(**sizes))
        arrays = load_weights(run, "model")
    except BadInputError as error:
        raise BadInputError(f"backbone {backbone!r}: {error}") from error
    kept = {name.removeprefix(_PREFIX): array for name, array in arrays.items() if name.startswith(_PREFIX)}
    return Encoder(sizes, kept)

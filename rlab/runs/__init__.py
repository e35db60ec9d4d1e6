"""A run on disk: its directory, checkpoints and metrics, and the one outer loop that fills it."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

"""Learned rewards: a bonus for novelty, or imitation of demonstrations in place of the environment's own rewards."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

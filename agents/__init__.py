"""The agents: one algorithm, one file. Each loads when it is first used."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

# The names on the command line.
AGENTS = {"a3c": "A3C", "rpg": "RPG", "snes": "SNES", "trpo": "TRPO"}

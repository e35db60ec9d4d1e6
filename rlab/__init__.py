"""rlab: a reinforcement-learning research toolkit.

Submodules load when they are first used, so that importing `rlab` costs nothing and TensorFlow starts only when
tensors are needed: `python -m launch --help` answers at once. `__init__.pyi` lists them, for readers, editors and the
loader alike; so it is in every package.
"""

import os

import lazy_loader

from rlab import quiet

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # TensorFlow's greetings; its errors still show
quiet.hush_tensorflow()

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

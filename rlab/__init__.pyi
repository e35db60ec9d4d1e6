from . import arrays as arrays
from . import datasets as datasets
from . import environments as environments
from . import errors as errors
from . import models as models
from . import ops as ops
from . import parallel as parallel
from . import policies as policies
from . import rewards as rewards
from . import runs as runs
from . import sampling as sampling
from . import schedules as schedules
from . import seeding as seeding
from . import settings as settings
from . import state as state
from . import tasks as tasks
from . import types as types
from .rewards import demonstrations as demonstrations
from .rewards import imitation as imitation
from .rewards import novelty as novelty
from .runs import load_policy as load_policy
from .sampling import evaluation as evaluation
from .sampling import rollout as rollout
from .sampling import vine as vine

__version__: str

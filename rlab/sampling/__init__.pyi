from . import compilers as compilers
from . import evaluation as evaluation
from . import rollout as rollout
from . import vine as vine

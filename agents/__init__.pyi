from . import configs as configs
from . import tuning as tuning
from .a3c import A3C as A3C
from .agent import Agent as Agent
from .agent import Learner as Learner
from .agent import Made as Made
from .agent import Setup as Setup
from .agent import in_step as in_step
from .rpg import RPG as RPG
from .snes import SNES as SNES
from .trpo import TRPO as TRPO

AGENTS: dict[str, str]

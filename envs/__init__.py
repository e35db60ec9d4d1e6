"""Environments by name: `envs.make` gives a gymnasium vector environment that always resets in the same step.

What every environment of `make` promises, whatever it is made of:

- `reset()` without a seed starts from the seed given to `make`;
- at an episode's end the observation returned is the next episode's first one, and `info["final_obs"]` [B, ...] holds
  the last one of the episode that ended, in the rows where `terminations | truncations`;
- `info["episode"]` (`r`, `l`) holds the score and length of each episode that ended, from the environment's own
  rewards, whatever clipping learning sees; `info["_episode"]` says which ended, and is false where a life was lost and
  the game goes on.

`envs.contract.conform` makes the same of anyone's vector environment.
"""

from envs.atari import ATARI_OPTIONS
from envs.construction import is_atari, make, names, option_help, options, require_options, resolve
from envs.factories import factory
from envs.filming import make_filmed

__all__ = [
    "ATARI_OPTIONS",
    "factory",
    "is_atari",
    "make",
    "make_filmed",
    "names",
    "option_help",
    "options",
    "require_options",
    "resolve",
]

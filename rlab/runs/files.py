"""Files of a run, which are read and written as `rlab.files` does."""

from rlab.files import digest_of, require_plain, require_same_file, write_atomically

__all__ = ["WEIGHTS", "digest_of", "require_plain", "require_same_file", "write_atomically"]

# The trained parameters by name, in a run's `policy/` or, of a task, `model/`.
WEIGHTS = "weights.safetensors"

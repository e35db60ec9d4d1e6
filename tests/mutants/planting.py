"""An error that `python tests/mutants` plants: where, what stands there, what is put there, who must notice."""

from typing import NamedTuple


class Planted(NamedTuple):
    """One error. The old text must occur exactly once: who changes a line that is named here changes it here too."""

    name: str  # the file, and what is wrong
    file: str
    old: str
    new: str
    tests: tuple[str, ...]  # for pytest
    reason: str = ""  # why it may survive, if it may


class Into(NamedTuple):
    """A file in which errors are planted, and the tests that must notice where nothing else is said."""

    file: str
    tests: tuple[str, ...]

    def __call__(self, name: str, old: str, new: str, *tests: str, reason: str = "") -> Planted:
        """An error of the file; tests without a file are of the first one that the file is given."""
        home = self.tests[0].split("::")[0]
        named = tuple(test if test.startswith("tests/") else f"{home}::{test}" for test in tests)
        return Planted(f"{self.file}: {name}", self.file, old, new, named or self.tests, reason)


def into(file: str, *tests: str) -> Into:
    return Into(file, tests)

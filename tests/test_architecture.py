"""The house: a file imports only from floors below its own."""

import ast
import pathlib
import re

import pytest
from conftest import ROOT

# Floors by path prefix, the longest prefix counts; ARCHITECTURE of the project, in docs/architecture.md.
FLOORS = {
    "rlab/errors.py": 0,
    "rlab/launchers.py": 0,
    "rlab/notify.py": 0,
    "rlab/quiet.py": 0,
    "rlab/files.py": 0,
    "rlab/arrays.py": 0,
    "rlab/state.py": 0,
    "rlab/types.py": 1,
    "rlab/environments.py": 1,
    "rlab/seeding.py": 1,
    "rlab/ops": 1,
    "rlab/models": 1,
    "rlab/datasets": 1,
    "rlab/settings.py": 1,
    "rlab/schedules.py": 1,
    "envs": 1,
    "rlab/policies": 2,
    "rlab/policies/observations.py": 1,
    "rlab/parallel": 2,
    "rlab/sampling": 3,
    "rlab/rewards": 3,
    "rlab/runs": 4,
    "agents": 4,
    "rlab/tasks": 5,
    "launch": 6,
}
FILES = [p.relative_to(ROOT) for top in ("rlab", "agents", "envs", "launch") for p in (ROOT / top).rglob("*.py")]
ALLOWED_ABOVE = {"rlab/__init__.py"}  # the front door opens on every room, when asked


def _floor(path):
    text = path.as_posix()
    matching = [prefix for prefix in FLOORS if text == prefix or text.startswith(prefix + "/")]
    assert matching, f"{text} stands on no floor"
    return FLOORS[max(matching, key=len)]


def _imports(path):
    """The project's files that a file imports, wherever in it the import stands."""
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        modules = []
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            modules = [f"{node.module}.{alias.name}" for alias in node.names] + [node.module]
        for module in modules:
            base = pathlib.Path(*module.split("."))
            if (ROOT / base.with_suffix(".py")).is_file():
                yield base.with_suffix(".py")
            elif (ROOT / base / "__init__.py").is_file() and module != "rlab":
                yield base / "__init__.py"


def _outside(path):
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module.split(".")[0]


@pytest.mark.parametrize("path", FILES, ids=str)
def test_no_import_runs_upward(path):
    if path.as_posix() in ALLOWED_ABOVE:
        return
    for imported in _imports(path):
        assert _floor(imported) <= _floor(path), f"{path} imports {imported} from a floor above"


@pytest.mark.parametrize(
    ("module", "homes"),
    [
        ("ale_py", ("envs/",)),
        (
            "gymnasium",
            (
                "envs/",
                "rlab/environments.py",
                "rlab/policies/",
                "rlab/sampling/",
                "rlab/rewards/",
                "rlab/runs/policy_files.py",
                "agents/",
            ),
        ),
        ("click", ("launch/",)),
        ("mpi4py", ("rlab/parallel/comm.py",)),
    ],
)
def test_libraries_enter_by_their_own_door(module, homes):
    users = [path.as_posix() for path in FILES if module in set(_outside(path))]
    assert all(user.startswith(homes) for user in users), users


def test_no_agent_imports_another_or_the_environments():
    # `agents/construction.py` makes an environment's name into a factory: no agent needs to know one from the other.
    shared = {f"agents/{name}.py" for name in ("agent", "configs", "construction", "tuning", "__init__")}
    know = ("construction.py", "tuning.py")
    for path in FILES:
        if path.parts[0] == "agents":
            for imported in map(pathlib.Path.as_posix, _imports(path)):
                assert not imported.startswith("envs") or path.name in know, f"{path} imports {imported}"
                own = (
                    imported == f"agents/{path.stem.removesuffix('_checks')}.py"
                )  # an agent's checks are of its functions
                assert not imported.startswith("agents") or imported in shared or own, f"{path} imports {imported}"


def test_the_toolkit_knows_no_environment():
    """`envs` uses errors, seeds and spaces of `rlab`; the other way `rlab.environments` is all there is."""
    for path in FILES:
        if path.parts[0] == "rlab":
            assert "envs" not in set(_outside(path)), f"{path} imports envs"


def test_tests_reach_no_private_member():
    private = re.compile(r"(?<!self)(?<!cls)(?<!super\(\))\._(?!fields\b|replace\b|asdict\b|exit\b)[a-z]\w*")
    private_import = re.compile(r"^\s*from .* import .*\b_[a-z]\w*", re.MULTILINE)
    for path in sorted((ROOT / "tests").glob("*.py")):
        text = path.read_text()
        found = private.findall(text) + private_import.findall(text)
        assert not found, f"{path.name} reaches {found}"


@pytest.mark.parametrize("path", FILES, ids=str)
def test_files_are_short_and_say_what_they_are(path):
    text = (ROOT / path).read_text()
    assert len(text.splitlines()) <= 400
    assert ast.get_docstring(ast.parse(text)), f"{path} has no docstring"

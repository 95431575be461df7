"""The package as a whole: what its front door imports, the order of its rooms, docstrings, API pages."""

import ast
import importlib
import inspect
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest

import jepa_utils

ROOT = Path(__file__).resolve().parents[1]


def loaded_after(statement: str) -> set[str]:
    """The packages that a fresh interpreter has loaded after a statement, Python's own aside."""
    code = f"import sys\n{statement}\nprint(*{{m.partition('.')[0] for m in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split()) - sys.stdlib_module_names


def test_one_loss_imports_torch_and_nothing_else():
    beside = loaded_after("import jepa_utils.objectives.sigreg") - loaded_after("import torch")
    assert beside == {"jepa_utils"}


def test_the_front_door_and_the_command_import_nothing_of_weight():
    heavy = {"torch", "numpy", "lightning", "datasets", "nbformat", "matplotlib", "pydantic"}
    assert loaded_after("import jepa_utils") & heavy == set()
    assert loaded_after("import jepa_utils.publishing.cli") & heavy == set()


def test_every_public_name_lies_where_the_front_door_says():
    for module, names in jepa_utils.PUBLIC.items():
        found = importlib.import_module(f"jepa_utils.{module}")
        assert [
            name for name in names if getattr(jepa_utils, name) is not getattr(found, name)
        ] == []
    assert (
        len(set(jepa_utils.__all__))
        == len(jepa_utils.__all__)
        == sum(map(len, jepa_utils.PUBLIC.values()))
    )
    assert set(jepa_utils.__all__) <= set(dir(jepa_utils))


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'sigrek'"):
        jepa_utils.sigrek  # noqa: B018


def test_no_two_modules_have_one_name():
    names = [path.stem for path in modules().values() if path.name != "__init__.py"]
    assert sorted({name for name in names if names.count(name) > 1}) == []


def test_tests_lie_as_the_package_does():
    """Every folder of tests is a room of the package."""
    for path in (ROOT / "tests").glob("*/test_*.py"):
        assert (ROOT / "jepa_utils" / path.parent.name).is_dir(), path


# From the ground up.
ROOMS = (
    "files",
    "arguments",
    "objectives",
    "models",
    "data",
    "evaluation",
    "training",
    "experiments",
    "claims",
    "figures",
    "publishing",
)


def room_problems(module: str, source: str, is_package: bool = False) -> list[str]:
    """Imports in a module of the package that go up, or into what another room keeps to itself."""
    parts = module.split(".")
    if len(parts) == 1:
        return []  # the package's front door passes names on from every room
    if parts[1] not in ROOMS:
        return [f"{module} is in no known room"]
    targets = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            targets += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            here = parts[: len(parts) - node.level + is_package] if node.level else []
            base = ".".join([*here, *([node.module] if node.module else [])])
            targets += [f"{base}.{alias.name}" for alias in node.names]
    problems = []
    for target in targets:
        names = target.split(".")
        if names[0] != parts[0] or len(names) < 2 or names[1] == parts[1]:
            continue
        if names[1] not in ROOMS:
            problems.append(
                f"{module} imports {target} through the front door, which imports every room"
            )
        elif ROOMS.index(names[1]) > ROOMS.index(parts[1]):
            problems.append(f"{module} imports {target}, a room above it")
        elif names[-1].startswith("_"):
            problems.append(f"{module} imports {target}, which its room keeps to itself")
    return problems


def modules() -> dict[str, Path]:
    """The package's modules and their files."""
    found = {}
    for path in sorted(Path(jepa_utils.__file__).parent.rglob("*.py")):
        parts = [
            "jepa_utils",
            *path.relative_to(Path(jepa_utils.__file__).parent).with_suffix("").parts,
        ]
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def test_no_room_imports_one_above_it():
    found = {
        m: room_problems(m, p.read_text(encoding="utf-8"), p.name == "__init__.py")
        for m, p in modules().items()
    }
    assert [problem for problems in found.values() for problem in problems] == []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("jepa_utils.objectives.sigreg", "from jepa_utils.models.mlp import MLP"),
        ("jepa_utils.objectives.sigreg", "from ..evaluation import collapse"),
        ("jepa_utils.models.mlp", "def f():\n    import jepa_utils.claims.judge"),
        ("jepa_utils.models.mlp", "from jepa_utils.objectives.sigreg import _grid"),
        ("jepa_utils.models.mlp", "from jepa_utils import sigreg"),
        ("jepa_utils.attic", "import torch"),
    ],
)
def test_room_check_can_fail(module, source):
    assert room_problems(module, source)


def test_room_check_allows_what_is_below():
    assert (
        room_problems(
            "jepa_utils.training.fit",
            "import torch\nfrom jepa_utils.objectives.sigreg import sigreg\nfrom . import jepa",
        )
        == []
    )


def public_objects() -> dict[str, object]:
    """Everything public, by full name: what `__all__` lists or, without one, what a module defines."""
    found = {}
    for info in pkgutil.walk_packages(jepa_utils.__path__, "jepa_utils."):
        module = importlib.import_module(info.name)
        own = [
            n
            for n, o in vars(module).items()
            if not n.startswith("_") and getattr(o, "__module__", None) == info.name
        ]
        found |= {
            f"{info.name}.{name}": getattr(module, name) for name in getattr(module, "__all__", own)
        }
        found[info.name] = module
    return found


def test_everything_public_has_a_docstring():
    documented = (type(jepa_utils), type, type(lambda: 0))
    bare = [
        n
        for n, o in public_objects().items()
        if isinstance(o, documented) and not inspect.getdoc(o)
    ]
    # A room's __init__ that is empty is a folder, not something to read about.
    files = modules()
    assert [n for n in bare if n not in files or files[n].read_text(encoding="utf-8").strip()] == []


def test_every_module_is_on_the_api_page():
    listed = re.findall(
        r"automodule:: (\S+)", "".join(p.read_text() for p in (ROOT / "book").glob("api*.md"))
    )
    public = [
        m for m, p in modules().items() if p.name != "__init__.py" and "._" not in m
    ]  # a leading "_" is for the room's own use
    # The room `publishing` is the build's own; the `jepa` command documents itself.
    wanted = {m for m in public if ".publishing." not in m}
    assert sorted(wanted ^ set(listed)) == []

"""Change each public function of the package once and list the changes that no test notices.

    python tests/mutate.py                     # everything; hours
    python tests/mutate.py objectives          # one room
    python tests/mutate.py evaluation.probes linear_probe
    python tests/mutate.py objectives all      # private functions, too

Run by hand, and weekly in CI; not by `make test`. Which change a function gets depends on its code
alone. The tests of the function's folder run in a copy of the tree, those of its own module first.
Exits with 1 where a change survives that is not in ALLOWED.
"""

from __future__ import annotations

import ast
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SECONDS = 240  # for one change; running out of them counts as noticed
NOT_COPIED = (".git", ".venv", "_build", "__pycache__")
COMPARE = {
    ast.Lt: ast.GtE, ast.GtE: ast.Lt, ast.Gt: ast.LtE, ast.LtE: ast.Gt,
    ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.In: ast.NotIn, ast.NotIn: ast.In,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is,
}  # fmt: skip
ARITHMETIC = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult}
ARITHMETIC |= {ast.FloorDiv: ast.Mult, ast.Mod: ast.Mult, ast.Pow: ast.Mult}

# Changes that no test can notice, as they are printed, without the line: why.
ALLOWED: dict[str, str] = {}


def changes(function: ast.AST) -> list[tuple[ast.AST, str]]:
    """The nodes of a function's body that can be changed, and how, in the order of the lines."""
    words = (ast.Raise, ast.JoinedStr)  # what an error says
    skipped = {id(n) for w in ast.walk(function) if isinstance(w, words) for n in ast.walk(w)}
    found = []
    for node in (n for statement in function.body for n in ast.walk(statement)):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Compare) and type(node.ops[0]) in COMPARE:
            found.append((node, "comparison"))
        elif isinstance(node, ast.BinOp) and type(node.op) in ARITHMETIC:
            found.append((node, "arithmetic"))
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.Not, ast.USub)):
            found.append((node, "sign"))
        elif isinstance(node, ast.Constant) and type(node.value) in (int, float, bool):
            found.append((node, "constant"))
        elif isinstance(node, ast.Return) and node.value is not None:
            found.append((node, "return"))
    return sorted(found, key=lambda change: (change[0].lineno, change[0].col_offset, change[1]))


def apply(node: ast.AST, kind: str) -> None:
    if kind == "comparison":
        node.ops[0] = COMPARE[type(node.ops[0])]()
    elif kind == "arithmetic":
        node.op = ARITHMETIC[type(node.op)]()
    elif kind == "sign":
        node.op = ast.UAdd() if isinstance(node.op, ast.USub) else ast.Not()
        if isinstance(node.op, ast.Not):  # drop the `not`
            node.operand = ast.UnaryOp(ast.Not(), node.operand)
    elif kind == "constant":
        node.value = (not node.value) if isinstance(node.value, bool) else node.value + 1
    else:
        node.value = ast.Constant(None)


def functions(tree: ast.Module) -> dict[str, ast.AST]:
    """Functions of a module and methods of its classes, by name."""
    found = {}
    for node in tree.body:
        inner = [(f"{node.name}.", n) for n in node.body] if isinstance(node, ast.ClassDef) else []
        for owner, part in [("", node), *inner]:
            if isinstance(part, (ast.FunctionDef, ast.AsyncFunctionDef)):
                found[owner + part.name] = part
    return found


def is_public(name: str) -> bool:
    return not any(part.startswith("_") and part != "__init__" for part in name.split("."))


def test_order(module: Path, tests: Path) -> list[str]:
    """The test files of a module's folder: those that name it first."""
    name = module.stem.strip("_")
    files = sorted((tests / module.parts[-2]).glob("test_*.py")) or sorted(tests.glob("test_*.py"))
    return sorted(map(str, files), key=lambda f: (name not in Path(f).name, f))


def mutate(module: Path, name: str, copy: Path) -> tuple[int, str] | None:
    """Change one function in the copy and test it; line and change, if no test noticed."""
    text = (ROOT / module).read_text()
    tree = ast.parse(text)
    candidates = changes(functions(tree)[name])
    if not candidates:
        return None
    seed = hashlib.sha256(ast.dump(functions(tree)[name]).encode()).digest()
    node, kind = candidates[int.from_bytes(seed[:4]) % len(candidates)]
    before, line = ast.unparse(node), node.lineno
    apply(node, kind)
    after = ast.unparse(node)
    (copy / module).write_text(ast.unparse(tree))
    noticed = not passes(module, copy)
    (copy / module).write_text(text)
    return None if noticed else (line, f"{module} {name}: {before!r} -> {after!r}")


def passes(module: Path, copy: Path) -> bool:
    """Whether the tests of a module's folder pass in the copy."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider"]
    command += test_order(module, copy / "tests")
    # the copy and not the installed tree; one thread, as `make test`
    environment = os.environ | {"PYTHONPATH": str(copy), "OMP_NUM_THREADS": "1"}
    options = dict(cwd=copy, env=environment, capture_output=True, timeout=SECONDS)
    try:
        return subprocess.run(command, **options).returncode == 0
    except subprocess.TimeoutExpired:
        return False


def main(room: str = "", function: str = "") -> int:
    """Whether a change survives that is not allowed."""
    wanted = room.replace(".", "/")
    modules = sorted((ROOT / "jepa_utils").rglob("*.py"))
    modules = [m.relative_to(ROOT) for m in modules if f"jepa_utils/{wanted}" in m.as_posix()]
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "tree"
        shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(*NOT_COPIED))
        survivors, count, tested, start = [], 0, None, time.monotonic()
        for module in modules:
            if module.parts[1:-1] != tested:
                tested = module.parts[1:-1]
                if not passes(module, copy):
                    sys.exit(f"the tests of {'/'.join(tested)} fail without any change")
            for name in functions(ast.parse((ROOT / module).read_text())):
                if function in (name, "all") or (not function and is_public(name)):
                    survivor, count = mutate(module, name, copy), count + 1
                    if survivor:
                        line, change = survivor
                        survivors.append(change)
                        why = f" (allowed: {ALLOWED[change]})" if change in ALLOWED else ""
                        print(f"survives, line {line}: {change}{why}", flush=True)
    print(f"{len(survivors)} of {count} survive, {time.monotonic() - start:.0f} s")
    return int(any(change not in ALLOWED for change in survivors))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

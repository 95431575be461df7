"""When a chapter's stored outputs are out of date: one hash over all code that could change them.

The hash covers the chapter's code cells, the modules of the package they reach (found by reading
imports, nothing is executed) and the lock. Comments, docstrings and layout are aside. Data is not
covered: a reader with another copy need not run everything again, and each page says which data
made it."""

from __future__ import annotations

import ast
import hashlib
import re
from functools import cache
from pathlib import Path

import nbformat

PACKAGE = "jepa_utils"
# Reporting changes no number, and what it draws (boxes, tables) is drawn anew from the recorded
# values whenever it or claims.yml changes (claims.redraw), so this room is left out: else every
# edit to it would make all chapters stale.
REPORTING = f"{PACKAGE}.publishing"
STRINGS = ("FunctionDef", "AsyncFunctionDef", "ClassDef")


def chapter_hash(notebook: Path, root: Path) -> str:
    """Return the hash of everything but data that a chapter's outputs depend on.

    Parameters
    ----------
    notebook : Path
        The chapter.
    root : Path
        The book's root, with the package and ``requirements.lock``.
    """
    sources = code_cells(nbformat.read(notebook, as_version=4))
    package = _Package(root / PACKAGE)
    cells, parts = ast.Module(body=[], type_ignores=[]), []
    for source in sources:
        code, magics = _split_magics(source)
        try:
            tree = ast.parse(code)
        except SyntaxError:  # magics inside an expression: the text stands for itself
            parts.append(source)
            continue
        cells.body += tree.body
        parts.append(f"{_dump(tree, keep_strings=True)} {magics}")
    modules = package.reached(cells)
    parts += [f"{module} {_dump(package.code(module))}" for module in sorted(modules)]
    parts += package.shown(cells)
    lock = (root / "requirements.lock").read_text(encoding="utf-8").splitlines()
    parts += [line.strip() for line in lock if line.strip() and not line.lstrip().startswith("#")]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def code_cells(notebook) -> list[str]:
    """The sources of a notebook's code cells, papermill's injected parameters aside."""
    cells = [c for c in notebook.cells if c.cell_type == "code"]
    return [c.source for c in cells if "injected-parameters" not in c.metadata.get("tags", [])]


def parse_cells(notebook) -> ast.Module:
    """All code cells as one tree; cells that are not Python are left out."""
    tree = ast.Module(body=[], type_ignores=[])
    for source in code_cells(notebook):
        try:
            tree.body += ast.parse(_split_magics(source)[0]).body
        except SyntaxError:
            continue
    return tree


def _split_magics(source: str) -> tuple[str, str]:
    """Part a cell's Python from its IPython lines (``%magic``, ``!shell``, ``%%cell magic``)."""
    if source.lstrip().startswith("%%"):
        return "", source
    magic = re.compile(r"^\s*[%!].*$", re.MULTILINE)
    # pass stands in for the line, for it may be all there is under an if.
    return magic.sub(lambda m: re.match(r"\s*", m[0])[0] + "pass", source), "\n".join(
        magic.findall(source)
    )


def _dump(node: object, keep_strings: bool = False) -> str:
    """Write a syntax tree without positions, comments and bare strings.

    Not `ast.dump`, whose text differs between versions of Python: an outputs' hash must not.
    """
    if isinstance(node, list):
        return f"[{','.join(_dump(item, keep_strings) for item in node)}]"
    if not isinstance(node, ast.AST):
        return ascii(node)
    name, found = type(node).__name__, []
    keep = (
        keep_strings and name == "Module"
    )  # a cell's last string is an output, a function's is a docstring
    for key, value in ast.iter_fields(node):
        if key in ("ctx", "kind", "type_comment", "type_ignores"):
            continue
        if key == "body" and isinstance(value, list) and not keep:
            value = [item for item in value if not _is_string(item)]
        if value is not None and value != []:
            found.append(f"{key}={_dump(value, keep_strings)}")
    return f"{name}({','.join(found)})"


def _is_string(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


class _Package:
    """The package's source, and who imports whom in it."""

    def __init__(self, folder: Path):
        self.files = {}
        for path in sorted(folder.rglob("*.py")):
            parts = (folder.name, *path.relative_to(folder).with_suffix("").parts)
            self.files[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
        self.tree = cache(lambda module: ast.parse(self.files[module].read_text(encoding="utf-8")))
        self.exports = cache(self._exports)

    def is_package(self, module: str) -> bool:
        return self.files[module].name == "__init__.py"

    def code(self, module: str) -> ast.Module:
        """A module's code; of an ``__init__`` what is left beside the names it passes on."""
        tree = self.tree(module)
        if not self.is_package(module):
            return tree
        body = [
            node
            for node in tree.body
            if not isinstance(node, (ast.Import, ast.ImportFrom)) and not _is_all(node)
        ]
        return ast.Module(body=body, type_ignores=[])

    def _exports(self, module: str) -> dict[str, tuple[str, str]]:
        """Names an ``__init__`` takes from elsewhere in the package: (module, name there) by name."""
        found = {}
        for node in self.tree(module).body:
            if isinstance(node, ast.ImportFrom) and (base := self.base(node, module)) in self.files:
                found |= {
                    alias.asname or alias.name: (base, alias.name)
                    for alias in node.names
                    if alias.name != "*"
                }
        return found

    def base(self, node: ast.ImportFrom, module: str | None) -> str:
        """The absolute name of what ``from ... import`` imports from."""
        if not node.level or module is None:
            return node.module or ""
        parts = module.split(".")
        parts = parts[: len(parts) - node.level + self.is_package(module)]
        return ".".join([*parts, *([node.module] if node.module else [])])

    def find(self, owner: str, name: str) -> tuple[str, str | None] | None:
        """Where ``owner.name`` is defined: (module, its name there), (module, None) for a module, None if unknown."""
        if not self.is_package(owner):
            return owner, name
        if name in self.exports(owner) and self.exports(owner)[name] != (owner, name):
            return self.find(*self.exports(owner)[name])
        return (f"{owner}.{name}", None) if f"{owner}.{name}" in self.files else None

    def under(self, module: str) -> set[str]:
        """A module and, if it is a package, all in it: for uses that cannot be followed to one name."""
        passed_on = (
            {source for source, _ in self.exports(module).values()}
            if self.is_package(module)
            else set()
        )
        return passed_on | {m for m in self.files if m == module or m.startswith(module + ".")}

    def imports(
        self, tree: ast.AST, module: str | None = None
    ) -> tuple[set[str], dict[str, tuple[str, str | None]]]:
        """Read a tree's imports: the modules they reach, and (module, name there or None) by local name."""
        reached, names = set(), {}
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    if alias.name in self.files:
                        names[alias.asname or PACKAGE] = (
                            alias.name if alias.asname else PACKAGE,
                            None,
                        )
                        reached |= set() if self.is_package(alias.name) else {alias.name}
            elif (
                isinstance(node, ast.ImportFrom) and (base := self.base(node, module)) in self.files
            ):
                for alias in node.names:
                    found = None if alias.name == "*" else self.find(base, alias.name)
                    if found is None:
                        reached |= self.under(base)
                        continue
                    names[alias.asname or alias.name] = found
                    if not (found[1] is None and self.is_package(found[0])):
                        reached.add(found[0])
        return reached, names

    def follow(self, node: ast.expr, names: dict) -> tuple[str, str | None] | None:
        """Resolve ``a.b.c`` to (module, the rest), None if it does not start at an imported name."""
        attributes = []
        while isinstance(node, ast.Attribute):
            attributes.insert(0, node.attr)
            node = node.value
        if not isinstance(node, ast.Name) or node.id not in names:
            return None
        module, name = names[node.id]
        while attributes and name is None and self.is_package(module):
            found = self.find(module, attributes.pop(0))
            if found is None:
                return module, None
            module, name = found
        return module, ".".join([*([name] if name else []), *attributes]) or None

    def direct(self, tree: ast.AST, module: str | None = None) -> set[str]:
        """The package's modules that a tree imports or uses through an imported package."""
        reached, names = self.imports(tree, module)
        packages = {
            name: found
            for name, found in names.items()
            if found[1] is None and self.is_package(found[0])
        }

        def visit(node: ast.AST) -> None:
            found = (
                self.follow(node, packages) if isinstance(node, (ast.Attribute, ast.Name)) else None
            )
            if found is None:
                for child in ast.iter_child_nodes(node):
                    visit(child)
            else:  # a package itself, passed on or of unknown content, stands for all in it
                reached.update(self.under(found[0]) if self.is_package(found[0]) else {found[0]})

        visit(tree)
        return reached

    def reached(self, tree: ast.AST) -> set[str]:
        """All modules that a tree reaches, directly or through others, with the packages they lie in."""
        reached, queue = set(), self.direct(tree)
        if any(self.imports(tree)):
            queue.add(PACKAGE)
        while queue:
            module = queue.pop()
            if module in reached or module == REPORTING or module.startswith(REPORTING + "."):
                continue
            reached.add(module)
            queue |= self.direct(self.code(module), module)
            queue |= {module.rsplit(".", n)[0] for n in range(1, module.count(".") + 1)}
        return reached

    def shown(self, tree: ast.AST) -> list[str]:
        """The text that ``show_source(X)`` prints in a page: comments count there, the docstring does not."""
        _, names = self.imports(tree)
        texts = []
        for call in ast.walk(tree):
            if not (
                isinstance(call, ast.Call)
                and getattr(call.func, "id", getattr(call.func, "attr", "")) == "show_source"
            ):
                continue
            for argument in call.args:
                if found := self.follow(argument, names):
                    texts.append(self.text(*found))
        return texts

    def text(self, module: str, name: str | None) -> str:
        """The source of a function or class without its docstring; of the whole module where it is neither."""
        lines = self.files[module].read_text(encoding="utf-8").splitlines()
        node = self.tree(module)
        for part in name.split(".") if name else ():
            inner = [n for n in node.body if type(n).__name__ in STRINGS and n.name == part]
            if not inner:
                return "\n".join(lines)
            node = inner[-1]
        first, last = (
            (1, len(lines)) if isinstance(node, ast.Module) else (node.lineno, node.end_lineno)
        )
        string = node.body[0] if node.body and _is_string(node.body[0]) else None
        hidden = range(string.lineno, string.end_lineno + 1) if string else ()
        return "\n".join(
            line for n, line in enumerate(lines[first - 1 : last], first) if n not in hidden
        )


def _is_all(node: ast.AST) -> bool:
    return isinstance(node, ast.Assign) and any(
        getattr(t, "id", None) == "__all__" for t in node.targets
    )

"""Imports between the files of the packages, and the circles among them.

`from package import name` is an import of the module `package.name` where there is one, else of
`package` itself. That `import a.b` also runs `a/__init__.py` is ignored. Modules named by anything
but a literal string, as in `importlib.import_module(name)`, are not seen.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
from collections.abc import Collection, Iterator
from pathlib import Path

from tools.source_files import PACKAGES, Function, Source, read_sources

RUN, TYPING, LAZY = "run", "typing", "lazy"
WAYS = {
    "run time": (RUN,),
    "with TYPE_CHECKING": (RUN, TYPING),
    "with lazy imports": (RUN, TYPING, LAZY),
}


@dataclasses.dataclass(frozen=True)
class Import:
    """One name that one import statement takes.

    Attributes:
        source: the module that imports.
        target: the imported module: one of the packages, or the name of a third party.
        when: `run` at the top level, `typing` under TYPE_CHECKING, `lazy` in a function.
        path: the file that imports.
        line: the line number of the statement.
    """

    source: str
    target: str
    when: str
    path: str
    line: int

    @property
    def is_own(self) -> bool:
        """Whether the target belongs to the packages."""
        return self.target.split(".")[0] in PACKAGES


def list_imports(root: Path) -> list[Import]:
    """List all imports of the packages."""
    sources = read_sources(root)
    modules = {source.module for source in sources}
    return [
        Import(source.module, target, when, source.path, statement.lineno)
        for source in sources
        for statement, when in _list_statements(source)
        for target in _find_targets(statement, source, modules)
    ]


@functools.lru_cache(maxsize=2048)
def _list_statements(source: Source) -> list[tuple[ast.stmt | ast.expr, str]]:
    """List the import statements of a file, with when they run."""
    return list(_walk_imports(source.tree, RUN))


def _walk_imports(node: ast.AST, when: str) -> Iterator[tuple[ast.stmt | ast.expr, str]]:
    """Walk over the import statements below a node, with when they run."""
    if isinstance(node, ast.Import | ast.ImportFrom | ast.Call):
        yield node, when
    if isinstance(node, Function | ast.Lambda):
        when = LAZY
    for child in ast.iter_child_nodes(node):
        is_typing = isinstance(node, ast.If) and child in node.body and _is_type_checking(node.test)
        yield from _walk_imports(child, TYPING if is_typing and when == RUN else when)


def _is_type_checking(test: ast.expr) -> bool:
    """Whether a condition is `TYPE_CHECKING`."""
    return ast.unparse(test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")


def _find_targets(
    statement: ast.stmt | ast.expr, source: Source, modules: Collection[str]
) -> list[str]:
    """Find the modules that a statement imports."""
    if isinstance(statement, ast.Import):
        return [alias.name for alias in statement.names]
    if isinstance(statement, ast.ImportFrom):
        origin = find_origin(statement, source)
        names = [f"{origin}.{alias.name}" for alias in statement.names]
        return [name if name in modules else origin for name in names]
    return _find_literal_import(statement) if isinstance(statement, ast.Call) else []


def find_origin(statement: ast.ImportFrom, source: Source) -> str:
    """Find the module after `from`, also of a relative import."""
    if not statement.level:
        return statement.module or ""
    parts = source.module.split(".")
    base = parts[: len(parts) - statement.level + source.is_package]
    return ".".join([*base, statement.module] if statement.module else base)


def _find_literal_import(call: ast.Call) -> list[str]:
    """Find the module in `importlib.import_module("...")`."""
    names = [one.value for one in call.args[:1] if isinstance(one, ast.Constant)]
    if not names or ast.unparse(call.func).split(".")[-1] != "import_module":
        return []
    return [name for name in names if isinstance(name, str)]


def find_edges(root: Path, when: Collection[str] = (RUN, TYPING, LAZY)) -> set[tuple[str, str]]:
    """Find the pairs (importing module, imported module) within the packages."""
    modules = {source.module for source in read_sources(root)}
    return {
        (one.source, one.target)
        for one in list_imports(root)
        if one.when in when and one.target in modules and one.source != one.target
    }


def circles(root: Path, when: Collection[str] = (RUN, TYPING, LAZY)) -> list[list[str]]:
    """List the import circles: sets of modules that reach one another, the largest first."""
    edges = find_edges(root, when)
    ahead: dict[str, set[str]] = {}
    for source, target in edges:
        ahead.setdefault(source, set()).add(target)
    reached = {module: _reach(module, ahead) for module in ahead}
    found = {
        tuple(sorted(other for other in reached[module] if module in reached.get(other, ())))
        for module in reached
    }
    return sorted(([*circle] for circle in found if circle), key=lambda c: (-len(c), c))


def _reach(start: str, ahead: dict[str, set[str]]) -> set[str]:
    """Find the modules that can be reached from a module in one step or more."""
    reached: set[str] = set()
    waiting = [start]
    while waiting:
        new = ahead.get(waiting.pop(), set()) - reached
        reached |= new
        waiting.extend(new)
    return reached


def lazy_imports(root: Path, own: bool) -> list[str]:
    """List the names imported inside functions, from own modules or others, as `path:line module`.

    Those under TYPE_CHECKING are in none. A statement that takes two names counts twice.
    """
    return [
        f"{one.path}:{one.line} {one.target}"
        for one in list_imports(root)
        if one.when == LAZY and one.is_own == own
    ]


def upward_arrows(root: Path) -> set[tuple[str, str]]:
    """Find the imports of `inference` by `bayesdl`."""
    return {
        (source, target)
        for source, target in find_edges(root)
        if source.split(".")[0] == "bayesdl" and target.split(".")[0] == "inference"
    }

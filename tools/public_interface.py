"""Public names of `bayesdl` and the methods of `Posterior`."""

from __future__ import annotations

import ast
from pathlib import Path

from tools.class_graph import ClassGraph
from tools.source_files import Function, is_any, read_sources


def public_names(root: Path) -> list[str]:
    """List the names in `__all__` of `bayesdl`, those that it takes over from its modules too."""
    return _exported(root, "bayesdl")


def _exported(root: Path, module: str) -> list[str]:
    """List `__all__` of a module: its list, and what `__all__ += other.__all__` adds."""
    source = next((one for one in read_sources(root) if one.module == module), None)
    names = []
    for node in ast.walk(source.tree) if source else []:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            names = list(ast.literal_eval(node.value))
        elif isinstance(node, ast.AugAssign) and ast.unparse(node.target) == "__all__":
            if isinstance(node.value, ast.Attribute):
                names += _exported(root, f"{module}.{ast.unparse(node.value.value)}")
            else:
                names += ast.literal_eval(node.value)
    return names


def posterior_methods(root: Path) -> list[str]:
    """List the public methods and properties of `Posterior`, also inherited, not deprecated."""
    return [one.name for one in _list_posterior_methods(root)]


def posterior_methods_returning_any(root: Path) -> list[str]:
    """List the public methods and properties of `Posterior` that return exactly `Any`."""
    return [one.name for one in _list_posterior_methods(root) if is_any(one.returns)]


def _list_posterior_methods(root: Path) -> list[Function]:
    """List the definitions of the public methods of `Posterior`."""
    graph = ClassGraph(root)
    name = next(name for name in graph.classes if name.endswith(".Posterior"))
    members = graph.find_attributes(name).values()
    methods = (one for one in members if isinstance(one, Function))
    return [one for one in methods if not one.name.startswith("_") and not _is_deprecated(one)]


def _is_deprecated(function: Function) -> bool:
    """Whether a decorator says that a function is deprecated."""
    return any("deprecated" in ast.unparse(one) for one in function.decorator_list)

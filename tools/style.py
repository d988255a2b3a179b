"""Measures of files, functions, annotations, docstrings and names.

Every measure takes the root of the repository, and the packages to look at: by default both.
"""

from __future__ import annotations

import ast
import collections
import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path

from tools.import_graph import find_origin
from tools.source_files import (
    PACKAGES,
    Definition,
    Function,
    Source,
    is_any,
    list_classes,
    list_functions,
    list_module_functions,
    list_parameters,
    read_files,
    read_sources,
)

MAX_COLUMNS = 100


def files(root: Path, packages: Sequence[str] = PACKAGES) -> list[str]:
    """List the files without `__init__.py`."""
    return [source.path for source in read_files(root, packages)]


def root_files(root: Path, packages: Sequence[str] = ("bayesdl",)) -> list[str]:
    """List the files in the package's own folder, without `__init__.py`."""
    return [source.path for source in read_files(root, packages) if source.folder in packages]


def fullest_folder(root: Path, packages: Sequence[str] = PACKAGES) -> tuple[str, int]:
    """Find the folder with most files, without `__init__.py`, and their number."""
    folders = collections.Counter(source.folder for source in read_files(root, packages))
    return folders.most_common(1)[0]


def file_lines(root: Path, packages: Sequence[str] = PACKAGES) -> tuple[float, float, float]:
    """Measure the lines a file: median, 90 % quantile, maximum."""
    return _spread([len(source.lines) for source in read_files(root, packages)])


def function_lines(root: Path, packages: Sequence[str] = PACKAGES) -> tuple[float, float, float]:
    """Measure the lines a function, without decorators: median, 90 % quantile, maximum."""
    functions = _list_all_functions(root, packages)
    return _spread([(one.end_lineno or one.lineno) - one.lineno + 1 for one in functions])


def annotated_share(root: Path, packages: Sequence[str] = PACKAGES) -> float:
    """Measure the percentage of functions whose parameters and result are annotated.

    `__init__` needs no annotated result.
    """
    return _percentage([_is_annotated(one) for one in _list_all_functions(root, packages)])


def bare_any_share(root: Path, packages: Sequence[str] = PACKAGES) -> float:
    """Measure the percentage of annotated parameters whose annotation is exactly `Any`.

    So is a name that some file gives to `Any`. `Any | None` and `list[Any]` are not. `*args` and
    `**kwargs` count, `self` and `cls` do not.
    """
    aliases = _list_any_aliases(root, packages)
    functions = _list_all_functions(root, packages)
    annotations = [arg.annotation for one in functions for arg in list_parameters(one)]
    return _percentage(
        [is_any(one) or ast.unparse(one) in aliases for one in annotations if one is not None]
    )


def _list_any_aliases(root: Path, packages: Sequence[str]) -> set[str]:
    """List the names that some file gives to `Any`."""
    return {
        ast.unparse(target)
        for source in read_sources(root, packages)
        for node in source.nodes
        if isinstance(node, ast.Assign | ast.AnnAssign) and is_any(node.value)
        for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
    }


def functions_returning_any(root: Path, packages: Sequence[str] = PACKAGES) -> list[str]:
    """List the functions whose result is annotated as exactly `Any`, as `path:line name`."""
    return [
        f"{source.path}:{one.lineno} {one.name}"
        for source in read_sources(root, packages)
        for one in list_functions(source)
        if is_any(one.returns)
    ]


def documented_function_share(root: Path, packages: Sequence[str] = PACKAGES) -> float:
    """Measure the percentage of functions and methods with a docstring.

    Left out are names with a leading underscore and functions inside functions.
    """
    sources = read_sources(root, packages)
    return _documented(one for source in sources for one in _list_outer_functions(source))


def documented_class_share(root: Path, packages: Sequence[str] = PACKAGES) -> float:
    """Measure the percentage of classes without leading underscore that have a docstring."""
    return _documented(
        one for source in read_sources(root, packages) for one in list_classes(source)
    )


def documented_module_share(root: Path, packages: Sequence[str] = PACKAGES) -> float:
    """Measure the percentage of files, without `__init__.py`, that have a docstring."""
    sources = read_files(root, packages)
    return _percentage([ast.get_docstring(source.tree) is not None for source in sources])


def docstring_words(root: Path, packages: Sequence[str] = PACKAGES) -> float:
    """Measure the median number of words in the docstrings of functions."""
    found = (ast.get_docstring(one) for one in _list_all_functions(root, packages))
    return _spread([len(text.split()) for text in found if text])[0]


def long_lines(root: Path, packages: Sequence[str] = PACKAGES) -> list[str]:
    """List the lines of more than 100 columns, as `path:line`."""
    return [
        f"{source.path}:{number}"
        for source in read_sources(root, packages)
        for number, line in enumerate(source.lines, 1)
        if len(line) > MAX_COLUMNS
    ]


def long_line_share(root: Path, packages: Sequence[str] = PACKAGES) -> float:
    """Measure the percentage of lines of more than 100 columns."""
    return _share_of_lines(len(long_lines(root, packages)), root, packages)


def comment_lines(root: Path, packages: Sequence[str] = PACKAGES) -> list[str]:
    """List the lines that begin with `#`, as `path:line`."""
    return [
        f"{source.path}:{number}"
        for source in read_sources(root, packages)
        for number, line in enumerate(source.lines, 1)
        if line.lstrip().startswith("#")
    ]


def comment_line_share(root: Path, packages: Sequence[str] = PACKAGES) -> float:
    """Measure the percentage of lines that begin with `#`."""
    return _share_of_lines(len(comment_lines(root, packages)), root, packages)


def repeated_file_names(root: Path, packages: Sequence[str] = PACKAGES) -> dict[str, list[str]]:
    """Find the file names, other than `__init__.py`, that occur more than once."""
    places: dict[str, list[str]] = {}
    for source in read_files(root, packages):
        places.setdefault(source.name, []).append(source.path)
    return {name: paths for name, paths in places.items() if len(paths) > 1}


def repeated_function_names(
    root: Path, packages: Sequence[str] = PACKAGES, least: int = 3
) -> dict[str, list[str]]:
    """Find the names of module-level functions that are defined in several files."""
    places: dict[str, list[str]] = {}
    for name in public_functions(root, packages):
        module, bare = name.rsplit(".", 1)
        places.setdefault(bare, []).append(module)
    return {name: modules for name, modules in places.items() if len(set(modules)) >= least}


def public_functions(root: Path, packages: Sequence[str] = PACKAGES) -> list[str]:
    """List the module-level functions without a leading underscore, by dotted name."""
    return [
        f"{source.module}.{one.name}"
        for source in read_sources(root, packages)
        for one in list_module_functions(source)
        if not one.name.startswith("_")
    ]


def file_local_functions(root: Path, packages: Sequence[str] = PACKAGES) -> list[str]:
    """List the public functions that no other file of the packages uses.

    A use is an import by name, or an attribute of an imported module. What is reached by text
    only, as the functions of the command line by `getattr`, counts as local.
    """
    used = {name for source in read_sources(root) for name in _find_uses(source)}
    return [name for name in public_functions(root, packages) if name not in used]


def _list_all_functions(root: Path, packages: Sequence[str]) -> list[Function]:
    """List all functions of the packages: methods and nested ones too."""
    return [one for source in read_sources(root, packages) for one in list_functions(source)]


def _list_outer_functions(source: Source) -> Iterator[Function]:
    """List the functions at the top level of a file, and the methods of its classes."""
    yield from list_module_functions(source)
    for owner in list_classes(source):
        yield from (node for node in owner.body if isinstance(node, Function))


def _is_annotated(function: Function) -> bool:
    """Whether the parameters and the result of a function are annotated."""
    has_result = function.returns is not None or function.name == "__init__"
    return has_result and all(arg.annotation for arg in list_parameters(function))


def _documented(definitions: Iterator[Definition]) -> float:
    """Measure the percentage of public definitions that have a docstring."""
    public = (one for one in definitions if not one.name.startswith("_"))
    return _percentage([ast.get_docstring(one) is not None for one in public])


def _find_uses(source: Source) -> set[str]:
    """Find the dotted names that a file takes from other modules."""
    modules, used = {}, set()
    for node in source.nodes:
        if isinstance(node, ast.ImportFrom):
            origin = find_origin(node, source)
            names = {alias.asname or alias.name: f"{origin}.{alias.name}" for alias in node.names}
            modules |= names
            used |= set(names.values())
        elif isinstance(node, ast.Import):
            modules |= {alias.asname or alias.name: alias.name for alias in node.names}
    attributes = (node for node in source.nodes if isinstance(node, ast.Attribute))
    owners = ((modules.get(ast.unparse(node.value)), node.attr) for node in attributes)
    return used | {f"{owner}.{name}" for owner, name in owners if owner}


def _share_of_lines(count: int, root: Path, packages: Sequence[str]) -> float:
    """Measure a number of lines as a percentage of all lines."""
    return 100 * count / sum(len(source.lines) for source in read_sources(root, packages))


def _percentage(facts: Sequence[bool]) -> float:
    """Measure how many facts hold, in percent."""
    return 100 * sum(facts) / len(facts) if facts else 100.0


def _spread(values: Sequence[int]) -> tuple[float, float, float]:
    """Measure the median, the nearest 90 % quantile, and the maximum."""
    ordered = sorted(values) or [0]
    return statistics.median(ordered), ordered[round(0.9 * (len(ordered) - 1))], ordered[-1]

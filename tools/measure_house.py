"""Measures how the code of the packages is laid out: `python -m tools.measure_house [ROOT]`.

Prints a table; `--json FILE` writes the same figures and the lists behind them. Files are parsed,
never imported, so that any state of the code can be measured. Definitions stand in the docstrings
of `tools.style`, `tools.public_interface`, `tools.import_graph` and
`tools.kinds`.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from tools import style
from tools.import_graph import (
    WAYS,
    circles,
    find_edges,
    lazy_imports,
    upward_arrows,
)
from tools.kinds import Switch, kind_switches
from tools.public_interface import (
    posterior_methods,
    posterior_methods_returning_any,
    public_names,
)
from tools.source_files import PACKAGES
from tools.style import (
    bare_any_share,
    file_local_functions,
    long_line_share,
    long_lines,
    repeated_file_names,
    repeated_function_names,
    root_files,
)

__all__ = [
    "Switch",
    "bare_any_share",
    "circles",
    "file_local_functions",
    "find_edges",
    "kind_switches",
    "lazy_imports",
    "long_line_share",
    "long_lines",
    "main",
    "measure",
    "posterior_methods",
    "posterior_methods_returning_any",
    "public_names",
    "repeated_file_names",
    "repeated_function_names",
    "root_files",
    "upward_arrows",
]

Value: TypeAlias = "float | str | tuple[object, ...] | list[Any] | dict[str, Any]"
Table: TypeAlias = "dict[str, dict[str, Value]]"

PER_PACKAGE: dict[str, Callable[[Path, Sequence[str]], Value]] = {
    "files": style.files,
    "files in the package root": style.root_files,
    "most files in one folder": style.fullest_folder,
    "lines a file: median, p90, max": style.file_lines,
    "lines a function: median, p90, max": style.function_lines,
    "functions fully annotated, %": style.annotated_share,
    "parameters that are bare Any, %": style.bare_any_share,
    "functions returning Any": style.functions_returning_any,
    "public functions with docstring, %": style.documented_function_share,
    "public classes with docstring, %": style.documented_class_share,
    "modules with docstring, %": style.documented_module_share,
    "words a function's docstring: median": style.docstring_words,
    "lines above 100 columns": style.long_lines,
    "lines above 100 columns, %": style.long_line_share,
    "whole-line comments": style.comment_lines,
    "whole-line comments, %": style.comment_line_share,
    "file names used more than once": style.repeated_file_names,
    "function names in 3 files or more": style.repeated_function_names,
    "public module-level functions": style.public_functions,
    "of these used in their own file only": style.file_local_functions,
}


def measure(root: Path) -> Table:
    """Make all measures: those of each package, of both together, and of the whole."""
    columns = {package: (package,) for package in PACKAGES} | {"both": PACKAGES}
    parts: Table = {
        name: {label: function(root, packages) for label, function in PER_PACKAGE.items()}
        for name, packages in columns.items()
    }
    return parts | {"whole": _measure_whole(root)}


def _measure_whole(root: Path) -> dict[str, Value]:
    """Make the measures that concern the whole."""
    arrows = sorted(upward_arrows(root))
    targets = sorted({target for _, target in arrows})
    core = [name for name in targets if f"{name}.".startswith("inference.core.")]
    return {
        "names in __all__ of bayesdl": public_names(root),
        "public methods of Posterior": posterior_methods(root),
        "of these returning Any": posterior_methods_returning_any(root),
        **{f"import circles, {way}": circles(root, when) for way, when in WAYS.items()},
        "lazy imports of own modules": lazy_imports(root, own=True),
        "lazy imports of third parties": lazy_imports(root, own=False),
        "arrows between files": len(find_edges(root)),
        "arrows from bayesdl to inference": [" -> ".join(arrow) for arrow in arrows],
        "files of inference that they reach": targets,
        "of these in inference/core": core,
        "switches on kinds in shared code": [
            dataclasses.asdict(switch) for switch in kind_switches(root)
        ],
    }


def format_table(measures: Table) -> str:
    """Format the measures as a table, with the lists behind circles and switches."""
    names = [*PACKAGES, "both"]
    rows = [("", *names)]
    rows += [(label, *(_format(measures[name][label]) for name in names)) for label in PER_PACKAGE]
    lines = [f"{row[0]:38}" + "".join(f"{cell:>24}" for cell in row[1:]) for row in rows]
    return "\n".join([*lines, "", *_format_whole(measures["whole"])])


def _format_whole(whole: dict[str, Value]) -> list[str]:
    """Format the measures of the whole, one a line, and the members of circles and switches."""
    lines = []
    for label, value in whole.items():
        lines.append(f"{label:38}{_format(value):>24}")
        if isinstance(value, list) and label.startswith("import circles"):
            lines += [f"    {len(circle)}: {', '.join(circle)}" for circle in value]
        elif isinstance(value, list) and label.startswith("switches"):
            lines += [f"    {one['path']}:{one['line']}: {one['text']}" for one in value]
    return lines


def _format(value: Value) -> str:
    """Format a figure; a tuple by its entries, a list or a dict by its length."""
    entries = value if isinstance(value, tuple) else (_summarize(value),)
    return " ".join(f"{one:.4g}" if isinstance(one, float) else str(one) for one in entries)


def _summarize(value: Value) -> object:
    """Replace a list or a dict by its length, and round a number."""
    if isinstance(value, list | dict):
        return len(value)
    return round(value, 3) if isinstance(value, float) else value


def arrange_for_json(measures: Table) -> dict[str, object]:
    """Arrange the figures of all measures, then the lists behind them.

    Long lines and comments are listed by `long_lines` and `comment_lines` only.
    """
    every = measures["both"] | measures["whole"]
    brief = ("lines above", "whole-line comments", "public module-level functions")
    figures = {
        part: {label: _summarize(value) for label, value in values.items()}
        for part, values in measures.items()
    }
    lists = {
        label: value
        for label, value in every.items()
        if isinstance(value, list | dict) and not label.startswith(brief)
    }
    return {"figures": figures, "lists": lists}


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table, and write the JSON file if one is asked for."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.measure_house", description="Measure the layout of the code."
    )
    parser.add_argument("root", nargs="?", type=Path, default=Path(), help="default: this folder")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures and lists")
    options = parser.parse_args(arguments)
    measures = measure(options.root)
    print(format_table(measures))
    if options.json:
        options.json.write_text(
            json.dumps(arrange_for_json(measures), indent=1) + "\n", encoding="utf-8"
        )


if __name__ == "__main__":
    main()

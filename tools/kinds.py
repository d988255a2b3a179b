"""Switches on kinds in shared code: places that ask which model, engine or result they hold.

Counted are the lines, outside the folders of families and engines, with
- `isinstance`, `issubclass`, `type(x) is` or `case` of a class that is or inherits from one of
  `ROOTS`, also where the class stands in a tuple or a union that the file gives a name;
- `hasattr` of an attribute that such a class declares;
- in the command line, a comparison with a text that names an engine or a model.

Not counted are `getattr` with a default, keys of tables, and checks of other classes.
"""

from __future__ import annotations

import ast
import dataclasses
import re
from collections.abc import Iterable
from pathlib import Path

from tools.class_graph import ClassGraph
from tools.source_files import Source

ROOTS = (
    *("AbstractModel", "AbstractEngine", "AbstractResult", "AbstractStructure"),
    # AbstractLaw is what AbstractPredictive was called
    *("AbstractPredictive", "AbstractLaw", "AbstractDistribution"),
    *("AbstractLikelihood", "AbstractKernel", "AbstractPrior", "AbstractRecommender"),
)
# names on the command line that are not made from the names of classes
MORE_NAMES = {"linear", "gpytorch", "pyro", "vae", "dae", "ease", "popularity", "blend"}
FAMILIES = re.compile(
    r"bayesdl/(bnn|gp|tensor|formula|sparse|amortized|recommend|pretrained|frozen|average)/"
    r"|(bayesdl|inference)/circuits/"
    r"|bayesdl/(gp|kernels|stationary|tensor\w*|sparse\w*|pfn\w*)\.py"
    r"|bayesdl/(amortizable|architectures|mixture)\.py"
    r"|inference/(mcmc|vi|laplace|sparse|messages|amortized|exact|stacking|torch|state_space)/"
    r"|inference/distributions/"
)
COMMAND_LINE = re.compile(r"bayesdl/cli/|bayesdl/(cli|commands|settings|tables|demo|matrix)\.py")


@dataclasses.dataclass(frozen=True, order=True)
class Switch:
    """One line that switches on a kind.

    Attributes:
        path: the path of the file from the root.
        line: the line number.
        text: the line without indentation.
    """

    path: str
    line: int
    text: str


def kind_switches(root: Path) -> list[Switch]:
    """List the lines of shared code that switch on a kind of model, engine, result or part."""
    graph = ClassGraph(root)
    finder = _Finder(graph)
    shared = (one for one in graph.sources.values() if not FAMILIES.match(one.path))
    return sorted(
        {
            Switch(source.path, line, source.lines[line - 1].strip())
            for source in shared
            for line in finder.find_lines(source)
        }
    )


class _Finder:
    """Finds the switches of a file, given the classes of all files."""

    def __init__(self, graph: ClassGraph) -> None:
        self.graph = graph
        self.kinds = graph.find_descendants(ROOTS)
        self.attributes = {name for kind in self.kinds for name in graph.find_attributes(kind)}
        spoken = graph.find_descendants(("AbstractModel", "AbstractEngine"))
        self.names = MORE_NAMES | {text for name in spoken for text in _spell(name)}

    def find_lines(self, source: Source) -> set[int]:
        """Find the line numbers of all switches."""
        named = _find_named_unions(source)
        texts = self.names if COMMAND_LINE.match(source.path) else set()
        return {
            node.lineno
            for node in source.nodes
            if isinstance(node, ast.expr | ast.pattern)
            and (
                self._names_kind(node, source.module, named)
                or _find_asked_attribute(node) in self.attributes
                or not texts.isdisjoint(_find_compared_texts(node))
            )
        }

    def _names_kind(self, node: ast.AST, module: str, named: dict[str, ast.expr]) -> bool:
        """Whether a node checks something against a kind."""
        classes = (one for given in _find_checked(node) for one in _flatten(given, named))
        return any(self.graph.resolve(one, module) in self.kinds for one in classes)


def _spell(name: str) -> tuple[str, str]:
    """Spell a class as the command line may: `ExactGP` as `exactgp` and `exact-gp`."""
    bare = name.rsplit(".", 1)[1]
    return bare.lower(), re.sub(r"(?<=[a-z])(?=[A-Z])", "-", bare).lower()


def _find_checked(node: ast.AST) -> list[ast.expr]:
    """Find the expressions for classes that a node checks something against."""
    if isinstance(node, ast.Call) and ast.unparse(node.func) in ("isinstance", "issubclass"):
        return node.args[1:]
    if isinstance(node, ast.Compare) and ast.unparse(node.left).startswith("type("):
        return node.comparators
    if isinstance(node, ast.MatchClass):
        return [node.cls]
    return []


def _flatten(expression: ast.expr, named: dict[str, ast.expr]) -> list[ast.expr]:
    """Take apart tuples and unions of classes."""
    if isinstance(expression, ast.Name):
        expression = named.get(expression.id, expression)
    if isinstance(expression, ast.Tuple | ast.List | ast.Set):
        return [one for part in expression.elts for one in _flatten(part, {})]
    if isinstance(expression, ast.BinOp):
        return [*_flatten(expression.left, {}), *_flatten(expression.right, {})]
    return [expression]


def _find_named_unions(source: Source) -> dict[str, ast.expr]:
    """Find the tuples and unions that a file gives a name."""
    return {
        target.id: node.value
        for node in source.nodes
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Tuple | ast.BinOp)
        for target in node.targets
        if isinstance(target, ast.Name)
    }


def _find_asked_attribute(node: ast.AST) -> str | None:
    """Find the name in `hasattr(value, "name")`."""
    if not (isinstance(node, ast.Call) and ast.unparse(node.func) == "hasattr"):
        return None
    return next(iter(_find_texts(node.args[1:])), None)


def _find_compared_texts(node: ast.AST) -> set[str]:
    """Find the texts that a comparison or a `case` compares with."""
    if isinstance(node, ast.Compare):
        sides: list[ast.AST] = [node.left, *node.comparators]
    elif isinstance(node, ast.MatchValue):
        sides = [node.value]
    else:
        return set()
    return _find_texts(part for side in sides for part in getattr(side, "elts", [side]))


def _find_texts(nodes: Iterable[ast.AST]) -> set[str]:
    """Find the literal texts among some nodes."""
    constants = (node.value for node in nodes if isinstance(node, ast.Constant))
    return {value for value in constants if isinstance(value, str)}

"""The fixed part of a formula as a matrix, by formulaic.

What transformations learn from the training data (means, knots, levels) is kept as plain data, so
that new data, and files, get the same columns.
"""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import numpy as np

from bayesdl.data.validation import DataError, ModelError
from bayesdl.formula.parsing import ARITHMETIC, check_expression
from bayesdl.formula.variables import shown
from bayesdl.model.registry import register_spec
from bayesdl.typing import DataFrame
from inference.process.quiet import quiet

# relative size below which what is left of a column, after the others, is rounding
RANK = 1e-9
_CONTEXT = {name: getattr(np, name) for name in ARITHMETIC}


@register_spec("formula.Term")
@dataclasses.dataclass(frozen=True)
class Term:
    """A fixed term.

    Attributes:
        name: its name, as formulaic writes it.
        start: its first column in the matrix.
        labels: the labels of its columns; empty for a single column of numbers.
        width: the number of its columns.
        factors: the expressions that are multiplied in it.
    """

    name: str
    start: int
    labels: tuple[str, ...]
    width: int
    factors: tuple[str, ...]


@register_spec("formula.Design")
@dataclasses.dataclass(frozen=True)
class Design:
    """The matrix of a formula's fixed part.

    Attributes:
        text: the formula's right side.
        variables: the columns of the table that it needs.
        names: the names of the matrix' columns.
        terms: the terms, without the intercept.
        intercept: whether there is one; it is then the first column.
        state: what transformations learned, by expression, as nested pairs.
        levels: the levels of categories, by expression.
    """

    text: str
    variables: tuple[str, ...]
    names: tuple[str, ...]
    terms: tuple[Term, ...]
    intercept: bool
    state: tuple
    levels: tuple

    @classmethod
    def learn(cls, text: str, frame: DataFrame) -> Design:
        """Learn the columns from the training data.

        Args:
            text: the formula's right side.
            frame: the columns that were read, by name.

        Raises:
            ModelError: where formulaic cannot read the formula.
        """
        from formulaic.parser.types import Factor

        found = variables_of(text)
        if "Intercept" in found:
            raise ModelError(
                "Formula: two quantities would be called 'Intercept': rename the column Intercept."
            )
        for name in found:
            if re.search(rf"(?<![\w.`]){re.escape(name)}\s*\(", text):
                raise ModelError(
                    f"Formula: the column {name!r} and the function {name}() have the same name: "
                    "rename the column."
                )
        matrix = _matrix(text, frame, {}, {})
        spec: Any = matrix.model_spec
        names = tuple(map(str, matrix.columns))
        terms = []
        for term, at in spec.term_slices.items():
            width = at.stop - at.start
            if str(term) == "1" or not width:
                continue
            columns = names[at.start : at.stop]
            factors = tuple(factor.expr for factor in term.factors)
            labels = tuple(_label(name, factors) for name in columns)
            labels = columns if len(set(labels)) < len(labels) else labels
            labels = () if width == 1 and labels == columns else labels
            terms.append(Term(str(term), at.start, labels, width, factors))
        levels = tuple(
            (expression, tuple(state["categories"]))
            for expression, (kind, state) in spec.encoder_state.items()
            if kind is Factor.Kind.CATEGORICAL
        )
        state = _pairs(spec.transform_state)
        return cls(text, found, names, tuple(terms), "Intercept" in names, state, levels)

    def matrix(self, frame: DataFrame) -> np.ndarray:
        """Return the matrix at new data, shape (rows, columns).

        Raises:
            DataError: where a transformation gives no finite number, or meets an unseen level.
        """
        from formulaic.parser.types import Factor

        encoders = {
            expression: (Factor.Kind.CATEGORICAL, {"categories": list(levels)})
            for expression, levels in self.levels
        }
        made = _matrix(self.text, frame, _dictionary(self.state), encoders)
        columns = {str(name): k for k, name in enumerate(made.columns)}
        missing = [name for name in self.names if name not in columns]
        if missing:
            raise DataError(f"The new data give no column {missing[0]!r} of {self.text!r}.")
        values = np.asarray(made, np.float64)[:, [columns[name] for name in self.names]]
        bad = np.argwhere(~np.isfinite(values))
        if len(bad):
            row, column = map(int, bad[0])
            cells = ", ".join(f"{name} is {frame[name].iloc[row]!s}" for name in self.variables)
            raise DataError(
                f"Term {self.names[column]!r} is not a finite number in row {row}, where {cells}."
            )
        return values


def variables_of(text: str) -> tuple[str, ...]:
    """Return the columns of the table that a formula's right side names.

    Raises:
        ModelError: where formulaic cannot read it, or it calls unknown functions.
    """
    found: dict[str, None] = {}
    for term in _parsed(text):
        for factor in term.factors:
            if factor.eval_method.value == "lookup":
                found[factor.expr] = None
            elif factor.eval_method.value == "python":
                found |= dict.fromkeys(check_expression(factor.expr))
    return tuple(found)


def check_columns(design: Design, matrix: np.ndarray) -> None:
    """Refuse columns that the data cannot tell apart, by name.

    Raises:
        DataError: for an empty interaction, a constant, or a sum of other columns.
    """
    basis: list[np.ndarray] = []
    kept: list[int] = []
    for k, name in enumerate(design.names):
        column = matrix[:, k]
        if not column.any():
            what = "interaction" if ":" in name else "column"
            raise DataError(
                f"The {what} {name!r} is empty: it is zero in every row, as no row has that "
                "combination. Leave it out, or merge levels."
            )
        rest = column.copy()
        # twice, as once leaves rounding
        for direction in basis * 2:
            rest -= direction * (direction @ rest)
        if np.linalg.norm(rest) > RANK * np.linalg.norm(column):
            basis.append(rest / np.linalg.norm(rest))
            kept.append(k)
            continue
        weights = np.linalg.lstsq(matrix[:, kept], column, rcond=None)[0]
        used = [design.names[j] for j, w in zip(kept, weights, strict=True) if abs(w) > 1e-7]
        if used in (["Intercept"], []):
            raise DataError(
                f"The column {name!r} is constant ({column[0]:g} in every row), as the intercept "
                "is: leave one of them out."
            )
        if "Intercept" in used and re.match("c[crs]\\(", name):
            raise DataError(
                f"The spline of {name!r} holds the intercept already: write it with "
                "constraints='center', as in cr(x, df=4, constraints='center'), or leave the "
                "intercept out (y ~ 0 + ...)."
            )
        raise DataError(
            f"The columns {name!r} and {shown(used)} are collinear, so that the data cannot tell "
            "their coefficients apart: leave one of them out."
        )
    if len(kept) > len(matrix):
        raise DataError(f"{len(matrix)} rows are too few for {len(kept)} columns.")


def _parsed(text: str) -> Any:
    """Return the terms of a formula's right side.

    Raises:
        ModelError: where formulaic cannot read it.
    """
    from formulaic import Formula
    from formulaic.errors import FormulaSyntaxError

    if re.search(r"(?<![\w.)`])\.(?![\w.])", text):
        raise ModelError(
            f"Formula: {text!r} has a '.', which stands for no columns here: name them, as in "
            "'y ~ x + z'."
        )
    if "|" in text:
        raise ModelError(f"Formula: {text!r} has a '|': put group terms in brackets, as (1 | g).")
    try:
        read: Any = Formula
        return read(text.removeprefix("+").strip() or "1")
    except (FormulaSyntaxError, SyntaxError, ValueError) as error:
        why = re.sub(r"\x1b\[[0-9;]*m", "", str(error)).replace("⧛", "").replace("⧚", "")
        raise ModelError(f"Formula: {text!r} does not parse: {' '.join(why.split())}") from None


def _matrix(text: str, frame: DataFrame, state: dict, encoders: dict) -> Any:
    """Return formulaic's matrix, whose transformations start with a state.

    Raises:
        DataError: where it fails.
    """
    from formulaic import ModelSpec

    formula: Any = _parsed(text)
    read: Any = ModelSpec
    spec: Any = read(formula, na_action="ignore", output="pandas").update(
        transform_state=state, encoder_state=encoders
    )
    try:
        with quiet(action="error"), quiet(RuntimeWarning, FutureWarning, DeprecationWarning):
            return spec.get_model_matrix(frame, context=_CONTEXT)
    # a transformation may fail in any way
    except Exception as error:
        why = " ".join(str(error).split())
        raise DataError(f"Formula: {text!r} cannot be computed from the data: {why}") from None


def _label(column: str, factors: tuple[str, ...]) -> str:
    """Return the label of a column within its term: of "g[T.b]" it is "b".

    A column that leaves out a factor of the term is called by its whole name.
    """
    levels = [re.escape(factor) + r"(?:\[(.*)\])?" for factor in factors]
    found = re.fullmatch(":".join(levels), column)
    parts = [] if found is None else [part for part in found.groups() if part is not None]
    return ", ".join(_level(part) for part in parts) or column


def _level(part: str) -> str:
    """Return a level as users write it: "T.b" is "b", "1.0" is "1"."""
    return re.sub(r"^(-?\d+)\.0$", r"\1", part.removeprefix("T."))


def effect_name(column: str) -> str:
    """Return what the effect of a group is called: "g[T.b]" is "g[b]"."""
    return re.sub(r"\[([^\[\]]*)\](?=:|$)", lambda found: f"[{_level(found[1])}]", column)


def _pairs(value: object) -> Any:
    """Return nested dictionaries and lists as tuples, which files hold and programs compare by."""
    if isinstance(value, dict):
        return ("by name", tuple((key, _pairs(entry)) for key, entry in value.items()))
    if isinstance(value, np.ndarray):
        return ("array", _pairs(value.tolist()))
    if isinstance(value, list | tuple):
        return ("list", tuple(map(_pairs, value)))
    return value.item() if isinstance(value, np.generic) else value


def _dictionary(value: object) -> Any:
    """Return what `_pairs` took apart."""
    if not isinstance(value, tuple):
        return value
    kind, entries = value
    if kind == "array":
        return np.asarray(_dictionary(entries))
    if kind == "list":
        return [_dictionary(entry) for entry in entries]
    return {key: _dictionary(entry) for key, entry in entries}

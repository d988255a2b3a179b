"""What a formula learns from its training data: columns, levels, default priors, the program."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping

import numpy as np

from bayesdl.data.validation import DataError, ModelError
from bayesdl.formula import smooths
from bayesdl.formula.design import Design, check_columns, effect_name, variables_of
from bayesdl.formula.families import LINKS, TYPICAL, Family
from bayesdl.formula.groups import Group
from bayesdl.formula.parsing import ARITHMETIC, Call, GroupText, Predictor, check_expression
from bayesdl.formula.priors import Choice, Prior
from bayesdl.formula.program import Part
from bayesdl.formula.terms import AbstractTerm, Fixed, Monotone, Offset
from bayesdl.formula.variables import Variable, group_order, groups_of, label, shown
from bayesdl.model.registry import register_spec
from bayesdl.typing import DataFrame

CENTRED_ROWS = 50  # rows a group from which on effects are drawn themselves


@register_spec("formula.Block")
@dataclasses.dataclass(frozen=True)
class Block:
    """How the columns of a term come from a table.

    Attributes:
        kind: "fixed", "group", "number", "process", "codes" or "offset".
        design: the matrix of fixed terms, of the effects of groups, or of an offset.
        columns: the columns of groups, or the column of a smooth or monotone term.
        levels: the levels of groups, as tuples; or the distinct values of a process; or
            the smallest and the largest value of a smooth.
    """

    kind: str
    design: Design | None = None
    columns: tuple = ()
    levels: tuple = ()

    def read(self, frame: DataFrame, table: DataFrame, groups: str | tuple) -> np.ndarray:
        """Return the columns of the term.

        Args:
            frame: the columns of numbers and categories that were read.
            table: the table as it was given.
            groups: what becomes of groups that the training data had not.
        """
        if self.kind == "group":
            assert self.design is not None
            number = self._numbers(table, groups)
            return np.column_stack([number, self.design.matrix(frame)])
        if self.design is not None:
            matrix = self.design.matrix(frame)
            return matrix[:, 1:] if self.design.intercept else matrix
        column = frame[self.columns[0]]
        if self.kind == "codes":
            return np.asarray(column.cat.codes, np.float64)[:, None]
        values = np.asarray(column, np.float64)
        if self.kind == "number":
            self._check_limits(values)
            return values[:, None]
        place = {value: k for k, value in enumerate(self.levels)}
        for value in np.unique(values):
            place.setdefault(float(value), len(place))
        return np.column_stack([values, [place[float(value)] for value in values]])

    def _check_limits(self, values: np.ndarray) -> None:
        low, high = self.levels or (-np.inf, np.inf)
        bad = np.flatnonzero((values < low) | (values > high))
        if bad.size:
            name = self.columns[0]
            raise DataError(
                f"Column {name!r}, row {bad[0]} is {values[bad[0]]:g}, too far from the training "
                f"data: s({name}) holds between {low:g} and {high:g}. Leave such rows out, or fit "
                f"gp({name}), which has no limits."
            )

    def _numbers(self, table: DataFrame, groups: str | tuple) -> np.ndarray:
        """Return the numbers of groups: -1 for no effect, new ones after those known."""
        of_others = isinstance(groups, tuple) and not set(self.columns) <= set(groups)
        if groups == "population" or of_others:
            return np.full(len(table), -1.0)
        place = {level: k for k, level in enumerate(self.levels)}
        found = []
        for row, level in enumerate(groups_of(table, self.columns)):
            if level not in place and groups != "sample":
                known = shown([label(one) for one in self.levels])
                raise DataError(
                    f"Group {label(level)!r} of {':'.join(self.columns)!r} in row {row} was not in "
                    f"the training data, which had {known}. predict(..., groups='sample') draws "
                    "the effect of a new group, groups='population' leaves groups out."
                )
            found.append(place.setdefault(level, len(place)))
        return np.asarray(found, np.float64)


def variables_in(predictor: Predictor) -> list[str]:
    """Return the columns that a predictor names, but for groups."""
    names = list(variables_of(predictor.fixed))
    for group in predictor.groups:
        names += variables_of(group.effects)
    names += [name for call in predictor.calls for name in call.variables]
    names += [name for text in predictor.offsets for name in check_expression(text, ARITHMETIC)]
    return list(dict.fromkeys(names))


@dataclasses.dataclass
class Learner:
    """Learns the terms of a formula, one predictor after the other.

    Attributes:
        family: the likelihood.
        y: the response, as the program sees it.
        table: the training data as they were given.
        frame: their columns of numbers and categories.
        variables: what is known of these, by name.
        priors: the user's priors.
        centred: whether effects of groups are drawn themselves; None for the rule.
    """

    family: Family
    y: np.ndarray
    table: DataFrame
    frame: DataFrame
    variables: Mapping[str, Variable]
    priors: Choice
    centred: bool | None
    width: int = 0
    blocks: list[Block] = dataclasses.field(default_factory=list)

    def __post_init__(self) -> None:
        self.facts = self.family.facts(self.y)

    def part(self, parameter: str, predictor: Predictor, link: str, prefix: str = "") -> Part:
        """Return a predictor with its terms."""
        offsets = [self._offset(text) for text in predictor.offsets]
        known = np.sum([np.zeros(len(self.frame)), *map(self._only_column, offsets)], axis=0)
        if not prefix and link == "identity":
            self.facts = self.family.facts(self.y, known)
        is_mean = not prefix or self.family.name == "categorical"
        scale = self.family.scale_of(link, self.facts) if is_mean else 1.0
        times = TYPICAL if is_mean else 1.0
        centre = self._centre(parameter, link, prefix, known)
        fixed, misses_level = self._fixed(predictor, link, prefix, scale, times, centre)
        terms: list[AbstractTerm] = [fixed]
        if misses_level:
            # the other terms have to make up for the intercept
            scale = float(np.hypot(scale, centre))
        seen: dict[tuple[str, str], int] = {}
        for group in predictor.groups:
            terms.append(self._group(group, prefix, scale, times * scale, seen))
        for call in predictor.calls:
            terms.append(self._call(call, prefix, scale, times * scale))
        for text, design in zip(predictor.offsets, offsets, strict=True):
            terms.append(Offset(*self._add(Block("offset", design), 1), prefix, text))
        return Part(parameter, link, tuple(terms))

    def _offset(self, text: str) -> Design:
        """Return the one column of an offset."""
        design = Design.learn(f"0 + {_plus(text)}", self.frame)
        if len(design.names) != 1 or design.levels:
            raise ModelError(
                f"offset({text}) is not one column of numbers: it has {shown(design.names)}. "
                "Compute it as a column of the table before the fit."
            )
        return design

    def _only_column(self, design: Design) -> np.ndarray:
        return design.matrix(self.frame)[:, 0]

    def _add(self, block: Block, width: int) -> tuple[int, int]:
        """Take note of a block, and return its place."""
        self.blocks.append(block)
        at, self.width = self.width, self.width + width
        return at, width

    def _fixed(
        self,
        predictor: Predictor,
        link: str,
        prefix: str,
        unit: float,
        times: float,
        centre: float,
    ) -> tuple[Fixed, bool]:
        """Return the fixed terms, and whether none of them can have the level of the predictor."""
        is_ordered = self.family.name == "ordered" and not prefix
        text = predictor.fixed
        if is_ordered and "0" not in text.split():
            # thresholds are its intercepts; levels are coded as with one
            text = f"1 {text}"
        design = Design.learn(text, self.frame)
        matrix = design.matrix(self.frame)
        check_columns(design, matrix)
        skip = int(design.intercept)
        inside = matrix[:, skip:]
        at, width = self._add(Block("fixed", design), inside.shape[1])
        means = inside.mean(0) if design.intercept else np.zeros(inside.shape[1])
        has_intercept = design.intercept or is_ordered
        wide = unit if has_intercept else float(np.hypot(unit, centre))
        sites, slices, labels, coefficients = [], [], [], []
        for term in design.terms:
            site, start = f"{prefix}{term.name}", term.start - skip
            stop = start + term.width
            spread = [_spread(column, has_intercept) for column in inside[:, start:stop].T]
            sd = [times * wide / one for one in spread]
            near = wide / float(np.exp(np.mean(np.log(spread))))
            loc, scale = ([0.0] * len(sd), sd) if term.labels else (0.0, sd[0])
            default = Prior.of("Normal", near, loc=loc, scale=scale)
            sites.append(site)
            slices.append((start, stop))
            labels.append(term.labels)
            # one prior for all classes goes by the name of the term
            others = (term.name,) if self.family.name == "categorical" else ()
            coefficients.append(self.priors.take(site, default, *others))
        intercept = None
        if design.intercept and not is_ordered:
            is_mean = not prefix or self.family.name == "categorical"
            sd = TYPICAL * unit if is_mean or link != "logit" else 1.5
            default = Prior.of("Normal", unit, centre, loc=centre, scale=sd)
            intercept = self.priors.take(f"{prefix}Intercept", default)
        made = Fixed(
            at,
            width,
            prefix,
            tuple(sites),
            tuple(slices),
            tuple(labels),
            tuple(coefficients),
            tuple(map(float, means)),
            intercept,
        )
        return made, not has_intercept and not _spans_constants(inside)

    def _centre(self, parameter: str, link: str, prefix: str, known: np.ndarray) -> float:
        """Return the prior mean of an intercept: the link of a typical value, less the offset."""
        if self.family.name == "categorical":
            return -float(known.mean())
        if prefix:
            typical = self.family.parameters[parameter].typical(self.facts)
        else:
            typical = self.facts.centre
        centre = LINKS[link].forward(typical)
        # exp(known) is a factor of the mean
        level = np.logaddexp.reduce(known) - np.log(len(known)) if link == "log" else known.mean()
        return centre - float(level)

    def _group(
        self, group: GroupText, prefix: str, unit: float, size: float, seen: dict
    ) -> AbstractTerm:
        levels = sorted(set(groups_of(self.table, group.factors)), key=group_order)
        if len(levels) < 2:
            raise DataError(
                f"Group {group.group!r} has one level, {label(levels[0])!r}: how groups vary "
                "cannot be learned from one of them. Leave the term out."
            )
        design = Design.learn(group.effects, self.frame)
        matrix = design.matrix(self.frame)
        for name, column in zip(design.names, matrix.T, strict=True):
            if name != "Intercept" and np.ptp(column) == 0:
                raise DataError(
                    f"The effect {name!r} of {group.group!r} is constant ({column[0]:g} in every "
                    "row): a slope needs a column that varies."
                )
            if (group.group, name) in seen:
                raise ModelError(
                    f"Formula: the effect {name!r} of {group.group!r} is in two group terms: write "
                    "(x | g), or (1 | g) + (0 + x | g) where effects are independent."
                )
            seen[group.group, name] = 1
        check_columns(design, matrix)
        before = seen[group.group, ""] = seen.get((group.group, ""), 0) + 1
        suffix = f"_{before}" if before > 1 else ""
        block = Block("group", design, group.factors, tuple(levels))
        at, width = self._add(block, 1 + matrix.shape[1])
        spread = [
            1.0 if name == "Intercept" else _spread(column)
            for name, column in zip(design.names, matrix.T, strict=True)
        ]
        near = unit / float(np.exp(np.mean(np.log(spread))))
        default = Prior.of("HalfNormal", near, scale=[size / one for one in spread])
        name = f"{prefix}{group.group}{suffix}"
        scale = self.priors.take(f"sd_{name}", default)
        correlated = group.correlated and len(design.names) > 1
        return Group(
            at,
            width,
            prefix,
            group.group,
            suffix,
            tuple(label(level) for level in levels),
            tuple(map(effect_name, design.names)),
            correlated,
            self._is_centred(block),
            scale,
            self._concentration(f"cor_{name}") if correlated else 1.0,
        )

    def _concentration(self, site: str) -> float:
        """Return the concentration of correlations, LKJ(1) by default."""
        self.priors.sites[site] = None
        given = self.priors.given.get(site, 1.0)
        given = getattr(given, "concentration", given)
        try:
            found = float(given)
        except (TypeError, ValueError):
            found = float("nan")
        if not 0 < found < float("inf"):
            raise ModelError(
                f"priors[{site!r}]={given!r:.60}: expected the concentration of an LKJ prior, a "
                "positive number."
            )
        return found

    def _is_centred(self, block: Block) -> bool:
        """Return whether effects are drawn themselves: by choice, or with many rows a group."""
        if self.centred is not None:
            return self.centred
        counts = np.unique(block._numbers(self.table, "error"), return_counts=True)[1]
        return self.family.kind != "class" and float(np.median(counts)) >= CENTRED_ROWS

    def _call(self, call: Call, prefix: str, unit: float, size: float) -> AbstractTerm:
        """Return a smooth or monotone term."""
        name, site = call.variables[0], f"{prefix}{call.name}"
        variable = self.variables[name]
        if call.function == "mo":
            if variable.levels is None or not variable.ordered:
                raise DataError(
                    f"{call.name} needs an ordered factor, and {name!r} is none: make it "
                    "pd.Categorical(values, categories=[...], ordered=True)."
                )
            codes = np.asarray(self.frame[name].cat.codes, float)
            near = _spread(codes)
            slope = Prior.of("Normal", unit / near, loc=0.0, scale=size / near)
            place = self._add(Block("codes", columns=(name,)), 1)
            return Monotone(*place, prefix, site, variable.levels, self.priors.take(site, slope))
        if variable.levels is not None:
            raise DataError(f"{call.name} needs a column of numbers, and {name!r} has categories.")
        values = np.asarray(self.frame[name], float)
        half = float(np.ptp(values)) / 2
        if half == 0:
            raise DataError(f"{call.name} needs a column that varies, and {name!r} is constant.")
        scale = Prior.of("HalfNormal", unit, scale=size)
        length = Prior.of("LogNormal", half / 2, loc=float(np.log(half / 2)), scale=0.6)
        priors = self.priors.take(f"sd_{site}", scale), self.priors.take(f"length_{site}", length)
        if call.function == "s":
            count = int(dict(call.settings).get("m", smooths.FUNCTIONS))
            centre = float(values.min()) + half
            means = np.asarray(smooths.basis((values - centre) / half, count)).mean(0)
            reach = smooths.BOUNDARY * half
            limits = centre - reach, centre + reach
            place = self._add(Block("number", columns=(name,), levels=limits), 1)
            return smooths.Smooth(
                *place, prefix, site, centre, half, tuple(map(float, means)), *priors
            )
        distinct = tuple(map(float, np.unique(values)))
        if len(distinct) > smooths.MOST:
            raise DataError(
                f"{call.name} has {len(distinct)} distinct values, and an exact process takes "
                f"{smooths.MOST} at most: use s({name})."
            )
        place = self._add(Block("process", columns=(name,), levels=distinct), 2)
        return smooths.Process(*place, prefix, site, distinct, *priors)


def _plus(text: str) -> str:
    """Return an expression as one term of formulaic."""
    one = text.isidentifier() or re.fullmatch(r"`[^`]+`|\w+\([^()]*\)", text)
    return text if one else f"I({text})"


def _spans_constants(matrix: np.ndarray) -> bool:
    """Return whether some sum of the columns is the same number in all rows."""
    ones = np.ones(len(matrix))
    rest = ones - matrix @ np.linalg.lstsq(matrix, ones, rcond=None)[0]
    return bool(np.abs(rest).max() < 1e-6)


def _spread(column: np.ndarray, centred: bool = True) -> float:
    """Return the standard deviation of a column, about zero if not centred; else its size."""
    sd = float(np.std(column)) if centred else float(np.sqrt(np.mean(column**2)))
    return sd if sd > 0 else float(np.abs(column).max()) or 1.0

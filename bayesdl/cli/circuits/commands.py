"""What `bayesdl impute` and `bayesdl outliers` do."""

from __future__ import annotations

import sys
from argparse import Namespace
from typing import Any

import numpy as np

from bayesdl.circuits.fitted import Outliers
from bayesdl.circuits.spec import Circuit
from bayesdl.cli.building import choose_engine, configured
from bayesdl.cli.output import as_data, diagnosis_lines, print_result, quiet_diagnosis
from bayesdl.cli.settings import Settings, fields, make
from bayesdl.cli.tables import (
    UsageError,
    check_writable,
    chosen_columns,
    lines_of,
    read_table,
    require_parquet,
    write_table,
)
from bayesdl.fitting import fit as fit_model
from bayesdl.posterior.posterior import Posterior
from bayesdl.saving import bundle
from bayesdl.typing import DataFrame, Frame

# settings of the model that text can give
SETTINGS = ("states", "trees", "strength", "spread")
DRAW, SURPRISE = "draw", "surprise"


def impute(options: Namespace) -> int:
    """Fill the missing cells of a table."""
    import pandas as pd

    _check_files(options)
    table = read_table(options.data, options.sep, options.encoding)
    if options.draws and DRAW in table.columns:
        raise UsageError(f"{options.data} has a column {DRAW!r} already: rename it for --draws.")
    posterior, result, lines = _learned(options, table)
    if options.draws:
        drawn = posterior.impute(table, draws=options.draws, seed=options.seed)
        parts = [one.assign(**{DRAW: number}) for number, one in enumerate(drawn, 1)]
        filled, one = pd.concat(parts, ignore_index=True)[[DRAW, *table.columns]], drawn[0]
    else:
        filled = one = posterior.fill(table)
    write_table(filled, options.out)
    gaps = table.isna().sum() - one.isna().sum()
    counts = {name: int(count) for name, count in gaps.items() if count}
    total = sum(counts.values())
    result |= {"out": options.out, "rows": len(table), "filled": counts, "draws": options.draws}
    each = ", ".join(f"{name} {count}" for name, count in counts.items())
    lines += [
        f"filled  {total} cells" + (f": {each}" if each else ", none was missing"),
        *(
            ["        as if whether a cell is missing tells nothing beyond the rest of its row"]
            if total
            else []
        ),
        f"saved   {options.out}, {len(filled)} rows"
        + (f", {options.draws} of each" if options.draws else ""),
    ]
    return print_result(options, result, lines)


def outliers(options: Namespace) -> int:
    """Print the most surprising cells and rows of a table."""
    _check_files(options)
    table = read_table(options.data, options.sep, options.encoding)
    posterior, result, lines = _learned(options, table)
    found = posterior.outliers(table)
    cells = _most_surprising(posterior, table, found, options)
    order = np.argsort(-found.rows, kind="stable")[: options.top]
    place = lines_of(options) or "row {}".format
    rows = [{"row": int(at), SURPRISE: float(found.rows[at])} for at in order]
    if options.out:
        write_table(_with_surprises(table, found, options), options.out)
    result |= {"out": options.out, "cells": cells, "rows": rows}
    spelled = [{**cell, "row": place(cell["row"])} for cell in cells]
    lines += [
        "most surprising cells: -log p given the rest of the row, numbers in standard deviations",
        *_aligned(spelled),
        "",
        "most surprising rows: -log p",
        *_aligned([{**row, "row": place(row["row"])} for row in rows]),
        *(["", f"saved   {options.out}, {len(table)} rows"] if options.out else []),
    ]
    return print_result(options, result, lines)


def _check_files(options: Namespace) -> None:
    """Refuse files that cannot be written, before any work is done for them.

    Raises:
        UsageError: saying why, or for options that exclude each other.
    """
    if options.bundle and (options.save or options.settings or options.drop or options.category):
        raise UsageError(
            "--bundle FILE is learned already: give it without --save, --set, --drop, --category."
        )
    inputs = [options.data, *([options.bundle] if options.bundle else [])]
    for path in (options.out, options.save):
        if path:
            check_writable(path, *inputs)
    if options.out:
        require_parquet(options.out)


def _learned(options: Namespace, table: Frame) -> tuple[Posterior, dict[str, Any], list[str]]:
    """Return the circuit of a table, and what is said of it.

    Raises:
        UsageError: for settings that do not exist, or a saved fit of another model.
    """
    if options.bundle:
        posterior = bundle.load(options.bundle)
        if "outliers" not in posterior.model.verbs():
            raise UsageError(
                f"{options.bundle} holds a fit of {posterior.model.name}: expected one that "
                "--save wrote."
            )
        return posterior, {"bundle": options.bundle}, [f"circuit {options.bundle}"]
    dropped = chosen_columns(table, "--drop", options.drop, options.data)
    as_category = chosen_columns(table, "--category", options.category, options.data)
    settings = Settings.parse(options.settings)
    own = {name: type_ for name, type_ in fields(Circuit).items() if name in SETTINGS}
    arguments = settings.values("model", own) | {"kinds": dict.fromkeys(as_category, "category")}
    model, configure = make(Circuit, arguments), configured(settings, {"model": own})
    reading: dict[str, Any] = {"drop": dropped} if dropped else {}
    engine, why = choose_engine("auto", model, (table,), configure, reading)
    posterior = fit_model(
        model, table, engine=engine, seed=options.seed, progress=sys.stderr.isatty(), **reading
    )
    if options.save:
        posterior.save(options.save)
    diagnosis = quiet_diagnosis(posterior)
    result = {
        "model": repr(model),
        "engine": {"spec": repr(engine), "why": why},
        "circuit": posterior.raw.label,
        "saved": options.save,
        "diagnosis": as_data(diagnosis),
    }
    lines = [
        f"circuit {posterior.raw.label}",
        f"rows    {len(table)}, of {len(posterior.schema.columns)} columns",
        *([f"        saved in {options.save}"] if options.save else []),
        *diagnosis_lines(diagnosis),
        "",
    ]
    return posterior, result, lines


def _most_surprising(
    posterior: Posterior, table: DataFrame, found: Outliers, options: Namespace
) -> list[dict[str, Any]]:
    """Return the most surprising cells with what is expected there."""
    names = list(found.cells.columns)
    flat = np.nan_to_num(found.cells.to_numpy().ravel(), nan=-np.inf)
    order = np.argsort(-flat, kind="stable")[: options.top]
    order = order[np.isfinite(flat[order]) | (flat[order] > 0)]
    rows, columns = order // len(names), order % len(names)
    emptied = table.iloc[rows].astype(object).reset_index(drop=True)
    for at, column in enumerate(columns):
        emptied.loc[at, names[column]] = None
    filled = posterior.fill(emptied)
    return [
        {
            "row": int(row),
            "column": names[column],
            "value": table[names[column]].iloc[row],
            "expected": filled[names[column]].iloc[at],
            SURPRISE: float(flat[order[at]]),
        }
        for at, (row, column) in enumerate(zip(rows, columns, strict=True))
    ]


def _with_surprises(table: Frame, found: Outliers, options: Namespace) -> DataFrame:
    """Return the table with the surprise of each row and cell.

    Raises:
        UsageError: where a column has that name already.
    """
    added = {SURPRISE: found.rows}
    added |= {f"{SURPRISE} of {name}": found.cells[name].to_numpy() for name in found.cells}
    taken = [name for name in added if name in table.columns]
    if taken:
        raise UsageError(f"{options.data} has a column {taken[0]!r} already: rename it.")
    return table.assign(**added)


def _aligned(rows: list[dict[str, Any]]) -> list[str]:
    """Return rows as a table of text, numbers with four digits."""
    import pandas as pd

    def spelled(value: object) -> str:
        number = isinstance(value, float | np.floating)
        return f"{value:.4g}" if number else str(value)

    return pd.DataFrame(rows).map(spelled).to_string(index=False).splitlines() if rows else []

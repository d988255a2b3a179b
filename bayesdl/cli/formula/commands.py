"""What the commands of formulas and effects do."""

from __future__ import annotations

import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

from bayesdl.cli.building import choose_engine
from bayesdl.cli.formula.building import build_formula
from bayesdl.cli.output import as_data, diagnosis_lines, print_result, quiet_diagnosis
from bayesdl.cli.settings import Settings
from bayesdl.cli.tables import (
    PICTURES,
    UsageError,
    check_writable,
    chosen_columns,
    hold_out,
    holdout_files,
    read_table,
    replace,
    require_parquet,
    write_table,
)
from bayesdl.data.files import is_parquet
from bayesdl.data.reading import Reading
from bayesdl.effects import comparisons, predictions, slopes
from bayesdl.fitting import fit as fit_model
from bayesdl.posterior.means import Effects
from bayesdl.saving import bundle

# options of `bayesdl fit` that are for tables whose columns are all inputs
OF_TABLES = ("target", "modes", "regression", "drop", "periods", "missing", "missing_target")


def fit(options: Namespace) -> int:
    """Fit a formula, save the posterior, and score it on held-out rows."""
    _refuse_options(options)
    for path in (options.out, *holdout_files(options.out)):
        check_writable(path, options.data)
    table = read_table(options.data, options.sep, options.encoding)
    model, configure = build_formula(
        options.formula, options.likelihood, Settings.parse(options.settings)
    )
    reading: dict[str, Any] = {}
    if options.weights is not None:
        (name,) = chosen_columns(table, "--weights", [options.weights], options.data)[:1]
        reading["weights"] = name
    # the whole table is checked before it is split, so that row numbers are the file's
    schema = model.learn_schema(table, **reading)
    labels = schema.target.names[0] if schema.target.kind == "class" else None
    held = hold_out(table, options.holdout, options.seed, labels, schema.categories)
    train, new = table[~held], table[held]
    engine, why = choose_engine(options.engine, model, (train,), configure, reading)
    posterior = fit_model(
        model, train, engine=engine, seed=options.seed, progress=sys.stderr.isatty(), **reading
    )
    diagnosis = quiet_diagnosis(posterior)
    scores = posterior.score(new) if len(new) else None
    for stale in holdout_files(options.out):
        stale.unlink(missing_ok=True)
    posterior.save(options.out)
    held_file = holdout_files(options.out)[is_parquet(options.data)] if len(new) else None
    if held_file:
        write_table(new, held_file)
    summary = posterior.summary()
    result = {
        "out": options.out,
        "model": {"spec": repr(model), "why": "a formula was given"},
        "engine": {"spec": repr(engine), "why": why},
        "rows": {"training": len(train), "held out": len(new)},
        "holdout": held_file,
        "table": summary.T.to_dict(),
        "scores": scores,
        "diagnosis": as_data(diagnosis),
    }
    lines = [
        f"model   {model!r}",
        f"engine  {engine!r}",
        f"        because {why}",
        f"rows    {len(train)} for training, {len(new)} held out",
        "",
        summary.round(3).to_string(),
        "",
        *diagnosis_lines(diagnosis),
        "",
        *([f"held-out scores ({len(new)} rows)", repr(scores), ""] if scores else []),
        f"saved   {options.out}" + (f", held-out rows in {held_file}" if held_file else ""),
    ]
    return print_result(options, result, lines)


def _refuse_options(options: Namespace) -> None:
    """Refuse options that mean nothing beside a formula.

    Raises:
        UsageError: naming the first of them.
    """
    defaults = vars(Reading())
    for name in OF_TABLES:
        given = getattr(options, name)
        if given and given != defaults.get(name):
            flag = "--" + name.replace("_", "-")
            raise UsageError(
                f"{flag} is for tables whose columns are all inputs: a formula names its columns."
            )
    if options.model is not None:
        raise UsageError(f"--formula --model {options.model}: expected one of them, not both.")


def effects(options: Namespace) -> int:
    """Print predictions, comparisons or slopes of a saved fit."""
    if options.out:
        check_writable(options.out, options.bundle, *([options.data] if options.data else []))
        require_parquet(options.out)
    if options.slopes and options.of is None:
        raise UsageError("--slopes: say of which column, by --of COLUMN.")
    posterior = bundle.load(options.bundle)
    data = None
    if options.data is not None:
        data = read_table(options.data, options.sep, options.encoding)
    given = {"by": _columns(options.by), "conditional": _columns(options.along), "data": data}
    if options.of is None:
        every = options.by is None and options.along is None
        found = predictions(posterior, **given, average=every)
    else:
        found = (slopes if options.slopes else comparisons)(posterior, options.of, **given)
    table = found.to_pandas(options.level)
    lines = [repr(posterior), f"{found.kind} of {found.outcome}", "", table.to_string(index=False)]
    if options.out:
        _write(found, table, options.out)
        lines.append(f"saved   {options.out}")
    result = {"out": options.out, "kind": found.kind, "outcome": found.outcome}
    return print_result(options, result | {"table": table.to_dict("list")}, lines)


def _columns(text: str | None) -> list[str] | None:
    """Return the columns that an option names, with commas between them."""
    return None if text is None else [name.strip() for name in text.split(",")]


def _write(found: Effects, table: Any, path: Path) -> None:
    """Write effects as a picture or a table, by the ending of the name."""
    if path.suffix.lower() not in PICTURES:
        return write_table(table, path)
    import matplotlib

    matplotlib.use("Agg")
    figure = found.plot().figure
    return replace(
        path, lambda beside: figure.savefig(beside, dpi=150, format=path.suffix[1:].lower())
    )

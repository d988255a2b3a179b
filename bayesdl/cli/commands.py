"""The commands: each takes the parsed options, prints a result, and returns the exit code."""

from __future__ import annotations

import os
import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

from bayesdl.cli import support_table
from bayesdl.cli.building import (
    build,
    choose_engine,
    choose_likelihood,
    column_names,
    default_model,
    models_by_name,
)
from bayesdl.cli.circuits.commands import impute as impute
from bayesdl.cli.circuits.commands import outliers as outliers
from bayesdl.cli.formula import commands as formulas
from bayesdl.cli.output import as_data, diagnosis_lines, print_result, quiet_diagnosis
from bayesdl.cli.settings import Settings
from bayesdl.cli.tables import (
    PICTURES,
    UsageError,
    check_writable,
    chosen_columns,
    hold_out,
    holdout_files,
    inputs_and_target,
    read_first_rows,
    read_parts,
    read_table,
    replace,
    require_parquet,
    round_digits,
    write_parts,
    write_table,
)
from bayesdl.data.files import is_parquet
from bayesdl.data.reading import Reading
from bayesdl.data.validation import DataError, ModelError
from bayesdl.engines import UnsupportedError
from bayesdl.fitting import fit as fit_model
from bayesdl.frozen.predictors import label_in
from bayesdl.frozen.spec import Frozen
from bayesdl.posterior.posterior import Posterior
from bayesdl.saving import bundle, pictures
from bayesdl.saving.predictions import predict_chunks, read_new_rows
from bayesdl.saving.report import report as write_report
from bayesdl.typing import Frame, Series
from inference.core.problem import ProblemError

LOOPBACK = ("127.0.0.1", "localhost", "::1")
# what the user can cure; anything else is a bug and keeps its traceback
USER_ERRORS = (
    UsageError,
    DataError,
    bundle.BundleError,
    ModelError,
    UnsupportedError,
    ProblemError,
)


def fit(options: Namespace) -> int:
    """Fit a model, save the posterior, and score it on held-out rows."""
    if options.formula:
        return formulas.fit(options)
    if options.target is None:
        raise UsageError("--target COLUMN is missing: say what to predict, or give --formula.")
    check_writable(options.out, options.data)
    for path in holdout_files(options.out):
        check_writable(path, options.data)
    table = read_table(options.data, options.sep, options.encoding)
    X, y = inputs_and_target(table, options.target, options.data)
    X, weights, reading = _how_to_read(X, options)
    line = models_by_name()[
        options.model or default_model(options.engine, options.settings or (), weights is not None)
    ]
    likelihood, why_likelihood = choose_likelihood(y, options.likelihood, line, options.regression)
    columns = column_names(line, options.modes, options.target)
    model, configure = build(line, likelihood, Settings.parse(options.settings), columns)
    # the whole table is checked before it is split, so that row numbers are the file's
    weighted = {} if weights is None else {"weights": weights}
    schema = model.learn_schema(X, y, **reading, **weighted)
    if options.missing_target == "drop":
        known = y.notna().to_numpy()
        table, X, y = table[known], X[known], y[known]
        weights = None if weights is None else weights[known]
    labels = options.target if schema.target.kind == "class" else None
    held = hold_out(table, options.holdout, options.seed, labels, schema.columns.categories)
    if weights is not None:
        reading["weights"] = weights[~held]
    engine, why_engine = choose_engine(
        options.engine, model, (X[~held], y[~held]), configure, reading
    )

    posterior = fit_model(
        model,
        X[~held],
        y[~held],
        engine=engine,
        seed=options.seed,
        progress=sys.stderr.isatty(),
        **reading,
    )
    diagnosis = quiet_diagnosis(posterior)
    scores = posterior.score(X[held], y[held]) if held.any() else None
    # held-out rows of an earlier fit under this name may be training rows now
    for stale in holdout_files(options.out):
        stale.unlink(missing_ok=True)
    posterior.save(options.out)
    held_file = holdout_files(options.out)[is_parquet(options.data)] if held.any() else None
    if held_file:
        write_table(table[held], held_file)

    result = {
        "out": options.out,
        "model": {"spec": repr(model), "why": why_likelihood},
        "engine": {"spec": repr(engine), "why": why_engine},
        "rows": {"training": int((~held).sum()), "held out": int(held.sum())},
        "holdout": held_file,
        "scores": scores,
        "diagnosis": as_data(diagnosis),
    }
    lines = [
        f"model   {model!r}",
        f"        because {why_likelihood}",
        f"engine  {engine!r}",
        f"        because {why_engine}",
        f"rows    {(~held).sum()} for training, {held.sum()} held out",
        "",
        *diagnosis_lines(diagnosis),
        "",
        *([f"held-out scores ({held.sum()} rows)", repr(scores), ""] if scores else []),
        f"saved   {options.out}" + (f", held-out rows in {held_file}" if held_file else ""),
    ]
    return print_result(options, result, lines)


def _how_to_read(X: Frame, options: Namespace) -> tuple[Frame, Series | None, dict[str, Any]]:
    """Return the inputs, the weights, and how the table is read, from the options.

    Raises:
        UsageError: for names that are no columns.
    """
    path, weights = options.data, None
    if options.weights is not None:
        (name,) = chosen_columns(X, "--weights", [options.weights], path)[:1]
        X, weights = X.drop(columns=name), X[name]
    given = {
        "drop": chosen_columns(X, "--drop", options.drop, path),
        "missing": options.missing,
        "missing_target": options.missing_target,
        "unseen": options.unseen,
        "periods": options.periods,
    }
    defaults = Reading()
    return X, weights, {k: v for k, v in given.items() if v and v != getattr(defaults, k)}


def predict(options: Namespace) -> int:
    """Predict the rows of a table, a part at a time."""
    import pandas as pd

    if options.level is not None and not 0 < options.level < 1:
        raise UsageError(f"--level {options.level:g}: expected a probability between 0 and 1.")
    if options.out:
        check_writable(options.out, options.bundle, options.data)
        require_parquet(options.out)
    posterior = bundle.load(options.bundle)
    named = {} if options.groups is None else {"groups": options.groups}
    level = options.level
    if options.conformal is not None:
        level = options.conformal
        posterior = _with_sets(posterior, options)
    elif options.calibration is not None:
        raise UsageError("--calibration FILE is for --conformal P: give both.")
    first = read_first_rows(options.data, options.sep, options.encoding)
    kept = chosen_columns(first, "--keep", options.keep, options.data)
    chunks, as_written = read_new_rows(posterior, options.data, kept, options.sep, options.encoding)
    parts = read_parts(chunks, options.data, options.encoding)
    tables = (
        round_digits(table, options.digits)
        for table in predict_chunks(posterior, parts, level, kept, as_written, **named)
    )
    if options.out:
        rows = write_parts(tables, options.out)
        lines = [f"saved   {options.out}, {rows} rows"]
        return print_result(options, {"out": options.out, "rows": rows}, lines)
    table = pd.concat(tables, ignore_index=True)
    return print_result(
        options,
        {"rows": len(table), "predictions": table.to_dict("list")},
        [table.to_csv(index=False).rstrip("\n")],
    )


def _with_sets(posterior: Posterior, options: Namespace) -> Posterior:
    """Return the posterior with conformal sets, from held-out rows where they lie beside it.

    Raises:
        UsageError: for a level outside (0, 1), or a fit whose adjustment the options do not change.
    """
    if not 0 < options.conformal < 1:
        raise UsageError(f"--conformal {options.conformal:g}: expected a probability.")
    if posterior.adjustment is not None:
        if posterior.adjustment.verb != "conformal" or options.calibration is not None:
            raise UsageError(
                f"--conformal: {options.bundle} is adjusted already; give the plain fit."
            )
        return posterior
    path = options.calibration or _kept_rows(options.bundle)
    if path is None:
        return posterior.conformal(options.conformal)
    X, y = _held_out_rows(posterior, path, options)
    return posterior.conformal(options.conformal, X, y)


def calibrate(options: Namespace) -> int:
    """Learn how sure somebody else's predictions may be, and save that as a posterior."""
    check_writable(options.out, options.data)
    table = read_table(options.data, options.sep, options.encoding)
    X, y = inputs_and_target(table, options.target, options.data)
    if options.prediction is not None:
        (name,) = chosen_columns(X, "--prediction", [options.prediction], options.data)[:1]
        X = X.rename(columns={name: "prediction"})
    is_class = any(label_in(name) is not None for name in X.columns)
    head = options.head or ("temperature" if is_class else "generalised")
    features = "inputs" if options.features else "prediction"
    posterior = fit_model(
        Frozen(None, head=head, features=features),
        X,
        y,
        engine=options.engine,
        seed=options.seed,
        progress=sys.stderr.isatty(),
    )
    diagnosis = quiet_diagnosis(posterior)
    posterior.save(options.out)
    result = {"out": options.out, "rows": len(X), "head": head, "diagnosis": as_data(diagnosis)}
    lines = [
        f"rows    {len(X)}",
        f"head    {head}",
        "",
        *diagnosis_lines(diagnosis),
        "",
        f"saved   {options.out}: `bayesdl predict {options.out} NEW` takes predictions of new rows",
    ]
    return print_result(options, result, lines)


def check(options: Namespace) -> int:
    """Diagnose a saved fit, and score it on rows that it has not seen.

    Returns:
        The exit code: 1 where the fit is not to be trusted.
    """
    posterior = bundle.load(options.bundle)
    data = options.data or _kept_rows(options.bundle)
    scores = None
    if data:
        X, y = _held_out_rows(posterior, data, options)
        scores = posterior.score(X, y)
    diagnosis = quiet_diagnosis(posterior)
    result = {"diagnosis": as_data(diagnosis), "data": data, "scores": scores}
    lines: list[str] = [repr(posterior), *diagnosis_lines(diagnosis), ""]
    lines += (
        [f"scores on {data} ({len(y)} rows)", repr(scores)]
        if data
        else ["no held-out rows: give some by --data FILE"]
    )
    print_result(options, result, lines)
    return 0 if diagnosis.ok else 1


def _kept_rows(path: Path) -> Path | None:
    """Return the file of the rows that `bayesdl fit` held out, where it lies beside a bundle."""
    return next((file for file in holdout_files(path) if os.path.isfile(file)), None)


def _held_out_rows(posterior: Posterior, path: Path, options: Namespace) -> tuple[Frame, Series]:
    """Return the inputs and targets of a file, without rows that a fit of this kind leaves out."""
    # what `fit` wrote is CSV with commas
    ours = path in holdout_files(options.bundle)
    form = () if ours else (options.sep, options.encoding)
    X, y = inputs_and_target(read_table(path, *form), posterior.schema.target.names[0], path)
    if posterior.schema.reading.missing_target == "drop":
        X, y = X[y.notna()], y[y.notna()]
    return X, y


def plot(options: Namespace) -> int:
    """Draw predictions and their calibration on rows with targets, otherwise the draws."""
    import matplotlib

    matplotlib.use("Agg")
    out = options.out or options.bundle.with_suffix(".png")
    if out.suffix.lower() not in PICTURES:
        raise UsageError(f"Cannot draw {out}: expected a name that ends in {', '.join(PICTURES)}.")
    check_writable(out, options.bundle, *([options.data] if options.data else []))
    posterior = bundle.load(options.bundle)
    data = options.data or _kept_rows(options.bundle)
    rows = _held_out_rows(posterior, data, options) if data else None
    figure, what = pictures.draw(posterior, rows)
    # beside its final place, with the ending that says its format
    replace(out, lambda beside: figure.savefig(beside, dpi=150, format=out.suffix[1:].lower()))
    lines = [f"saved   {out}: {what}" + (f" in {data}" if data else "")]
    return print_result(options, {"out": out, "picture": what, "data": data}, lines)


def report(options: Namespace) -> int:
    """Write a fit as one page of HTML."""
    import matplotlib

    matplotlib.use("Agg")
    out = options.out or options.bundle.with_suffix(".html")
    check_writable(out, options.bundle, *([options.data] if options.data else []))
    posterior = bundle.load(options.bundle)
    data = options.data or _kept_rows(options.bundle)
    rows = _held_out_rows(posterior, data, options) if data else (None, None)
    write_report(posterior, out, *rows)
    lines = [f"saved   {out}" + (f", with scores on {data}" if data else "")]
    return print_result(options, {"out": out, "data": data}, lines)


def serve(options: Namespace) -> int:
    """Answer HTTP requests until interrupted."""
    from bayesdl.serving import Limits
    from bayesdl.serving import serve as run_server

    posterior = bundle.load(options.bundle)
    if options.host not in LOOPBACK:
        print(
            f"bayesdl: warning: {options.host} may be reached by other machines, and requests "
            "are answered without a password.",
            file=sys.stderr,
        )
    limits = Limits(rows=options.max_rows, bytes=options.max_bytes)

    def ready(address: str) -> None:
        print_result(options, {"address": address}, [f"ready   {address}/predict, Ctrl-C ends"])
        sys.stdout.flush()

    print(f"bayesdl: compiling for {options.bundle}", file=sys.stderr)
    run_server(posterior, options.host, options.port, options.level, limits, ready)
    return 0


def summary(options: Namespace) -> int:
    """Print a summary of the parameters."""
    posterior = bundle.load(options.bundle)
    table = posterior.summary()
    result = {
        "model": repr(posterior.model),
        "engine": repr(posterior.engine),
        "table": table.T.to_dict(),
    }
    lines = [
        repr(posterior),
        repr(posterior.model),
        repr(posterior.engine),
        "",
        table.round(3).to_string(),
    ]
    return print_result(options, result, lines)


def effects(options: Namespace) -> int:
    """Print predictions, comparisons or slopes of a saved fit."""
    return formulas.effects(options)


def engines(options: Namespace) -> int:
    """Print which engine runs which model."""
    table = support_table.support()
    return print_result(options, {"engines": table}, [support_table.markdown(table)])


def demo(options: Namespace) -> int:
    """Fit models to two data sets that come with scikit-learn."""
    from bayesdl.cli.demo import run

    result, lines = run(options.out, progress=sys.stderr.isatty())
    return print_result(options, result, lines)


def recommend(options: Namespace) -> int:
    """Fit a recommender, or recommend items."""
    from bayesdl.cli.recommend import commands as command

    return {"fit": command.fit, "apply": command.apply}[options.action](options)

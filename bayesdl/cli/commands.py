"""What the commands of the command line do: each takes the parsed options and returns the exit code."""

from __future__ import annotations

import os
import sys
import warnings
from argparse import Namespace
from pathlib import Path
from typing import Any

from bayesdl.checks.convergence import Diagnosis, TrustWarning
from bayesdl.cli.tables import (
    UsageError,
    check_writable,
    hold_out,
    inputs_and_target,
    is_parquet,
    read_table,
    require_parquet,
    to_json,
    write_table,
)
from bayesdl.data.validation import DataError, ModelError
from bayesdl.engines import UnsupportedError, check_supported, choose
from bayesdl.fitting import fit as fit_model
from bayesdl.posterior.posterior import Posterior
from bayesdl.saving import bundle
from inference.core.problem import ProblemError

# what the user can cure; anything else is a bug and keeps its traceback
USER_ERRORS = (
    UsageError,
    DataError,
    bundle.BundleError,
    ModelError,
    UnsupportedError,
    ProblemError,
)
HOLDOUTS = (".holdout.csv", ".holdout.parquet")


def fit(options: Namespace) -> int:
    """Fits, saves, and scores on held-out rows."""
    from bayesdl.cli.settings import (
        ENGINE_BY_NAME,
        Settings,
        build,
        build_tensor,
        choose_likelihood,
    )

    check_writable(options.out, options.data)
    for path in holdout_files(options.out):
        check_writable(path, options.data)
    table = read_table(options.data)
    X, y = inputs_and_target(table, options.target, options.data)
    likelihood, why_likelihood = choose_likelihood(y, options.likelihood, options.model)
    parsed = Settings.parse(options.settings)
    if options.model == "funbat":
        model, configure = build_tensor(options.modes, likelihood, parsed)
        if options.target in [mode.name for mode in model.modes]:
            raise UsageError(
                f"--modes {options.modes}: {options.target!r} is the target, expected columns of indexes."
            )
    elif options.modes is not None:
        raise UsageError(f"--modes {options.modes}: only --model funbat has modes.")
    else:
        model, configure = build(options.model, likelihood, parsed)
    schema = model.learn_schema(
        X, y
    )  # the whole table is checked before it is split, so that row numbers are the file's
    held = hold_out(
        table,
        options.holdout,
        options.seed,
        options.target if schema.target.kind == "class" else None,
    )
    problem = model.problem(model.learn_schema(X[~held], y[~held]), X[~held], y[~held])
    if options.engine == "auto":
        engine, why_engine = choose(problem)
    else:
        engine, why_engine = ENGINE_BY_NAME[options.engine](), "it was asked for"
    engine = configure(engine)
    check_supported(engine, problem)

    posterior = fit_model(
        model, X[~held], y[~held], engine=engine, seed=options.seed, progress=sys.stderr.isatty()
    )
    diagnosis = quiet_diagnosis(posterior)
    scores = posterior.score(X[held], y[held]) if held.any() else None
    for stale in holdout_files(
        options.out
    ):  # of an earlier fit under this name: they may be training rows now
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
        *told(diagnosis),
        "",
        *([f"held-out scores ({held.sum()} rows)", repr(scores), ""] if scores else []),
        f"saved   {options.out}" + (f", held-out rows in {held_file}" if held_file else ""),
    ]
    return say(options, result, lines)


def predict(options: Namespace) -> int:
    """Predicts the rows of a table."""
    if not 0 < options.level < 1:
        raise UsageError(f"--level {options.level:g}: expected a probability between 0 and 1.")
    if options.out:
        check_writable(options.out, options.bundle, options.data)
        require_parquet(options.out)
    posterior = bundle.load(options.bundle)
    table = posterior.predict(read_table(options.data)).to_pandas(options.level)
    if options.out:
        write_table(table, options.out)
        return say(
            options,
            {"out": options.out, "rows": len(table)},
            [f"saved   {options.out}, {len(table)} rows"],
        )
    return say(
        options,
        {"rows": len(table), "predictions": table.to_dict("list")},
        [table.to_csv(index=False).rstrip("\n")],
    )


def check(options: Namespace) -> int:
    """Diagnoses a saved fit, and scores it on rows that it has not seen; 1 where it is not to be trusted."""
    posterior = bundle.load(options.bundle)
    data = options.data or next(
        (path for path in holdout_files(options.bundle) if os.path.isfile(path)), None
    )
    scores = None
    if data:
        X, y = inputs_and_target(read_table(data), posterior.schema.target.names[0], data)
        scores = posterior.score(X, y)
    diagnosis = quiet_diagnosis(posterior)
    result = {"diagnosis": as_data(diagnosis), "data": data, "scores": scores}
    lines: list[str] = [repr(posterior), *told(diagnosis), ""]
    lines += (
        [f"scores on {data} ({len(y)} rows)", repr(scores)]
        if data
        else ["no held-out rows: give some by --data FILE"]
    )
    say(options, result, lines)
    return 0 if diagnosis.ok else 1


def summary(options: Namespace) -> int:
    """Prints the parameters."""
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
    return say(options, result, lines)


def engines(options: Namespace) -> int:
    """Prints which engine runs which model."""
    from bayesdl.cli import support_table as matrix

    table = matrix.support()
    return say(options, {"engines": table}, [matrix.markdown(table)])


def demo(options: Namespace) -> int:
    """Fits two data sets of scikit-learn's."""
    from bayesdl.cli.demo import run

    result, lines = run(options.out, progress=sys.stderr.isatty())
    return say(options, result, lines)


def recommend(options: Namespace) -> int:
    """Fits a recommender, or gives recommendations."""
    from bayesdl.cli import recommend as command

    return {"fit": command.fit, "apply": command.apply}[options.action](options)


def holdout_files(path: Path) -> list[Path]:
    """Where the held-out rows of a bundle may lie: as CSV, or as Parquet where the data were."""
    return [path.with_name(path.name + ending) for ending in HOLDOUTS]


def quiet_diagnosis(posterior: Posterior) -> Diagnosis:
    """The diagnosis; its warning is left out as the verdict is printed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TrustWarning)
        return posterior.diagnose()


def as_data(diagnosis: Diagnosis) -> dict[str, Any]:
    return {"ok": diagnosis.ok, "verdict": list(diagnosis.verdict), "facts": diagnosis.facts}


def told(diagnosis: Diagnosis) -> list[str]:
    return repr(diagnosis).splitlines()


def say(options: Namespace, result: dict[str, Any], lines: list[str]) -> int:
    """Prints the result for a program or for a person."""
    print(to_json(result) if options.json else "\n".join(lines))
    return 0

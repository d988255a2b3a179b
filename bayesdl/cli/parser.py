"""The parser of all commands; the choices of models and engines come from their registries."""

from __future__ import annotations

import argparse
import functools
from pathlib import Path

from bayesdl import __version__
from bayesdl.cli.arguments import (
    Formatter,
    Parser,
    add_bundle,
    add_command,
    add_file_format,
    add_level,
    add_reading,
    add_rows,
    add_settings,
    add_table,
    at_least,
)
from bayesdl.cli.building import (
    DEFAULT_MODEL,
    LIKELIHOODS,
    MODEL_WITH_SETTINGS,
    engine_name,
    engines_by_name,
    models_by_name,
)
from bayesdl.cli.circuits.parser import add_impute, add_outliers
from bayesdl.cli.formula.building import FORMULA_LIKELIHOODS
from bayesdl.cli.recommend.parser import add_recommend
from bayesdl.formula.spec import GROUPS
from bayesdl.frozen.program import CLASS_HEADS, NUMBER_HEADS


def parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    top = Parser(
        prog="bayesdl",
        usage="bayesdl COMMAND ...",
        description="Bayesian models of tables: fit, predict with intervals, and check what can be "
        "trusted.",
        epilog="`bayesdl COMMAND --help` tells more. Exit codes: 0 done, 1 a fit not to be trusted "
        "(check), 2 an error.",
        formatter_class=functools.partial(Formatter, room=len("    recommend")),
    )
    top.add_argument("--version", action="version", version=f"bayesdl {__version__}")
    commands = top.add_subparsers(
        dest="command", metavar="COMMAND", required=True, parser_class=Parser, prog="bayesdl"
    )
    command = functools.partial(add_command, commands, "bayesdl")

    _add_fit(
        command(
            "fit",
            "DATA (--target COLUMN | --formula FORMULA) -o FILE [options]",
            "fit a model to a table and save the posterior",
        )
    )
    _add_predict(
        command(
            "predict",
            "BUNDLE DATA [-o FILE] [options]",
            "predict new rows, with intervals or probabilities",
        )
    )
    _add_calibrate(
        command(
            "calibrate",
            "PREDICTIONS --target COLUMN -o FILE [options]",
            "learn from a table of somebody else's predictions how sure they may be",
        )
    )
    _add_check(
        command(
            "check",
            "BUNDLE [--data FILE]",
            "say whether a fit can be trusted, and score it on held-out rows",
        )
    )
    _add_plot(
        command(
            "plot",
            "BUNDLE [-o FILE] [options]",
            "draw predictions and their calibration on held-out rows, or the draws",
        )
    )
    _add_report(
        command(
            "report",
            "BUNDLE [-o FILE] [options]",
            "write one page of HTML: verdict, pictures, scores, parameters",
        )
    )
    _add_serve(
        command(
            "serve",
            "BUNDLE [--port N] [options]",
            "answer HTTP requests for predictions, rows in as JSON",
        )
    )
    summary = command(
        "summary", "BUNDLE", "print a table of the parameters: means, sds, intervals, ESS, R-hat"
    )
    add_bundle(summary)
    _add_effects(
        command(
            "effects",
            "BUNDLE [-o FILE] [options]",
            "say what predictions do as columns change: comparisons, slopes, averages",
        )
    )
    add_impute(command)
    add_outliers(command)
    add_recommend(commands)
    command("engines", "", "print which engine runs which model, and why not")
    demo = command(
        "demo",
        "[--out FOLDER]",
        "fit two networks to real data next to classical methods, in a minute or two",
    )
    demo.add_argument(
        "--out",
        metavar="FOLDER",
        type=Path,
        default=Path("demo"),
        help="where to write results (default: demo)",
    )
    return top


def _add_fit(added: argparse.ArgumentParser) -> None:
    """Add the arguments of `bayesdl fit`."""
    models, engines = models_by_name(), ("auto", *engines_by_name())
    names = ", ".join(
        f"{line.name} ({line.help})" if line.help else line.name for line in models.values()
    )
    further = ", ".join(name for name in FORMULA_LIKELIHOODS if name not in LIKELIHOODS)
    add_table(added, "DATA")
    added.add_argument(
        "--target",
        metavar="COLUMN",
        help="what to predict; all other columns are inputs",
    )
    added.add_argument(
        "--formula",
        metavar="FORMULA",
        action="append",
        default=[],
        help="in place of target and model, e.g. 'y ~ x + (1 | group)'; repeat for other "
        "parameters, e.g. 'sigma ~ x'",
    )
    added.add_argument(
        "-o",
        "--out",
        metavar="FILE",
        type=Path,
        required=True,
        help="the saved posterior, e.g. run.bdl",
    )
    added.add_argument(
        "--model",
        choices=tuple(models),
        metavar="NAME",
        help=f"{names} (default: {DEFAULT_MODEL}, or {MODEL_WITH_SETTINGS} "
        "where --engine, --set or --weights is given)",
    )
    added.add_argument(
        "--modes",
        metavar="COLUMNS",
        help="the indexes of a functional tensor, e.g. temperature,pressure,day",
    )
    added.add_argument(
        "--engine",
        type=engine_name,
        choices=engines,
        default="auto",
        metavar="NAME",
        help=f"{', '.join(engines)} (default: auto)",
    )
    added.add_argument(
        "--likelihood",
        choices=tuple(dict.fromkeys((*LIKELIHOODS, *FORMULA_LIKELIHOODS))),
        metavar="NAME",
        help=f"{', '.join(LIKELIHOODS)} (default: from the target: numbers normal, labels "
        f"bernoulli or categorical); of formulas also {further} (default: normal)",
    )
    added.add_argument(
        "--regression",
        action="store_true",
        help="read a target of few whole numbers as numbers, not as classes",
    )
    add_reading(added)
    add_settings(
        added,
        "engine, model, likelihood, prior or kernel, e.g. num_samples=500, model.hidden=50,50, "
        "prior=horseshoe",
    )
    added.add_argument(
        "--holdout",
        metavar="FRACTION",
        type=float,
        default=0.2,
        help="share of rows held out at random, scored, and written next to FILE for `check`; 0 "
        "for none (default: 0.2)",
    )


def _add_predict(added: argparse.ArgumentParser) -> None:
    """Add the arguments of `bayesdl predict`."""
    add_bundle(added)
    added.add_argument(
        "data",
        metavar="DATA",
        type=Path,
        help="CSV or Parquet with the columns of the training data",
    )
    added.add_argument(
        "-o",
        "--out",
        metavar="FILE",
        type=Path,
        help="CSV, or Parquet by its ending (default: CSV on stdout)",
    )
    added.add_argument(
        "--keep",
        metavar="COLUMN",
        action="append",
        default=[],
        help="a column of DATA to copy beside its prediction, e.g. id; repeat for more",
    )
    added.add_argument(
        "--digits", metavar="N", type=at_least(1), help="round numbers to N significant digits"
    )
    add_file_format(added)
    added.add_argument(
        "--level",
        metavar="P",
        type=float,
        help="probability of the intervals (default: that of conformal sets, otherwise 0.9)",
    )
    added.add_argument(
        "--groups",
        choices=GROUPS,
        metavar="WORD",
        help=f"of formulas, what becomes of groups that training rows had not: {', '.join(GROUPS)} "
        f"(default: {GROUPS[0]})",
    )
    added.add_argument(
        "--conformal",
        metavar="P",
        type=float,
        help="sets that hold the target with probability P whatever the model, calibrated on the "
        "rows that `fit` held out, or without any on the training rows",
    )
    added.add_argument(
        "--calibration",
        metavar="FILE",
        type=Path,
        help="rows with targets that calibrate the sets, which the fit has not seen",
    )


def _add_effects(added: argparse.ArgumentParser) -> None:
    """Add the arguments of `bayesdl effects`."""
    add_bundle(added)
    for flag, name, text in (
        (
            "--of",
            "COLUMN",
            "of which column: one more of numbers, each level with the first",
        ),
        ("--by", "COLUMNS", "average within the values of columns, e.g. group or sex,group"),
        ("--along", "COLUMNS", "run along columns, with all others at typical values"),
    ):
        added.add_argument(flag, metavar=name, help=text)
    added.add_argument("--slopes", action="store_true", help="slopes in place of comparisons")
    add_level(added)
    added.add_argument(
        "--data",
        metavar="FILE",
        type=Path,
        help="the rows (default: those that were fitted, where the model keeps them)",
    )
    added.add_argument(
        "-o", "--out", metavar="FILE", type=Path, help="CSV, Parquet or a picture, by its ending"
    )
    add_file_format(added)


def _add_calibrate(added: argparse.ArgumentParser) -> None:
    """Add the arguments of `bayesdl calibrate`."""
    added.add_argument(
        "data",
        metavar="PREDICTIONS",
        type=Path,
        help="CSV or Parquet: predictions in a column, or probabilities in columns P(label), of "
        "rows that the predictor was not trained on",
    )
    added.add_argument("--target", metavar="COLUMN", required=True, help="what happened")
    added.add_argument(
        "-o", "--out", metavar="FILE", type=Path, required=True, help="the saved posterior"
    )
    added.add_argument(
        "--prediction",
        metavar="COLUMN",
        help="the predicted number (default: prediction or mean, otherwise the first column)",
    )
    added.add_argument(
        "--features",
        action="store_true",
        help="let the scale of the error depend on all other columns too",
    )
    added.add_argument(
        "--head",
        choices=(*NUMBER_HEADS, *CLASS_HEADS),
        metavar="NAME",
        help=f"{', '.join((*NUMBER_HEADS, *CLASS_HEADS))} (default: generalised, of classes "
        "temperature)",
    )
    added.add_argument(
        "--engine",
        type=engine_name,
        choices=("auto", *engines_by_name()),
        default="auto",
        metavar="NAME",
        help="how it is fitted (default: auto)",
    )
    added.add_argument(
        "--seed", type=at_least(0), default=0, metavar="N", help="seed of all randomness"
    )
    add_file_format(added)


def _add_check(added: argparse.ArgumentParser) -> None:
    """Add the arguments of `bayesdl check`."""
    add_bundle(added)
    add_rows(added, "score")


def _add_plot(added: argparse.ArgumentParser) -> None:
    """Add the arguments of `bayesdl plot`."""
    add_bundle(added)
    added.add_argument(
        "-o",
        "--out",
        metavar="FILE",
        type=Path,
        help="PNG, PDF or SVG by its ending (default: BUNDLE with .png)",
    )
    add_rows(added, "draw")


def _add_report(added: argparse.ArgumentParser) -> None:
    """Add the arguments of `bayesdl report`."""
    add_bundle(added)
    added.add_argument(
        "-o",
        "--out",
        metavar="FILE",
        type=Path,
        help="the page (default: BUNDLE with .html)",
    )
    add_rows(added, "score")


def _add_serve(added: argparse.ArgumentParser) -> None:
    """Add the arguments of `bayesdl serve`."""
    add_bundle(added)
    added.add_argument(
        "--port", metavar="N", type=at_least(0), default=8000, help="default: 8000; 0: a free one"
    )
    added.add_argument(
        "--host",
        metavar="ADDRESS",
        default="127.0.0.1",
        help="the address to listen at (default: 127.0.0.1, this machine only)",
    )
    add_level(added)
    limits = (("rows", "rows of a request", 10_000), ("bytes", "size of its body", 10_000_000))
    for name, about, most in limits:
        added.add_argument(
            f"--max-{name}",
            metavar="N",
            type=at_least(1),
            default=most,
            help=f"largest {about} (default: {most})",
        )

"""The command line `bayesdl`: fit, predict, check, summary, recommend, engines, demo.

This file holds the parser, what is set before JAX starts, and how errors are told: one line on stderr and exit code 2.
What the commands do stands in `bayesdl.cli.commands`.
"""

from __future__ import annotations

import argparse
import functools
import math
import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

ENGINES = (
    *("auto", "nuts", "hmc", "mclmc", "sgld", "sghmc", "cyclical-sgmcmc"),
    *("vi", "ssvi", "laplace", "exact-gp", "gpytorch", "pyro", "message-passing"),
)
LIKELIHOODS = ("normal", "student-t", "bernoulli", "categorical", "poisson", "negative-binomial")
RECOMMENDERS = ("vae", "dae", "ease", "popularity", "blend")
STRATEGIES = ("mean", "thompson", "ucb")
MAX_DEVICES = 4  # as many as a default run has chains


class Parser(argparse.ArgumentParser):
    """Tells errors in one line, in the words of every other error."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"bayesdl: error: {message} (see `{self.prog} --help`)\n")


class Formatter(argparse.HelpFormatter):
    """The same help from every version of Python: `-o, --out FILE`, one width of columns, with room for the commands' names."""

    def __init__(self, prog: str, room: int = 0) -> None:
        super().__init__(prog, max_help_position=26)
        self._action_max_length = room

    def _format_action_invocation(self, action: argparse.Action) -> str:
        if not action.option_strings or action.nargs == 0:
            return super()._format_action_invocation(action)
        return f"{', '.join(action.option_strings)} {self._format_args(action, self._get_default_metavar_for_optional(action))}"


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns the exit code: 0, 1 for a fit not to be trusted, 2 for an error, 130 for Ctrl-C."""
    try:
        options = parser().parse_args(argv)
    except SystemExit as stop:  # of --help, --version and errors of usage
        return int(stop.code or 0)
    try:
        return run(options)
    except KeyboardInterrupt:
        print("bayesdl: interrupted", file=sys.stderr)
        return 128 + signal.SIGINT
    except BrokenPipeError:  # whoever read our output has gone, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def run(options: argparse.Namespace) -> int:
    """Runs a command; what the user can cure is told in one line."""
    prepare_jax()
    from bayesdl.cli import commands

    try:
        with short_warnings():
            code = getattr(commands, options.command)(options)
        sys.stdout.flush()
        return code
    except commands.USER_ERRORS as error:
        print(f"bayesdl: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2


def prepare_jax() -> None:
    """A device per core, so that chains run side by side, and a cache of compiled programs; the user's choices come first."""
    flag = "--xla_force_host_platform_device_count"
    flags = os.environ.get("XLA_FLAGS", "")
    if flag not in flags:
        os.environ["XLA_FLAGS"] = f"{flags} {flag}={min(cores(), MAX_DEVICES)}".strip()
    if "JAX_COMPILATION_CACHE_DIR" in os.environ:
        return
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "bayesdl" / "jax"
    try:
        cache.mkdir(parents=True, exist_ok=True)
    except OSError:
        return
    if os.access(cache, os.W_OK):
        import jax

        jax.config.update("jax_compilation_cache_dir", str(cache))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def short_warnings() -> Iterator[None]:
    """Shows warnings as one line each."""

    def show(message: Any, *_: Any, **__: Any) -> None:
        print(f"bayesdl: warning: {' '.join(str(message).split())}", file=sys.stderr)

    with warnings.catch_warnings():
        warnings.showwarning = show
        yield


def parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    from bayesdl import __version__

    top = Parser(
        prog="bayesdl",
        usage="bayesdl COMMAND ...",
        description="Bayesian models of tables: fit, predict with intervals, and check what can be trusted.",
        epilog="`bayesdl COMMAND --help` tells more. Exit codes: 0 done, 1 a fit not to be trusted (check), 2 an error.",
        formatter_class=functools.partial(Formatter, room=len("    recommend")),
    )
    top.add_argument("--version", action="version", version=f"bayesdl {__version__}")
    commands = top.add_subparsers(
        dest="command", metavar="COMMAND", required=True, parser_class=Parser, prog="bayesdl"
    )
    command = functools.partial(add_command, commands, "bayesdl")

    add_fit(
        command(
            "fit",
            "DATA --target COLUMN -o FILE [options]",
            "fit a model to a table and save the posterior",
        )
    )
    add_predict(
        command(
            "predict",
            "BUNDLE DATA [-o FILE] [options]",
            "predict new rows, with intervals or probabilities",
        )
    )
    add_check(
        command(
            "check",
            "BUNDLE [--data FILE]",
            "say whether a fit can be trusted, and score it on held-out rows",
        )
    )
    summary = command(
        "summary", "BUNDLE", "print a table of the parameters: means, sds, intervals, ESS, R-hat"
    )
    summary.add_argument("bundle", metavar="BUNDLE", type=Path, help="written by `bayesdl fit`")
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


def add_command(
    commands: Any, prog: str, name: str, usage: str, text: str
) -> argparse.ArgumentParser:
    """Adds a command to those of a parser."""
    added = commands.add_parser(
        name,
        usage=f"{prog} {name} {usage}",
        help=text,
        description=f"{text[0].upper()}{text[1:]}.",
        formatter_class=Formatter,
    )
    added.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    return added


def add_fit(added: argparse.ArgumentParser) -> None:
    added.add_argument(
        "data", metavar="DATA", type=Path, help="CSV or Parquet; a header line names the columns"
    )
    added.add_argument(
        "--target",
        metavar="COLUMN",
        required=True,
        help="what to predict; all other columns are inputs",
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
        choices=("bnn", "gp", "linear", "funbat"),
        default="bnn",
        metavar="NAME",
        help="bnn (a neural network), gp (a Gaussian process), linear, funbat (a functional tensor; needs --modes) "
        "(default: bnn)",
    )
    added.add_argument(
        "--modes",
        metavar="COLUMNS",
        help="the indexes of a functional tensor, e.g. temperature,pressure,day",
    )
    added.add_argument(
        "--engine",
        choices=ENGINES,
        default="auto",
        metavar="NAME",
        help=f"{', '.join(ENGINES)} (default: auto)",
    )
    added.add_argument(
        "--likelihood",
        choices=LIKELIHOODS,
        metavar="NAME",
        help=f"{', '.join(LIKELIHOODS)} (default: from the target: numbers normal, labels bernoulli or categorical)",
    )
    add_settings(
        added,
        "engine, model, likelihood, prior or kernel, e.g. num_samples=500, model.hidden=50,50, prior=horseshoe",
    )
    added.add_argument(
        "--holdout",
        metavar="FRACTION",
        type=float,
        default=0.2,
        help="share of rows held out at random, scored, and written next to FILE for `check`; 0 for none (default: 0.2)",
    )


def add_settings(added: argparse.ArgumentParser, of_what: str) -> None:
    """What every fit takes."""
    added.add_argument(
        "--set",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        dest="settings",
        help=f"a setting of {of_what}; repeat for more, and a wrong key lists the possible ones",
    )
    added.add_argument(
        "--seed", metavar="N", type=seed, default=0, help="of all randomness (default: 0)"
    )


def seed(text: str) -> int:
    """A seed as JAX and NumPy take it."""
    if not text.isdecimal() or int(text) >= 2**31:
        raise argparse.ArgumentTypeError(f"{text}: expected a whole number from 0 to {2**31 - 1}")
    return int(text)


def add_predict(added: argparse.ArgumentParser) -> None:
    added.add_argument("bundle", metavar="BUNDLE", type=Path, help="written by `bayesdl fit`")
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
        "--level",
        metavar="P",
        type=float,
        default=0.9,
        help="probability of the intervals (default: 0.9)",
    )


def add_check(added: argparse.ArgumentParser) -> None:
    added.add_argument("bundle", metavar="BUNDLE", type=Path, help="written by `bayesdl fit`")
    added.add_argument(
        "--data",
        metavar="FILE",
        type=Path,
        help="rows to score (default: those that `fit` held out, where they lie beside BUNDLE)",
    )


def add_recommend(commands: Any) -> None:
    """The command with two commands of its own."""
    text = "fit a recommender to a table of users and items, and recommend items"
    prog = "bayesdl recommend"
    group = commands.add_parser(
        "recommend",
        usage=f"{prog} fit|apply ...",
        help=text,
        description=f"{text[0].upper()}{text[1:]}.",
        formatter_class=Formatter,
    )
    actions = group.add_subparsers(
        dest="action", metavar="fit|apply", required=True, parser_class=Parser, prog=prog
    )
    command = functools.partial(add_command, actions, prog)
    add_recommend_fit(
        command(
            "fit",
            "DATA -o FILE [options]",
            "fit a recommender, score it on held-out users, and save it",
        )
    )
    add_recommend_apply(
        command(
            "apply",
            "FILE HISTORY [-o OUT] [options]",
            "recommend items to the users of a table, with intervals",
        )
    )


def add_recommend_fit(added: argparse.ArgumentParser) -> None:
    added.add_argument(
        "data",
        metavar="DATA",
        type=Path,
        help="CSV or Parquet with a row for each event: a user, an item",
    )
    added.add_argument(
        "-o",
        "--out",
        metavar="FILE",
        type=Path,
        required=True,
        help="the saved recommender, e.g. films.bdl",
    )
    added.add_argument(
        "--model",
        choices=RECOMMENDERS,
        default="vae",
        metavar="NAME",
        help="vae (Mult-VAE), dae (Mult-DAE), ease (a linear model in closed form), blend (of ease and vae), popularity "
        "(default: vae)",
    )
    add_columns(added)
    added.add_argument(
        "--holdout",
        metavar="N",
        type=share,
        help="users held out for validation, and as many for test, as a number or a fraction; 0 for none "
        "(default: a tenth, at most 500)",
    )
    add_settings(added, "the model, e.g. epochs=50, vae.hidden=200, ease.l2=100, beta=0.2")


def add_columns(added: argparse.ArgumentParser) -> None:
    """Which columns hold the events, and which events count."""
    added.add_argument(
        "--user",
        metavar="COLUMN",
        default="user",
        help="the users, names or numbers (default: user)",
    )
    added.add_argument(
        "--item",
        metavar="COLUMN",
        default="item",
        help="the items, names or numbers (default: item)",
    )
    added.add_argument(
        "--rating",
        metavar="COLUMN",
        help="the ratings (default: rating where it is there; without ratings every row counts)",
    )
    added.add_argument(
        "--threshold",
        metavar="R",
        type=number_of,
        help="rows with a rating above it count (default: 3.5)",
    )


def add_recommend_apply(added: argparse.ArgumentParser) -> None:
    added.add_argument(
        "model", metavar="FILE", type=Path, help="written by `bayesdl recommend fit`"
    )
    added.add_argument(
        "history",
        metavar="HISTORY",
        type=Path,
        help="CSV or Parquet with users, new ones too, and the items that they chose",
    )
    added.add_argument(
        "-k", metavar="N", type=at_least(1), default=20, help="items for each user (default: 20)"
    )
    added.add_argument(
        "-o",
        "--out",
        metavar="OUT",
        type=Path,
        help="CSV, or Parquet by its ending (default: CSV on stdout)",
    )
    add_columns(added)
    added.add_argument(
        "--strategy",
        choices=STRATEGIES,
        default="mean",
        metavar="NAME",
        help="mean, thompson (by one draw, which explores), ucb (mean plus one standard deviation) (default: mean)",
    )
    added.add_argument(
        "--refine-steps",
        metavar="N",
        type=at_least(0),
        default=0,
        help="of fitting each user's posterior (default: 0)",
    )
    added.add_argument(
        "--likelihood-power",
        metavar="P",
        type=positive,
        help="of that posterior, 1 for the model's own (default: that of training)",
    )
    added.add_argument(
        "--level",
        metavar="P",
        type=level,
        default=0.9,
        help="probability of the intervals (default: 0.9)",
    )
    added.add_argument(
        "--include-seen", action="store_true", help="recommend items of a user's own history too"
    )
    added.add_argument(
        "--seed", metavar="N", type=seed, default=0, help="of all randomness (default: 0)"
    )


def at_least(least: int) -> Callable[[str], int]:
    """A whole number of at least so much."""

    def number(text: str) -> int:
        if not text.isdecimal() or not least <= int(text) < 2**31:
            raise argparse.ArgumentTypeError(f"{text}: expected a whole number of at least {least}")
        return int(text)

    return number


def share(text: str) -> float:
    """A number of users, or a fraction of them."""
    value = number_of(text)
    if not value >= 0 or (value >= 1 and value != round(value)):
        raise argparse.ArgumentTypeError(f"{text}: expected a whole number, or a fraction below 1")
    return value


def level(text: str) -> float:
    """A probability."""
    value = number_of(text)
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"{text}: expected a probability between 0 and 1")
    return value


def positive(text: str) -> float:
    """A number above zero."""
    value = number_of(text)
    if not value > 0:
        raise argparse.ArgumentTypeError(f"{text}: expected a number above zero")
    return value


def number_of(text: str) -> float:
    """A finite number."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"{text}: expected a number")
    return value


if __name__ == "__main__":
    sys.exit(main())

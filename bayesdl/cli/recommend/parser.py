"""The parser of `bayesdl recommend fit` and `bayesdl recommend apply`."""

from __future__ import annotations

import argparse
import functools
from pathlib import Path
from typing import Any

from bayesdl.cli.arguments import (
    Formatter,
    Parser,
    add_command,
    add_level,
    add_settings,
    at_least,
    number,
    positive,
    seed,
    share,
)

RECOMMENDERS = ("vae", "dae", "ease", "popularity", "blend")
STRATEGIES = ("mean", "thompson", "ucb")


def add_recommend(commands: Any) -> None:
    """Add the command `recommend` with its two actions.

    Args:
        commands: the commands of the command line, as `add_subparsers` returns them.
    """
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
    _add_recommend_fit(
        command(
            "fit",
            "DATA -o FILE [options]",
            "fit a recommender, score it on held-out users, and save it",
        )
    )
    _add_recommend_apply(
        command(
            "apply",
            "FILE HISTORY [-o OUT] [options]",
            "recommend items to the users of a table, with intervals",
        )
    )


def _add_recommend_fit(added: argparse.ArgumentParser) -> None:
    """Add the arguments of `recommend fit`."""
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
        help="vae (Mult-VAE), dae (Mult-DAE), ease (a linear model in closed form), blend (of "
        "ease and vae), popularity (default: vae)",
    )
    _add_columns(added)
    added.add_argument(
        "--holdout",
        metavar="N",
        type=share,
        help="users held out for validation, and as many for test, as a number or a fraction; "
        "0 for none (default: a tenth, at most 500)",
    )
    add_settings(added, "the model, e.g. epochs=50, vae.hidden=200, ease.l2=100, beta=0.2")


def _add_columns(added: argparse.ArgumentParser) -> None:
    """Add options for the columns of events, and for the events that count."""
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
        type=number,
        help="rows with a rating above it count (default: 3.5)",
    )


def _add_recommend_apply(added: argparse.ArgumentParser) -> None:
    """Add the arguments of `recommend apply`."""
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
    _add_columns(added)
    added.add_argument(
        "--strategy",
        choices=STRATEGIES,
        default="mean",
        metavar="NAME",
        help="mean, thompson (by one draw, which explores), ucb (mean plus one standard "
        "deviation) (default: mean)",
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
    add_level(added)
    added.add_argument(
        "--include-seen", action="store_true", help="recommend items of a user's own history too"
    )
    added.add_argument(
        "--seed", metavar="N", type=seed, default=0, help="of all randomness (default: 0)"
    )

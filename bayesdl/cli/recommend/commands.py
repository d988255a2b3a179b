"""The commands `bayesdl recommend fit` and `bayesdl recommend apply`.

Each takes the parsed options and returns the exit code.
"""

from __future__ import annotations

import sys
from argparse import Namespace
from pathlib import Path

import numpy as np

from bayesdl.cli.output import print_result
from bayesdl.cli.recommend.events import Events, History, make_history, read_events
from bayesdl.cli.recommend.report import FitReport, history_notes, print_fit
from bayesdl.cli.settings import Settings, fields, make
from bayesdl.cli.tables import UsageError, check_writable, require_parquet, write_table
from bayesdl.data.validation import DataError
from bayesdl.recommend.autoencoder.spec import MultDAE, MultVAE
from bayesdl.recommend.autoencoder.training import Anneal, PerUser
from bayesdl.recommend.base import AbstractRecommender
from bayesdl.recommend.evaluation.comparison import Evaluation, evaluate
from bayesdl.recommend.evaluation.split import MIN_ITEMS, Split, strong_split
from bayesdl.recommend.models.blend import Blend
from bayesdl.recommend.models.ease import EASE
from bayesdl.recommend.models.popularity import Popularity
from bayesdl.recommend.saving import load
from bayesdl.typing import DataFrame
from inference.core.progress import as_progress
from inference.process.quiet import quiet

MODELS: dict[str, dict[str, type[AbstractRecommender]]] = {
    "vae": {"vae": MultVAE},
    "dae": {"dae": MultDAE},
    "ease": {"ease": EASE},
    "popularity": {"popularity": Popularity},
    "blend": {"ease": EASE, "vae": MultVAE, "popularity": Popularity},
}
# Settings that other options of the command give.
DECIDED = ("seed", "progress")
BETAS = {"anneal": Anneal(), "per-user": PerUser()}
# Users for validation, and as many for test, or a tenth of all where that is less.
HELD_OUT = 500
EPOCHS = 100
# Batches in an epoch, unless the batches become too small or too large.
BATCHES = 20
BATCH_SIZES = (20, 500)
# Users that get recommendations at a time.
BLOCK = 1000


def fit(options: Namespace) -> int:
    """Fit a recommender, score it beside popularity on held-out users, and save it."""
    check_writable(options.out, options.data)
    settings = Settings.parse(options.settings)
    # Wrong settings are reported before the data are read.
    _build_recommender(options, settings, 1)
    events = read_events(options.data, options)
    users, items = events.users[events.counts], events.items[events.counts]
    kept = _count_users_with_enough_items(users, items)
    each = _num_held_out(options.holdout, kept, options.data, events)
    split = strong_split(users, items, held_out=(each, each), seed=options.seed)
    model, chosen = _build_recommender(options, settings, np.shape(split.train)[0])
    validation = split.validation if split.validation.held_out.nnz else None
    if validation is None and model.needs_validation:
        raise UsageError(
            f"--model {options.model} chooses its weights on validation users: hold out more by "
            "--holdout."
        )
    try:
        model.fit(split.train, validation, items=split.items)
    except FloatingPointError as error:
        raise UsageError(str(error)) from None
    evaluation = _score_on_test_users(model, options.model, split)
    model.save(options.out)
    return print_fit(options, FitReport(events, split, kept, model, chosen, evaluation))


def _build_recommender(
    options: Namespace, settings: Settings, users: int
) -> tuple[AbstractRecommender, dict[str, int]]:
    """Build the recommender that the options ask for.

    Args:
        options: the options of the command.
        settings: the settings of the recommender.
        users: the number of training users.

    Returns:
        The recommender, and the numbers that were chosen for this number of users.

    Raises:
        UsageError: for settings that do not exist or have impossible values.
    """
    classes = MODELS[options.model]
    types = {part: _settable_fields(cls) for part, cls in classes.items()}
    settings.check(types)
    chosen: dict[str, int] = {}
    members = []
    for part, cls in classes.items():
        given = settings.values(part, types[part])
        if cls.in_batches:
            size = int(np.clip(-(-users // BATCHES), *BATCH_SIZES))
            defaults = {"epochs": EPOCHS, "batch_size": size}
            ours = {name: value for name, value in defaults.items() if name not in given}
            chosen |= ours
            given |= ours | {"seed": options.seed, "progress": sys.stderr.isatty()}
        if isinstance(given.get("beta"), str):
            given["beta"] = BETAS.get(given["beta"], given["beta"])
        member = make(cls, given)
        _check_settings(member)
        members.append(member)
    return (Blend(members) if len(members) > 1 else members[0]), chosen


def _settable_fields(cls: type) -> dict[str, str]:
    """Return the settings that text can give, and their types.

    Attributes that end in "_" are left out, as the fit finds them.
    """
    return {
        name: type_
        for name, type_ in fields(cls).items()
        if name not in DECIDED and not name.endswith("_")
    }


def _check_settings(model: AbstractRecommender) -> None:
    """Refuse impossible values of settings.

    Raises:
        UsageError: with the name of the setting.
    """
    try:
        model.check()
    except (ValueError, TypeError) as error:
        raise UsageError(str(error)) from None


def _count_users_with_enough_items(users: np.ndarray, items: np.ndarray) -> int:
    """Count the users with `MIN_ITEMS` different items or more."""
    import pandas as pd

    pairs = pd.DataFrame({"user": users, "item": items}).drop_duplicates()
    return int((pairs["user"].value_counts() >= MIN_ITEMS).sum())


def _num_held_out(asked: float | None, users: int, path: Path, events: Events) -> int:
    """Return the number of users that are held out for validation, and as many for test.

    Args:
        asked: a number of users, or a share of them below 1; None for the default.
        users: the number of users with enough items.
        path: the path of the table, for errors.
        events: the events of the table, for errors.

    Raises:
        UsageError: where that leaves nobody to learn from, or no user has enough items.
    """
    if not users:
        counted = f"{events.counts.sum()} of {len(events.users)} rows count"
        raise UsageError(
            f"{path}: no user has {MIN_ITEMS} items or more; {counted}: {events.what}."
        )
    if asked is None:
        return min(HELD_OUT, users // 10)
    count = round(asked * users) if asked < 1 else int(asked)
    if 2 * count >= users:
        raise UsageError(
            f"--holdout {asked:g}: {count} users for validation and as many for test leave none "
            f"of the {users} users with {MIN_ITEMS} items or more to learn from."
        )
    return count


def _score_on_test_users(model: AbstractRecommender, name: str, split: Split) -> Evaluation | None:
    """Score a recommender beside popularity; return None without test users."""
    if not split.test.held_out.nnz:
        return None
    popularity = Popularity().fit(split.train, items=split.items)
    return evaluate({name: model} | {"popularity": popularity} | {name: model}, split.test)


def apply(options: Namespace) -> int:
    """Recommend items to the users of a history."""
    if options.out:
        check_writable(options.out, options.model, options.history)
        require_parquet(options.out)
    model = load(options.model)
    if options.refine_steps and not model.refines:
        raise UsageError(
            f"--refine-steps {options.refine_steps}: {type(model).__name__} has no posterior of "
            "users to refine."
        )
    if options.likelihood_power is not None and not options.refine_steps:
        raise UsageError(
            f"--likelihood-power {options.likelihood_power:g}: give --refine-steps too, such as "
            "100."
        )
    events = read_events(options.history, options, optional_items=True)
    history = make_history(events, model.items_)
    # the notes below say this too
    with quiet(message=".* users have no items"):
        found = _recommend_in_blocks(model, history, options)
    notes = history_notes(history, model)
    facts = {
        "users": len(history.users),
        "unknown items": history.unknown,
        "not counted": history.below,
        "users with an empty history": history.without.tolist(),
    }
    if options.out:
        write_table(found, options.out)
        lines = [*notes, f"saved   {options.out}, {len(found)} rows for {len(history.users)} users"]
        return print_result(options, {"out": options.out, "rows": len(found)} | facts, lines)
    if not options.json:
        for note in notes:
            print(f"bayesdl: {note}", file=sys.stderr)
    result = {"rows": len(found)} | facts | {"recommendations": found.to_dict("list")}
    return print_result(options, result, [found.to_csv(index=False).rstrip("\n")])


def _recommend_in_blocks(
    model: AbstractRecommender, history: History, options: Namespace
) -> DataFrame:
    """Return a table of user, rank, item, score, probability, lower and upper.

    Raises:
        DataError: for more items than there are.
    """
    import pandas as pd

    if options.k > model.num_items_:
        raise DataError(
            f"-k {options.k}: the recommender has {model.num_items_} items; ask for at most so "
            "many."
        )
    progress = as_progress(sys.stderr.isatty())
    progress.start(len(history.users), "users")
    parts = []
    explores = options.strategy == "thompson"
    try:
        for first in range(0, len(history.users), BLOCK):
            rows = history.rows[first : first + BLOCK]
            table = model.recommend(
                rows,
                options.k,
                exclude_seen=not options.include_seen,
                strategy=options.strategy,
                refine_steps=options.refine_steps,
                likelihood_power=options.likelihood_power,
                level=options.level,
                seed=_block_seed(options.seed, first) if explores else options.seed,
            ).to_pandas()
            labels = history.users[first : first + BLOCK][table["user"].to_numpy()]
            parts.append(table.assign(user=labels))
            progress.advance(len(history.users[first : first + BLOCK]))
    finally:
        progress.close()
    return pd.concat(parts, ignore_index=True)


def _block_seed(seed: int, first: int) -> int:
    """Return a seed for the block of users from this one on.

    With it they explore independently of the users before them.
    """
    return int(np.random.SeedSequence([seed, first]).generate_state(1)[0] // 2)

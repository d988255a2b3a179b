"""What `bayesdl recommend fit` and `bayesdl recommend apply` do: each takes the parsed options and returns the exit code."""

from __future__ import annotations

import sys
import warnings
from argparse import Namespace
from typing import Any

import numpy as np

from bayesdl.cli.commands import print_result
from bayesdl.cli.events import Events, History, history_of, read_events
from bayesdl.cli.settings import Settings, fields, make
from bayesdl.cli.tables import UsageError, check_writable, require_parquet, write_table
from bayesdl.data.validation import DataError
from bayesdl.recommend.autoencoder.spec import MultDAE, MultVAE
from bayesdl.recommend.autoencoder.training import Anneal, PerUser
from bayesdl.recommend.base import AbstractRecommender
from bayesdl.recommend.evaluation.comparison import Evaluation, evaluate
from bayesdl.recommend.evaluation.metrics import standard_error
from bayesdl.recommend.evaluation.split import MIN_ITEMS, HeldOut, Split, strong_split
from bayesdl.recommend.models.blend import Blend
from bayesdl.recommend.models.ease import EASE
from bayesdl.recommend.models.popularity import Popularity
from bayesdl.recommend.saving import load
from inference.core.progress import as_progress

MODELS: dict[str, dict[str, type]] = {
    "vae": {"vae": MultVAE},
    "dae": {"dae": MultDAE},
    "ease": {"ease": EASE},
    "popularity": {"popularity": Popularity},
    "blend": {"ease": EASE, "vae": MultVAE, "popularity": Popularity},
}
DECIDED = ("seed", "progress")  # settings that other options give
BETAS = {"anneal": Anneal(), "per-user": PerUser()}
HELD_OUT = 500  # users each for validation and test, or a tenth where that is less
EPOCHS = 100
BATCHES = 20  # in an epoch, unless the batches become too small or too large
BATCH_SIZES = (20, 500)
BLOCK = 1000  # users that are given recommendations at a time


def fit(options: Namespace) -> int:
    """Fits a recommender, scores it beside popularity on held-out users, and saves it."""
    check_writable(options.out, options.data)
    settings = Settings.parse(options.settings)
    build(options, settings, 1)  # wrong settings are told before the data are read
    events = read_events(options.data, options)
    users, items = events.users[events.counts], events.items[events.counts]
    lasting = num_lasting(users, items)
    each = held_out(options.holdout, lasting, options.data, events)
    split = strong_split(users, items, held_out=(each, each), seed=options.seed)
    model, chosen = build(options, settings, np.shape(split.train)[0])
    validation = split.validation if split.validation.held_out.nnz else None
    if validation is None and isinstance(model, Blend):
        raise UsageError(
            "--model blend chooses its weights on validation users: hold out more by --holdout."
        )
    try:
        model.fit(split.train, validation, items=split.items)
    except FloatingPointError as error:
        raise UsageError(str(error)) from None
    found = scored(model, options.model, split)
    model.save(options.out)
    return told(options, events, split, lasting, model, chosen, found)


def build(
    options: Namespace, settings: Settings, users: int
) -> tuple[AbstractRecommender, dict[str, int]]:
    """The recommender that was asked for, and the numbers that were chosen for so many training users.

    Raises:
        UsageError: for settings that do not exist or have impossible values.
    """
    classes = MODELS[options.model]
    types = {part: settable(cls) for part, cls in classes.items()}
    settings.check(types)
    chosen: dict[str, int] = {}
    members = []
    for part, cls in classes.items():
        given = settings.values(part, types[part])
        if cls in (MultVAE, MultDAE):
            size = int(np.clip(-(-users // BATCHES), *BATCH_SIZES))
            ours = {
                name: value
                for name, value in (("epochs", EPOCHS), ("batch_size", size))
                if name not in given
            }
            chosen |= ours
            given |= ours | {"seed": options.seed, "progress": sys.stderr.isatty()}
        if isinstance(given.get("beta"), str):
            given["beta"] = BETAS.get(given["beta"], given["beta"])
        member = make(cls, given)
        checked(member)
        members.append(member)
    return (Blend(members) if len(members) > 1 else members[0]), chosen


def settable(cls: type) -> dict[str, str]:
    """The settings that text can give, and their types; what the fit finds ends in "_"."""
    return {
        name: type_
        for name, type_ in fields(cls).items()
        if name not in DECIDED and not name.endswith("_")
    }


def checked(model: AbstractRecommender) -> None:
    """Refuses impossible values.

    Raises:
        UsageError: naming the setting.
    """
    try:
        model.check()
    except (ValueError, TypeError) as error:
        raise UsageError(str(error)) from None


def num_lasting(users: np.ndarray, items: np.ndarray) -> int:
    """Number of users with enough different items."""
    import pandas as pd

    pairs = pd.DataFrame({"user": users, "item": items}).drop_duplicates()
    return int((pairs["user"].value_counts() >= MIN_ITEMS).sum())


def held_out(asked: float | None, users: int, path: Any, events: Events) -> int:
    """How many users are held out for validation, and as many for test.

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
            f"--holdout {asked:g}: {count} users for validation and as many for test leave none of the {users} users "
            f"with {MIN_ITEMS} items or more to learn from."
        )
    return count


def scored(model: AbstractRecommender, name: str, split: Split) -> Evaluation | None:
    """Scores on the test users beside popularity; None without such users."""
    if not split.test.held_out.nnz:
        return None
    others = (
        {}
        if isinstance(model, Popularity)
        else {"popularity": Popularity().fit(split.train, items=split.items)}
    )
    return evaluate({name: model} | others, split.test)


def told(
    options: Namespace,
    events: Events,
    split: Split,
    lasting: int,
    model: AbstractRecommender,
    chosen: dict[str, int],
    found: Evaluation | None,
) -> int:
    """Prints what was done."""
    sizes = {
        "training": np.shape(split.train)[0],
        "validation": size(split.validation),
        "test": size(split.test),
    }
    left_out = len(np.unique(events.users)) - lasting
    compared = (
        found.paired(options.model, "popularity")
        if found is not None and len(found.values) > 1
        else None
    )
    result = {
        "out": options.out,
        "model": repr(model),
        "chosen": chosen,
        "events": {
            "rows": len(events.users),
            "counted": int(events.counts.sum()),
            "of unseen items": split.dropped,
        },
        "users": sizes | {"with too few items": left_out},
        "items": len(split.items),
        "temperature": model.temperature_,
        "scores": None if found is None else as_data(found),
        "ndcg@100 above popularity": compared,
    }
    facts = (
        [f"best epoch {model.best_epoch_} of {model.epochs}, beta {told_beta(model)}"]
        if isinstance(model, MultVAE)
        else []
    )
    facts += [weights_told(model)] if isinstance(model, Blend) else []
    lines = [
        f"model   {model!r}",
        *(
            [
                f"        chosen here: {', '.join(f'{k}={v}' for k, v in chosen.items())}; --set changes them"
            ]
            if chosen
            else []
        ),
        f"events  {events.counts.sum()} of {len(events.users)} rows count: {events.what}",
        f"users   {sizes['training']} for training, {sizes['validation']} for validation, {sizes['test']} for test; "
        f"{left_out} left out, with fewer than {MIN_ITEMS} items",
        f"items   {len(split.items)}; {split.dropped} events of held-out users left out, with items unseen in training",
        *([f"found   {'; '.join(facts)}"] if facts else []),
        "",
        *scores_told(found, compared),
        "",
        f"saved   {options.out}",
    ]
    return print_result(options, result, lines)


def weights_told(model: Blend) -> str:
    """The weights of the members by their names."""
    pairs = zip(model.members_, model.weights_, strict=True)
    return "weights " + ", ".join(f"{type(member).__name__} {weight:g}" for member, weight in pairs)


def told_beta(model: MultVAE) -> str:
    return repr(model.beta_) if isinstance(model.beta_, PerUser) else f"{model.beta_:.3g}"


def size(held: HeldOut) -> int:
    return np.shape(held.fold_in)[0]


def as_data(found: Evaluation) -> dict[str, Any]:
    """Means and standard errors by recommender and metric."""
    return {
        name: {
            metric: {"mean": float(v.mean()), "se": standard_error(v)} for metric, v in of.items()
        }
        for name, of in found.values.items()
    }


def scores_told(found: Evaluation | None, compared: dict[str, float] | None) -> list[str]:
    if found is None:
        return ["no test users with held-out items: nothing was scored"]
    users = len(next(iter(next(iter(found.values.values())).values())))
    lines = [f"held-out scores ({users} test users; mean +- standard error)", *table(found)]
    if compared:
        lines.append(
            f"ndcg@100 above popularity: {compared['difference']:.4f} +- {compared['se']:.4f}, p = {compared['p']:.2g}"
        )
    return lines


def table(found: Evaluation) -> list[str]:
    """A line for each recommender."""
    metrics = list(next(iter(found.values.values())))
    lines = [f"{'':12}" + "".join(f"{metric:>18}" for metric in metrics)]
    for name, of in found.values.items():
        cells = [
            f"{of[metric].mean():.4f} +- {standard_error(of[metric]):.4f}" for metric in metrics
        ]
        lines.append(f"{name:12}" + "".join(f"{cell:>18}" for cell in cells))
    return lines


def apply(options: Namespace) -> int:
    """Recommends items to the users of a history."""
    if options.out:
        check_writable(options.out, options.model, options.history)
        require_parquet(options.out)
    model = load(options.model)
    if options.refine_steps and not model.refines:
        raise UsageError(
            f"--refine-steps {options.refine_steps}: {type(model).__name__} has no posterior of users to refine."
        )
    if options.likelihood_power is not None and not options.refine_steps:
        raise UsageError(
            f"--likelihood-power {options.likelihood_power:g}: give --refine-steps too, such as 100."
        )
    history = history_of(read_events(options.history, options, optional_items=True), model.items_)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".* users have no items")  # told in `notes`
        found = recommended(model, history, options)
    notes = notes_of(history, model)
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


def recommended(model: AbstractRecommender, history: History, options: Namespace) -> Any:
    """A table of user, rank, item, score, probability, lower and upper.

    Raises:
        DataError: for more items than there are.
    """
    import pandas as pd

    if options.k > model.num_items_:
        raise DataError(
            f"-k {options.k}: the recommender has {model.num_items_} items; ask for at most so many."
        )
    progress = as_progress(sys.stderr.isatty())
    progress.start(len(history.users), "users")
    parts = []
    try:
        for first in range(0, len(history.users), BLOCK):
            rows = history.rows[first : first + BLOCK]
            answer = model.recommend(
                rows,
                options.k,
                exclude_seen=not options.include_seen,
                strategy=options.strategy,
                refine_steps=options.refine_steps,
                likelihood_power=options.likelihood_power,
                level=options.level,
                seed=seed_from(options.seed, first)
                if options.strategy == "thompson"
                else options.seed,
            ).to_pandas()
            parts.append(
                answer.assign(user=history.users[first : first + BLOCK][answer["user"].to_numpy()])
            )
            progress.advance(rows.shape[0])
    finally:
        progress.close()
    return pd.concat(parts, ignore_index=True)


def seed_from(seed: int, first: int) -> int:
    """A seed for the users from this one on, so that they explore apart from those before them."""
    return int(np.random.SeedSequence([seed, first]).generate_state(1)[0] // 2)


def notes_of(history: History, model: AbstractRecommender) -> list[str]:
    """What was not used, in words."""
    notes = []
    if history.below:
        notes.append(
            f"{history.below} of {history.events} rows do not count: their ratings are not above the threshold"
        )
    if history.unknown:
        notes.append(
            f"{history.unknown} of {history.events} rows dropped: their items were not in training"
        )
    if len(history.without):
        some = ", ".join(map(str, history.without[:5])) + (
            ", ..." if len(history.without) > 5 else ""
        )
        nothing = f"{type(model).__name__} knows nothing of them and takes its first items"
        given = nothing if model.needs_items else "they get what suits any user"
        notes.append(
            f"{len(history.without)} of {len(history.users)} users have an empty history, {given}: {some}"
        )
    return notes

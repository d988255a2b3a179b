"""The commands `recommend fit` and `recommend apply` end to end, and every error."""

import json
import zipfile

import numpy as np
import pandas as pd
import pytest
from recommend_toys import EVENT_ITEMS as ITEMS
from recommend_toys import events, matrix

from bayesdl.cli import main as cli
from bayesdl.cli.recommend import commands as recommend_command
from bayesdl.cli.recommend import parser as recommend_parser
from bayesdl.recommend import (
    Popularity,
    load,
)
from bayesdl.recommend.validation import STRATEGIES

# The sets of users are so small that no list can be matched.
pytestmark = pytest.mark.filterwarnings("ignore:.* hits of validation users are expected")


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A popularity recommender in a file."""
    path = tmp_path_factory.mktemp("saved") / "popular.bdl"
    return Popularity().fit(matrix(events())).save(path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Tables of events with and without ratings, and a recommender that is fitted to them."""
    path = tmp_path_factory.mktemp("recommend")
    table = events()
    table["rating"] = np.where(np.arange(len(table)) % 8 < 2, 4, 5)
    disliked = pd.DataFrame({"user": ["u0", "few"], "item": [39, 0], "rating": [1, 5]})
    pd.concat([table, disliked, table.head(3)]).to_csv(path / "events.csv", index=False)
    history = events(4, seed=1)
    history["user"] = history["user"].str.replace("u", "new")
    history.to_csv(path / "history.csv", index=False)
    assert (
        cli.main(
            [
                "recommend",
                "fit",
                str(path / "events.csv"),
                "--model",
                "ease",
                "-o",
                str(path / "ease.bdl"),
            ]
        )
        == 0
    )
    return path


def answer(capsys, *arguments):
    """The JSON object that a command prints."""
    capsys.readouterr()
    assert cli.main(["recommend", *map(str, arguments), "--json"]) == 0
    out, err = capsys.readouterr()
    assert err == "" and out.count("\n") == 1
    return json.loads(out, parse_constant=lambda word: pytest.fail(f"{word} is not JSON"))


def refused(capsys, *arguments):
    """The message of a command that must fail: one line, exit code 2, nothing on stdout."""
    capsys.readouterr()
    assert cli.main(["recommend", *map(str, arguments)]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("bayesdl: error: ") and err.count("\n") == 1
    return err


SMALL = ["--set", "hidden=6", "--set", "latent=3", "--set", "epochs=2"]


@pytest.mark.parametrize("kind", ["vae", "dae", "popularity", "blend"])
@pytest.mark.quick_cases(1)
def test_fit_then_apply(kind, folder, tmp_path, capsys):
    out = tmp_path / "model.bdl"
    settings = SMALL if kind in ("vae", "dae") else []
    settings = [text.replace("hid", "vae.hid") for text in SMALL] if kind == "blend" else settings
    result = answer(capsys, "fit", folder / "events.csv", "--model", kind, "-o", out, *settings)
    assert result["users"] == {"training": 72, "validation": 9, "test": 9, "with too few items": 1}
    assert (
        result["events"] == {"rows": 725, "counted": 724, "of unseen items": 0}
        and result["items"] == ITEMS
    )
    assert result["chosen"] == ({"batch_size": 20} if kind != "popularity" else {})
    assert set(result["scores"]) == {kind, "popularity"}
    for metrics in result["scores"].values():
        assert all(
            0 <= metrics[m]["mean"] <= 1 and metrics[m]["se"] >= 0
            for m in ("ndcg@100", "recall@20", "recall@50")
        )

    found = answer(capsys, "apply", out, folder / "history.csv", "-k", 3)
    assert (
        found["rows"] == 12
        and found["unknown items"] == 0
        and found["users with an empty history"] == []
    )
    table = pd.DataFrame(found["recommendations"])
    assert list(table) == ["user", "rank", "item", "score", "probability", "lower", "upper"]
    assert table["user"].tolist() == np.repeat([f"new{i}" for i in range(4)], 3).tolist()
    assert (table["lower"] <= table["upper"]).all() and table["probability"].between(0, 1).all()
    seen = pd.read_csv(folder / "history.csv")
    assert table.merge(seen, on=["user", "item"]).empty


def test_fit_says_what_it_did(folder, tmp_path, capsys):
    arguments = [
        "recommend",
        "fit",
        str(folder / "events.csv"),
        "-o",
        str(tmp_path / "x.bdl"),
        *SMALL,
    ]
    assert cli.main(arguments) == 0
    out, err = capsys.readouterr()
    assert err == ""  # no bar, as this is no terminal
    for words in (
        "model   MultVAE(hidden=(6,), latent=3,",
        "chosen here: batch_size=20; --set changes them",
        "724 of 725 rows count: rows whose rating is above 3.5",
        "72 for training, 9 for validation, 9 for test; 1 left out, with fewer than 5 items",
        "best epoch",
        "held-out scores (9 test users",
        "ndcg@100 above popularity:",
    ):
        assert words in out, out


@pytest.mark.slow
def test_the_same_seed_gives_the_same_file(folder, tmp_path):
    for name in ("one", "two"):
        arguments = [str(folder / "events.csv"), *SMALL, "--seed", "5", "-o", str(tmp_path / name)]
        assert cli.main(["recommend", "fit", *arguments]) == 0
    contents = [
        zipfile.ZipFile(tmp_path / name).read("arrays.safetensors") for name in ("one", "two")
    ]
    assert contents[0] == contents[1] and load(tmp_path / "one").seed == 5


@pytest.mark.parametrize(("asked", "expected"), [("6", 6), ("0.2", 18), ("0", 0)])
@pytest.mark.quick_cases(1)
def test_sizes_of_the_held_out_sets(asked, expected, folder, tmp_path, capsys):
    result = answer(
        capsys,
        "fit",
        folder / "events.csv",
        "--model",
        "ease",
        "--holdout",
        asked,
        "-o",
        tmp_path / "x.bdl",
    )
    assert result["users"]["validation"] == result["users"]["test"] == expected
    assert (result["scores"] is None) == (expected == 0)


def test_columns_by_name_and_all_rows_without_ratings(folder, tmp_path, capsys):
    table = pd.read_csv(folder / "events.csv").rename(
        columns={"user": "who", "item": "film", "rating": "stars"}
    )
    table["film"] = "film " + table["film"].astype(str)
    table.to_csv(tmp_path / "d.csv", index=False)
    named = ["--user", "who", "--item", "film"]
    fit = ["fit", tmp_path / "d.csv", "--model", "popularity", *named, "-o", tmp_path / "x.bdl"]
    assert answer(capsys, *fit)["events"]["counted"] == 725
    assert answer(capsys, *fit, "--rating", "stars", "--threshold", 4)["events"]["counted"] == 542
    history = pd.DataFrame({"who": [1, 1], "film": ["film 3", "film 4"]})
    history.to_csv(tmp_path / "h.csv", index=False)
    found = answer(capsys, "apply", tmp_path / "x.bdl", tmp_path / "h.csv", *named, "-k", 1)
    assert found["recommendations"]["user"] == [1] and found["recommendations"]["item"][
        0
    ].startswith("film ")


def test_unknown_items_and_empty_histories(folder, tmp_path, capsys):
    (tmp_path / "h.csv").write_text("user,item,rating\na,3,5\na,3,5\na,999,5\nb,x,4\nc,,5\nd,4,1\n")
    asked = [folder / "ease.bdl", tmp_path / "h.csv", "-k", "2"]
    found = answer(capsys, "apply", *asked)
    assert found["unknown items"] == 2 and found["not counted"] == 1
    assert found["users with an empty history"] == ["b", "c", "d"]
    assert found["recommendations"]["user"] == ["a", "a", "b", "b", "c", "c", "d", "d"]
    assert np.isfinite(found["recommendations"]["score"]).all()

    assert cli.main(["recommend", "apply", *map(str, asked)]) == 0
    out, err = capsys.readouterr()
    assert (
        out.startswith("user,rank,item,score,probability,lower,upper\na,1,")
        and out.count("\n") == 9
    )
    assert "2 of 6 rows dropped: their items were not in training" in err
    assert (
        "3 of 4 users have an empty history, EASE knows nothing of them and takes its first "
        "items: b, c, d" in err
    )
    assert cli.main(["recommend", "apply", *map(str, asked), "-o", str(tmp_path / "out.csv")]) == 0
    said, err = capsys.readouterr()
    assert err == "" and "2 of 6 rows dropped" in said and "8 rows for 4 users" in said
    assert pd.read_csv(tmp_path / "out.csv")["item"].tolist() == found["recommendations"]["item"]


def test_options_of_apply(folder, tmp_path, capsys, monkeypatch):
    asked = ["apply", folder / "ease.bdl", folder / "history.csv", "-k", 5]
    seen = pd.read_csv(folder / "history.csv")
    whole = answer(capsys, *asked)["recommendations"]
    table = pd.DataFrame(answer(capsys, *asked, "--include-seen", "-k", ITEMS)["recommendations"])
    assert len(table.merge(seen, on=["user", "item"])) == len(seen)
    wide, narrow = (
        pd.DataFrame(answer(capsys, *asked, "--level", p)["recommendations"]) for p in (0.98, 0.5)
    )
    assert (wide["lower"] <= narrow["lower"]).all() and (wide["upper"] >= narrow["upper"]).all()
    for strategy in ("thompson", "ucb"):
        one, two = (answer(capsys, *asked, "--strategy", strategy, "--seed", 1) for _ in range(2))
        assert one == two and one["rows"] == 20
    monkeypatch.setattr(recommend_command, "BLOCK", 3)  # users in several blocks are those in one
    parts = answer(capsys, *asked)["recommendations"]
    assert parts["item"] == whole["item"] and parts["user"] == whole["user"]


def test_parquet(folder, tmp_path, capsys):
    pytest.importorskip("pyarrow")
    pd.read_csv(folder / "history.csv").to_parquet(tmp_path / "h.parquet")
    arguments = [
        "apply",
        folder / "ease.bdl",
        tmp_path / "h.parquet",
        "-o",
        tmp_path / "out.parquet",
        "-k",
        3,
    ]
    assert (
        answer(capsys, *arguments)["rows"] == len(pd.read_parquet(tmp_path / "out.parquet")) == 12
    )


TABLES = {
    "no user": ("item\n1\n", [], "has no column 'user': got ['item']; name it by --user"),
    "no item": ("user,film\n1,2\n", [], "has no column 'item'"),
    "no rating": ("user,item\n1,2\n", ["--rating", "stars"], "has no column 'stars'"),
    "threshold": ("user,item\n1,2\n", ["--threshold", "4"], "--threshold 4: "),
    "missing user": ("user,item\n1,2\n,2\n", [], "the user of row 1 is missing"),
    "missing item": ("user,item\n1,2\n1,\n", [], "the item of row 1 is missing"),
    "bad rating": ("user,item,rating\n1,2,3\n1,2,good\n", [], "is not a number: got '3'"),
    "missing rating": (
        "user,item,rating\n1,2,3\n1,2,\n",
        [],
        "column 'rating', row 1 is not a number",
    ),
    "few": (
        "user,item\n1,2\n1,3\n",
        [],
        "no user has 5 items or more; 2 of 2 rows count: every row",
    ),
    "header": ("user,item\n", [], "has no rows"),
    "empty": ("", [], "is empty"),
}


@pytest.mark.parametrize("case", TABLES)
def test_tables_that_cannot_be_used(case, tmp_path, capsys):
    content, options, words = TABLES[case]
    (tmp_path / "d.csv").write_text(content)
    assert words in refused(capsys, "fit", tmp_path / "d.csv", "-o", tmp_path / "x.bdl", *options)
    assert [file.name for file in tmp_path.iterdir()] == ["d.csv"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--set", "l2=5"], "l2=...: no such setting. Possible: vae.hidden"),
        (["--set", "seed=5"], "seed=...: no such setting"),
        (["--set", "latent=many"], "expected a whole number"),
        (["--set", "latent=0"], "MultVAE(latent=0): expected a whole number of at least 1"),
        (["--set", "beta=often"], "MultVAE(beta='often')"),
        (["--set", "likelihood=magic"], "MultVAE(likelihood='magic')"),
        (["--set", "hidden=0"], "MultVAE(hidden=(0,)): expected a tuple of whole numbers"),
        (["--model", "ease", "--set", "l2=0"], "EASE(l2=0"),
        (["--model", "ease", "--set", "num_users_=3"], "no such setting. Possible: ease.l2"),
        (["--model", "magic"], "invalid choice: 'magic'"),
        (
            ["--holdout", "50"],
            "--holdout 50: 50 users for validation and as many for test leave none of the 90 users",
        ),
        (["--holdout", "1.5"], "expected a whole number, or a fraction below 1"),
        (["--holdout", "-1"], "expected a whole number, or a fraction below 1"),
        (
            ["--model", "blend", "--holdout", "0"],
            "--model blend chooses its weights on validation users",
        ),
        (["--threshold", "high"], "expected a number"),
        ([*SMALL, "--set", "learning_rate=1e30"], "lower learning_rate"),
    ],
)
def test_options_of_fit_that_cannot_be(options, words, folder, tmp_path, capsys):
    assert words in refused(
        capsys, "fit", folder / "events.csv", "-o", tmp_path / "x.bdl", *options
    )
    assert not list(tmp_path.iterdir())


def test_options_of_apply_that_cannot_be(folder, saved, tmp_path, capsys):
    model, history = folder / "ease.bdl", folder / "history.csv"
    for options, words in [
        (["-k", 41], "-k 41: the recommender has 40 items; ask for at most so many"),
        (["-k", 0], "expected a whole number of at least 1"),
        (["--level", 1], "expected a probability between 0 and 1"),
        (["--strategy", "greedy"], "invalid choice: 'greedy'"),
        (["--refine-steps", -1], "expected"),
        (["--refine-steps", 5], "--refine-steps 5: EASE has no posterior of users to refine"),
        (["-o", history], "it is the input"),
        (["-o", tmp_path / "absent" / "out.csv"], "there is no folder"),
        (["--item", "film"], "has no column 'film'"),
    ]:
        assert words in refused(capsys, "apply", model, history, *options)
    assert "does not exist" in refused(capsys, "apply", tmp_path / "absent.bdl", history)
    assert "does not exist" in refused(capsys, "apply", model, tmp_path / "absent.csv")
    assert "is truncated or not" in refused(capsys, "apply", history, history)
    assert "does not exist: expected a file written by" in refused(
        capsys, "apply", saved.parent / "other.bdl", history
    )
    assert "arguments are required" in refused(capsys)
    assert not list(tmp_path.iterdir())


def test_outputs_that_cannot_be_written(folder, tmp_path, capsys):
    data = folder / "events.csv"
    assert "there is no folder" in refused(capsys, "fit", data, "-o", tmp_path / "absent" / "x.bdl")
    assert "it is a folder" in refused(capsys, "fit", data, "-o", tmp_path)
    assert "it is the input" in refused(capsys, "fit", data, "-o", data)


@pytest.mark.filterwarnings("default:1 users have fewer")
def test_users_who_have_seen_nearly_all_get_fewer(folder, tmp_path, capsys):
    rows = "".join(f"a,{item}\n" for item in range(ITEMS - 2))
    (tmp_path / "h.csv").write_text("user,item\n" + rows)
    asked = [
        "recommend",
        "apply",
        str(folder / "ease.bdl"),
        str(tmp_path / "h.csv"),
        "-k",
        "5",
        "-o",
        str(tmp_path / "out.csv"),
    ]
    assert cli.main(asked) == 0
    assert "1 users have fewer unseen candidates than k" in capsys.readouterr().err
    assert sorted(pd.read_csv(tmp_path / "out.csv")["item"]) == [ITEMS - 2, ITEMS - 1]


def test_choices_are_those_of_the_package():
    assert set(recommend_parser.RECOMMENDERS) == set(recommend_command.MODELS)
    assert recommend_parser.STRATEGIES == STRATEGIES

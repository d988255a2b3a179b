"""Predictions of files a part at a time are those of the whole table."""

import numpy as np
import pandas as pd
import pytest
from drawn_posteriors import drawn

import bayesdl as bdl

rng = np.random.default_rng(0)
TABLE = pd.DataFrame({"a": rng.normal(size=30), "c": ["u", "v", "w"] * 10})
TABLE["id"] = np.arange(30) + 1000


@pytest.fixture(scope="module")
def post():
    return drawn(bdl.BNN(hidden=(3,)), TABLE[["a", "c"]], TABLE.a.to_numpy())


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_parts_are_those_of_the_whole(post, tmp_path, ending):
    data, out = tmp_path / f"rows.{ending}", tmp_path / f"out.{ending}"
    write = TABLE.to_csv if ending == "csv" else TABLE.to_parquet
    write(data, index=False)
    read = pd.read_csv if ending == "csv" else pd.read_parquet
    expected = post.predict(TABLE).to_pandas(0.8)
    expected.insert(0, "id", TABLE.id)
    for size in (7, 50_000):
        rows = bdl.predict_file(post, data, out, 0.8, keep=["id"], rows_at_once=size)
        assert rows == 30
        pd.testing.assert_frame_equal(read(out), expected, rtol=1e-5)


def test_errors_name_the_row_of_the_file(post, tmp_path):
    data, out = tmp_path / "rows.csv", tmp_path / "out.csv"
    TABLE.assign(c=np.where(TABLE.index == 23, "z", TABLE.c)).to_csv(data, index=False)
    with pytest.raises(bdl.DataError, match="row 23 has the unseen category 'z'"):
        bdl.predict_file(post, data, out, rows_at_once=10)
    assert list(tmp_path.iterdir()) == [data]
    with pytest.raises(bdl.DataError, match="it is the file that is read"):
        bdl.predict_file(post, data, data)
    with pytest.raises(bdl.DataError, match="keep='x': expected one of"):
        bdl.predict_file(post, data, out, keep=["x"])
    TABLE.rename(columns={"id": "mean"}).to_csv(data, index=False)
    with pytest.raises(bdl.DataError, match="the predictions have a column of that name"):
        bdl.predict_file(post, data, out, keep=["mean"])


def test_parquet_columns_keep_their_type(post, tmp_path):
    data, out = tmp_path / "rows.csv", tmp_path / "out.parquet"
    mixed = TABLE.assign(id=[*range(20), *["x"] * 10])
    mixed.to_csv(data, index=False)
    with pytest.raises(bdl.DataError, match="From row 20 on a column has another type"):
        bdl.predict_file(post, data, out, keep=["id"], rows_at_once=20)


def test_cells_are_kept_as_they_are_written(post, tmp_path):
    data, out = tmp_path / "rows.csv", tmp_path / "out.csv"
    ids = ["007", *map(str, range(28)), "12345678901234567890"]
    part = [str(12345678901234567 + 2 * k) if k != 25 else "" for k in range(30)]
    TABLE.assign(id=ids, part=part).to_csv(data, index=False)
    bdl.predict_file(post, data, out, keep=["id", "part", "a"], rows_at_once=10)
    found = pd.read_csv(out, dtype=str, keep_default_na=False)
    assert found.id.tolist() == ids and found.part.tolist() == part
    assert found.a.tolist() == pd.read_csv(data, dtype=str).a.tolist()


def test_categories_are_texts_in_each_part(tmp_path):
    table = TABLE[["a"]].assign(c=["01"] * 10 + ["02"] * 10 + ["x"] * 10)
    post = drawn(bdl.BNN(hidden=(3,)), table, TABLE.a.to_numpy())
    data, out = tmp_path / "rows.csv", tmp_path / "out.csv"
    table.to_csv(data, index=False)
    assert bdl.predict_file(post, data, out, rows_at_once=10) == 30
    np.testing.assert_allclose(pd.read_csv(out)["mean"], post.predict(table).mean, rtol=1e-5)

"""Tables as they come: each is read as its clean equivalent, or refused in words; none in between.

The tests look at what a program would be given, so that hundreds of tables take seconds.
"""

import datetime
import decimal
import fractions
import json

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import xarray as xr

import bayesdl as bdl
from bayesdl.data.columns import Columns, from_older_files
from bayesdl.data.reading import Reading
from bayesdl.saving.serialization import from_data, to_data
from bayesdl.warnings import DataWarning

rng = np.random.default_rng(0)
N = 24
X = np.round(rng.normal(size=(N, 2)), 2)
WHOLE = rng.integers(0, 100, size=(N, 2))
Y = X[:, 0] + rng.normal(size=N)
LABEL = np.array(["no", "yes", "no"] * 8)
COUNT = rng.integers(0, 9, size=N)
FRAME = pd.DataFrame(X, columns=["a", "b"])
REAL, LABELS, COUNTS = (
    bdl.BNN(hidden=(), likelihood=kind) for kind in (bdl.Normal(), bdl.Bernoulli(), bdl.Poisson())
)


def read(X, y=Y, new=None, model=REAL, **options):
    """Return the arrays that the program gets, and the schema."""
    schema = model.learn_schema(X, y, **options)
    problem = model.problem(schema, X, y, **options)
    if new is not None:
        return schema.columns.read(new), schema
    return problem.args, schema


def refusal(X, y=Y, **options):
    """Return the message with which a table is refused."""
    with pytest.raises(bdl.DataError) as caught:
        read(X, y, **options)
    return str(caught.value)


CLEAN, _ = read(X)
NAMED, _ = read(FRAME)


class OfArrow:
    def __init__(self, table):
        self.table = table

    def __arrow_c_stream__(self, requested_schema=None):
        return self.table.__arrow_c_stream__(requested_schema)


class OfInterchange:
    def __init__(self, table):
        self.table = table

    def __dataframe__(self, **options):
        import warnings

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return self.table.__dataframe__(**options)


class OfNumPy:
    def __init__(self, array):
        self.array = array

    def __array__(self, dtype=None, copy=None):
        return np.asarray(self.array, dtype)


def structured(values):
    table = np.zeros(len(values), dtype=[("a", values.dtype), ("b", values.dtype)])
    table["a"], table["b"] = values[:, 0], values[:, 1]
    return table


def frame(values):
    return pd.DataFrame(values, columns=["a", "b"])


ARRAYS = {
    "list": lambda v: v.tolist(),
    "tuple": lambda v: tuple(map(tuple, v.tolist())),
    "list of arrays": list,
    "object": lambda v: v.astype(object),
    "text": lambda v: v.astype(str),
    "bytes": lambda v: v.astype("S"),
    "Fortran order": np.asfortranarray,
    "reversed twice": lambda v: v[::-1].copy()[::-1],
    "every other": lambda v: np.repeat(v, 2, axis=0)[::2],
    "read-only": lambda v: np.frombuffer(v.tobytes(), v.dtype).reshape(v.shape),
    "big endian": lambda v: v.astype(v.dtype.newbyteorder(">")),
    "masked": lambda v: np.ma.array(v, mask=False),
    "matrix of its own": OfNumPy,
    "decimal": lambda v: np.vectorize(lambda x: decimal.Decimal(str(x)), otypes="O")(v),
    "fraction": lambda v: np.vectorize(fractions.Fraction, otypes="O")(v.astype(object)),
    "xarray": lambda v: xr.DataArray(v),
}
FRAMES = {
    "pandas": frame,
    "pandas, object": lambda v: frame(v).astype(object),
    "pandas, text": lambda v: frame(v).astype(str),
    "pandas, string[python]": lambda v: frame(v).astype(str).astype("string[python]"),
    "pandas, string[pyarrow]": lambda v: frame(v).astype(str).astype("string[pyarrow]"),
    "pandas, nullable": lambda v: frame(v).convert_dtypes(),
    "pandas, arrow": lambda v: frame(v).convert_dtypes(dtype_backend="pyarrow"),
    "pandas, sparse": lambda v: frame(v).astype(pd.SparseDtype(float, 0.0)),
    "pandas, texts and numbers": lambda v: frame(v).assign(a=[str(x) for x in v[:, 0].tolist()]),
    "pandas, decimal": lambda v: frame(v).map(lambda x: decimal.Decimal(str(x))),
    "pandas, an index": lambda v: frame(v).set_axis(np.arange(N) * 7),
    "polars": lambda v: pl.DataFrame({"a": v[:, 0], "b": v[:, 1]}),
    "pyarrow": lambda v: pa.table({"a": v[:, 0], "b": v[:, 1]}),
    "record batch": lambda v: pa.RecordBatch.from_pandas(frame(v)),
    "arrow stream": lambda v: OfArrow(pa.table({"a": v[:, 0], "b": v[:, 1]})),
    "interchange": lambda v: OfInterchange(frame(v)),
    "dictionary of lists": lambda v: {"a": v[:, 0].tolist(), "b": v[:, 1].tolist()},
    "dictionary of arrays": lambda v: {"a": v[:, 0], "b": v[:, 1]},
    "dictionary of series": lambda v: {"a": pd.Series(v[:, 0]), "b": pd.Series(v[:, 1])},
    "dictionary of polars": lambda v: {"a": pl.Series(v[:, 0]), "b": pl.Series(v[:, 1])},
    "records": lambda v: [dict(a=a, b=b) for a, b in v.tolist()],
    "structured": structured,
    "masked structured": lambda v: np.ma.array(structured(v)),
    "xarray": lambda v: xr.Dataset({"a": ("row", v[:, 0]), "b": ("row", v[:, 1])}),
    "xarray with names": lambda v: xr.DataArray(
        v, dims=("row", "column"), coords={"column": ["a", "b"]}
    ),
}
DTYPES = ["f4", "f8", "i2", "i4", "i8", "u2", "u4", "u8", "longdouble"]


@pytest.mark.parametrize("name", ARRAYS)
@pytest.mark.parametrize("values", [X, WHOLE], ids=["numbers", "whole"])
def test_arrays_of_any_kind(name, values):
    (rows, _), schema = read(ARRAYS[name](values))
    np.testing.assert_allclose(rows, read(values)[0][0], rtol=1e-12)
    assert schema.columns.names == ("x0", "x1") and not schema.columns.named


@pytest.mark.parametrize("name", FRAMES)
@pytest.mark.parametrize("values", [X, WHOLE], ids=["numbers", "whole"])
def test_frames_of_any_library_keep_their_names(name, values):
    table = FRAMES[name](values)
    (rows, _), schema = read(table)
    np.testing.assert_allclose(rows, read(values)[0][0], rtol=1e-12)
    assert schema.columns.names == ("a", "b") and schema.columns.named
    swapped = frame(values)[["b", "a"]].assign(other="x")
    np.testing.assert_allclose(schema.columns.read(swapped), rows, rtol=1e-12)
    with pytest.raises(bdl.DataError, match="lacks column 'b'"):
        schema.columns.read(frame(values)[["a"]])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["array", "pandas", "polars", "pyarrow", "structured"])
def test_numbers_of_any_size(name, dtype):
    values = WHOLE.astype(dtype)
    if dtype == "longdouble" and name in ("polars", "pyarrow"):
        values = values.astype("f8")
    table = values if name == "array" else FRAMES[name](values)
    np.testing.assert_array_equal(read(table)[0][0], read(WHOLE)[0][0])


def test_clean_numbers_are_standardised_as_ever():
    np.testing.assert_array_equal(CLEAN[0], (X - X.mean(0)) / X.std(0))
    np.testing.assert_array_equal(CLEAN[1], (Y - Y.mean()) / Y.std())
    np.testing.assert_array_equal(NAMED[0], CLEAN[0])
    for scale in (1e-30, 1e30, 1e-140, 1e140):
        np.testing.assert_allclose(read(X * scale)[0][0], CLEAN[0], rtol=1e-9)
    np.testing.assert_allclose(read(X + 1e9)[0][0], CLEAN[0], atol=1e-5)


TARGETS = {
    "list": lambda y: y.tolist(),
    "tuple": lambda y: tuple(y.tolist()),
    "one column": lambda y: y[:, None],
    "object": lambda y: y.astype(object),
    "Series": lambda y: pd.Series(y, name="y"),
    "DataFrame": lambda y: pd.DataFrame({"y": y}),
    "nullable": lambda y: pd.Series(y).convert_dtypes(),
    "arrow": lambda y: pd.Series(y).convert_dtypes(dtype_backend="pyarrow"),
    "categorical": lambda y: pd.Series(y).astype("category"),
    "polars": lambda y: pl.Series("y", y),
    "polars frame": lambda y: pl.DataFrame({"y": y}),
    "pyarrow": lambda y: pa.chunked_array([pa.array(y)]),
    "pyarrow array": lambda y: pa.array(y),
    "dictionary": lambda y: {"y": y},
    "masked": lambda y: np.ma.array(y),
    "Index": lambda y: pd.Index(y),
    "of its own": OfNumPy,
    "xarray": lambda y: xr.DataArray(y),
}


@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.parametrize("kind", ["real", "class", "count"])
def test_targets_of_any_kind(name, kind):
    model, y = {"real": (REAL, Y), "class": (LABELS, LABEL), "count": (COUNTS, COUNT)}[kind]
    args, schema = read(X, TARGETS[name](y), model=model)
    expected, plain = read(X, y, model=model)
    np.testing.assert_allclose(args[1], expected[1], rtol=1e-12)
    assert args[1].shape == (N,)
    assert schema.target.flat and schema.target.classes == plain.target.classes


@pytest.mark.parametrize("name", ["array", "DataFrame", "polars", "dictionary"])
def test_several_targets(name):
    both = np.c_[Y, -Y]
    made = {
        "array": both,
        "DataFrame": pd.DataFrame(both, columns=["p", "q"]),
        "polars": pl.DataFrame({"p": Y, "q": -Y}),
        "dictionary": {"p": Y, "q": -Y},
    }[name]
    args, schema = read(X, made)
    assert args[1].shape == (N, 2)
    assert schema.target.names == (("y0", "y1") if name == "array" else ("p", "q"))


# missing cells


def holes(values, rows, column=0):
    found = np.array(values, dtype=float)
    found[rows, column] = np.nan
    return found


MISSING = {
    "NaN": lambda: holes(X, [3, 5]),
    "None in objects": lambda: np.where(np.isnan(holes(X, [3, 5])), None, X),
    "None in lists": lambda: np.where(np.isnan(holes(X, [3, 5])), None, X).tolist(),
    "masked": lambda: np.ma.array(X, mask=np.isnan(holes(X, [3, 5]))),
    "masked structured": lambda: np.ma.array(
        structured(X), mask=[(row in (3, 5), False) for row in range(N)]
    ),
    "pandas": lambda: frame(holes(X, [3, 5])),
    "pandas, NA": lambda: frame(holes(X, [3, 5])).convert_dtypes(),
    "pandas, objects": lambda: frame(holes(X, [3, 5])).astype(object).where(lambda t: t == t, None),
    "pandas, texts": lambda: frame(holes(X, [3, 5])).map(lambda x: None if np.isnan(x) else str(x)),
    "polars": lambda: pl.from_pandas(frame(holes(X, [3, 5]))),
    "pyarrow": lambda: pa.Table.from_pandas(frame(holes(X, [3, 5]))),
    "dictionary": lambda: {"a": [None if r in (3, 5) else X[r, 0] for r in range(N)], "b": X[:, 1]},
    "records": lambda: [
        dict(b=b) if row in (3, 5) else dict(a=a, b=b) for row, (a, b) in enumerate(X.tolist())
    ],
}


@pytest.mark.parametrize("name", MISSING)
def test_missing_cells_are_the_median_and_a_flag(name):
    table = MISSING[name]()
    (rows, _), schema = read(table)
    assert rows.shape == (N, 3)
    known = np.delete(X[:, 0], [3, 5])
    filled = X[:, 0].copy()
    filled[[3, 5]] = np.median(known)
    flag = np.isin(np.arange(N), [3, 5]).astype(float)
    expected = np.stack([filled, flag, X[:, 1]], axis=1)
    np.testing.assert_allclose(rows, (expected - expected.mean(0)) / expected.std(0), rtol=1e-9)
    first = schema.columns.names[0]
    assert schema.columns.encoded_names[:2] == [first, f"{first} is missing"]
    assert "lacks 2 cells" in schema.notes[0] and "the median" in schema.notes[0]
    message = refusal(table, missing="error")
    assert f"Column '{first}', row 3 is NaN or missing (2 such cells: rows 3, 5)" in message
    (rows, _), schema = read(table, missing="median")
    assert rows.shape == (N, 2) and schema.columns.encoded_names == list(schema.columns.names)


def test_missing_categories_are_none_of_the_levels():
    colour = pd.Series(["red", None, "blue", "red"] * 6)
    for column in (colour, colour.astype("category"), colour.astype("string")):
        schema = read(FRAME.assign(c=column))[1]
        assert schema.columns.encoded_names[2:] == ["c=blue", "c=red", "c is missing"]
        raw = schema.columns.encode({"a": X[:, 0], "b": X[:, 1], "c": column})[:4, 2:]
        assert raw.tolist() == [[0, 1, 0], [0, 0, 1], [1, 0, 0], [0, 1, 0]]
        schema = read(FRAME.assign(c=column), missing="median")[1]
        raw = schema.columns.encode({"a": X[:, 0], "b": X[:, 1], "c": column})[:4, 2:]
        assert raw.tolist() == [[0, 1], [0, 1], [1, 0], [0, 1]]


def test_cells_that_no_training_row_lacked_are_typical_ones():
    complete = FRAME.assign(
        c=["no", "no", "yes"] * 8, day=DAYS, t=pd.to_timedelta(WHOLE[:, 0], "h")
    )
    schema = read(complete)[1]
    for name, gap in [("a", np.nan), ("a", None), ("c", None), ("day", pd.NaT), ("t", pd.NaT)]:
        lacking = complete.copy()
        lacking[name] = lacking[name].astype(object)
        lacking.loc[2, name] = gap
        every = complete.assign(**{name: [gap] * N})
        for table in (lacking, every, pl.from_pandas(every.convert_dtypes())):
            with pytest.warns(DataWarning, match=f"no training row lacked one.*'{name}' \\("):
                rows = schema.columns.read(table)
            expected = complete.copy()
            at = [2] if table is lacking else slice(None)
            middle = complete[name].mode()[0] if name == "c" else complete[name].median()
            expected.loc[complete.index[at], name] = middle
            np.testing.assert_allclose(rows, schema.columns.read(expected), atol=1e-9)
        assert read(complete, new=lacking, missing="median")[0].shape == rows.shape
        with pytest.raises(bdl.DataError, match=f"Column '{name}', row . is NaN or missing"):
            read(complete, new=lacking, missing="error")


@pytest.mark.parametrize("name", TARGETS)
def test_missing_targets(name):
    y, kept = holes(Y[:, None], [2, 5])[:, 0], TARGETS[name]
    message = refusal(X, kept(y))
    assert "'y', row 2 is NaN or missing (2 such rows: rows 2, 5)" in message
    assert "missing_target='drop'" in message
    args, _ = read(X, kept(y), missing_target="drop")
    known = np.delete(np.arange(N), [2, 5])
    np.testing.assert_allclose(args[0], read(X[known], Y[known])[0][0], rtol=1e-12)
    np.testing.assert_allclose(args[1], read(X[known], Y[known])[0][1], rtol=1e-12)


def test_masked_targets_are_missing():
    mask = np.isin(np.arange(N), [2])
    assert "'y', row 2 is NaN or missing" in refusal(X, np.ma.array(Y, mask=mask))
    assert "y has no label in row 2" in refusal(X, np.ma.array(LABEL, mask=mask), model=LABELS)
    assert "row 2 is NaN" in refusal(X, np.ma.array(COUNT, mask=mask), model=COUNTS)
    assert read(X, np.ma.array(Y, mask=mask), missing_target="drop")[0][0].shape == (N - 1, 2)


# kinds of columns

DAYS = pd.date_range("2024-03-01", periods=N)
DATES = {
    "datetime64": DAYS,
    "seconds": DAYS.astype("datetime64[s]"),
    "text": DAYS.strftime("%Y-%m-%d"),
    "text with slashes": DAYS.strftime("%Y/%m/%d"),
    "text without zeros": [f"{d.year}-{d.month}-{d.day}" for d in DAYS],
    "text with time": DAYS.strftime("%Y-%m-%dT%H:%M:%S"),
    "Python's dates": [d.date() for d in DAYS],
    "Python's datetimes": pd.Series([d.to_pydatetime() for d in DAYS], dtype=object),
    "zoned": DAYS.tz_localize("Europe/Zurich").tz_convert("UTC"),
    "zoned text": DAYS.strftime("%Y-%m-%dT%H:%M:%S+01:00"),
    "periods": DAYS.to_period("D"),
    "strings": pd.array(DAYS.strftime("%Y-%m-%d"), dtype="string"),
    "arrow": pd.Series(DAYS).astype("timestamp[us][pyarrow]"),
    "category": pd.Series(DAYS),
}


@pytest.mark.parametrize("name", DATES)
def test_dates_are_days_since_the_first(name):
    shift = 0.0 if name != "zoned" else None
    rows, schema = read(FRAME.assign(day=DATES[name]))
    expected = (
        np.arange(N)
        if shift == 0.0
        else (
            np.diff(DATES[name].asi8, prepend=DATES[name].asi8[0]).cumsum()
            / np.diff(DAYS.asi8).min()
        )
    )
    np.testing.assert_allclose(
        rows[0][:, 2], (expected - np.mean(expected)) / np.std(expected), atol=1e-9
    )
    assert "is read as days since 2024-0" in schema.notes[0]
    later = FRAME.assign(day=DATES[name])[::-1]
    np.testing.assert_allclose(schema.columns.read(later), rows[0][::-1], atol=1e-12)


def test_dates_repeat_where_asked():
    rows, schema = read(FRAME.assign(day=DAYS), periods=["week", "year"])
    names = [
        f"day {wave} of {period}" for period in ("week", "year") for wave in ("sine", "cosine")
    ]
    assert schema.columns.encoded_names == ["a", "b", "day", *names]
    np.testing.assert_allclose(rows[0][0, 3:5], rows[0][7, 3:5], atol=1e-9)
    assert "periods=['month']: expected some of 'year'" in refusal(FRAME, periods="month")


@pytest.mark.parametrize(
    "new, words",
    [
        (["2024-13-45"] * N, "row 0 is not a date"),
        (DAYS.tz_localize("UTC"), "had no time zone, and these have one"),
        (["soon"] * N, "row 0 is not a date"),
    ],
)
def test_dates_to_predict_are_dates(new, words):
    schema = read(FRAME.assign(day=DAYS))[1]
    with pytest.raises(bdl.DataError, match=words):
        schema.columns.read(FRAME.assign(day=new))


def test_durations_are_days():
    rows, _ = read(FRAME.assign(t=pd.to_timedelta(np.arange(N), "h")))
    np.testing.assert_allclose(rows[0][:, 2], (np.arange(N) - 11.5) / np.arange(N).std())


def test_booleans_and_categories():
    flag = np.arange(N) % 3 == 0
    expected = read(np.c_[X, flag])[0][0]
    for column in (flag, flag.astype(object), pd.array(flag, dtype="boolean"), flag.astype(int)):
        np.testing.assert_array_equal(read(FRAME.assign(f=column))[0][0], expected)
    sizes = pd.Series(["S", "M", "L"] * 8)
    one_hot = read(FRAME.assign(s=sizes))[0][0]
    for column in (
        sizes.astype("category"),
        pd.Categorical(sizes, ["S", "M", "L", "XL"], ordered=True),
        sizes.astype("string"),
        [s.encode() for s in sizes],
    ):
        np.testing.assert_array_equal(read(FRAME.assign(s=column))[0][0], one_hot)


def test_unseen_categories():
    table = FRAME.assign(c=LABEL)
    new = table.assign(c="maybe")
    with pytest.raises(
        bdl.DataError, match=r"row 0 has the unseen category 'maybe'.*unseen='other'"
    ):
        read(table, new=new)
    rows, schema = read(table, new=new, unseen="other")
    zeros = -np.array(schema.columns.shift[2:]) / np.array(schema.columns.scale[2:])
    np.testing.assert_allclose(rows[:, 2:], np.tile(zeros, (N, 1)))
    floats = pd.Series([1.0, 2.0] * 12)
    whole = FRAME.assign(c=floats.astype(int).astype("category"))
    np.testing.assert_array_equal(read(whole, new=FRAME.assign(c=floats))[0], read(whole)[0][0])


def test_constant_columns_are_left_out():
    table = FRAME.assign(one=1, word="x", none=np.nan, gap=[1.0, np.nan] * 12)
    rows, schema = read(table)
    assert schema.columns.encoded_names == ["a", "b", "gap is missing"]
    assert schema.concerns == [
        "Columns 'one', 'word', 'none' are constant in the training rows and left out."
    ]
    np.testing.assert_array_equal(schema.columns.read(table.assign(one=5, word="z")), rows[0])
    plain = np.c_[X[:, 0], np.ones(N), X[:, 1]]
    rows, schema = read(plain)
    np.testing.assert_array_equal(rows[0], CLEAN[0])
    np.testing.assert_array_equal(schema.columns.read(plain), CLEAN[0])
    with pytest.raises(bdl.DataError, match="X has 2 features, but this model is expecting 3"):
        schema.columns.read(X)
    kept = bdl.BNN(hidden=(), standardize=False)
    assert read(plain, model=kept)[0][0].shape == (N, 3)


@pytest.mark.slow
def test_a_fit_says_what_it_left_out_and_how_it_read_cells(caplog):
    table = pd.DataFrame(holes(X, [3]), columns=["a", "b"]).assign(one=1)
    with (
        caplog.at_level("INFO", logger="bayesdl"),
        pytest.warns(DataWarning, match="'one' is constant"),
    ):
        post = bdl.fit(REAL, table, Y, engine=bdl.Laplace(num_rounds=1), progress=False)
    assert [r.message for r in caplog.records if r.message.startswith("data: ")] == [
        f"data: {post.schema.notes[0]}"
    ]


@pytest.mark.slow
def test_a_reading_is_saved_with_the_fit(tmp_path):
    table = pd.DataFrame(holes(X, [3, 5]), columns=["a", "b"])
    table = table.assign(id=[f"u{i}" for i in range(N)], c=LABEL, day=DAYS)
    post = bdl.fit(
        REAL, table, Y, engine=bdl.Laplace(num_rounds=1), progress=False, drop="id", unseen="other"
    )
    loaded = bdl.load(post.save(tmp_path / "x.bdl"))
    assert loaded.schema == post.schema
    assert loaded.schema.reading == Reading(drop=("id",), unseen="other")
    new = table.assign(c="maybe").drop(columns="id")
    np.testing.assert_array_equal(loaded.predict(new).mean, post.predict(new).mean)
    np.testing.assert_array_equal(loaded.predict(table).mean, post.predict(table).mean)
    assert from_data(json.loads(json.dumps(to_data(post.schema)))) == post.schema


def test_columns_of_older_files():
    older = dict(
        names=("a", "c"),
        named=True,
        levels=(None, ("no", "yes")),
        shape=None,
        shift=(1.0, 0.0, 0.0),
        scale=(2.0, 1.0, 1.0),
    )
    columns = Columns(**from_older_files(older))
    rows = columns.read(pd.DataFrame({"c": ["yes", "no"], "a": [3.0, 1.0]}))
    assert rows.tolist() == [[1.0, 0.0, 1.0], [0.0, 1.0, 0.0]]
    with pytest.raises(bdl.DataError, match="'a', row 0 is NaN"):
        columns.read(pd.DataFrame({"c": ["yes"], "a": [np.nan]}))


@pytest.mark.parametrize("unit", [1e18, 1e38, 1e140, 1e-38, 1e-140])
def test_targets_of_any_unit_come_back_in_it(unit):
    (_, seen), schema = read(X, Y * unit)
    np.testing.assert_allclose(seen, CLEAN[1], rtol=1e-9)
    back = schema.target.in_units(CLEAN[1].astype(np.float32))
    np.testing.assert_allclose(back, Y * unit, rtol=1e-5, atol=1e-5 * unit)
    plain = bdl.BNN(hidden=(), standardize=False)
    if unit > 1:
        with pytest.raises(bdl.DataError, match=r"The target 'y', row 0 is .* square overflows"):
            read(X, Y * unit, model=plain)


# rows that do not belong together


def test_rows_are_paired_by_their_labels():
    table, y = FRAME.set_axis(np.arange(N) + 100), pd.Series(Y, index=np.arange(N) + 100)
    np.testing.assert_array_equal(read(table, y)[0][0], CLEAN[0])
    for other, words in [
        (y[::-1], "in another order: row 0 is 100 in the index of X and 123 in that of y"),
        (y.reset_index(drop=True), "of their own: row 0 is 100 .* if row k of X belongs to row k"),
        (y.to_frame()[::-1], "in another order"),
    ]:
        with pytest.raises(bdl.DataError, match=words):
            read(table, other)
    read(table, y.to_numpy())
    assert "inconsistent numbers of samples" in refusal(table, y[:5])
    mixed = {"a": pd.Series(X[:, 0]), "b": pd.Series(X[:, 1], index=range(1, N + 1))}
    assert "rows with labels" in refusal(mixed)


# weights


@pytest.mark.parametrize("kind", [list, np.array, pd.Series, pl.Series, pa.array])
def test_whole_weights_are_repeated_rows(kind):
    counts = np.arange(N) % 3
    args, schema = read(FRAME, Y, weights=kind(counts.tolist()))
    again, plain = read(
        FRAME.loc[np.repeat(np.arange(N), counts)].reset_index(drop=True), np.repeat(Y, counts)
    )
    np.testing.assert_array_equal(args[0], again[0])
    np.testing.assert_array_equal(args[1], again[1])
    assert schema.target == plain.target


def test_other_weights_scale_each_row():
    from numpyro import handlers
    from numpyro.infer.util import log_density

    weights = np.linspace(0.3, 1.7, N)
    schema = REAL.learn_schema(X, Y, weights=weights)
    weighted, plain = REAL.problem(schema, X, Y, weights=weights), REAL.problem(schema, X, Y)
    trace = handlers.trace(handlers.seed(plain.program, 0)).get_trace(*plain.args)
    latents = {k: s["value"] for k, s in trace.items() if s["type"] == "sample" and k != "y"}
    total, sites = log_density(plain.program, plain.args, plain.kwargs, latents)
    rows = sites["y"]["fn"].log_prob(sites["y"]["value"])
    expected = total - rows.sum() + (jnp.asarray(weights) * rows).sum()
    found, _ = log_density(weighted.program, weighted.args, weighted.kwargs, latents)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    half = REAL.problem(schema, X, Y, weights=weights).minibatch(N // 2)

    def one(key):
        return log_density(handlers.seed(half.program, key), half.args, half.kwargs, latents)[0]

    values = np.asarray(jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(0), 60)))
    error = np.std(values) / np.sqrt(len(values))
    assert abs(np.mean(values) - expected) < 4 * error
    with pytest.raises(bdl.UnsupportedError):
        bdl.fit(REAL, X, Y, weights=weights, engine=bdl.SSVI(), progress=False)
    with pytest.raises(bdl.ModelError, match="give weights as counts"):
        bdl.fit(bdl.GP(), X, Y, weights=weights, progress=False)


@pytest.mark.parametrize(
    "weights, words",
    [
        (np.ones(3), r"weights has shape \(3,\): expected one for each of the 24 rows"),
        (np.ones((N, 1)), "weights has shape"),
        (-np.ones(N), "weights in row 0 is .*: expected a number >= 0"),
        (holes(np.ones((N, 1)), [4])[:, 0], "weights in row 4"),
        (["heavy"] * N, "no numbers"),
        (np.zeros(N), "No row is left"),
        (np.where(np.arange(N) == 5, 1e300, 1.5), r"weights in row 5 is 1e\+300: expected 0, or"),
        (np.full(N, 1e-300), "weights in row 0 is 1e-300"),
        (pd.Series(np.ones(N), index=range(1, N + 1)), "X and weights have rows with labels"),
    ],
)
def test_weights_that_make_no_sense(weights, words):
    with pytest.raises(bdl.DataError, match=words):
        read(FRAME, Y, weights=weights)


# refused in words

BAD_CELLS = {
    "infinity": (np.inf, "row 4 is infinity"),
    "minus infinity": (-np.inf, "row 4 is infinity"),
    "a square that overflows": (1e200, "row 4 is 1e+200"),
    "text": ("abc", "row 4 is not a number: got 'abc'"),
    "empty text": ("", "row 4 is not a number: got ''"),
    "number with a unit": ("3 kg", "row 4 is not a number: got '3 kg'"),
    "decimal comma": ("3,5", "row 4 is not a number: got '3,5'"),
    "complex": (1 + 2j, "Complex data not supported"),
    "a list": ([1, 2], "row 4 holds a list"),
    "a tuple": ((1, 2), "row 4 holds a tuple"),
    "a dictionary": ({"k": 1}, "row 4 holds a dict"),
    "a set": ({1}, "row 4 holds a set"),
    "an array": (np.ones(2), "row 4 holds a ndarray"),
    "a function": (len, "row 4 holds a builtin_function_or_method"),
    "a date among numbers": (datetime.date(2024, 1, 1), "row 4 is not a number"),
    "a large integer": (10**400, ("row 4 is infinity", "row 4 is not a number")),
}


@pytest.mark.parametrize("where", ["array", "pandas", "dictionary", "records", "new rows"])
@pytest.mark.parametrize("column", [0, 1])
@pytest.mark.parametrize("name", BAD_CELLS)
def test_cells_that_cannot_be_used(name, column, where):
    value, words = BAD_CELLS[name]
    cells = X.astype(object)
    cells[4, column] = value
    table = {
        "array": lambda: cells,
        "pandas": lambda: pd.DataFrame({"a": list(cells[:, 0]), "b": list(cells[:, 1])}),
        "dictionary": lambda: {"a": list(cells[:, 0]), "b": list(cells[:, 1])},
        "records": lambda: [dict(a=a, b=b) for a, b in cells],
        "new rows": lambda: pd.DataFrame({"a": list(cells[:, 0]), "b": list(cells[:, 1])}),
    }[where]()
    if where == "new rows":
        with pytest.raises(bdl.DataError) as caught:
            read(FRAME, new=table)
        message = str(caught.value)
    else:
        message = refusal(table)
    if name in ("a list", "a tuple", "a dictionary", "a set", "an array", "a function") and (
        where == "new rows"
    ):
        words = ("row 4 is not a number", "row 4 holds a")
    assert any(part in message for part in ([words] if isinstance(words, str) else words)), message
    shown = f"'x{column}'" if where == "array" else f"'{'ab'[column]}'"
    assert shown in message or name == "complex", message


@pytest.mark.parametrize("name", [k for k in BAD_CELLS if k not in ("a large integer",)])
@pytest.mark.parametrize("where", ["array", "Series", "DataFrame", "list"])
def test_targets_that_cannot_be_used(name, where):
    cells = np.empty(N, dtype=object)
    cells[:] = Y.tolist()
    cells[4] = BAD_CELLS[name][0]
    y = {
        "array": lambda: cells,
        "Series": lambda: pd.Series(cells, name="price"),
        "DataFrame": lambda: pd.DataFrame({"price": cells}),
        "list": lambda: list(cells),
    }[where]()
    message = refusal(X, y)
    if name == "complex" or where == "list":
        return
    assert ("'price'" if where in ("Series", "DataFrame") else "'y'") in message
    assert "row 4" in message


WRONG = {
    "None": (None, "inputs are missing"),
    "a number": (3.0, "X has no rows"),
    "a text": ("table.csv", "X has no rows"),
    "a set": ({1, 2}, "X has no rows"),
    "a generator": ((row for row in X), "X has no rows"),
    "one dimension": (X[:, 0], "Expected 2D array"),
    "a Series": (FRAME["a"], "Expected 2D array"),
    "ragged": ([[1, 2], [3]] * 12, "ragged"),
    "ragged dictionary": ({"a": [1, 2], "b": [3]}, "ragged"),
    "empty dictionary": ({}, "X"),
    "dictionary of tables": ({"a": X, "b": X}, "Column 'a' has shape"),
    "no columns": (X[:, :0], "X is empty"),
    "no rows": (X[:0], "X"),
    "no rows in pandas": (FRAME[:0], "X"),
    "complex": (X + 1j, "Complex data not supported"),
    "complex in pandas": (FRAME.assign(a=X[:, 0] + 1j), "Complex data not supported: column 'a'"),
    "the same name twice": (pd.DataFrame(X, columns=["a", "a"]), "two columns named 'a'"),
    "the same name as text": (pd.DataFrame(X, columns=[1, "1"]), "two columns named '1'"),
    "constant": (np.ones((N, 2)), "is constant"),
    "all missing": (np.full((N, 2), np.nan), "is constant"),
    "ids": (FRAME.assign(id=[f"u{i}" for i in range(N)]), "drop=['id']"),
    "free text": (FRAME.assign(t=[f"it was {v} on day {v}" for v in Y]), "drop=['t']"),
    "dates of two orders": (FRAME.assign(d=["01/02/2024"] * N), "order of day and month"),
    "dates of two zones": (
        FRAME.assign(d=["2024-01-01T00:00:00Z", "2024-01-01T00:00:00"] * 12),
        "with and without a time zone",
    ),
    "dates and text": (FRAME.assign(d=[*DATES["text"][:-1], "soon"]), "Column 'd'"),
    "nested arrow": (pa.table({"a": X[:, 0], "b": [[1, 2]] * N}), "'b', row 0 holds a"),
}


@pytest.mark.parametrize("name", WRONG)
def test_tables_that_cannot_be_used(name):
    table, words = WRONG[name]
    rows = {"no rows": 0, "no rows in pandas": 0, "ragged dictionary": 2}.get(name, N)
    assert words in refusal(table, Y[:rows])


@pytest.mark.parametrize(
    "y, words",
    [
        (Y * 1e200, "its square overflows"),
        (Y * 1e-200, "whose square is zero"),
        (Y + 1j, "Complex"),
        (np.ones(N), "The target is constant (every value is [1.0])"),
        (np.full(N, 1e15), "The target is constant"),
        (Y[:3], "inconsistent numbers of samples"),
        (None, "target is missing"),
        ("price", "y='price'"),
        (3.0, "y has no rows"),
        ([], "y"),
        (np.zeros((N, 2, 2)), "3 dimensions"),
        (DAYS.to_numpy(), "dates"),
        (pd.Series(DAYS), "dates"),
        (pd.Series(LABEL), "bdl.Categorical()"),
    ],
)
def test_targets_that_make_no_sense(y, words):
    assert words in refusal(X, y)


def test_a_large_offset_is_not_constant():
    assert np.isfinite(read(X, Y + 1e15)[0][1]).all()


@pytest.mark.parametrize("new", [1e30, -1e30, 1e100])
def test_rows_far_outside_of_training_are_refused(new):
    with pytest.raises(bdl.DataError, match=r"Column 'b', row 3 is .* its square overflows"):
        read(FRAME, new=FRAME.assign(b=[0.0] * 3 + [new] + [0.0] * (N - 4)))


@pytest.mark.parametrize(
    "options, words",
    [
        (dict(missign="error"), "Did you mean missing=?"),
        (dict(missing="mean"), "missing='mean': expected 'indicator' or 'median' or 'error'"),
        (dict(unseen=True), "unseen=True: expected 'error' or 'other'"),
        (dict(missing_target="ignore"), "expected 'error' or 'drop'"),
        (dict(drop=3), "drop=3: expected a list of names"),
        (dict(drop=["c"]), "X has no column 'c'"),
        (dict(drop=["a", "b"]), "leaves no column"),
        (dict(sample_weight=Y), "does not take"),
    ],
)
def test_options_that_make_no_sense(options, words):
    assert words in refusal(FRAME, **options)


def test_all_problems_are_in_one_error():
    table = FRAME.assign(
        id=[f"u{i}" for i in range(N)], far=[np.inf] * N, d=["1/2/2024"] * N, a=["x", *X[1:, 0]]
    )
    y = pd.Series(holes(Y[:, None], [7])[:, 0], name="price")
    message = refusal(table, y)
    assert message.startswith("The data have 5 problems:\n1. ")
    for words in ("'id'", "'far', row 0", "'d' holds dates", "'a', row 0", "'price', row 7"):
        assert words in message


def test_a_program_keeps_its_own_arguments():
    import numpyro
    import numpyro.distributions as dist

    def program(x, missing=0.0, weights=1.0, y=None):
        numpyro.sample("y", dist.Normal(numpyro.sample("m", dist.Normal()) + missing, 1.0), obs=y)

    post = bdl.fit(
        program, 1.0, missing=2.0, weights=3.0, y=0.5, engine=bdl.NUTS(5, 5, 1), progress=False
    )
    assert post.problem.kwargs["missing"] == 2.0
    with pytest.raises(bdl.ModelError, match="drop"):
        bdl.fit(program, 1.0, y=0.5, drop=["x"], engine=bdl.NUTS(5, 5, 1), progress=False)

"""A served model answers what `post.predict` says, refuses in words, and stays up under load."""

import concurrent.futures
import json
import queue
import threading
import time
import urllib.error
import urllib.request
import warnings

import numpy as np
import pandas as pd
import pytest

import bayesdl as bdl
from bayesdl.data.validation import ModelError
from bayesdl.serving import Limits, application
from bayesdl.serving.gathering import Gatherer, compile_sizes

pytest.importorskip("fastapi")
pytest.importorskip("prometheus_client")
uvicorn = pytest.importorskip("uvicorn")

LIMITS = Limits(rows=20, bytes=5_000)
RNG = np.random.default_rng(0)
TABLE = pd.DataFrame(
    {
        "age": RNG.normal(50, 10, 60).round(1),
        "smoker": np.where(RNG.uniform(size=60) < 0.5, "yes", "no"),
        "seen": pd.date_range("2024-01-01", periods=60),
    }
)
TABLE.loc[3, "age"] = np.nan
Y = TABLE["age"].fillna(50) + 5 * (TABLE["smoker"] == "yes") + RNG.normal(size=60)
ROW = {"age": 61, "smoker": "yes", "seen": "2024-02-01"}


@pytest.fixture(scope="module")
def posterior():
    return bdl.fit(bdl.BNN(hidden=()), TABLE, Y, engine=bdl.Laplace(), progress=False)


@pytest.fixture(scope="module")
def address(posterior):
    app = application(posterior, 0.8, LIMITS, compile_first=False)
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started and thread.is_alive():
        time.sleep(0.01)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join()


def get(address, path):
    with urllib.request.urlopen(address + path) as response:
        return response.read().decode()


def post(address, body):
    """Send a body and return status and answer."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    try:
        with urllib.request.urlopen(urllib.request.Request(f"{address}/predict", data)) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def test_predictions_are_those_of_predict(address, posterior):
    rows = [
        ROW,
        ROW | {"age": None},
        ROW | {"smoker": "no", "note": "further columns are left out"},
    ]
    status, answer = post(address, {"rows": rows})
    assert status == 200
    columns = ["age", "smoker", "seen"]
    wanted = posterior.predict(pd.DataFrame(rows)[columns]).to_pandas(0.8)
    found = pd.DataFrame(answer["predictions"])
    assert list(found) == list(wanted)
    np.testing.assert_allclose(found, wanted, rtol=1e-5)


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        (b"{", 400, "not JSON"),
        (b"\xff", 400, "not JSON"),
        (b"[" * 4000, 400, "not JSON"),
        (b'{"rows": [{"age": NaN}]}', 400, "a missing cell is null"),
        ([], 422, "Got a list: expected"),
        ({"rows": []}, 422, "at least one row"),
        ({"rows": [ROW, 3]}, 422, "Row 1 is a number"),
        ({"rows": [ROW, {"age": 3}]}, 422, "Row 1 lacks column 'smoker'"),
        ({"rows": [ROW | {"age": [3]}]}, 422, "column 'age' is a list"),
        ({"rows": [ROW | {"age": 10**400}]}, 422, "too large"),
        (b'{"rows": [{"age": 1, "smoker": "\\ud800", "seen": null}]}', 422, "not Unicode text"),
        ({"rows": [ROW, ROW | {"age": "old"}]}, 422, "row 1 is not a number"),
        ({"rows": [ROW, ROW, ROW | {"smoker": "never"}]}, 422, "row 2"),
        ({"rows": [ROW] * 21}, 422, "at most 20"),
        ({"rows": [ROW | {"note": "x" * 5000}]}, 413, "longer than 5000 bytes"),
    ],
)
def test_what_cannot_be_predicted_is_refused_in_words(address, body, status, words):
    found, answer = post(address, body)
    assert (found, words in answer["detail"]) == (status, True), answer


def test_requests_at_once_have_their_own_answers_and_errors(address):
    ages = np.arange(20, 80, dtype=float)

    def ask(age):
        cell = None if age == 30 else "old" if age == 40 else age
        return post(address, {"rows": [ROW | {"age": cell}]})

    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        answers = dict(zip(ages, pool.map(ask, ages), strict=True))
    refused = {age: answer for age, (status, answer) in answers.items() if status != 200}
    assert list(refused) == [40] and "row 0 is not a number" in refused[40]["detail"]
    means = [answers[age][1]["predictions"][0]["mean"] for age in ages if age not in (30, 40)]
    assert (np.diff(means) > 0).all()


def test_what_waits_is_predicted_together_and_no_more_than_may_wait():
    held, sizes = threading.Event(), []

    def predict(rows):
        sizes.append(len(rows))
        held.wait()
        return rows * 2

    gatherer = Gatherer(predict, waiting=3)
    rows = [pd.DataFrame({"x": [float(i)]}) for i in range(5)]
    first = gatherer.ask(rows[0])
    while not sizes:
        time.sleep(0.01)
    others = [gatherer.ask(one) for one in rows[1:4]]
    with pytest.raises(queue.Full):
        gatherer.ask(rows[4])
    held.set()
    found = [one.result(10).table["x"].tolist() for one in (first, *others)]
    assert found == [[0.0], [2.0], [4.0], [6.0]] and sizes == [1, 3]
    gatherer.stop()
    # a request after the end is answered too
    assert gatherer.ask(rows[4]).result(10).table["x"].tolist() == [8.0]
    gatherer.stop()


def test_warnings_belong_to_their_request():
    held = threading.Event()

    def predict(rows):
        held.wait()
        if (rows["x"] > 1).any():
            warnings.warn("large", UserWarning, stacklevel=1)
        return rows

    gatherer = Gatherer(predict, waiting=9)
    answers = [gatherer.ask(pd.DataFrame({"x": [float(i)]})) for i in range(3)]
    held.set()
    assert [one.result(10).warnings for one in answers] == [(), (), ("large",)]
    gatherer.stop()


def test_every_size_is_compiled_first(posterior):
    sizes = []
    application(posterior)  # with a row of the model's own columns
    compile_sizes(lambda rows: sizes.append(len(rows)), TABLE)
    assert sizes == [1, 8, 64, 256, 512, 768, 1024]


def test_limits_and_levels_are_checked(posterior):
    with pytest.raises(ValueError, match="waiting"):
        Limits(waiting=0)
    with pytest.raises(ValueError, match="level"):
        application(posterior, level=1.5, compile_first=False)


def test_health_metrics_and_the_schema_of_rows(address):
    assert json.loads(get(address, "/health"))["status"] == "ready"
    post(address, {"rows": [ROW]})
    assert 'bayesdl_requests_total{status="200"}' in get(address, "/metrics")
    body = json.loads(get(address, "/openapi.json"))["paths"]["/predict"]["post"]["requestBody"]
    row = body["content"]["application/json"]["schema"]["properties"]["rows"]["items"]
    assert row["required"] == ["age", "smoker", "seen"]
    assert row["properties"]["smoker"] == {"enum": ["no", "yes", None]}


def test_programs_are_not_served():
    import numpyro
    import numpyro.distributions as dist

    def program(y):
        a = numpyro.sample("a", dist.Normal(0, 1))
        with numpyro.plate("rows", len(y)):
            numpyro.sample("y", dist.Normal(a, 1), obs=y)

    fit = bdl.fit(program, np.zeros(5), engine=bdl.Laplace(), progress=False)
    with pytest.raises(ModelError, match="rows of a table are served"):
        application(fit)

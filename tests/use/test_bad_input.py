"""Bad input gets one clear error that says what was got, what was expected and the cure."""

import json
import zipfile

import numpy as np
import pandas as pd
import pytest
import scipy.sparse

import bayesdl as bdl
from bayesdl.saving.serialization import SpecError, from_data, same_distribution, to_data

rng = np.random.default_rng(0)
X = rng.normal(size=(12, 3))
Y = X[:, 0] + 0.1 * rng.normal(size=12)
FRAME = pd.DataFrame(X, columns=["age", "height", "weight"]).assign(
    colour=["red", "blue", "green"] * 4
)
FAST = bdl.Laplace(num_rounds=1)
LINEAR = bdl.BNN(hidden=())
CATEGORICAL = bdl.BNN((), likelihood=bdl.Categorical())


def with_cell(array, index, value):
    changed = np.array(array, dtype=object if isinstance(value, str) else float)
    changed[index] = value
    return changed


def fit(model=LINEAR, X=X, y=Y, engine=FAST):
    return bdl.fit(model, X, y, engine=engine, progress=False)


FIT_ERRORS = {
    "infinite cell": (dict(X=with_cell(X, (4, 1), np.inf)), "'x1', row 4 is infinity"),
    "NaN target": (dict(y=with_cell(Y, 2, np.nan)), "'y', row 2 is NaN"),
    "text": (dict(X=with_cell(X, (5, 2), "abc")), "'x2', row 5 is not a number: got 'abc'"),
    "one dimension": (dict(X=X[:, 0]), r"X.reshape\(-1, 1\)"),
    "sparse": (dict(X=scipy.sparse.csr_matrix(X)), "toarray"),
    "complex": (dict(X=X + 1j), "Complex data not supported"),
    "empty": (dict(X=X[:0], y=Y[:0]), "X is empty: got 0 rows"),
    "no columns": (dict(X=X[:, :0]), "X is empty"),
    "one row": (dict(X=X[:1], y=Y[:1]), "one row"),
    "constant columns": (dict(X=np.ones((12, 2))), "'x0', 'x1' is constant"),
    "constant target": (dict(y=np.ones(12)), "target is constant"),
    "constant column of tiny numbers": (dict(X=np.full((12, 1), 1e-20)), "'x0' is constant"),
    "rows differ": (dict(y=Y[:5]), "X has 12 rows and y has 5"),
    "dates in an order that is not told": (
        dict(X=FRAME.assign(day=[f"{day}/1/2024" for day in range(1, 13)])),
        "'day' holds dates",
    ),
    "many categories": (
        dict(
            X=pd.DataFrame({"a": X[:, 0].tolist() * 3, "id": [f"user {i}" for i in range(36)]}),
            y=np.tile(Y, 3),
        ),
        "'id' holds 36 different texts",
    ),
    "same name twice": (dict(X=pd.DataFrame(X, columns=["a", "b", "a"])), "two columns named 'a'"),
    "same name as text": (dict(X=pd.DataFrame(X, columns=[0, "0", 1])), "two columns named '0'"),
    "no inputs": (dict(X=None), "inputs are missing: got X=None"),
    "a single number": (dict(X=3.0), "X has no rows: got X=3.0"),
    "ragged inputs": (dict(X=[[1.0, 2.0], [3.0]]), "X is ragged"),
    "ragged targets": (dict(y=[[1.0, 2.0], [3.0]]), "y is ragged"),
    "a single target": (dict(y=1.0), "y has no rows: got y=1.0"),
    "negative counts": (
        dict(model=bdl.BNN((), likelihood=bdl.Poisson()), y=np.arange(12) - 3),
        "row 0 is -3",
    ),
    "fractional counts": (
        dict(model=bdl.BNN((), likelihood=bdl.NegativeBinomial()), y=np.arange(12) / 2),
        "row 1 is 0.5",
    ),
    "three classes for Bernoulli": (
        dict(model=bdl.BNN((), likelihood=bdl.Bernoulli()), y=np.arange(12) % 3),
        "Categorical",
    ),
    "one class": (
        dict(model=bdl.BNN((), likelihood=bdl.Bernoulli()), y=np.zeros(12, int)),
        "one class",
    ),
    "real labels": (
        dict(model=bdl.BNN((), likelihood=bdl.Categorical()), y=Y),
        "Unknown label type",
    ),
    "missing label": (
        dict(
            model=bdl.BNN((), likelihood=bdl.Categorical()),
            y=np.array(["a", "b", None] * 4, object),
        ),
        "row 2",
    ),
    "labels of two types": (
        dict(model=CATEGORICAL, y=np.array([1, "a", 2] * 4, object)),
        "y mixes labels of types int and str",
    ),
    "labels of two types in a list": (
        dict(model=CATEGORICAL, y=[1, "a", 2] * 4),
        "y mixes labels of types int and str",
    ),
    "missing label in a list": (
        dict(model=CATEGORICAL, y=["a", "b", None] * 4),
        "y has no label in row 2",
    ),
    "NA label": (
        dict(model=CATEGORICAL, y=pd.Series(["a", pd.NA, "b"] * 4, dtype="string")),
        "y has no label in row 1",
    ),
    "text target": (dict(y=np.array(["a", "b"] * 6)), "'y', row 0 is not a number"),
    "two targets for a GP": (
        dict(model=bdl.GP(), y=np.c_[Y, Y], engine=bdl.ExactGP()),
        "one target column",
    ),
    "GP with counts": (
        dict(
            model=bdl.GP,
        ),
        "got the class GP",
    ),
    "unknown engine": (dict(engine="nutz"), "'nuts', 'hmc'"),
    "engine class": (dict(engine=bdl.NUTS), "expected an engine such as"),
    "no target": (dict(y=None), "target is missing"),
    "target by name": (dict(y="price"), "y='price', expected"),
    "not a model": (dict(model=3), "got int"),
    "wrong engine": (
        dict(engine=bdl.ExactGP()),
        "ExactGP cannot run this model.*Engines that can: NUTS",
    ),
    "chains that cannot run": (
        dict(engine=bdl.NUTS(10, 10, 64, chain_method="parallel")),
        "num_chains=64 and 2 device",
    ),
    "too few scales": (
        dict(model=bdl.BNN((4,), prior=bdl.priors.Gaussian((1.0,)))),
        "one scale per layer",
    ),
    "too many scales": (
        dict(model=bdl.BNN((4,), prior=bdl.priors.Gaussian((1.0, 2.0, 3.0)))),
        "3 scales and the network has 2 layers.*one scale per layer",
    ),
    "too many noise scales": (
        dict(model=bdl.BNN((), likelihood=bdl.Normal(scale=(1.0, 2.0)))),
        "2 scales and the number of target columns is 1",
    ),
    "too few noise scales": (
        dict(model=bdl.BNN((), likelihood=bdl.StudentT(scale=(1.0, 2.0))), y=np.c_[Y, X[:, :2]]),
        "2 scales and the number of target columns is 3",
    ),
    "too few length scales": (
        dict(
            model=bdl.GP(bdl.kernels.RBF((1.0, 2.0)), likelihood=bdl.Normal(0.1)),
            engine=bdl.ExactGP(),
        ),
        "2 length scales and the model has 3 inputs",
    ),
}


@pytest.mark.parametrize("name", FIT_ERRORS)
def test_fit_refuses(name):
    arguments, message = FIT_ERRORS[name]
    with pytest.raises((ValueError, TypeError), match=message) as caught:
        fit(**arguments)
    assert len(str(caught.value)) < 400


def test_no_data_at_all():
    for model in (bdl.BNN(), bdl.GP()):
        with pytest.raises(bdl.DataError, match="inputs are missing"):
            bdl.fit(model)
        with pytest.raises(bdl.DataError, match="target is missing"):
            bdl.fit(model, X)


@pytest.mark.slow
def test_labels_to_score_are_checked():
    post = fit(CATEGORICAL, y=np.array(["a", "b", "c"] * 4))
    for y, message in [
        ([1, "a", "b"], "unseen class 1"),
        (["a", None, "b"], "y has no label in row 1"),
        (pd.Series(["a", pd.NA, "b"], dtype="string"), "y has no label in row 1"),
    ]:
        with pytest.raises(bdl.DataError, match=message):
            post.score(X[:3], y)


@pytest.mark.slow
def test_tiny_units_are_not_constant():
    """Lengths in metres of things as small as atoms, and targets too."""
    np.testing.assert_allclose(
        fit(X=1e-15 * X, y=1e-15 * Y).predict(1e-15 * X).mean,
        1e-15 * fit().predict(X).mean,
        rtol=1e-3,
    )


SETTINGS = {
    "negative draws": lambda: bdl.NUTS(num_samples=-1),
    "no chains": lambda: bdl.HMC(num_chains=0),
    "unknown chain method": lambda: bdl.NUTS(chain_method="both"),
    "acceptance above one": lambda: bdl.NUTS(target_accept=1.5),
    "unknown guide": lambda: bdl.VI(guide="meanfield"),
    "unknown activation": lambda: bdl.BNN(activation="swish"),
    "one width": lambda: bdl.BNN(hidden=10),
    "likelihood by name": lambda: bdl.BNN(likelihood="poisson"),
    "zero width": lambda: bdl.BNN(hidden=(0,)),
    "unknown scaling": lambda: bdl.BNN(scaling="mup"),
    "negative noise": lambda: bdl.Normal(scale=-1.0),
    "one noise scale not positive": lambda: bdl.Normal(scale=(1.0, 0.0)),
    "no noise scales": lambda: bdl.StudentT(scale=()),
    "texts as noise scales": lambda: bdl.Normal(scale=("1", "2")),
    "degrees of freedom per target": lambda: bdl.StudentT(df=(3.0, 4.0)),
    "concentration per target": lambda: bdl.NegativeBinomial(concentration=(3.0, 4.0)),
    "widths beside a network": lambda: bdl.BNN((20,), network=abs),
    "activation beside a network": lambda: bdl.BNN(activation="relu", network=abs),
    "scaling beside a network": lambda: bdl.BNN(scaling="standard", network=abs),
    "zero length scale": lambda: bdl.kernels.RBF(0.0),
    "not a kernel": lambda: bdl.GP(kernel=3),
    "likelihood of a GP": lambda: bdl.GP(likelihood=3),
    "unknown hyperparameters": lambda: bdl.ExactGP("mle"),
    "restarts that are no number": lambda: bdl.ExactGP(num_restarts=True),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_settings_are_refused_when_made(name):
    with pytest.raises((ValueError, TypeError), match=r"[Ee]xpected|takes"):
        SETTINGS[name]()


@pytest.fixture(scope="module")
def post():
    return fit(X=FRAME)


PREDICT_ERRORS = {
    "too few columns": (FRAME.iloc[:, :2], "lacks column 'weight'"),
    "other names": (FRAME.rename(columns={"age": "years"}), "lacks column 'age'"),
    "array of another width": (X[:, :2], "X has 2 features, but .* expecting 4"),
    "unseen category": (FRAME.assign(colour="purple"), "row 0 has the unseen category 'purple'"),
    "infinity": (FRAME.assign(age=np.inf), "'age', row 0 is infinity"),
    "no rows": (FRAME[:0], "X has no rows: got 0 rows"),
    "array without rows": (np.zeros((0, 4)), "X has no rows: got 0 rows"),
}


@pytest.mark.parametrize("name", PREDICT_ERRORS)
def test_predict_refuses(name, post):
    data, message = PREDICT_ERRORS[name]
    with pytest.raises(bdl.DataError, match=message):
        post.predict(data)


def test_columns_are_taken_by_name(post):
    """Columns in another order, with one more than needed, give the same prediction."""
    shuffled = FRAME[["colour", "weight", "age", "height"]].assign(extra=1.0)
    np.testing.assert_array_equal(post.predict(FRAME).mean, post.predict(shuffled).mean)


def test_ragged_rows_to_predict_are_refused(post):
    for data in ([[1.0, 2.0, 3.0, "red"], [1.0]], None):
        with pytest.raises(bdl.DataError, match=r"X is ragged|Expected 2D array"):
            post.predict(data)


def test_prediction_refuses(post):
    prediction = post.predict(FRAME)
    with pytest.raises(ValueError, match="between 0 and 1"):
        prediction.quantile(1.5)
    with pytest.raises(ValueError, match="between 0 and 1"):
        prediction.interval(90.0)
    with pytest.raises(ValueError, match="y has 3 targets for 12"):
        post.score(FRAME, Y[:3])


def test_bundles(post, tmp_path):
    good = post.save(tmp_path / "good.bdl")
    with pytest.raises(bdl.BundleError, match="Cannot write"):
        post.save(tmp_path / "nowhere" / "fit.bdl")
    with pytest.raises(bdl.BundleError, match="does not exist"):
        bdl.load(tmp_path / "missing.bdl")
    (tmp_path / "cut.bdl").write_bytes(good.read_bytes()[:500])
    with pytest.raises(bdl.BundleError, match="truncated"):
        bdl.load(tmp_path / "cut.bdl")
    (tmp_path / "text.bdl").write_text("a,b\n1,2\n")
    with pytest.raises(bdl.BundleError, match="not a bayesdl bundle"):
        bdl.load(tmp_path / "text.bdl")
    with zipfile.ZipFile(tmp_path / "foreign.bdl", "w") as archive:
        archive.writestr("manifest.json", "{}")
    with pytest.raises(bdl.BundleError, match="not a bayesdl bundle"):
        bdl.load(tmp_path / "foreign.bdl")
    for change, message in [
        (dict(schema=99), "upgrade bayesdl"),
        (dict(model={"class": "os.system"}), "cannot read"),
        (dict(data_hash="0"), "damaged"),
    ]:
        with (
            zipfile.ZipFile(good) as archive,
            zipfile.ZipFile(tmp_path / "changed.bdl", "w") as changed,
        ):
            for name in archive.namelist():
                content = archive.read(name)
                changed.writestr(
                    name,
                    json.dumps(json.loads(content) | {"integrity": None} | change)
                    if name == "manifest.json"
                    else content,
                )
        with pytest.raises(bdl.BundleError, match=message):
            bdl.load(tmp_path / "changed.bdl")


def test_a_failed_save_leaves_the_old_file(post, tmp_path, monkeypatch):
    import os

    path = post.save(tmp_path / "fit.bdl")
    before = path.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(bdl.BundleError, match="No space left"):
        post.save(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_function_is_asked_for(tmp_path):
    import numpyro
    import numpyro.distributions as dist

    def coin(n, y=None):
        numpyro.sample("y", dist.Binomial(n, numpyro.sample("p", dist.Beta(1, 1))), obs=y)

    saved = bdl.fit(coin, 10, y=3, engine=bdl.NUTS(20, 20, 1), progress=False).save(
        tmp_path / "coin.bdl"
    )
    with pytest.raises(bdl.BundleError, match=r"coin.*model=\.\.\."):
        bdl.load(saved)
    assert bdl.load(saved, model=coin).samples["p"].shape == (1, 20)


def test_a_bundle_is_of_the_model_that_was_fitted(post, tmp_path):
    saved = post.save(tmp_path / "fit.bdl")
    assert bdl.load(saved, model=LINEAR).model == LINEAR
    for other in (bdl.BNN(hidden=(3,)), bdl.GP(), lambda x, y=None: None):
        with pytest.raises(bdl.BundleError, match=r"holds the fit of BNN.*leave out model"):
            bdl.load(saved, model=other)


@pytest.mark.slow
def test_a_function_that_does_not_fit_the_draws_is_refused(tmp_path):
    import numpyro
    import numpyro.distributions as dist

    def line(x, y=None, slope="slope", shape=(), site="y", power=1):
        w = numpyro.sample(slope, dist.Normal(0, 1).expand(shape).to_event(len(shape)))
        numpyro.sample(site, dist.Normal(w.sum() * x**power, 1).to_event(1), obs=y)

    x = np.arange(4.0)
    for engine in (bdl.NUTS(20, 20, 1), bdl.Laplace()):
        saved = bdl.fit(line, x, y=x, engine=engine, progress=False).save(tmp_path / "line.bdl")
        assert set(bdl.load(saved, model=line).samples) == {"slope"}
        for other, message in [
            (
                lambda x, y=None: line(x, y, slope="w"),
                "site 'slope' is absent, and in .* it is of shape",
            ),
            (
                lambda x, y=None: line(x, y, shape=(2,)),
                r"site 'slope' is of shape \[2\], and in .* it is of shape \[\]",
            ),
            (lambda x, y=None: line(x, y, site="t"), "site 'y' is absent"),
            (lambda z, y=None: line(z[:, 0], y), "fails on the data"),
            (bdl.GP(), "fails on the data"),
        ]:
            with pytest.raises(
                bdl.BundleError,
                match=f"(?s){message}.*give the function or spec line that was fitted",
            ):
                bdl.load(saved, model=other)


@pytest.mark.slow
def test_sites_of_any_name_are_saved(tmp_path):
    """Names that netCDF takes for paths, axes or escapes come back as they were."""
    import numpyro
    import numpyro.distributions as dist
    from numpyro.handlers import scope

    names = ("draw", "chain", "x", "x_dim_0", "a%2Fb", "é_dim_0")

    def program(y=None):
        inner = scope(lambda: numpyro.sample("b", dist.Normal(0, 1)), "a")()
        values = [numpyro.sample(name, dist.Normal(0, 1).expand([2]).to_event(1)) for name in names]
        numpyro.sample("y", dist.Normal(inner + sum(values).sum(), 1), obs=y)

    post = bdl.fit(program, y=1.0, engine=bdl.NUTS(20, 20, 2), progress=False)
    back = bdl.load(post.save(tmp_path / "fit.bdl"), model=program)
    assert set(back.samples) == {"a/b", *names}
    for name, values in post.samples.items():
        np.testing.assert_array_equal(values, back.samples[name])


@pytest.mark.slow
def test_a_prior_that_cannot_be_rebuilt_is_asked_for(tmp_path):
    """NumPyro's truncated normal is not made from its parameters alone, so the bundle notes the
    model as code.
    """
    import numpyro.distributions as dist

    model = bdl.GP(bdl.kernels.RBF(dist.TruncatedNormal(1.0, 0.5, low=0.1)))
    with pytest.raises(SpecError, match="cannot be made from its parameters"):
        to_data(model)
    saved = fit(model, engine=bdl.NUTS(20, 20, 1)).save(tmp_path / "gp.bdl")
    with pytest.raises(bdl.BundleError, match=r"GP.*model=\.\.\."):
        bdl.load(saved)
    assert bdl.load(saved, model=model).samples["kernel.lengthscale"].shape == (1, 20)


def test_priors_that_can_be_rebuilt_are_data():
    import numpyro.distributions as dist

    for law in (
        dist.LogNormal(0.1, 0.3),
        dist.Uniform(0.5, 2.0),
        dist.Gamma(np.array([1.0, 2.0]), 0.3),
        dist.HalfNormal(0.2),
    ):
        assert same_distribution(law, from_data(json.loads(json.dumps(to_data(law)))))
    for law in (
        dist.HalfNormal(0.2).expand([2]),
        dist.Delta(np.zeros(2), event_dim=1),
    ):  # shapes that would get lost
        with pytest.raises(SpecError):
            to_data(law)


def test_impossible_data_for_a_program():
    import numpyro
    import numpyro.distributions as dist

    def program(y):
        numpyro.sample("y", dist.Exponential(numpyro.sample("rate", dist.Gamma(1, 1))), obs=y)

    with pytest.raises(bdl.DataError, match="'y' has 1 row of observed values that are NaN"):
        bdl.fit(program, np.array(np.nan), engine=bdl.NUTS(10, 10, 1), progress=False)


def test_two_observed_sites_need_a_choice():
    import numpyro
    import numpyro.distributions as dist

    def program(a=None, b=None):
        m = numpyro.sample("m", dist.Normal(0, 1))
        numpyro.sample("a", dist.Normal(m, 1), obs=a)
        numpyro.sample("b", dist.Normal(-m, 1), obs=b)

    post = bdl.fit(program, a=1.0, b=2.0, engine=bdl.NUTS(20, 20, 1), progress=False)
    with pytest.raises(bdl.ModelError, match=r"site=\.\.\."):
        post.predict()
    chosen = bdl.fit(
        bdl.Program(program, site="b"), a=1.0, b=2.0, engine=bdl.NUTS(20, 20, 1), progress=False
    )
    assert chosen.predict().mean.shape == ()


@pytest.mark.slow
def test_a_doubtful_fit_warns():
    post = fit(engine=bdl.NUTS(5, 10, 2))
    with pytest.warns(UserWarning, match="raise num"):
        diagnosis = post.diagnose()
    assert not diagnosis.ok
    assert "NOT to be trusted" in repr(diagnosis)


def test_rows_not_taken_by_the_index_are_refused():
    import numpyro
    import numpyro.distributions as dist

    from inference.core.problem import ProblemError

    def program(y):
        m = numpyro.sample("m", dist.Normal(0, 1))
        with numpyro.plate("rows", len(y)):
            numpyro.sample("y", dist.Normal(m, 1), obs=y)

    for size in (1, 5):
        with pytest.raises(ProblemError, match=r"take x\[idx\] and y\[idx\]"):
            bdl.fit(program, Y, engine=bdl.VI(batch_size=size), progress=False)


@pytest.mark.slow
def test_draws_that_are_not_finite_are_not_trusted():
    import dataclasses

    from inference.core.result import Draws

    post = fit(engine=bdl.NUTS(200, 300, 2))
    samples = post.samples | {"sigma": np.full_like(post.samples["sigma"], np.nan)}
    broken = dataclasses.replace(post, raw=Draws(samples, post.raw.stats, post.raw.info))
    with pytest.warns(UserWarning, match="Site 'sigma' has draws that are NaN"):
        assert not broken.diagnose().ok


@pytest.mark.slow
def test_a_covariate_whose_default_is_none_is_an_input():
    """Its values reach predictions at the training data, and score takes it beside the
    observation.
    """
    import numpyro
    import numpyro.distributions as dist

    def named(x, y=None, offset=None):
        mean = numpyro.sample("m", dist.Normal(0, 1)) * x + (0.0 if offset is None else offset)
        with numpyro.plate("rows", len(x)) as rows:
            numpyro.sample("y", dist.Normal(mean, 0.1), obs=None if y is None else y[rows])

    def unnamed(x, target=None, offset=None):
        named(x, target, offset)

    x, offset = np.linspace(-1, 1, 8), np.full(8, 100.0)
    for program in (named, unnamed):
        post = bdl.fit(
            program, x, 2 * x + offset, offset, engine=bdl.NUTS(50, 50, 1), progress=False
        )
        np.testing.assert_allclose(post.predict().mean, 2 * x + offset, atol=0.5)
        np.testing.assert_allclose(post.predict(x, offset=-offset).mean, 2 * x - offset, atol=0.5)
        np.testing.assert_allclose(post.predict(x).mean, 2 * x, atol=0.5)
        assert post.score(x, 2 * x - offset, -offset)["rmse"] < 0.5
        with pytest.raises(bdl.ModelError, match="target of site 'y' cannot be told"):
            post.score(x, offset=offset)


@pytest.mark.slow
def test_the_target_of_two_observed_sites_is_told_by_value():
    import numpyro
    import numpyro.distributions as dist

    def program(first=None, second=None):
        m = numpyro.sample("m", dist.Normal(0, 1))
        with numpyro.plate("rows", 3):
            numpyro.sample("a", dist.Normal(m, 1), obs=first)
            numpyro.sample("b", dist.Normal(m + 50, 1), obs=second)

    first, second = np.zeros(3), np.full(3, 50.0)
    for site, other in (("a", first), ("b", second)):
        post = bdl.fit(
            bdl.Program(program, site), first, second, engine=bdl.NUTS(50, 50, 1), progress=False
        )
        assert post.predict().mean.shape == (3,)
        assert post.score(first, second)["rmse"] == pytest.approx(
            np.sqrt(np.mean((post.predict().mean - other) ** 2))
        )


@pytest.mark.slow
def test_sites_that_are_drawn_while_predicting_differ_between_draws():
    """Predicting b of m -> a -> b draws a for each posterior draw: Var(b) = Var(m | data) + 2."""
    import numpyro
    import numpyro.distributions as dist

    def program(a=None, b=None):
        m = numpyro.sample("m", dist.Normal(0, 1))
        a = numpyro.sample("a", dist.Normal(m, 1), obs=a)
        numpyro.sample("b", dist.Normal(a, 1), obs=b)

    post = bdl.fit(
        bdl.Program(program, site="b"), a=1.0, b=2.0, engine=bdl.NUTS(200, 2000, 2), progress=False
    )
    assert post.predict().std == pytest.approx(
        np.sqrt(0.5 + 2), rel=0.05
    )  # 4,000 draws give it to 1.1 %

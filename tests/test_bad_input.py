"""Bad input gets one clear error that says what was got, what was expected and the cure."""

import json
import zipfile

import numpy as np
import pandas as pd
import pytest
import scipy.sparse

import bayesdl as bdl
from bayesdl.spec import SpecError, from_data, same_law, to_data

rng = np.random.default_rng(0)
X = rng.normal(size=(12, 3))
Y = X[:, 0] + 0.1 * rng.normal(size=12)
FRAME = pd.DataFrame(X, columns=["age", "height", "weight"]).assign(colour=["red", "blue", "green"] * 4)
FAST = bdl.Laplace(num_rounds=1)
LINEAR = bdl.BNN(hidden=())


def with_cell(array, index, value):
    changed = np.array(array, dtype=object if isinstance(value, str) else float)
    changed[index] = value
    return changed


def fit(model=LINEAR, X=X, y=Y, engine=FAST):
    return bdl.fit(model, X, y, engine=engine, progress=False)


FIT_ERRORS = {
    "NaN cell": (dict(X=with_cell(X, (4, 1), np.nan)), "'x1', row 4 is NaN"),
    "infinite cell": (dict(X=with_cell(X, (4, 1), np.inf)), "'x1', row 4 is infinity"),
    "NaN in a DataFrame": (dict(X=FRAME.assign(age=with_cell(X[:, 0], 3, np.nan))), "'age', row 3 is NaN"),
    "NaN target": (dict(y=with_cell(Y, 2, np.nan)), "'y', row 2 is NaN"),
    "text": (dict(X=with_cell(X, (5, 2), "abc")), "'x2', row 5 is not a number: got 'abc'"),
    "one dimension": (dict(X=X[:, 0]), r"X.reshape\(-1, 1\)"),
    "sparse": (dict(X=scipy.sparse.csr_matrix(X)), "toarray"),
    "complex": (dict(X=X + 1j), "Complex data not supported"),
    "empty": (dict(X=X[:0], y=Y[:0]), "X is empty: got 0 rows"),
    "no columns": (dict(X=X[:, :0]), "X is empty"),
    "one row": (dict(X=X[:1], y=Y[:1]), "one row"),
    "constant column": (dict(X=np.c_[X, np.ones(12)]), "'x3' is constant"),
    "constant target": (dict(y=np.ones(12)), "target is constant"),
    "constant column of tiny numbers": (dict(X=np.c_[X, np.full(12, 1e-20)]), "'x3' is constant"),
    "rows differ": (dict(y=Y[:5]), "X has 12 rows and y has 5"),
    "dates": (dict(X=FRAME.assign(day=pd.date_range("2024-01-01", periods=12))), "'day' holds dates"),
    "many categories": (
        dict(X=pd.DataFrame({"a": X[:, 0].tolist() * 3, "id": [f"user {i}" for i in range(36)]}), y=np.tile(Y, 3)),
        "'id' holds 36 different texts",
    ),
    "same name twice": (dict(X=pd.DataFrame(X, columns=["a", "b", "a"])), "two columns named 'a'"),
    "negative counts": (dict(model=bdl.BNN((), likelihood=bdl.Poisson()), y=np.arange(12) - 3), "row 0 is -3"),
    "fractional counts": (dict(model=bdl.BNN((), likelihood=bdl.NegativeBinomial()), y=np.arange(12) / 2), "row 1 is 0.5"),
    "three classes for Bernoulli": (dict(model=bdl.BNN((), likelihood=bdl.Bernoulli()), y=np.arange(12) % 3), "Categorical"),
    "one class": (dict(model=bdl.BNN((), likelihood=bdl.Bernoulli()), y=np.zeros(12, int)), "one class"),
    "real labels": (dict(model=bdl.BNN((), likelihood=bdl.Categorical()), y=Y), "Unknown label type"),
    "missing label": (dict(model=bdl.BNN((), likelihood=bdl.Categorical()), y=np.array(["a", "b", None] * 4, object)), "row 2"),
    "text target": (dict(y=np.array(["a", "b"] * 6)), "'y', row 0 is not a number"),
    "two targets for a GP": (dict(model=bdl.GP(), y=np.c_[Y, Y], engine=bdl.ExactGP()), "one target column"),
    "GP with counts": (
        dict(
            model=bdl.GP,
        ),
        "got the class GP",
    ),
    "engine by name": (dict(engine="nuts"), "expected an engine such as"),
    "engine class": (dict(engine=bdl.NUTS), "expected an engine such as"),
    "no target": (dict(y=None), "target is missing"),
    "target by name": (dict(y="price"), "y='price', expected"),
    "not a model": (dict(model=3), "got int"),
    "wrong engine": (dict(engine=bdl.ExactGP()), "ExactGP cannot run this model.*Engines that can: NUTS"),
    "chains that cannot run": (dict(engine=bdl.NUTS(10, 10, 64, chain_method="parallel")), "num_chains=64 and 2 device"),
    "too few scales": (dict(model=bdl.BNN((4,), prior=bdl.priors.Gaussian((1.0,)))), "one scale per layer"),
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
        dict(model=bdl.GP(bdl.kernels.RBF((1.0, 2.0)), likelihood=bdl.Normal(0.1)), engine=bdl.ExactGP()),
        "2 length scales and the model has 3 inputs",
    ),
}


@pytest.mark.parametrize("name", FIT_ERRORS)
def test_fit_refuses(name):
    arguments, message = FIT_ERRORS[name]
    with pytest.raises((ValueError, TypeError), match=message) as caught:
        fit(**arguments)
    assert len(str(caught.value)) < 400


def test_tiny_units_are_not_constant():
    """Lengths in metres of things as small as atoms, and targets too."""
    np.testing.assert_allclose(fit(X=1e-15 * X, y=1e-15 * Y).predict(1e-15 * X).mean, 1e-15 * fit().predict(X).mean, rtol=1e-3)


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
    "likelihood of a GP": lambda: bdl.GP(likelihood=bdl.Poisson()),
    "unknown hyperparameters": lambda: bdl.ExactGP("mle"),
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
    "NaN": (FRAME.assign(age=np.nan), "'age', row 0 is NaN"),
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
        with zipfile.ZipFile(good) as archive, zipfile.ZipFile(tmp_path / "changed.bdl", "w") as changed:
            for name in archive.namelist():
                content = archive.read(name)
                changed.writestr(name, json.dumps(json.loads(content) | change) if name == "manifest.json" else content)
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

    saved = bdl.fit(coin, 10, y=3, engine=bdl.NUTS(20, 20, 1), progress=False).save(tmp_path / "coin.bdl")
    with pytest.raises(bdl.BundleError, match=r"coin.*model=\.\.\."):
        bdl.load(saved)
    assert bdl.load(saved, model=coin).samples["p"].shape == (1, 20)


def test_a_prior_that_cannot_be_rebuilt_is_asked_for(tmp_path):
    """NumPyro's truncated normal is not made from its parameters alone, so the bundle notes the model as code."""
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

    for law in (dist.LogNormal(0.1, 0.3), dist.Uniform(0.5, 2.0), dist.Gamma(np.array([1.0, 2.0]), 0.3), dist.HalfNormal(0.2)):
        assert same_law(law, from_data(json.loads(json.dumps(to_data(law)))))
    for law in (dist.HalfNormal(0.2).expand([2]), dist.Delta(np.zeros(2), event_dim=1)):  # shapes that would get lost
        with pytest.raises(SpecError):
            to_data(law)


def test_impossible_data_for_a_program():
    import numpyro
    import numpyro.distributions as dist

    def program(y):
        numpyro.sample("y", dist.Exponential(numpyro.sample("rate", dist.Gamma(1, 1))), obs=y)

    from inference.problem import ProblemError

    with pytest.raises(ProblemError, match="finite log density"):
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
    chosen = bdl.fit(bdl.Program(program, site="b"), a=1.0, b=2.0, engine=bdl.NUTS(20, 20, 1), progress=False)
    assert chosen.predict().mean.shape == ()


def test_a_doubtful_fit_warns():
    post = fit(engine=bdl.NUTS(5, 10, 2))
    with pytest.warns(UserWarning, match="raise num"):
        diagnosis = post.diagnose()
    assert not diagnosis.ok
    assert "NOT to be trusted" in repr(diagnosis)


def test_rows_not_taken_by_the_index_are_refused():
    import numpyro
    import numpyro.distributions as dist

    from inference.problem import ProblemError

    def program(y):
        m = numpyro.sample("m", dist.Normal(0, 1))
        with numpyro.plate("rows", len(y)):
            numpyro.sample("y", dist.Normal(m, 1), obs=y)

    for size in (1, 5):
        with pytest.raises(ProblemError, match=r"take x\[idx\] and y\[idx\]"):
            bdl.fit(program, Y, engine=bdl.VI(batch_size=size), progress=False)


def test_draws_that_are_not_finite_are_not_trusted():
    import dataclasses

    from inference.result import Draws

    post = fit(engine=bdl.NUTS(200, 300, 2))
    samples = post.samples | {"sigma": np.full_like(post.samples["sigma"], np.nan)}
    broken = dataclasses.replace(post, raw=Draws(samples, post.raw.stats, post.raw.info))
    with pytest.warns(UserWarning, match="Site 'sigma' has draws that are NaN"):
        assert not broken.diagnose().ok


def test_sites_that_are_drawn_while_predicting_differ_between_draws():
    """Predicting b of m -> a -> b draws a for each posterior draw: Var(b) = Var(m | data) + 2."""
    import numpyro
    import numpyro.distributions as dist

    def program(a=None, b=None):
        m = numpyro.sample("m", dist.Normal(0, 1))
        a = numpyro.sample("a", dist.Normal(m, 1), obs=a)
        numpyro.sample("b", dist.Normal(a, 1), obs=b)

    post = bdl.fit(bdl.Program(program, site="b"), a=1.0, b=2.0, engine=bdl.NUTS(200, 2000, 2), progress=False)
    assert post.predict().std == pytest.approx(np.sqrt(0.5 + 2), rel=0.05)  # 4,000 draws give it to 1.1 %

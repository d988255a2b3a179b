"""The demonstration: two Bayesian networks on data of scikit-learn, next to classical methods.

Both are judged on the same held-out rows. Ridge regression gets a normal predictive distribution
with the standard deviation of its training residuals.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from bayesdl.bnn.spec import BNN
from bayesdl.cli.tables import UsageError, check_writable, replace, write_table
from bayesdl.engines import NUTS
from bayesdl.fitting import fit
from bayesdl.model.likelihoods import Bernoulli, Normal
from bayesdl.priors import Hierarchical
from bayesdl.typing import Frame, Series
from bayesdl.warnings import TrustWarning
from inference.process.quiet import quiet

# the classifier learns the scale of its weights, since nearly separable classes need large ones;
# small steps suit that
REGRESSION = BNN(hidden=(20,), likelihood=Normal())
CLASSIFIER = BNN(hidden=(20,), prior=Hierarchical(), likelihood=Bernoulli())
NUTS_SETTINGS = {"num_warmup": 300, "num_samples": 500, "start": "prior"}
SHOWN = {"diabetes": ("rmse", "nll", "coverage_90"), "breast_cancer": ("accuracy", "nll", "ece")}


def run(folder: Path, progress: bool) -> tuple[dict[str, Any], list[str]]:
    """Fit both networks, and write predictions, bundles and a picture.

    Args:
        folder: the folder of the files; it is made where it does not exist.
        progress: whether to show progress bars.

    Returns:
        The results as data and as lines of text.

    Raises:
        UsageError: where the folder cannot be written.
    """
    from sklearn.datasets import load_breast_cancer, load_diabetes

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"Cannot write {folder}: {error.strerror}.") from None
    check_writable(folder / "calibration.png")

    result: dict[str, Any] = {"folder": folder}
    lines, panels = [], []
    for name, load, model, target_accept, classical in (
        ("diabetes", load_diabetes, REGRESSION, 0.8, _ridge),
        ("breast_cancer", load_breast_cancer, CLASSIFIER, 0.9, _logistic),
    ):
        started = time.perf_counter()
        X, X_new, y, y_new = _split(load)
        engine = NUTS(target_accept=target_accept, **NUTS_SETTINGS)
        posterior = fit(model, X, y, engine=engine, seed=0, progress=progress)
        prediction = posterior.predict(X_new)
        peer, peer_scores = classical(X, y, X_new, y_new)
        # the verdict is printed
        with quiet(TrustWarning):
            diagnosis = posterior.diagnose()
        scores = posterior.score(X_new, y_new)
        posterior.save(folder / f"{name}.bdl")
        write_table(
            prediction.to_pandas().assign(**{y_new.name: y_new.to_numpy()}), folder / f"{name}.csv"
        )
        panels.append((name, prediction, y_new))

        seconds = time.perf_counter() - started
        facts = {"ok": diagnosis.ok, "verdict": list(diagnosis.verdict)}
        result[name] = {"bnn": scores, peer: peer_scores, "diagnosis": facts, "seconds": seconds}
        lines += [
            f"{name}: {len(X)} rows for training, {len(X_new)} held out, "
            f"{X.shape[1]} columns; {seconds:.0f} s"
        ]
        lines += _comparison(SHOWN[name], {"BNN by NUTS": scores, peer: peer_scores})
        trust = "can be trusted" if diagnosis.ok else "NOT to be trusted"
        lines += [f"  verdict: {trust}. {diagnosis.verdict[0]}", ""]
    _draw(panels, folder / "calibration.png")
    return result, [*lines, f"saved bundles, predictions and calibration.png in {folder}"]


def _split(
    load: Callable[..., Any],
) -> tuple[Frame, Frame, Series, Series]:
    """Return inputs and targets for training and held out, a fifth of the rows, always the same."""
    from sklearn.model_selection import train_test_split

    data = load(as_frame=True)
    X, X_new, y, y_new = train_test_split(data.data, data.target, test_size=0.2, random_state=0)
    return X, X_new, y, y_new


def _ridge(X: Frame, y: Series, X_new: Frame, y_new: Series) -> tuple[str, dict[str, float]]:
    """Return name and scores of ridge regression with y ~ N(prediction, sd of residuals^2)."""
    from scipy import stats
    from sklearn.linear_model import RidgeCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), RidgeCV(np.logspace(-3, 3, 13))).fit(X, y)
    mean = model.predict(X_new)
    scale = np.std(y - model.predict(X))
    low, high = stats.norm.interval(0.9, mean, scale)
    scores = {
        "rmse": float(np.sqrt(np.mean((mean - y_new) ** 2))),
        "nll": float(-stats.norm.logpdf(y_new, mean, scale).mean()),
        "coverage_90": float(np.mean((low <= y_new) & (y_new <= high))),
    }
    return "ridge regression", scores


def _logistic(X: Frame, y: Series, X_new: Frame, y_new: Series) -> tuple[str, dict[str, float]]:
    """Return name and scores of logistic regression with scikit-learn's default penalty."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import log_loss
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    from inference.distributions.calibration import expected_calibration_error

    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(X, y)
    probs = model.predict_proba(X_new)
    hits = model.predict(X_new) == y_new.to_numpy()
    scores = {
        "accuracy": float(hits.mean()),
        "nll": float(log_loss(y_new, probs)),
        "ece": expected_calibration_error(probs.max(-1), hits),
    }
    return "logistic regression", scores


def _comparison(names: tuple[str, ...], scores: dict[str, dict[str, float]]) -> list[str]:
    """Return a table as lines of text, a line per method and a column per score."""
    head = "  " + " " * 20 + "".join(f"{name:>14}" for name in names)
    return [
        head,
        *(
            f"  {method:<20}" + "".join(f"{row[name]:>14.4g}" for name in names)
            for method, row in scores.items()
        ),
    ]


def _draw(panels: list[tuple[str, Any, Any]], path: Path) -> None:
    """Draw a calibration plot per data set, side by side."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from bayesdl import plots

    figure = Figure(figsize=(5 * len(panels), 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, (name, prediction, y) in zip(
        figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True
    ):
        plots.calibration(prediction, y, ax=axes)
        axes.set_title(name.replace("_", " "), pad=18)
    replace(path, lambda beside: figure.savefig(beside, format="png", dpi=120))

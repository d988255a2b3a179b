"""A fit as one page of HTML: it holds everything, and loads nothing from elsewhere."""

import re

import matplotlib
import numpy as np
import pytest

import bayesdl as bdl

matplotlib.use("Agg")


@pytest.fixture(scope="module")
def post():
    x = np.linspace(-1, 1, 30)[:, None]
    return bdl.fit(bdl.GP(), x, np.sin(3 * x[:, 0]), engine=bdl.ExactGP(), progress=False)


def test_a_report_says_what_the_diagnosis_and_the_scores_say(post, tmp_path):
    x = np.linspace(-0.9, 0.9, 20)[:, None]
    y = np.sin(3 * x[:, 0])
    path = bdl.report(post, tmp_path / "report.html", x, y)
    text = path.read_text()
    assert repr(post) in text and "RBF" in text and "ExactGP" in text
    assert f"{post.score(x, y)['rmse']:.4g}" in text
    assert ("can be trusted" if post.diagnose().ok else "not to be trusted") in text
    assert text.count("<img") == 1 and "data:image/png;base64," in text
    assert not re.findall(r"(?:src|href)='(?!data:)", text)


def test_a_report_needs_no_rows_and_takes_both_or_none(post, tmp_path):
    assert "Scores" not in bdl.report(post, tmp_path / "report.html").read_text()
    with pytest.raises(bdl.DataError, match="X and targets y"):
        bdl.report(post, tmp_path / "report.html", np.zeros((2, 1)))

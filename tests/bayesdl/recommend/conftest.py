"""Fixtures of the recommenders' tests: a few users, some of them held out, and a fit."""

import numpy as np
import pytest
import scipy.sparse
from recommend_toys import QUICK, few_rows

from bayesdl.recommend import (
    HeldOut,
    MultVAE,
)


@pytest.fixture(scope="module")
def rows():
    return few_rows()


@pytest.fixture(scope="module")
def held(rows):
    dense = rows.toarray()[:10]
    hide = np.zeros_like(dense)
    hide[:, 0] = 1
    return HeldOut(scipy.sparse.csr_array(dense * (1 - hide)), scipy.sparse.csr_array(dense * hide))


@pytest.fixture(scope="module")
def fitted(rows, held):
    return MultVAE(**QUICK).fit(rows, held)

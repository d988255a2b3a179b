"""Sparse matrices whose parts do not fit together are refused before native code takes them."""

import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
import scipy.sparse

import bayesdl as bdl
from bayesdl import recommend

ROWS = scipy.sparse.random_array((40, 15), density=0.2, rng=0, format="csr", dtype=np.float32)


def place(index):
    def damage(matrix):
        matrix.indices[0] = index

    return damage


def pointer(matrix):
    matrix.indptr[1] = 10**6


def falling(matrix):
    matrix.indptr[2:4] = matrix.indptr[[3, 2]] + [1, -1]


def short(matrix):
    matrix.data = matrix.data[:-3]


DAMAGES = [place(99), place(-1), place(10**9), pointer, falling, short]


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("form", ["csr", "csc", "bsr"])
def test_compressed_rows_are_refused(damage, form):
    rows = ROWS.copy().asformat(form)
    damage(rows)
    with pytest.raises(bdl.DataError, match=rf"damaged .{form} of shape"):
        recommend.EASE(l2=10).fit(rows)


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("index", [99, -1])
def test_places_outside_are_refused(axis, index):
    rows = ROWS.copy().tocoo()
    rows.coords[axis][0] = index
    with pytest.raises(bdl.DataError, match=f"an entry is at place {index}"):
        recommend.EASE(l2=10).fit(rows)


def test_lists_and_keys_outside_are_refused():
    rows = ROWS.copy().tolil()
    rows.rows[0][0] = 99
    with pytest.raises(bdl.DataError, match="row 0 an entry is at place 99"):
        recommend.EASE(l2=10).fit(rows)
    rows = ROWS.copy().todok()
    rows._dict[(99, 0)] = 1.0
    with pytest.raises(bdl.DataError, match="place 99 of axis 0"):
        recommend.EASE(l2=10).fit(rows)


def test_what_is_given_to_a_fitted_recommender_is_looked_at_too():
    model = recommend.EASE(l2=10).fit(ROWS)
    rows = ROWS.copy()
    rows.indices[0] = 99
    with pytest.raises(bdl.DataError, match="damaged"):
        model.recommend(rows)
    with pytest.raises(bdl.DataError, match="HeldOut: the matrix is damaged"):
        recommend.HeldOut(rows, ROWS)


@pytest.mark.parametrize("form", ["csr", "csc", "bsr", "coo", "lil", "dok", "dia"])
def test_whole_matrices_are_all_the_same(form):
    expected = recommend.EASE(l2=10).fit(ROWS).recommend(ROWS[:3], k=5).items
    found = recommend.EASE(l2=10).fit(ROWS.asformat(form)).recommend(ROWS[:3], k=5).items
    assert (np.asarray(found) == np.asarray(expected)).all()


def test_entries_of_one_place_are_summed_whatever_the_matrix_says_of_itself():
    rows = scipy.sparse.csr_array(([1.0, 2.0, 1.0], [0, 1, 0], [0, 2, 3]), shape=(2, 3))
    assert rows.has_canonical_format
    rows.indices[1] = 0
    with pytest.warns(UserWarning, match="1 entries stand for a user and an item"):
        recommend.EASE(l2=10).fit(rows)


def test_an_argument_of_a_program_is_refused():
    def program(x, y=None):
        w = numpyro.sample("w", dist.Normal(0, 1).expand([15]).to_event(1))
        numpyro.sample("y", dist.Normal(x @ w, 1).to_event(1), obs=y)

    rows = ROWS.copy()
    rows.indices[0] = 99
    with pytest.raises(bdl.DataError, match="x is damaged"):
        bdl.fit(program, rows, y=np.zeros(40))

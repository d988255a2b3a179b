"""A recommender's settings and data: what a fit starts from, what it leaves, and checked rows."""

from __future__ import annotations

import abc
import dataclasses
import warnings
from typing import Any, ClassVar, TypeVar

import numpy as np
import scipy.sparse

from bayesdl.data.validation import DataError
from bayesdl.recommend.evaluation.split import HeldOut
from bayesdl.recommend.rows import CSR, as_rows, event_matrix, refuse_empty, reorder_by_label
from bayesdl.typing import ColumnLike, StoredArrays, TableLike

RECOMMENDERS: dict[str, type[AbstractEstimator]] = {}
"""The classes of recommenders that a file can hold, by name."""

ClassT = TypeVar("ClassT", bound=type)
EstimatorT = TypeVar("EstimatorT", bound="AbstractEstimator")


def register(cls: ClassT) -> ClassT:
    """Let files hold recommenders of this class; to be used as a decorator."""
    RECOMMENDERS[cls.__name__] = cls
    return cls


class NotFittedError(ValueError):
    """The recommender was used before it was fitted."""


class AbstractEstimator(abc.ABC):
    """An estimator in scikit-learn's style: settings, then `fit`, then attributes with `_`.

    Attributes:
        facts: the names of the attributes of a fit that are not arrays.
        num_items_: the number of columns of the data that it was fitted to.
        items_: the labels of the items, shape (items,); 0, 1, ... where none were given.
        temperature_: T of the probabilities, with which a fit ends.
    """

    facts: ClassVar[tuple[str, ...]] = ()

    num_items_: int
    items_: np.ndarray
    temperature_: float

    def check(self) -> None:  # noqa: B027 - most have nothing to refuse
        """Refuse settings that have no meaning.

        Raises:
            ValueError: with the name of the setting.
        """

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the settings, so that `sklearn.base.clone` makes a copy that is not fitted.

        Args:
            deep: accepted for scikit-learn's tools; it changes nothing.
        """
        return {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)  # pyright: ignore[reportArgumentType]
            if field.init
        }

    def set_params(self: EstimatorT, **settings: Any) -> EstimatorT:
        """Change settings and forget the fit, which was with others.

        Raises:
            ValueError: for a name that is no setting; nothing is changed then.
        """
        for name in settings:
            if name not in self.get_params():
                raise ValueError(
                    f"{type(self).__name__} has no setting {name!r}: expected "
                    f"{', '.join(self.get_params())}."
                )
        self.forget()
        for name, value in settings.items():
            setattr(self, name, value)
        return self

    def forget(self) -> None:
        """Remove all that a fit found."""
        for name in [name for name in vars(self) if name.endswith("_")]:
            delattr(self, name)

    @property
    def fitted(self) -> bool:
        """Whether a fit has come to its end."""
        return hasattr(self, "temperature_")

    def refuse_unfitted(self) -> None:
        """Refuse to answer before a fit.

        Raises:
            NotFittedError: with the name of the class.
        """
        if not self.fitted:
            raise NotFittedError(f"{type(self).__name__} is not fitted: call fit(train) first.")

    def arrays(self) -> StoredArrays:
        """Return the arrays that a fit found, by their names in a file."""
        return {}

    def array_shapes(self, arrays: StoredArrays) -> dict[str, tuple[int, ...]]:
        """Return the names and shapes of the arrays that a file must have.

        Args:
            arrays: the arrays of the file, as the shapes may depend on what it has.
        """
        return {}

    def set_arrays(self, arrays: StoredArrays) -> None:  # noqa: B027 - some have none
        """Set the arrays that a fit found, as `arrays` returns them."""

    def stored_members(self) -> list[AbstractEstimator]:
        """Return the fitted recommenders that a file of this one holds too."""
        return []

    def start_fit(self, train: TableLike, validation: object, items: ColumnLike | None) -> CSR:
        """Check the data of a fit, remember the items and forget an earlier fit.

        The labels of the items are those given, those of a DataFrame, or those of the validation
        users.

        Args:
            train: users x items.
            validation: the validation users as `HeldOut`, or None.
            items: the labels of the columns, or None.

        Returns:
            The rows of the training users.

        Raises:
            DataError: for bad values, a matrix without entries, or where there is not a label for
                each item; an earlier fit stays then.
        """
        self.check()
        if validation is not None and not isinstance(validation, HeldOut):
            raise DataError(
                f"validation: got {type(validation).__name__}, expected HeldOut(fold_in, held_out)."
            )
        if items is None:
            items = getattr(train, "columns", None if validation is None else validation.items)
        rows = as_rows(train if items is None else reorder_by_label(train, items, 1))
        refuse_empty(rows)
        if validation is not None:
            refuse_empty(as_rows(validation.held_out), "validation.held_out")
        num_items = rows.shape[1]
        labels = np.arange(num_items) if items is None else np.asarray(items)
        if labels.shape != (num_items,):
            raise DataError(
                f"items has shape {labels.shape}, expected one label for each of {num_items} "
                "columns."
            )
        if len(np.unique(labels)) < len(labels):
            raise DataError("items: two columns have one label; give each its own.")
        self.forget()
        self.num_items_, self.items_ = num_items, labels
        return rows

    def rows(self, X: TableLike) -> CSR:
        """Return users' rows in the columns of the fit, after checks.

        One row may be given alone, and a DataFrame's columns are found by label.

        Args:
            X: users x items.
        """
        self.refuse_unfitted()
        given: Any = X
        if not scipy.sparse.issparse(given) and np.ndim(given) == 1:
            given = given.to_frame().T if hasattr(given, "to_frame") else np.asarray(given)[None]
        return as_rows(reorder_by_label(given, self.items_, 1), self.num_items_)

    def rows_from(self, users: ColumnLike, items: ColumnLike) -> tuple[CSR, np.ndarray]:
        """Make rows for `recommend` from a table of events: users and the items they chose.

        Items that the fit does not have are dropped, and a warning gives their number.

        Args:
            users: the label of the user of each event, shape (events,).
            items: the label of the item of each event, shape (events,).

        Returns:
            The rows, and the users' labels in the order of their first events.

        Raises:
            DataError: for columns of unequal length, or where no item is one of the fit.
        """
        import pandas as pd

        self.refuse_unfitted()
        who, what = np.asarray(users), np.asarray(items)
        if who.ndim != 1 or who.shape != what.shape:
            raise DataError(
                f"rows_from: users have shape {who.shape}, items {what.shape}; expected a label of "
                "each for every event."
            )
        missing = np.flatnonzero(pd.isna(who))
        if len(missing):
            raise DataError(f"rows_from: users[{missing[0]}] is missing; leave such events out.")
        user, labels = pd.factorize(who)
        item = pd.Index(self.items_).get_indexer(pd.Index(what))
        known = item >= 0
        if len(what) and not known.any():
            raise DataError(
                f"rows_from: none of the items {what[:3].tolist()}, ... is one of the fit, "
                f"{self.items_[:3].tolist()}, ...; expected rows_from(users, items) with labels as "
                "in the fit."
            )
        if not known.all():
            warnings.warn(
                f"{(~known).sum()} of {len(what)} events are dropped: the fit does not have their "
                "items.",
                stacklevel=2,
            )
        rows = event_matrix(user[known], item[known], (len(labels), self.num_items_))
        return rows, np.asarray(labels)

    def check_held_out(self, users: object) -> tuple[CSR, CSR]:
        """Check users to be judged on against the fit.

        Args:
            users: the users as `HeldOut`.

        Returns:
            The rows that are shown and the rows that are held out.

        Raises:
            DataError: where their items are others, or in another order.
        """
        if not isinstance(users, HeldOut):
            raise DataError(f"Got {type(users).__name__}, expected HeldOut(fold_in, held_out).")
        if users.items is not None and not np.array_equal(users.items, self.items_):
            theirs, ours = (
                f"{len(items)} items {np.asarray(items)[:3].tolist()}, ..."
                for items in (users.items, self.items_)
            )
            raise DataError(
                f"HeldOut has {theirs} and the fit {ours}: expected the same in the same order; "
                "use items=split.items in fit."
            )
        return self.rows(users.fold_in), self.rows(users.held_out)

    def candidate_mask(self, candidates: ColumnLike | None) -> np.ndarray:
        """Return whether each item may be recommended, shape (items,).

        Args:
            candidates: the labels of the items that may be recommended; None for all.

        Raises:
            DataError: for labels that no item has.
        """
        if candidates is None:
            return np.ones(self.num_items_, bool)
        labels = np.asarray(list(candidates))  # pyright: ignore[reportArgumentType]
        unknown = labels[~np.isin(labels, self.items_)]
        if len(unknown):
            raise DataError(
                f"candidates: {unknown[0]} is not an item of the fit, whose items are "
                f"{self.items_[:3]}, ..."
            )
        return np.isin(self.items_, labels)

"""A recommender's settings and its data: what a fit starts from, and users' rows in the columns of the fit."""

from __future__ import annotations

import abc
import dataclasses
import warnings
from typing import Any

import numpy as np
import scipy.sparse

from bayesdl.data.validation import DataError
from bayesdl.recommend.evaluation.split import HeldOut
from bayesdl.recommend.rows import CSR, as_rows, chosen, in_order, refuse_empty


class NotFittedError(ValueError):
    """The recommender was asked before it was fitted."""


class AbstractEstimator(abc.ABC):
    """In scikit-learn's style: settings at the start, `fit`, then attributes with `_`.

    Attributes:
        num_items_: columns of the data it was fitted to.
        items_: labels of the items, or their numbers.
        temperature_: T of the probabilities, with which a fit ends.
    """

    num_items_: int
    items_: np.ndarray
    temperature_: float

    def check(self) -> None:  # noqa: B027 - most have nothing to refuse
        """Refuses settings that have no meaning.

        Raises:
            ValueError: naming the setting.
        """

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The settings, so that `sklearn.base.clone` makes a copy that is not fitted."""
        return {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)  # pyright: ignore[reportArgumentType]
            if field.init
        }

    def set_params(self, **settings: Any) -> Any:
        """Changes settings and forgets the fit, which was with others.

        Raises:
            ValueError: for a name that is no setting; nothing is changed then.
        """
        for name in settings:
            if name not in self.get_params():
                raise ValueError(
                    f"{type(self).__name__} has no setting {name!r}: expected {', '.join(self.get_params())}."
                )
        self.forget()
        for name, value in settings.items():
            setattr(self, name, value)
        return self

    def forget(self) -> None:
        """Removes all that a fit found."""
        for name in [name for name in vars(self) if name.endswith("_")]:
            delattr(self, name)

    @property
    def fitted(self) -> bool:
        """Whether a fit came to its end."""
        return hasattr(self, "temperature_")

    def refuse_unfitted(self) -> None:
        """Refuses to answer before a fit.

        Raises:
            NotFittedError: naming the class.
        """
        if not self.fitted:
            raise NotFittedError(f"{type(self).__name__} is not fitted: call fit(train) first.")

    def begin(self, train: Any, validation: Any, items: Any) -> CSR:
        """The rows of a fit, and the items are remembered: their labels are those given, a DataFrame's, or validation's.

        Raises:
            DataError: for bad values, a matrix without entries, or where there is not a label for each item; an earlier fit
                stays then.
        """
        self.check()
        if validation is not None and not isinstance(validation, HeldOut):
            raise DataError(
                f"validation: got {type(validation).__name__}, expected HeldOut(fold_in, held_out)."
            )
        if items is None:
            items = getattr(train, "columns", None if validation is None else validation.items)
        rows = as_rows(train if items is None else in_order(train, items, 1))
        refuse_empty(rows)
        if validation is not None:
            refuse_empty(as_rows(validation.held_out), "validation.held_out")
        labels = np.arange(rows.shape[1]) if items is None else np.asarray(items)
        if labels.shape != (rows.shape[1],):
            raise DataError(
                f"items has shape {labels.shape}, expected one label for each of {rows.shape[1]} columns."
            )
        if len(np.unique(labels)) < len(labels):
            raise DataError("items: two columns have one label; give each its own.")
        self.forget()
        self.num_items_, self.items_ = rows.shape[1], labels
        return rows

    def rows(self, X: Any) -> CSR:
        """Users' rows, checked against the fit; one row may be given alone, and a DataFrame's columns are found by label."""
        self.refuse_unfitted()
        if not scipy.sparse.issparse(X) and np.ndim(X) == 1:
            X = X.to_frame().T if hasattr(X, "to_frame") else np.asarray(X)[None]
        return as_rows(in_order(X, self.items_, 1), self.num_items_)

    def rows_from(self, users: Any, items: Any) -> tuple[CSR, np.ndarray]:
        """Rows from events: for `recommend`, users who come as a table of what they chose.

        Items that the fit does not have are dropped, which a warning counts.

        Args:
            users: label of the user of each event, shape (events,).
            items: label of its item.

        Returns:
            The rows, and the users' labels in the order of their first events.

        Raises:
            DataError: for columns of unequal length, or where no item is one of the fit.
        """
        import pandas as pd

        self.refuse_unfitted()
        users, items = np.asarray(users), np.asarray(items)
        if users.ndim != 1 or users.shape != items.shape:
            raise DataError(
                f"rows_from: users have shape {users.shape}, items {items.shape}; expected a label of each for every event."
            )
        missing = np.flatnonzero(pd.isna(users))
        if len(missing):
            raise DataError(f"rows_from: users[{missing[0]}] is missing; leave such events out.")
        user, labels = pd.factorize(users)
        item = pd.Index(self.items_).get_indexer(pd.Index(items))
        known = item >= 0
        if len(items) and not known.any():
            raise DataError(
                f"rows_from: none of the items {items[:3].tolist()}, ... is one of the fit, {self.items_[:3].tolist()}, ...; "
                "expected rows_from(users, items) with labels as in the fit."
            )
        if not known.all():
            warnings.warn(
                f"{(~known).sum()} of {len(items)} events are dropped: the fit does not have their items.",
                stacklevel=2,
            )
        return chosen(user[known], item[known], (len(labels), self.num_items_)), np.asarray(labels)

    def held(self, users: Any) -> tuple[CSR, CSR]:
        """What is shown and what is held out of users to be judged on, checked against the fit.

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
                f"HeldOut has {theirs} and the fit {ours}: expected the same in the same order; use items=split.items in fit."
            )
        return self.rows(users.fold_in), self.rows(users.held_out)

    def allowed(self, candidates: Any) -> np.ndarray:
        """Which items may be recommended.

        Raises:
            DataError: for labels that no item has.
        """
        if candidates is None:
            return np.ones(self.num_items_, bool)
        labels = np.asarray(list(candidates))
        unknown = labels[~np.isin(labels, self.items_)]
        if len(unknown):
            raise DataError(
                f"candidates: {unknown[0]} is not an item of the fit, whose items are {self.items_[:3]}, ..."
            )
        return np.isin(self.items_, labels)

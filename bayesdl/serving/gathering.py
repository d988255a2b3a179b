"""Predictions of many requests at once, in one thread: what waits is predicted together."""

from __future__ import annotations

import dataclasses
import queue
import threading
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import Future

from bayesdl.typing import Frame

# rows are padded to one of these numbers, each of which is compiled before the first request
SIZES = (1, 8, 64, 1024)

Predict = Callable[[Frame], Frame]


@dataclasses.dataclass(frozen=True)
class Answer:
    """The predictions of a request.

    Attributes:
        table: a row for each row of the request.
        warnings: what was said of them.
    """

    table: Frame
    warnings: tuple[str, ...] = ()


Waiting = tuple[Frame, "Future[Answer]"]


class Gatherer:
    """Predicts the rows of waiting requests together.

    A request waits only while an earlier one is predicted, so that one alone is answered at once.

    Args:
        predict: the function that predicts the rows of a table.
        waiting: the largest number of requests that wait.
    """

    def __init__(self, predict: Predict, waiting: int) -> None:
        self.predict = predict
        self.requests: queue.Queue[Waiting | None] = queue.Queue(waiting)
        self.thread = threading.Thread(target=self._run, name="predictions", daemon=True)

    def start(self) -> None:
        """Begin to answer."""
        self.thread.start()

    def stop(self) -> None:
        """Answer what waits, and end."""
        if self.thread.is_alive():
            self.requests.put(None)
            self.thread.join()

    def ask(self, rows: Frame) -> Future[Answer]:
        """Return the answer to come.

        Raises:
            queue.Full: if too many requests wait.
        """
        answer: Future[Answer] = Future()
        self.requests.put_nowait((rows, answer))
        return answer

    def _run(self) -> None:
        """Answer until the end."""
        while (first := self.requests.get()) is not None:
            together, last = [first], False
            total = len(first[0])
            while total < SIZES[-1] and not last:
                try:
                    further = self.requests.get_nowait()
                except queue.Empty:
                    break
                if further is None:
                    last = True
                else:
                    together.append(further)
                    total += len(further[0])
            self._answer(together)
            if last:
                return

    def _answer(self, together: Sequence[Waiting]) -> None:
        """Predict the rows of some requests; errors and warnings belong to those that have them."""
        import pandas as pd

        wanted = [one for one in together if one[1].set_running_or_notify_cancel()]
        if len(wanted) > 1:
            try:
                whole = _predict_padded(self.predict, pd.concat([rows for rows, _ in wanted]))
            # whose rows are at fault is found by predicting each request alone
            except Exception:
                whole = None
            if whole is not None and not whole.warnings:
                start = 0
                for rows, answer in wanted:
                    answer.set_result(Answer(whole.table.iloc[start : start + len(rows)]))
                    start += len(rows)
                return
        for rows, answer in wanted:
            try:
                answer.set_result(_predict_padded(self.predict, rows))
            # an error belongs to the request, and the thread goes on
            except Exception as error:
                answer.set_exception(error)


def _predict_padded(predict: Predict, rows: Frame) -> Answer:
    """Predict rows, repeating the last one up to a number that has been compiled."""
    import numpy as np

    count = len(rows)
    size = next((size for size in SIZES if count <= size), count)
    padded = rows.iloc[np.minimum(np.arange(size), count - 1)].reset_index(drop=True)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            table = predict(padded)
        # its words name rows, which must be those of the request
        except ValueError:
            table = predict(rows)
    return Answer(table.iloc[:count], tuple(dict.fromkeys(str(one.message) for one in said)))


def compile_sizes(predict: Predict, row: Frame) -> None:
    """Predict each number of rows once, so that no request waits for a compiler."""
    for size in SIZES:
        _predict_padded(predict, row.iloc[[0] * size])

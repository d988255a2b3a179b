"""Predictions of many requests at once, in one thread: what waits is predicted together."""

from __future__ import annotations

import dataclasses
import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future

from bayesdl.typing import Frame
from inference.chunks import padded
from inference.process.quiet import quiet

# rows that are predicted together
TOGETHER = 1024

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
    The thread that predicts begins with the first request.

    Args:
        predict: the function that predicts the rows of a table.
        waiting: the largest number of requests that wait.
    """

    def __init__(self, predict: Predict, waiting: int) -> None:
        self.predict = predict
        self.requests: queue.Queue[Waiting | None] = queue.Queue(waiting)
        self.lock, self.thread = threading.Lock(), None

    def ask(self, rows: Frame) -> Future[Answer]:
        """Return the answer to come.

        Raises:
            queue.Full: if too many requests wait.
        """
        answer: Future[Answer] = Future()
        with self.lock:
            self.requests.put_nowait((rows, answer))
            if self.thread is None:
                self.thread = threading.Thread(target=self._run, name="predictions", daemon=True)
                self.thread.start()
        return answer

    def stop(self) -> None:
        """Answer what waits, and end the thread; a later request begins another one."""
        with self.lock:
            thread, self.thread = self.thread, None
            if thread is not None:
                self.requests.put(None)
                thread.join()

    def _run(self) -> None:
        """Answer until the end."""
        while (first := self.requests.get()) is not None:
            together, last = [first], False
            total = len(first[0])
            while total < TOGETHER and not last:
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
                rows = pd.concat([rows for rows, _ in wanted], ignore_index=True)
                whole = _answer_to(self.predict, rows)
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
                answer.set_result(_answer_to(self.predict, rows))
            # an error belongs to the request, and the thread goes on
            except Exception as error:
                answer.set_exception(error)


def _answer_to(predict: Predict, rows: Frame) -> Answer:
    """Predict rows, and keep what is said of them in this thread."""
    with quiet() as said:
        table = predict(rows)
    return Answer(table, tuple(dict.fromkeys(said)))


def compile_sizes(predict: Predict, row: Frame) -> None:
    """Predict each number of rows that is compiled, so that no request waits for a compiler."""
    with quiet():
        for size in sorted({padded(rows) for rows in range(1, TOGETHER + 1)}):
            predict(row.iloc[[0] * size].reset_index(drop=True))

"""The rows of a request, checked and as a table, and predictions as JSON."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from bayesdl.data.cells import CATEGORY, DATE, NUMBER
from bayesdl.data.fields import Field
from bayesdl.typing import Frame
from inference.settings import is_whole

EXPECTED = 'expected a JSON object {"rows": [{column: value, ...}, ...]}'
SHOWN = 10


@dataclasses.dataclass(frozen=True)
class Limits:
    """What a request may ask for.

    Attributes:
        rows: the largest number of rows of a request.
        bytes: the largest size of its body.
        waiting: the largest number of requests that wait; further ones are told to come again.
    """

    rows: int = 10_000
    bytes: int = 10_000_000
    waiting: int = 1_000

    def __post_init__(self) -> None:
        for name in ("rows", "bytes", "waiting"):
            value = getattr(self, name)
            if not is_whole(value):
                raise ValueError(
                    f"Limits({name}={value!r}): expected a whole number of at least 1."
                )


class RequestError(ValueError):
    """A request that cannot be answered.

    Attributes:
        status: the HTTP status.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def read_rows(body: bytes, fields: Sequence[Field], limits: Limits) -> Frame:
    """Return the rows of a request as a table with the model's columns.

    A cell that is null is missing. Further columns are left out.

    Raises:
        RequestError: for what is not JSON (400), not rows of cells, or too many of them (422).
    """
    import pandas as pd

    rows = _read_json(body)
    if not isinstance(rows, dict) or not isinstance(rows.get("rows"), list):
        raise RequestError(422, f"Got {_kind(rows)}: {EXPECTED}.")
    rows = rows["rows"]
    if not rows:
        raise RequestError(422, "rows is empty: expected at least one row.")
    if len(rows) > limits.rows:
        raise RequestError(422, f"Got {len(rows)} rows, at most {limits.rows} are read at once.")
    for number, row in enumerate(rows):
        _check_row(number, row, fields)
    return pd.DataFrame({field.name: [row[field.name] for row in rows] for field in fields})


def _read_json(body: bytes) -> Any:
    """Return what a body says.

    Raises:
        RequestError: for what is not JSON.
    """

    def refuse(name: str) -> None:
        raise ValueError(f"{name} is no number of JSON; a missing cell is null")

    try:
        return json.loads(body, parse_constant=refuse)
    # also texts that are not UTF-8, whole numbers of thousands of digits, and too many brackets
    except (ValueError, RecursionError) as error:
        raise RequestError(400, f"The body is not JSON ({error}): {EXPECTED}.") from None


def _check_row(number: int, row: object, fields: Sequence[Field]) -> None:
    """Refuse a row that lacks a column, or whose cells are not single values.

    Raises:
        RequestError: with the number of the row, which counts from 0.
    """
    if not isinstance(row, dict):
        raise RequestError(422, f"Row {number} is {_kind(row)}: {EXPECTED}.")
    for field in fields:
        if field.name not in row:
            raise RequestError(
                422,
                f"Row {number} lacks column '{field.name}': got {list(row)[:SHOWN]}, expected "
                f"{[one.name for one in fields][:SHOWN]}. A missing cell is null.",
            )
        cell = row[field.name]
        if isinstance(cell, dict | list):
            raise RequestError(
                422, f"Row {number}, column '{field.name}' is {_kind(cell)}: expected one value."
            )
        if isinstance(cell, str) and not _is_text(cell):
            raise RequestError(422, f"Row {number}, column '{field.name}' is not Unicode text.")
        if isinstance(cell, int | float) and not math.isfinite(_as_float(cell)):
            raise RequestError(422, f"Row {number}, column '{field.name}' is too large a number.")


def _is_text(cell: str) -> bool:
    """Whether a text can be written: JSON may hold half of a pair of surrogates."""
    try:
        cell.encode()
    except UnicodeEncodeError:
        return False
    return True


def _as_float(number: int | float) -> float:
    try:
        return float(number)
    except OverflowError:
        return math.inf


def _kind(value: object) -> str:
    """Return what a value of JSON is called."""
    names = {dict: "an object", list: "a list", str: "a text", bool: "true or false"}
    return "null" if value is None else names.get(type(value), "a number")


def as_records(table: Frame) -> list[dict[str, Any]]:
    """Return the rows of a table as objects of JSON; what is not finite is null."""
    columns = {str(name): table[name].tolist() for name in table.columns}
    return [
        {name: _json_value(values[i]) for name, values in columns.items()}
        for i in range(len(table))
    ]


def _json_value(value: Any) -> Any:
    # of columns of objects, whose numbers may be those of NumPy
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, list | tuple):
        return [_json_value(one) for one in value]
    return value if value is None or isinstance(value, bool | int | str) else str(value)


def request_schema(fields: Sequence[Field], limits: Limits) -> dict[str, Any]:
    """Return the JSON schema of a request."""
    row = {
        "type": "object",
        "required": [field.name for field in fields],
        "properties": {field.name: _field_schema(field) for field in fields},
    }
    rows = {"type": "array", "minItems": 1, "maxItems": limits.rows, "items": row}
    return {"type": "object", "required": ["rows"], "properties": {"rows": rows}}


def _field_schema(field: Field) -> dict[str, Any]:
    """Return the JSON schema of a cell."""
    if field.kind == CATEGORY:
        return {"enum": [*(field.levels or ()), None]}
    if field.kind == NUMBER:
        return {"type": ["number", "null"]}
    text: dict[str, Any] = {"type": ["string", "null"]}
    return text | {"format": "date-time"} if field.kind == DATE else text


def response_schema() -> dict[str, Any]:
    """Return the JSON schema of an answer."""
    rows = {"type": "array", "items": {"type": "object"}}
    words = {"type": "array", "items": {"type": "string"}}
    return {
        "type": "object",
        "required": ["predictions", "warnings"],
        "properties": {"predictions": rows, "warnings": words},
    }

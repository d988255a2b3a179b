"""Readable HTML for notebooks."""

from __future__ import annotations

import dataclasses
import html
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

# rows of a summary that a notebook shows
SHOWN_ROWS = 20
LEFT = "style='text-align:left'"


def model_html(model: Any) -> str:
    """Return the settings of a dataclass as a table.

    Args:
        model: the model, or any other dataclass.
    """
    rows = "".join(
        f"<tr><td {LEFT}>{field.name}</td>"
        f"<td {LEFT}><code>{html.escape(repr(getattr(model, field.name)))}</code></td></tr>"
        for field in dataclasses.fields(model)
    )
    return f"<table><tr><th colspan='2' {LEFT}>{type(model).__name__}</th></tr>{rows}</table>"


def posterior_html(
    title: str, engine: object, model: object, summary: pd.DataFrame, words: Sequence[str] = ()
) -> str:
    """Return a heading, model and engine, and the first rows of the summary.

    Args:
        title: the heading.
        engine: the engine.
        model: the model.
        summary: the summary.
        words: what is to be known of predictions, a sentence each.
    """
    said = "".join(f"<p>{html.escape(line)}</p>" for line in words)
    return (
        f"<p><b>{html.escape(title)}</b><br><code>{html.escape(repr(engine))}</code></p>"
        + said
        + model_html(model)
        + summary.head(SHOWN_ROWS).round(3).to_html()
    )

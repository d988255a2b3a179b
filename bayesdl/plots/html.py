"""Readable HTML for notebooks."""

from __future__ import annotations

import dataclasses
import html
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bayesdl.posterior.posterior import Posterior


def model_html(model: Any) -> str:
    """The settings of a spec as a table."""
    rows = "".join(
        f"<tr><td style='text-align:left'>{field.name}</td>"
        f"<td style='text-align:left'><code>{html.escape(repr(getattr(model, field.name)))}</code></td></tr>"
        for field in dataclasses.fields(model)
    )
    return f"<table><tr><th colspan='2' style='text-align:left'>{type(model).__name__}</th></tr>{rows}</table>"


def posterior_html(posterior: Posterior) -> str:
    """A heading, model and engine, and the summary of identified sites."""
    return (
        f"<p><b>{html.escape(posterior.title())}</b><br><code>{html.escape(repr(posterior.engine))}</code></p>"
        + model_html(posterior.model)
        + posterior.summary().head(20).round(3)._repr_html_()
    )

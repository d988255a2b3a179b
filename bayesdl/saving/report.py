"""A fit on one page of HTML, for people who do not run Python.

The page holds its pictures and styles itself, so that it can be sent as one file and opened without
a network.
"""

from __future__ import annotations

import base64
import html
import io
from pathlib import Path
from typing import Any

import bayesdl
from bayesdl.checks.convergence import Diagnosis
from bayesdl.data.validation import DataError
from bayesdl.plots.html import SHOWN_ROWS, model_html
from bayesdl.posterior.posterior import Posterior
from bayesdl.saving import pictures
from bayesdl.typing import ColumnLike, TableLike
from bayesdl.warnings import TrustWarning
from inference.process.quiet import quiet
from inference.process.writing import whole_file

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 52rem; margin: 2rem auto; padding: 0 1rem;
       color: #222; background: #fff }
h1 { font-size: 1.7rem } h2 { font-size: 1.2rem; margin-top: 2rem }
img { max-width: 100% } .wide { overflow-x: auto }
table { border-collapse: collapse; font-size: 0.9rem } td, th { padding: 0.25rem 0.6rem;
        border-bottom: 1px solid #ddd; text-align: left; overflow-wrap: anywhere }
.verdict { border-left: 6px solid; padding: 0.1rem 1rem; background: #f6f6f6 }
.fine { border-color: #1b7837 } .doubt { border-color: #b2182b }
footer { margin-top: 2rem; color: #666; font-size: 0.85rem }
"""


def report(
    posterior: Posterior,
    path: str | Path,
    X: TableLike | None = None,
    y: ColumnLike | None = None,
) -> Path:
    """Write one page of HTML: verdict, pictures, scores, parameters, model and engine.

    Args:
        posterior: the posterior.
        path: where to write the page, which replaces a file of that name.
        X: inputs of rows that the fit has not seen, which are predicted and scored.
        y: their targets.

    Returns:
        The path.

    Raises:
        DataError: where only one of X and y is given.

    Example:
        >>> import numpy as np, bayesdl as bdl, tempfile
        >>> x = np.linspace(-1, 1, 20)[:, None]
        >>> post = bdl.fit(bdl.GP(), x, np.sin(3 * x[:, 0]), engine=bdl.ExactGP(), progress=False)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     report(post, f"{folder}/report.html").suffix
        '.html'
    """
    if (X is None) != (y is None):
        raise DataError("A report takes inputs X and targets y of held-out rows, or neither.")
    path = Path(path)
    rows = None if X is None else (X, y)
    title = repr(posterior)
    parts = [f"<h1>{html.escape(title)}</h1>", _verdict(posterior), _pictures(posterior, rows)]
    if rows is not None:
        parts += ["<h2>Scores on rows the fit has not seen</h2>"]
        parts += [posterior.score(*rows)._repr_html_()]
    parts += [_parameters(posterior), "<h2>Model</h2>", model_html(posterior.model)]
    parts += ["<h2>Engine</h2>", model_html(posterior.engine)]
    parts += [f"<footer>Made by bayesdl {bayesdl.__version__}.</footer>"]
    head = f"<meta charset='utf-8'><title>{html.escape(title)}</title><style>{STYLE}</style>"
    # a phone shows the page at its own width
    head += "<meta name='viewport' content='width=device-width, initial-scale=1'>"
    text = f"<!doctype html><html lang='en'><head>{head}</head><body>{''.join(parts)}</body></html>"
    with whole_file(path) as beside:
        Path(beside).write_text(text, encoding="utf-8")
    return path


def _verdict(posterior: Posterior) -> str:
    """Return what can be trusted, in words and numbers."""
    with quiet(TrustWarning):
        diagnosis: Diagnosis = posterior.diagnose()
    look = "fine" if diagnosis.ok else "doubt"
    return f"<div class='verdict {look} wide'>{diagnosis._repr_html_()}</div>"


def _pictures(posterior: Posterior, rows: tuple[Any, Any] | None) -> str:
    """Return what `bayesdl plot` draws; nothing where there are neither rows nor draws."""
    if rows is None and not posterior.samples:
        return ""
    import matplotlib.pyplot as plt

    figure, what = pictures.draw(posterior, rows)
    written = io.BytesIO()
    figure.savefig(written, format="png", dpi=110)
    plt.close(figure)
    data = base64.b64encode(written.getvalue()).decode()
    words = html.escape(f"{what[0].upper()}{what[1:]}")
    return f"<h2>{words}</h2><img alt='{words}' src='data:image/png;base64,{data}'>"


def _parameters(posterior: Posterior) -> str:
    """Return the first rows of the summary; nothing where there are no parameters."""
    table = posterior.summary()
    if table.empty:
        return ""
    shown = table.head(SHOWN_ROWS).round(3).to_html(border=0)
    more = len(table) - SHOWN_ROWS
    rest = f"<p>and {more} more.</p>" if more > 0 else ""
    return f"<h2>Parameters</h2><div class='wide'>{shown}</div>{rest}"

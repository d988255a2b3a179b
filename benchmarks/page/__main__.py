"""Write docs/benchmarks.md and its charts, or check that the page is in step with the results."""

from __future__ import annotations

import argparse
import sys

from benchmarks.page import charts, models, samplers
from benchmarks.page.tables import ROOT, Section

PAGE = ROOT / "docs" / "benchmarks.md"
INTRODUCTION = """# Benchmarks

Every number on this page is read from `benchmarks/results/*.json`, and each section names the
command that makes its file. In each row the better number is bold, whoever it belongs to, and the
last section counts the rows that bayesdl loses. All were measured on one CPU, of which the
results name the versions of the packages; numbers after ± are standard errors.

```{note}
The page itself is made by `python -m benchmarks.page`, and a test fails where it is not in step.
```
"""


def sections() -> list[Section]:
    """Make all sections, in the order of the page."""
    return [*models.sections(), *samplers.sections()]


def page() -> str:
    """Return the whole page in Markdown."""
    parts = sections()
    counts = [
        f"| {part.title} | {part.won} | {part.lost} |" for part in parts if part.won + part.lost
    ]
    summary = "\n".join(
        [
            "## Rows won and lost",
            "",
            "Rows in which the best number is bayesdl's, and rows in which it is another's.",
            "",
            "| section | best | not best |",
            "| --- | --- | --- |",
            *counts,
        ]
    )
    return "\n".join([INTRODUCTION, *(part.markdown() for part in parts), summary]) + "\n"


def main() -> None:
    """Write the page and its charts, or compare the page with what would be written."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing, compare")
    if parser.parse_args().check:
        if PAGE.read_text() != page():
            sys.exit(
                "docs/benchmarks.md is not in step with the results: python -m benchmarks.page"
            )
        return
    PAGE.write_text(page())
    charts.write()
    print(f"wrote {PAGE.relative_to(ROOT)}")


if __name__ == "__main__":
    main()

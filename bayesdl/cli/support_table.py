"""The table of engines and models, asked of the engines themselves on the models' examples.

`python -m bayesdl.cli.support_table PAGE.md` writes it into a file between two marks.
"""

from __future__ import annotations

import sys
from pathlib import Path

from bayesdl.engines import ENGINES
from bayesdl.model.examples import Example
from bayesdl.model.program import as_model
from bayesdl.model.registry import registered_models
from inference.core.problem import Problem

BEGIN, END = "<!-- engines and models: begin -->", "<!-- engines and models: end -->"


def support() -> dict[str, dict[str, str | None]]:
    """Return by engine and model: None where the engine runs it, otherwise the reason why not.

    Example:
        >>> support()["NUTS"]["BNN"] is None
        True
    """
    problems = _example_problems()
    return {
        engine.__name__: {name: engine().supports(problem) for name, problem in problems.items()}
        for engine in ENGINES
    }


def _example_problems() -> dict[str, Problem]:
    """Return the problem of each example of each model, by the example's title."""
    examples = [example for model in registered_models() for example in model.examples()]
    return {example.title: problem_of(example) for example in examples}


def problem_of(example: Example) -> Problem:
    """Return the problem of an example."""
    model = as_model(example.model)
    return model.learn(*example.data, **example.named)[1]


def markdown(table: dict[str, dict[str, str | None]] | None = None) -> str:
    """Return the table in Markdown, with numbered reasons below it."""
    table = support() if table is None else table
    reasons = list(dict.fromkeys(why for row in table.values() for why in row.values() if why))
    models = list(next(iter(table.values())))
    cells = [["engine", *models]]
    for engine, row in table.items():
        cells.append(
            [engine, *(f"no ({reasons.index(why) + 1})" if why else "yes" for why in row.values())]
        )
    widths = [max(len(line[j]) for line in cells) for j in range(len(models) + 1)]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
        for row in cells
    ]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    notes = [f"{number}. {why}" for number, why in enumerate(reasons, 1)]
    return "\n".join([*lines, *([""] if notes else []), *notes])


def with_table(text: str) -> str:
    """Return a text with today's table between the marks.

    Raises:
        ValueError: where the marks are missing.
    """
    if text.count(BEGIN) != 1 or text.count(END) != 1:
        raise ValueError(f"Expected one line {BEGIN} and one line {END}.")
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    return f"{before}{BEGIN}\n\n{markdown()}\n\n{END}{after}"


def main(paths: list[str]) -> None:
    """Write the table into files, or print it where none is named."""
    for path in map(Path, paths):
        path.write_text(with_table(path.read_text()))
    if not paths:
        print(markdown())


if __name__ == "__main__":
    main(sys.argv[1:])

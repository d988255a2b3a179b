"""Run the catalogue of programs and write it as a page, `docs/programs.md`.

    PYTHONPATH=. python tests/contract/programs_page.py [ENGINE ...]     # all engines by default

Cells that were run are kept in `.programs.json` (`--keep FILE`), so that a run that was stopped
goes on from there; remove it to run all of them again.
"""

from __future__ import annotations

import argparse
import gc
import importlib.util
import json
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import jax
from program_checks import ENGINES, REFUSED, VERBS, is_wrong, outcomes
from programs import CASES

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "programs.md"
INTRODUCTION = """# Programs: what every verb answers

The tests run {programs} NumPyro programs through {engines} and every verb. A cell is *right*
(compared with `numpyro.infer.log_likelihood`, `numpyro.infer.Predictive` at the same draws, or a
closed form), or *refused* in one sentence, whose number stands below. `-` is a cell that does not
apply: the program has no other data to predict, or its fit was refused.
Made by `python tests/contract/programs_page.py`.
"""
# characters of a refusal that are shown
SHOWN = 160

Outcomes = dict[str, dict[str, dict[str, str]]]
"""What each verb answered, by engine, program and verb."""


def run(engine: str, found: Outcomes, keep: Path) -> None:
    """Run the cells of an engine that are not known yet, and keep them."""
    # compiled programs are dropped after each case, and read again
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.03)
    known = found.setdefault(engine, {})
    for case in CASES:
        missing = case.needs is not None and importlib.util.find_spec(case.needs) is None
        if case.name in known or missing:
            continue
        started = time.process_time()
        with tempfile.TemporaryDirectory() as folder:
            known[case.name] = outcomes(case, engine, Path(folder))
        # compiled programs hold mappings of memory, of which a process may have so many
        jax.clear_caches()
        gc.collect()
        print(f"{engine}, {case.name}: {time.process_time() - started:.0f} s", flush=True)
        for verb, said in known[case.name].items():
            if is_wrong(said):
                print(f"    {verb}: {said}", flush=True)
        keep.write_text(json.dumps(found, indent=1))


def page(found: Outcomes) -> str:
    """Return the page: a table for each engine, and the words of the refusals."""
    words: dict[str, int] = {}
    engines = " and ".join(", ".join(found).rsplit(", ", 1))
    lines = [INTRODUCTION.format(programs=len(CASES), engines=engines)]
    for engine, known in found.items():
        lines += [f"\n## {engine}\n", table_row(["program", *VERBS])]
        lines.append(table_row(["---"] * (1 + len(VERBS))))
        for case in CASES:
            row = known.get(case.name, {})
            lines.append(table_row([case.name, *(cell(row, verb, words) for verb in VERBS)]))
    lines += ["\n## Refusals\n", *(f"{number}. {said}" for said, number in words.items())]
    return "\n".join(lines) + "\n"


def cell(row: Mapping[str, str], verb: str, words: dict[str, int]) -> str:
    """Return what stands in a cell; a refusal as the number of its words."""
    said = row.get(verb, "not run")
    if said.startswith(REFUSED):
        return f"refused {words.setdefault(short(said.removeprefix(REFUSED)), len(words) + 1)}"
    return "**wrong**" if said != "not run" and is_wrong(said) else said


def short(words: str) -> str:
    """Return the first sentence of a refusal, cut where it is long."""
    first = words.split(". ")[0].rstrip(".")
    cut = first if len(first) <= SHOWN else first[:SHOWN].rsplit(" ", 1)[0] + " ..."
    return cut.replace("|", "\\|").replace("*", "\\*")


def table_row(cells: list[str]) -> str:
    """Return a row of a table."""
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Run what is asked for, and write the page."""
    parser = argparse.ArgumentParser(description="Run the catalogue of programs.")
    parser.add_argument("engines", nargs="*", default=list(ENGINES), help="engines to run")
    parser.add_argument("--keep", type=Path, default=ROOT / ".programs.json", help="known cells")
    settings = parser.parse_args()
    found: Outcomes = json.loads(settings.keep.read_text()) if settings.keep.exists() else {}
    for engine in settings.engines:
        run(engine, found, settings.keep)
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(page({engine: found[engine] for engine in ENGINES if engine in found}))


if __name__ == "__main__":
    main()

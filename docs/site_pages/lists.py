"""The lists of pages: tutorials, how-to guides and explanations, by the titles they have."""

from __future__ import annotations

from pathlib import Path

FOLDERS = {
    "tutorials": (
        "Tutorials",
        "Lessons to read in order, each with data, pictures and checks of what it claims. They "
        "are notebooks: run them from `tutorials/` of the repository.",
    ),
    "how-to": ("How-to guides", "One task a page. All code on these pages is run by the tests."),
    "explanation": ("Explanation", "What is behind the numbers, for reading at leisure."),
    "project": ("Project", "What changed, and how to take part."),
}
REFERENCE = {
    "api/index": "API: every public name, in nine groups",
    "engines": "Which engine runs which model",
    "../programs": "Programs: what every verb answers",
    "command-line": "Command line",
    "file-formats": "File formats",
    "glossary": "Glossary",
}


def write(docs: Path) -> None:
    """Write the index of each folder."""
    from site_pages import write as write_page

    for folder, (head, about) in FOLDERS.items():
        pages = sorted(p for p in (docs / folder).rglob("*.*") if p.stem != "index")
        pages = [page for page in pages if page.suffix in (".md", ".py")]
        lines = [f"# {head}", "", about, ""]
        tree = ["", "```{toctree}", ":hidden:", ""]
        for page in pages:
            place = page.relative_to(docs / folder)
            lines.append(f"- [{title(page)}]({place})")
            tree.append(str(place.with_suffix("")))
        write_page(docs / folder / "index.md", "\n".join([*lines, *tree, "```", ""]))
    known = [name for name in REFERENCE if name[:2] != ".." or (docs / f"{name[3:]}.md").exists()]
    lines = ["# Reference", "", *(f"- [{REFERENCE[name]}]({name}.md)" for name in known)]
    lines += ["", "```{toctree}", ":hidden:", "", *known, "```", ""]
    write_page(docs / "reference" / "index.md", "\n".join(lines))


def title(page: Path) -> str:
    """Return the first heading of a page, or of a notebook in percent format."""
    for line in page.read_text().splitlines():
        text = line.removeprefix("# ") if page.suffix == ".py" else line
        if text.startswith("# "):
            return text.removeprefix("# ").strip()
    return page.stem

"""Pages of the site that are made from the code, each time it is built.

- `api.py`: the reference in nine groups; `command_line.py`: the help of every command.
- `gallery.py`: a page for each script of the gallery; `lists.py`: the lists of pages.
- `docstrings.py`: docstrings as Sphinx reads them; `mathml.py`: formulas that need no script.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from site_pages import api, command_line, gallery, lists


def write_pages(docs: Path) -> None:
    """Write all pages that are made from the code."""
    root = docs.parent
    scripts = sorted((root / "tutorials").glob("*.py"))
    prune(docs / "tutorials", {"index.md", *(script.name for script in scripts)})
    for script in scripts:
        copy_if_changed(script, docs / "tutorials" / script.name)
    project = docs / "project"
    project.mkdir(exist_ok=True)
    for name in ("CHANGELOG", "CONTRIBUTING"):
        copy_if_changed(root / f"{name}.md", project / f"{name.lower()}.md")
    api.write(docs / "reference" / "api")
    write(docs / "reference" / "command-line.md", command_line.page())
    gallery.write(docs / "gallery")
    lists.write(docs)


def copy_if_changed(source: Path, target: Path) -> None:
    """Copy a file where its text is another one, so that unchanged pages are not read again."""
    target.parent.mkdir(exist_ok=True)
    if not target.exists() or target.read_bytes() != source.read_bytes():
        shutil.copyfile(source, target)


def prune(folder: Path, keep: set[str]) -> None:
    """Remove pages that were made for what is no longer there."""
    for page in folder.glob("*.*"):
        if page.name not in keep:
            page.unlink()


def write(path: Path, text: str) -> None:
    """Write a page where its text is another one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists() or path.read_text() != text:
        path.write_text(text)

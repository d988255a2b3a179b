"""Pages of the documentation: their code runs, they are short, their links lead somewhere."""

import re
from pathlib import Path

import matplotlib
import pytest

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
GUIDES = sorted((DOCS / "how-to").rglob("*.md"))
# index pages are made when the site is built
GUIDES = [page for page in GUIDES if page.name != "index.md"]
PAGES = [*GUIDES, *sorted((DOCS / "explanation").glob("*.md")), DOCS / "reference/file-formats.md"]
GALLERY = sorted((DOCS / "gallery").glob("*.py"))
# what runs in a second or two; the others take longer, most of it to compile
QUICK = {"recommend-items", "file-formats"}


def blocks(page):
    return re.findall(r"```python\n(.*?)```", page.read_text(), flags=re.DOTALL)


def with_code(pages):
    return [
        pytest.param(page, marks=() if page.stem in QUICK else pytest.mark.slow, id=page.stem)
        for page in pages
        if page.name != "index.md" and blocks(page)
    ]


@pytest.mark.parametrize("page", with_code(PAGES))
@pytest.mark.filterwarnings("ignore::bayesdl.warnings.TrustWarning", "ignore::UserWarning")
def test_code_of_a_page_runs(page, tmp_path, monkeypatch):
    matplotlib.use("Agg")
    monkeypatch.chdir(tmp_path)
    namespace = {}
    for block in blocks(page):
        exec(compile(block, page.name, "exec"), namespace)


def test_there_are_guides_and_they_are_short():
    assert len(GUIDES) >= 20
    for page in GUIDES:
        assert len(page.read_text().splitlines()) <= 60, page


def test_scripts_of_the_gallery_are_short():
    for script in GALLERY:
        assert len(script.read_text().splitlines()) <= 40, script
        assert (DOCS / "_static" / "gallery" / f"{script.stem}.png").exists(), script


@pytest.mark.slow
@pytest.mark.parametrize("script", GALLERY, ids=lambda path: path.stem)
@pytest.mark.filterwarnings("ignore::bayesdl.warnings.TrustWarning", "ignore::UserWarning")
def test_script_of_the_gallery_runs(script, tmp_path, monkeypatch):
    matplotlib.use("Agg")
    monkeypatch.chdir(tmp_path)
    exec(compile(script.read_text(), script.name, "exec"), {"__name__": script.stem})
    matplotlib.pyplot.close("all")


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_links_of_a_page_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#\s]+)", page.read_text()):
        if not target.startswith("http"):
            assert (page.parent / target).exists() or "/api/" in target, target


def test_every_public_name_has_a_place_in_the_reference(monkeypatch):
    import bayesdl as bdl

    monkeypatch.syspath_prepend(str(DOCS))
    from site_pages import api

    found = [name for group in api.GROUPS for name in api.names(group)]
    assert len(found) == len(set(found))
    spaces = {space for *_, own in api.GROUPS.values() for space in own}
    root = {f"bayesdl.{name}" for name in bdl.__all__ if name not in spaces}
    assert root <= set(found)

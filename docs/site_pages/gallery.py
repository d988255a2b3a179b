"""The gallery: a page for each script, with its picture where it has been run.

`python docs/site_pages/gallery.py` runs the scripts and keeps their pictures in
docs/_static/gallery/.
"""

from __future__ import annotations

import ast
import runpy
import sys
import time
from pathlib import Path


def title(script: Path) -> tuple[str, str]:
    """Return the first line of a script's docstring, and the rest."""
    head, _, rest = (ast.get_docstring(ast.parse(script.read_text())) or "").partition("\n")
    return head.rstrip("."), rest.strip()


def picture(script: Path) -> Path:
    """Return where the picture of a script stands."""
    return script.parents[1] / "_static" / "gallery" / f"{script.stem}.png"


def write(folder: Path) -> None:
    """Write a page for each script, and the page of all."""
    from site_pages import prune
    from site_pages import write as write_page

    scripts = sorted(folder.glob("*.py"))
    cards = ["# Gallery", "", "One picture, and the script of at most 40 lines that draws it.", ""]
    cards += ["::::{grid} 1 2 3 3", ":gutter: 2", ""]
    tree = ["", "```{toctree}", ":hidden:", ""]
    for script in scripts:
        head, rest = title(script)
        shown = picture(script).exists()
        image = [f":img-top: ../_static/gallery/{script.stem}.png"] if shown else []
        cards += [f":::{{grid-item-card}} {head}", f":link: pages/{script.stem}"]
        cards += [":link-type: doc", *image, ":::", ""]
        tree.append(f"pages/{script.stem}")
        large = [f"![{head}](../../_static/gallery/{script.stem}.png)", ""] if shown else []
        body = script.read_text().split('"""', 2)[2].strip()
        lines = [f"# {head}", "", rest, "", *large, "```python", body, "```", ""]
        write_page(folder / "pages" / f"{script.stem}.md", "\n".join(lines))
    prune(folder / "pages", {f"{script.stem}.md" for script in scripts})
    write_page(folder / "index.md", "\n".join([*cards, "::::", *tree, "```", ""]))


def draw(script: Path) -> None:
    """Run a script and save its picture."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    plt.close("all")
    started = time.process_time()
    runpy.run_path(str(script))
    picture(script).parent.mkdir(parents=True, exist_ok=True)
    plt.gcf().savefig(picture(script), dpi=80, bbox_inches="tight")
    print(f"{script.stem}: {time.process_time() - started:.0f} CPU s", flush=True)


def main(names: list[str]) -> None:
    """Draw the pictures of the scripts that are named, or of all."""
    scripts = sorted((Path(__file__).parents[1] / "gallery").glob("*.py"))
    for script in scripts:
        if not names or script.stem in names:
            draw(script)


if __name__ == "__main__":
    main(sys.argv[1:])

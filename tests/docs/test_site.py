"""The built site in a real browser: every page loads, every image is there, the search finds.

It looks at build/site, which `make docs` makes, and is skipped where that or a browser is missing.
Pictures of five pages, at the width of a phone and of a desktop, are left in build/pictures.
"""

import asyncio
import functools
import http.server
import importlib.util
import re
import threading
from pathlib import Path

import pytest

SITE = Path(__file__).parents[2] / "build" / "site"
PICTURES = SITE.parent / "pictures"
SHOWN = (
    "index.html",
    "benchmarks.html",
    "tutorials/01_first_posterior.html",
    "reference/api/names/bayesdl.NUTS.html",
    "gallery/index.html",
)
WIDTHS = {"phone": (390, 844), "desktop": (1280, 900)}

if not (SITE / "index.html").exists():
    pytest.skip("there is no built site: make docs", allow_module_level=True)
pages = sorted(str(path.relative_to(SITE)) for path in SITE.rglob("*.html"))
pages = [page for page in pages if not page.startswith("_static/")]


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *words):
        pass


@pytest.fixture(scope="module")
def address():
    handler = functools.partial(Quiet, directory=str(SITE))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_links_within_the_site_lead_somewhere():
    missing = []
    for page in pages:
        text = (SITE / page).read_text()
        for target in set(re.findall(r'(?:href|src)="([^"#?]+)', text)):
            if not re.match(r"[a-z]+:|//", target):
                place = (SITE / page).parent / target
                if not place.exists():
                    missing.append(f"{page}: {target}")
    assert not missing, "\n".join(missing[:20])


def test_nothing_is_loaded_from_elsewhere():
    loads = re.compile(r'<(?:script|img|link rel="stylesheet")[^>]*(?:src|href)="(https?:[^"]+)')
    found = [f"{page}: {url}" for page in pages for url in loads.findall((SITE / page).read_text())]
    assert not found, "\n".join(found[:20])


@pytest.mark.slow
def test_every_page_in_a_browser(address, tmp_path):
    if importlib.util.find_spec("tornado") is None:
        pytest.skip("tornado is not installed")
    from browser import BROKEN, PROGRAM, Browser

    if PROGRAM is None:
        pytest.skip("no Chromium on this machine: apt-get install chromium")

    async def look():
        found = []
        async with Browser(tmp_path) as browser:
            for page in pages:
                errors = await browser.visit(f"{address}/{page}")
                found += [f"{page}: {error}" for error in errors]
                found += [f"{page}: broken {image}" for image in await browser.evaluate(BROKEN)]
            PICTURES.mkdir(exist_ok=True)
            for name, size in WIDTHS.items():
                for page in SHOWN:
                    await browser.visit(f"{address}/{page}")
                    stem = page.replace("/", "-").removesuffix(".html")
                    await browser.picture(PICTURES / f"{stem}-{name}.png", *size)
                    wide = await browser.evaluate("document.documentElement.scrollWidth")
                    if wide > size[0]:
                        found.append(f"{page}: {wide} pixels wide on a {name}")
            await browser.visit(f"{address}/search.html?q=divergence")
            await asyncio.sleep(2)
            hits = await browser.evaluate("document.querySelectorAll('ul.search li').length")
            if not hits:
                found.append("the search finds nothing")
        return found

    assert asyncio.run(look()) == []

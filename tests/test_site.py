"""The built site as a reader's browser sees it: every page, from a folder and from a server, no other host.

`make test` builds the site first. The browser is the Chromium, Chrome or Edge that is installed.
"""

import functools
import os
import shutil
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
import yaml
from bs4 import BeautifulSoup
from playwright.sync_api import sync_playwright

ROOT = Path(__file__).resolve().parents[1]
SITE = ROOT / "_build" / "html"
PAGES = sorted(
    path.relative_to(SITE).as_posix() for path in SITE.rglob("*.html") if "_static" not in path.parts
)

CONTENT = [name for name in PAGES if name != "index.html"]  # which only forwards to the front page

NAMES = [
    "google-chrome",
    "google-chrome-stable",
    "chromium",
    "chromium-browser",
    "microsoft-edge",
    "chrome",
    "msedge",
]
PATHS = [
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
    "/Applications/Microsoft Edge.app/Contents/MacOS/Microsoft Edge",
    *(
        f"{os.environ.get(variable)}/{program}"
        for variable in ("PROGRAMFILES", "PROGRAMFILES(X86)", "LOCALAPPDATA")
        for program in ("Google/Chrome/Application/chrome.exe", "Microsoft/Edge/Application/msedge.exe")
    ),
]
# The last one lets no name resolve but this machine's own: a request to another host fails, and is reported.
FLAGS = [
    "--no-sandbox",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
]

# Runs in the page: what is left unrendered once MathJax says that it is done.
UNRENDERED = r"""async () => {
  if (window.MathJax?.startup) await MathJax.startup.promise;
  await document.fonts.ready;
  const problems = [];
  for (const node of document.querySelectorAll(".math"))
    if (!node.querySelector("mjx-container")) problems.push("not rendered: " + node.textContent.slice(0, 80));
  for (const node of document.querySelectorAll("mjx-merror, [data-mjx-error]"))
    problems.push("MathJax error: " + (node.dataset.mjxError ?? node.textContent));
  const text = document.body.cloneNode(true);
  text.querySelectorAll("pre, code, script, style, mjx-container, .math").forEach(node => node.remove());
  const markup = /\$\$|\\\(|\\\[|\\begin\{|\\frac|\\bar|\{(eq|cite|prf:ref|numref)\}/g;
  for (const raw of text.textContent.match(markup) ?? [])
    problems.push("raw markup in the text: " + raw);
  return problems;
}"""


def find_browser() -> str | None:
    found = [shutil.which(name) for name in NAMES] + [path for path in PATHS if Path(path).is_file()]
    return next(filter(None, found), None)


@pytest.fixture(scope="module")
def browser():
    assert (SITE / "index.html").is_file(), f"{SITE} is empty; build the site first: make book"
    path = find_browser()
    if path is None:
        message = f"no browser: none of {', '.join(NAMES)} is installed"
        pytest.fail(message) if os.environ.get("CI") else pytest.skip(message)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        pass


@pytest.fixture(scope="module")
def server():
    """The address of a plain static server over the site."""
    handler = functools.partial(QuietHandler, directory=SITE)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


def visit(browser, url: str, own: str, **context) -> list[str]:
    """Load a page; return what is wrong with it. ``own``: how the site's own addresses start."""
    problems = []
    with browser.new_context(**context) as session:
        page = session.new_page()
        page.on("console", lambda m: m.type == "error" and problems.append(f"console: {m.text}"))
        page.on("pageerror", lambda error: problems.append(f"script error: {error}"))
        page.on("requestfailed", lambda r: problems.append(f"failed: {r.url} ({r.failure})"))
        page.on("response", lambda r: r.status >= 400 and problems.append(f"status {r.status}: {r.url}"))
        page.on(
            "request",
            lambda r: r.url.startswith((own, "data:", "blob:")) or problems.append(f"other host: {r.url}"),
        )
        page.goto(url, wait_until="load")
        problems += page.evaluate(UNRENDERED)
    return problems


def test_site_holds_every_page_of_the_book():
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    expected = {toc["root"], *(chapter["file"] for part in toc["parts"] for chapter in part["chapters"])}
    missing = {f"{name}.html" for name in expected} - set(PAGES)
    assert not missing, f"not in {SITE}: {sorted(missing)}; build the site first: make book"
    assert "index.html" in PAGES


@pytest.mark.parametrize("name", CONTENT)
def test_page_from_a_folder(browser, name):
    own = SITE.as_uri() + "/"
    assert visit(browser, own + name, own) == []


@pytest.mark.parametrize("name", CONTENT)
def test_page_from_a_server(browser, server, name):
    assert visit(browser, server + name, server) == []


@pytest.mark.parametrize("scheme", ["file", "http"])
def test_index_forwards_to_the_front_page(browser, server, scheme):
    with browser.new_context() as session:
        page = session.new_page()
        page.goto((SITE / "index.html").as_uri() if scheme == "file" else server)
        page.wait_for_url("**/book/index.html")


def test_search_finds_a_word_of_the_book(browser, server):
    with browser.new_context() as session:
        page = session.new_page()
        page.goto(server + "search.html?q=noise")
        page.wait_for_selector("#search-results li a")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_figures_keep_their_colours(browser, scheme):
    """In dark mode too: no filter over a figure, and white behind it."""
    figures = 0
    with browser.new_context(color_scheme=scheme) as session:
        page = session.new_page()
        for name in (name for name in PAGES if name.startswith("book/")):
            page.goto(f"{SITE.as_uri()}/{name}")
            assert page.evaluate("document.documentElement.dataset.theme") == scheme
            styles = page.eval_on_selector_all(
                ".cell_output img",
                "nodes => nodes.map(n => [getComputedStyle(n).filter, getComputedStyle(n).backgroundColor])",
            )
            figures += len(styles)
            for filter_, background in styles:
                assert filter_ == "none", name
                assert scheme == "light" or background == "rgb(255, 255, 255)", name
    assert figures


@pytest.mark.parametrize("width", [400, 1300])
def test_no_page_is_wider_than_the_window(browser, width):
    """Wide equations, tables and code scroll by themselves, on a phone too."""
    wide = []
    with browser.new_context(viewport={"width": width, "height": 900}) as session:
        page = session.new_page()
        for name in CONTENT:
            page.goto(f"{SITE.as_uri()}/{name}")
            page.evaluate(UNRENDERED)
            if page.evaluate("document.documentElement.scrollWidth") > width:
                wide.append(name)
    assert wide == []


def test_a_broken_page_is_found_out(browser, tmp_path):
    """The checks above can fail: each fault of this page is named."""
    (tmp_path / "page.html").write_text(
        """<!doctype html><meta charset="utf-8"><body>
        <script src="https://other.example/script.js"></script><img src="gone.png" alt="gone">
        <script>console.error("a console error")</script><script>throw new Error("a script error")</script>
        <p>$$ x $$</p><span class="math">\\(y\\)</span><mjx-merror data-mjx-error="bad input"></mjx-merror>
        """,
        encoding="utf-8",
    )
    own = tmp_path.as_uri() + "/"
    problems = "\n".join(visit(browser, own + "page.html", own))
    for fault in (
        "other host: https://other.example/script.js",
        "failed: https://other.example/script.js",
        "gone.png",
        "console: a console error",
        "script error: a script error",
        "raw markup in the text: $$",
        "not rendered: \\(y\\)",
        "MathJax error: bad input",
    ):
        assert fault in problems


@functools.cache
def parsed(path: Path) -> BeautifulSoup:
    return BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")


@functools.cache
def anchors(path: Path) -> frozenset[str]:
    return frozenset(node["id"] for node in parsed(path).find_all(id=True))


@pytest.mark.parametrize("name", PAGES)
def test_links_lead_somewhere(name):
    page = SITE / name
    broken = []
    for link in parsed(page).find_all("a", href=True):
        address = urlsplit(link["href"])
        if address.scheme or address.netloc:
            continue
        target = (page.parent / unquote(address.path)).resolve() if address.path else page
        found = target.is_file() and (
            not address.fragment or target.suffix != ".html" or unquote(address.fragment) in anchors(target)
        )
        if not found:
            broken.append(link["href"])
    assert broken == []


@pytest.mark.parametrize("name", PAGES)
def test_every_image_has_a_text_alternative(name):
    assert [
        image["src"] for image in parsed(SITE / name).find_all("img") if not image.get("alt", "").strip()
    ] == []


@pytest.mark.parametrize("name", PAGES)
def test_nothing_is_loaded_from_an_absolute_address(name):
    addresses = [
        node[attribute]
        for attribute in ("src", "href", "data", "poster")
        for node in parsed(SITE / name).find_all(attrs={attribute: True})
        if node.name not in ("a", "area")
    ]
    absolute = [address for address in addresses if urlsplit(address).netloc or address.startswith("/")]
    assert absolute == []

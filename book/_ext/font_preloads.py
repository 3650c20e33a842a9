"""Take the theme's font preloads out of the pages, so that a page opened from a folder gives no error.

Some versions of the theme ask for the icon fonts ahead of need, in a way that browsers refuse to pages with a
``file:`` address. The fonts don't depend on it: the style sheet loads them a moment later.
"""

import re
from pathlib import Path

from sphinx.application import Sphinx

PRELOAD = re.compile(r'\s*<link\b(?=[^>]*\brel="preload")(?=[^>]*\bas="font")[^>]*>')


def remove_preloads(app: Sphinx, exception: Exception | None) -> None:
    if exception or app.builder.format != "html":
        return
    for page in Path(app.outdir).rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        shorter = PRELOAD.sub("", text)
        if shorter != text:
            page.write_text(shorter, encoding="utf-8")


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("build-finished", remove_preloads)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

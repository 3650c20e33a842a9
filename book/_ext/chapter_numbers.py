"""Number a chapter by its file name: ``book/03_forward_trajectory`` is chapter 3 and holds Eq. (3.1).

Sphinx counts the chapters that it finds, so that leaving one out, or adding one in between, would renumber
the rest. This takes the count back and lets Sphinx number equations, figures, theorems and exercises anew.
"""

import re

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.environment.collectors.toctree import TocTreeCollector
from sphinx.errors import SphinxError

CHAPTER = re.compile(r"(?:.*/)?(\d+)_[^/]+")


def chapter_number(docname: str) -> int:
    """The number that a chapter's file name starts with. Raises SphinxError where there is none."""
    match = CHAPTER.fullmatch(docname)
    if match is None:
        raise SphinxError(
            f"{docname} is numbered in _toc.yml, but its file name starts with no number"
        )
    return int(match[1])


def renumber(app: Sphinx, env: BuildEnvironment) -> list[str]:
    """Replace the first part of every section number; return the pages whose numbers may have changed."""
    for docname, numbers in env.toc_secnumbers.items():
        chapter = chapter_number(docname)
        env.toc_secnumbers[docname] = {
            anchor: (chapter, *number[1:]) if number else number
            for anchor, number in numbers.items()
        }
        for node in [env.titles[docname], *env.tocs[docname].findall(nodes.reference)]:
            if node.get("secnumber"):
                node["secnumber"] = [chapter, *node["secnumber"][1:]]
    return [*env.toc_secnumbers, *TocTreeCollector().assign_figure_numbers(env)]


def setup(app: Sphinx) -> dict[str, bool]:
    # After Sphinx's own count, which has the default priority of 500.
    app.connect("env-get-updated", renumber, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

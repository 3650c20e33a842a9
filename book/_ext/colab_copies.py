"""Copies of the chapters that run on Google Colab, and the button that opens them.

The sources name no repository. When the book is built from a clone of a GitHub repository, each notebook is
written once more, to ``colab/`` in the site, with a first cell that installs ``ddpm_lib`` at the very commit
the book was built from. The site is published on the branch ``gh-pages``, where Colab finds the copies.
Without such a repository there are no copies and no button.
"""

import os
import re
import subprocess
from copy import deepcopy
from pathlib import Path
from typing import Any, NamedTuple

import nbformat
from nbformat import NotebookNode
from sphinx.application import Sphinx
from sphinx.errors import ConfigError
from sphinx.util import logging

logger = logging.getLogger(__name__)

VARIABLE = "DDPM_BOOK_REPOSITORY"
NAME = r"[A-Za-z0-9][A-Za-z0-9-]*/[A-Za-z0-9._-]+?"
REMOTE = re.compile(
    rf"(?:https://(?:[^/@]+@)?|ssh://git@|git@)github\.com[/:]({NAME})(?:\.git)?/?"
)

INSTALL_CELL = """\
# Installs the book's library at the commit of this copy; torch, torchvision and numpy stay as they are.
import importlib, subprocess, sys, tempfile
from importlib.metadata import distributions

keep = [f"{d.name}=={d.version}" for d in distributions() if d.name in ("torch", "torchvision", "numpy")]
with tempfile.TemporaryDirectory() as folder:
    with open(f"{folder}/constraints.txt", "w") as file:
        file.write("\\n".join(keep))
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--constraint", file.name]
    subprocess.run([*pip, "SOURCE"], check=True)
importlib.invalidate_caches()"""


class Repository(NamedTuple):
    """A GitHub repository, ``owner/name``, and the commit that the book is built from."""

    name: str
    commit: str

    @property
    def source(self) -> str:
        """What pip installs the library from."""
        return f"git+https://github.com/{self.name}@{self.commit}"

    def launch_url(self, notebook: str) -> str:
        return f"https://colab.research.google.com/github/{self.name}/blob/gh-pages/colab/{notebook}"


def parse_remote(url: str) -> str | None:
    """``owner/name`` of a GitHub remote in any of its spellings; None for any other host or form."""
    match = REMOTE.fullmatch(url.strip())
    return match[1] if match else None


def git(folder: Path, *arguments: str) -> str | None:
    """What git prints; None where it fails or is not installed."""
    try:
        command = ["git", "-C", str(folder), *arguments]
        return subprocess.run(
            command, check=True, capture_output=True, text=True
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def find_repository(folder: Path) -> Repository | None:
    """The repository that ``folder`` is a clone of, or the one that DDPM_BOOK_REPOSITORY names.

    None, and a message in the build's log, where the copies would not work: no such repository or no commit.
    Raises ConfigError where the variable is set to something that is not ``owner/name``.
    """
    name = os.environ.get(VARIABLE)
    if name and not re.fullmatch(NAME, name):
        raise ConfigError(
            f"{VARIABLE} is {name!r}; expected owner/name, or nothing for a book without Colab"
        )
    top = git(folder, "rev-parse", "--show-toplevel")
    is_clone = top is not None and Path(top).resolve() == folder.resolve()
    if name is None and is_clone:
        name = parse_remote(git(folder, "remote", "get-url", "origin") or "")
    if not name:
        logger.info(
            "[colab] no GitHub repository is known: no copies for Colab, no launch button"
        )
        return None
    commit = git(folder, "rev-parse", "HEAD") if is_clone else None
    if commit is None:
        logger.info(
            "[colab] the commit is not known: no copies for Colab, no launch button"
        )
        return None
    if git(folder, "status", "--porcelain"):
        logger.info(
            "[colab] there are uncommitted changes, which the copies' library will not have"
        )
    logger.info("[colab] the copies install ddpm_lib from %s at %s", name, commit)
    return Repository(name, commit)


def colab_copy(notebook: NotebookNode, source: str) -> NotebookNode:
    """The notebook, outputs kept, after a first cell that installs ``ddpm_lib`` from ``source``."""
    copy = deepcopy(notebook)
    cell = nbformat.v4.new_code_cell(
        INSTALL_CELL.replace("SOURCE", source), id="install-ddpm-lib"
    )
    copy.cells.insert(0, cell)
    nbformat.validate(copy)
    return copy


def notebook_path(app: Sphinx, docname: str) -> Path | None:
    """The notebook that a page is made from and that runs on Colab; None for any other page.

    A notebook that reads the others, as the ledger does, says "colab": false in its metadata.
    """
    path = Path(app.env.doc2path(docname))
    if path.suffix != ".ipynb" or not nbformat.read(path, as_version=4).metadata.get(
        "colab", True
    ):
        return None
    return path


def set_repository(app: Sphinx) -> None:
    app.colab_repository = find_repository(Path(app.srcdir))


def add_button(
    app: Sphinx, pagename: str, template: str, context: dict[str, Any], doctree: Any
) -> None:
    repository = app.colab_repository
    path = notebook_path(app, pagename) if pagename in app.env.found_docs else None
    if repository and path:
        context["header_buttons"].insert(
            0,
            {
                "type": "link",
                "url": repository.launch_url(path.name),
                "icon": "fas fa-rocket",
                "tooltip": "Run this chapter on Google Colab",
                "label": "launch-colab",
            },
        )


def write_copies(app: Sphinx, exception: Exception | None) -> None:
    repository = app.colab_repository
    if exception or not repository or app.builder.format != "html":
        return
    folder = Path(app.outdir, "colab")
    folder.mkdir(exist_ok=True)
    for path in filter(
        None, (notebook_path(app, docname) for docname in app.env.found_docs)
    ):
        copy = colab_copy(nbformat.read(path, as_version=4), repository.source)
        nbformat.write(copy, folder / path.name)


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("builder-inited", set_repository)
    # After the theme has made its list of buttons (priority 501).
    app.connect("html-page-context", add_button, priority=502)
    app.connect("build-finished", write_copies)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

"""Copies for Google Colab: their repository, what they hold, and one run in an empty environment."""

import json
import os
import shutil
import subprocess
import venv
from pathlib import Path
from types import SimpleNamespace

import colab_copies
import nbformat
import pytest
import torch
from nbclient import NotebookClient
from sphinx.errors import ConfigError

CHAPTER = "book/03_forward_trajectory.ipynb"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=Test", "-c", "user.email=test@example.org", "-c", "commit.gpgsign=false"]
    command = ["git", *identity, "-C", str(folder), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def clone(tmp_path, monkeypatch) -> Path:
    """A git repository with one commit and no remote."""
    monkeypatch.delenv(colab_copies.VARIABLE, raising=False)
    folder = tmp_path / "clone"
    folder.mkdir()
    git(folder, "init", "--quiet")
    git(folder, "commit", "--quiet", "--allow-empty", "--message", "Start")
    return folder


@pytest.fixture
def notebook():
    return nbformat.v4.new_notebook(
        cells=[
            nbformat.v4.new_markdown_cell("# A chapter"),
            nbformat.v4.new_code_cell(
                "1 + 1", execution_count=1, outputs=[nbformat.v4.new_output("stream", text="2")]
            ),
        ]
    )


@pytest.mark.parametrize(
    "url",
    [
        "https://github.com/owner/name",
        "https://github.com/owner/name/",
        "https://github.com/owner/name.git",
        "https://user:token@github.com/owner/name.git",
        "git@github.com:owner/name.git",
        "git@github.com:owner/name",
        "ssh://git@github.com/owner/name",
        "ssh://git@github.com/owner/name.git/",
        " https://github.com/owner/name\n",
    ],
)
def test_a_github_remote_in_any_spelling(url):
    assert colab_copies.parse_remote(url) == "owner/name"


def test_a_name_with_dots_and_dashes():
    assert colab_copies.parse_remote("https://github.com/an-owner/a.name_2-x.git") == "an-owner/a.name_2-x"


@pytest.mark.parametrize(
    "url",
    [
        "",
        "https://gitlab.com/owner/name.git",
        "https://github.com.example.org/owner/name",
        "https://example.org/github.com/owner/name",
        "https://github.com/owner",
        "https://github.com/owner/name/tree/main",
        "https://github.com/owner/na me",
        "git@github.com:owner/name; rm -r x",
        "/srv/git/name.git",
        "file:///srv/git/github.com/owner/name",
    ],
)
def test_no_other_remote_is_taken_for_one(url):
    assert colab_copies.parse_remote(url) is None


def test_the_remote_names_the_repository(clone):
    git(clone, "remote", "add", "origin", "git@github.com:owner/name.git")
    assert colab_copies.find_repository(clone) == ("owner/name", git(clone, "rev-parse", "HEAD"))


def test_the_variable_wins_over_the_remote(clone, monkeypatch):
    git(clone, "remote", "add", "origin", "git@github.com:owner/name.git")
    monkeypatch.setenv(colab_copies.VARIABLE, "other/fork")
    assert colab_copies.find_repository(clone).name == "other/fork"


def test_an_empty_variable_turns_colab_off(clone, monkeypatch):
    git(clone, "remote", "add", "origin", "git@github.com:owner/name.git")
    monkeypatch.setenv(colab_copies.VARIABLE, "")
    assert colab_copies.find_repository(clone) is None


def test_a_variable_that_names_no_repository_is_refused(clone, monkeypatch):
    monkeypatch.setenv(colab_copies.VARIABLE, "https://github.com/owner/name")
    with pytest.raises(ConfigError, match="expected owner/name"):
        colab_copies.find_repository(clone)


def test_no_copies_without_a_github_remote(clone):
    assert colab_copies.find_repository(clone) is None
    git(clone, "remote", "add", "origin", "https://gitlab.com/owner/name.git")
    assert colab_copies.find_repository(clone) is None


def test_no_copies_without_a_commit(tmp_path, monkeypatch):
    monkeypatch.setenv(colab_copies.VARIABLE, "owner/name")
    assert colab_copies.find_repository(tmp_path) is None


def test_a_folder_inside_another_clone_does_not_take_its_remote(clone):
    git(clone, "remote", "add", "origin", "git@github.com:owner/name.git")
    (clone / "book").mkdir()
    assert colab_copies.find_repository(clone / "book") is None


def test_the_first_cell_installs_the_commit_and_the_rest_is_unchanged(notebook):
    repository = colab_copies.Repository("owner/name", COMMIT)
    copy = colab_copies.colab_copy(notebook, repository.source)
    assert f"git+https://github.com/owner/name@{COMMIT}" in copy.cells[0].source
    assert copy.cells[1:] == notebook.cells
    assert len(notebook.cells) == 2


def build(tmp_path, notebook, repository):
    """Run the extension's hooks over a site of one notebook and one text page; return buttons by page."""
    paths = {"book/03_chapter": tmp_path / "03_chapter.ipynb", "book/index": tmp_path / "index.md"}
    nbformat.write(notebook, paths["book/03_chapter"])
    app = SimpleNamespace(
        colab_repository=repository,
        outdir=tmp_path / "site",
        builder=SimpleNamespace(format="html"),
        env=SimpleNamespace(found_docs=set(paths), doc2path=paths.get),
    )
    app.outdir.mkdir()
    contexts = {page: {"header_buttons": []} for page in [*paths, "search"]}
    for page, context in contexts.items():
        colab_copies.add_button(app, page, "page.html", context, None)
    colab_copies.write_copies(app, None)
    return {page: context["header_buttons"] for page, context in contexts.items()}


def test_a_notebook_gets_a_copy_and_a_button_that_opens_it(tmp_path, notebook):
    buttons = build(tmp_path, notebook, colab_copies.Repository("owner/name", COMMIT))
    [button] = buttons.pop("book/03_chapter")
    start = "https://colab.research.google.com/github/owner/name/blob/gh-pages/"
    assert button["url"] == start + "colab/03_chapter.ipynb"
    assert COMMIT in (tmp_path / "site" / button["url"].removeprefix(start)).read_text(encoding="utf-8")
    assert buttons == {"book/index": [], "search": []}


def test_a_notebook_that_does_not_run_there_gets_neither(tmp_path, notebook):
    notebook.metadata["colab"] = False
    buttons = build(tmp_path, notebook, colab_copies.Repository("owner/name", COMMIT))
    assert not any(buttons.values())
    assert list((tmp_path / "site" / "colab").iterdir()) == []


def test_without_a_repository_there_is_no_button_and_no_copy(tmp_path, notebook):
    buttons = build(tmp_path, notebook, None)
    assert not any(buttons.values())
    assert list((tmp_path / "site").iterdir()) == []


PROBE = """
import importlib.metadata, importlib.util, json, torch
library = importlib.util.find_spec("ddpm_lib")
print(json.dumps({
    "library": library and library.origin,
    "origin": importlib.metadata.distribution("ddpm-lib").read_text("direct_url.json") if library else None,
    "torch": [torch.__version__, importlib.metadata.version("torch"), torch.__file__],
}))
"""


@pytest.mark.slow
def test_a_copy_runs_where_only_torch_and_the_like_are_installed(tmp_path, clone, root, monkeypatch):
    """In a new environment that sees this one's packages but no ``ddpm_lib``: Colab has torch and no book.

    The library comes from a clone that holds this repository's last commit; uncommitted changes are not tested.
    The clone has no history, since this one's may be cut off, and pip's partial clone of such a one never ends.
    """
    try:
        git(root, "archive", "--output", str(tmp_path / "files.zip"), "HEAD")
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"not a git clone, so there is no commit to install: {error}")
    shutil.unpack_archive(tmp_path / "files.zip", clone)
    git(clone, "add", "--all", "--force")
    git(clone, "commit", "--quiet", "--message", "The last commit's files")
    commit = git(clone, "rev-parse", "HEAD")
    copy = colab_copies.colab_copy(
        nbformat.read(clone / CHAPTER, as_version=4), f"git+{clone.as_uri()}@{commit}"
    )

    # A .pth file adds a folder of packages but doesn't read the .pth files in it, among them the one that
    # makes this environment's editable ddpm_lib importable. And pip removes nothing outside its environment.
    place = tmp_path / "environment"
    venv.create(place, with_pip=True, symlinks=os.name != "nt")
    python = place / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    own_packages = Path(run(python, "import sysconfig; print(sysconfig.get_path('purelib'))"))
    packages = Path(torch.__file__).parents[1]
    (own_packages / "as_on_colab.pth").write_text(f"{packages}\n")

    monkeypatch.delenv("PYTHONPATH", raising=False)
    work = tmp_path / "work"
    work.mkdir()
    before = json.loads(run(python, PROBE, cwd=work))
    assert before["library"] is None

    kernel = tmp_path / "jupyter" / "kernels" / "colab"
    kernel.mkdir(parents=True)
    argv = [str(python), "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    (kernel / "kernel.json").write_text(
        json.dumps({"argv": argv, "display_name": "Colab", "language": "python"})
    )
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    NotebookClient(
        copy, timeout=600, kernel_name="colab", resources={"metadata": {"path": str(work)}}
    ).execute()

    after = json.loads(run(python, PROBE, cwd=work))
    assert Path(after["library"]).is_relative_to(own_packages)
    assert json.loads(after["origin"])["vcs_info"]["commit_id"] == commit
    assert after["torch"] == before["torch"]
    assert before["torch"][2] == torch.__file__


def run(python: Path, code: str, cwd: Path | None = None) -> str:
    command = [str(python), "-c", code]
    return subprocess.run(command, check=True, capture_output=True, text=True, cwd=cwd).stdout.strip()

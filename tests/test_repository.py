"""The repository's own rules, as far as a machine can check them: files, floors of the library, notebooks."""

import ast
import os
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path

import nbformat
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
LIBRARY = ROOT / "ddpm_lib"
NOTEBOOKS = sorted((ROOT / "book").glob("*.ipynb"))
SOURCES = sorted(
    path
    for folder in ("ddpm_lib", "tests", "book/_ext", "benchmarks")
    for path in (ROOT / folder).rglob("*.py")
)

# A module imports only from floors below its own; modules inside a package are free among themselves.
FLOORS = {
    "_checks": 0,
    "_device": 0,
    "checkpoint": 0,
    "schedule": 1,
    "proof": 1,
    "_diffusers": 1,
    "_folder": 1,
    "_journal": 1,
    "data": 2,
    "unet": 2,
    "kernel": 2,
    "plots": 3,
    "gaussian": 3,
    "binomial": 3,
    "denoiser": 3,
    "metrics": 3,
    "_distributed": 3,
    "oracle": 4,
    "guidance": 4,
    "bound": 4,
    "samplers": 4,
    "config": 5,
    "_loading": 6,
    "_jobs": 6,
    "training": 7,
    "evaluation": 8,
    "cli": 9,
    "__main__": 10,
}

# Files past 350 lines, each with its reason.
LONG: dict[str, str] = {}

REQUIRED = [
    "README.md",
    "LICENSE",
    "LICENSE-TEXT",
    "Makefile",
    "pyproject.toml",
    "requirements.txt",
    "_config.yml",
    "_toc.yml",
    ".gitignore",
    ".ci/run",
    ".github/workflows/test.yml",
    ".github/workflows/publish.yml",
    "book/index.md",
    "book/references.md",
    "book/references.bib",
]


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@cache
def read(path: Path) -> nbformat.NotebookNode:
    return nbformat.read(path, as_version=4)


def code_cells(path: Path) -> list[nbformat.NotebookNode]:
    return [cell for cell in read(path).cells if cell.cell_type == "code"]


def make_targets() -> set[str]:
    return set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))


def library_imports(source: str, package: str = "ddpm_lib") -> set[str]:
    """The modules of the library that a source imports, by the first part of their name below the package."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level:
            names.add(f"{package}.relative")
        elif isinstance(node, ast.ImportFrom) and node.module == package:
            names |= {f"{package}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module)
    return {name.split(".")[1] for name in names if name.startswith(package + ".")} - {"__version__"}


def test_required_files_are_there():
    assert [name for name in REQUIRED if not (ROOT / name).is_file()] == []


def test_every_chapter_in_the_contents_is_there_and_every_notebook_is_in_the_contents():
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    listed = {chapter["file"] for part in toc["parts"] for chapter in part["chapters"]}
    assert [name for name in listed if not list(ROOT.glob(name + ".*"))] == []
    assert {relative(path.with_suffix("")) for path in NOTEBOOKS} <= listed


def test_ci_calls_the_test_command_of_the_readme():
    script = ROOT / ".ci" / "run"
    assert script.read_text(encoding="utf-8").rstrip().endswith("\nmake test")
    assert os.name == "nt" or os.access(script, os.X_OK)


def test_the_readme_names_only_targets_that_exist():
    named = set(re.findall(r"\bmake ([a-z]+)\b", (ROOT / "README.md").read_text(encoding="utf-8")))
    assert {"book", "test"} <= named
    assert named <= make_targets()


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_make_help_lists_every_target():
    listed = subprocess.run(["make", "--silent"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    assert set(re.findall(r"^  make (\w+)", listed, re.MULTILINE)) == make_targets() - {"site"}


@pytest.mark.parametrize("path", SOURCES, ids=relative)
def test_a_file_is_short_enough_to_read(path):
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines <= 350 or relative(path) in LONG


def test_the_library_has_fewer_than_twenty_modules():
    modules = {
        path.stem for path in LIBRARY.iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()
    }
    assert len([name for name in modules if not name.startswith("_")]) < 20


@pytest.mark.parametrize("path", sorted(LIBRARY.rglob("*.py")), ids=relative)
def test_a_module_imports_only_from_floors_below(path):
    module = path.relative_to(LIBRARY).parts[0].removesuffix(".py")
    if module == "__init__":
        assert library_imports(path.read_text(encoding="utf-8")) == set()
        return
    assert module in FLOORS, "a new module: give it a floor in FLOORS"
    own = {module} if path.parent != LIBRARY else set()
    for other in library_imports(path.read_text(encoding="utf-8")) - own:
        assert FLOORS.get(other, 99) < FLOORS[module], f"{module} imports {other}"


def test_an_import_is_seen_in_each_of_its_forms():
    source = """
import ddpm_lib.unet
import ddpm_lib.proof.verify as v
from ddpm_lib import data, plots as p, __version__
from ddpm_lib.schedule import Schedule
def late():
    from ddpm_lib.cli import main
from . import here
from torch import nn
"""
    assert library_imports(source) == {"unet", "proof", "data", "plots", "schedule", "cli", "relative"}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=relative)
class TestNotebook:
    def test_it_was_run_from_top_to_bottom(self, path):
        counts = [cell.execution_count for cell in code_cells(path)]
        assert counts == list(range(1, len(counts) + 1))

    def test_it_stores_no_error_and_no_warning(self, path):
        """What a cell writes to stderr is a progress bar or a mistake."""
        for cell in code_cells(path):
            for output in cell.outputs:
                assert output.output_type != "error", cell.source
                if output.get("name") == "stderr":
                    lines = [line for line in re.split(r"[\r\n]+", output.text) if line.strip()]
                    assert [line for line in lines if not re.search(r"it/s|s/it|images/s|%\|", line)] == []

    def test_no_cell_silences_its_value_with_a_semicolon(self, path):
        """nbval runs cells without a history, where IPython doesn't heed it: the comparison would fail."""
        for cell in code_cells(path):
            assert not cell.source.rstrip().endswith(";"), cell.source

    def test_it_is_under_one_megabyte(self, path):
        assert path.stat().st_size < 1_000_000

    def test_a_cell_whose_output_is_not_compared_verifies_nothing(self, path):
        for cell in code_cells(path):
            marks = [*cell.metadata.get("tags", []), cell.source.lower().replace("_", "-")]
            if any("nbval-ignore-output" in mark for mark in marks):
                assert not re.search(r"\bverify\w*\(", cell.source), cell.source
            assert not any("nbval-skip" in mark or "nbval-raises" in mark for mark in marks), cell.source

    def test_it_sets_nothing_up_and_names_no_repository(self, path):
        for cell in read(path).cells:
            assert not re.search(
                r"pip3? install|conda install|git\+https|google\.colab|colab\.research", cell.source
            ), cell.source

    def test_no_step_is_left_to_be_shown(self, path):
        for cell in read(path).cells:
            assert not re.search(r"it can\s+(easily\s+)?be\s+shown", cell.source, re.IGNORECASE), cell.source

    def test_every_figure_has_a_text_alternative(self, path):
        for cell in code_cells(path):
            kinds = {kind for output in cell.outputs for kind in output.get("data", {})}
            if any(kind.startswith("image/") for kind in kinds):
                image = cell.metadata.get("mystnb", {}).get("image", {})
                assert len(image.get("alt", "")) > 20, (
                    f"metadata mystnb.image.alt is missing or too short:\n{cell.source}"
                )

"""The equation contract, as far as stored outputs show it: every label has a record, every record a label."""

import re
from collections import Counter
from pathlib import Path

import nbformat
import pytest

from ddpm_lib.proof import MIME

BOOK = Path(__file__).resolve().parents[1] / "book"
CHAPTERS = sorted(BOOK.glob("[0-9]*.ipynb"))
LABEL = re.compile(r"\$\$\s*\((eq-[\w-]+)\)")
REFERENCE = re.compile(r"\{eq\}`(eq-[\w-]+)`")
CLAIMED = re.compile(r"Eq\. \((eq-[\w-]+)\)(?: and \((eq-[\w-]+)\))?")


def cells(path):
    return nbformat.read(path, as_version=4).cells


def prose(path):
    return "\n".join(cell.source for cell in cells(path) if cell.cell_type == "markdown")


def records(path):
    outputs = (out for cell in cells(path) if cell.cell_type == "code" for out in cell.outputs)
    return [out.data[MIME] for out in outputs if MIME in out.get("data", {})]


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_every_label_has_one_record_and_every_record_a_label(path):
    labels = Counter(LABEL.findall(prose(path)))
    recorded = Counter(record["label"] for record in records(path))
    assert labels
    assert labels == recorded
    assert set(labels.values()) == {1}


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_every_identity_is_proved_or_says_that_it_is_only_checked(path):
    kinds = {(record["kind"], record["status"]) for record in records(path)}
    assert kinds <= {
        ("identity", "proved"),
        ("identity", "checked"),
        ("inequality", "proved"),
        ("inequality", "checked"),
        ("definition", "stated"),
        ("assumption", "stated"),
    }
    checked = [record["label"] for record in records(path) if record["status"] == "checked"]
    assert not [label for label in checked if not re.search(r"\bchecked\b", prose(path))]


def test_a_label_is_given_once_in_the_book():
    labels = Counter(label for path in CHAPTERS for label in LABEL.findall(prose(path)))
    assert [label for label, times in labels.items() if times > 1] == []


def test_references_name_equations_of_the_book():
    labels = {label for path in CHAPTERS for label in LABEL.findall(prose(path))}
    named = {(path.stem, label) for path in CHAPTERS for label in REFERENCE.findall(prose(path))}
    assert {(stem, label) for stem, label in named if label not in labels} == set()


def test_the_librarys_docstrings_name_equations_of_the_book():
    labels = {label for path in CHAPTERS for label in LABEL.findall(prose(path))}
    named = set()
    for path in (BOOK.parent / "ddpm_lib").glob("*.py"):
        found = CLAIMED.findall(path.read_text(encoding="utf-8"))
        named |= {label for pair in found for label in pair if label}
    assert len(named) >= 9
    assert named <= labels

"""The equation contract, as far as stored outputs show it: every label has a record, every record a label."""

import re
from collections import Counter
from pathlib import Path

import pytest

from ddpm_lib.proof import book

BOOK = Path(__file__).resolve().parents[1] / "book"
CHAPTERS = book.chapters(BOOK)
REFERENCE = re.compile(r"\{eq\}`(eq-[\w-]+)`")
CLAIMED = re.compile(r"Eq\. \((eq-[\w-]+)\)(?: and \((eq-[\w-]+)\))?")


def labels(path):
    return [display.label for display in book.displays(path)]


def test_the_chapters_are_found():
    assert {path.stem for path in BOOK.glob("[0-9]*.ipynb")} <= {path.stem for path in CHAPTERS}
    assert {path.stem[:2] for path in CHAPTERS} >= {"02", "03", "04", "08"}


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_every_label_has_one_record_and_every_record_a_label(path):
    given = Counter(labels(path))
    recorded = Counter(record["label"] for record in book.records(path))
    assert given
    assert given == recorded
    assert set(given.values()) == {1}


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_every_label_is_written_where_it_is_found(path):
    assert len(labels(path)) == len(re.findall(r"\$\$\s*\(eq-[\w-]+\)", book.prose(path)))


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_every_identity_is_proved_or_says_that_it_is_only_checked(path):
    kinds = {(record["kind"], record["status"]) for record in book.records(path)}
    assert kinds <= {
        ("identity", "proved"),
        ("identity", "checked"),
        ("inequality", "proved"),
        ("inequality", "checked"),
        ("definition", "stated"),
        ("assumption", "stated"),
    }
    checked = [record["label"] for record in book.records(path) if record["status"] == "checked"]
    assert not [label for label in checked if not re.search(r"\bchecked\b", book.prose(path))]


def test_a_label_is_given_once_in_the_book():
    given = Counter(label for path in CHAPTERS for label in labels(path))
    assert [label for label, times in given.items() if times > 1] == []


def test_references_name_equations_of_the_book():
    given = {label for path in CHAPTERS for label in labels(path)}
    named = {(path.stem, label) for path in CHAPTERS for label in REFERENCE.findall(book.prose(path))}
    assert {(stem, label) for stem, label in named if label not in given} == set()


def test_the_librarys_docstrings_name_equations_of_the_book():
    given = {label for path in CHAPTERS for label in labels(path)}
    named = set()
    for path in (BOOK.parent / "ddpm_lib").glob("*.py"):
        found = CLAIMED.findall(path.read_text(encoding="utf-8"))
        named |= {label for pair in found for label in pair if label}
    assert len(named) >= 9
    assert named <= given

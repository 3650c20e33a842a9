"""The book's equations as its notebooks hold them: each labelled display, and the record that its check left."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

from ddpm_lib.proof.latex import read
from ddpm_lib.proof.record import MIME
from ddpm_lib.proof.same import difference

DISPLAY = re.compile(r"\$\$(?P<latex>(?:(?!\$\$).)+)\$\$\s*\((?P<label>eq-[\w-]+)\)", re.DOTALL)


@dataclass(frozen=True)
class Display:
    """A labelled display. chapter: the notebook's name without its ending. cell: its number there, from 0."""

    label: str
    latex: str
    chapter: str
    cell: int

    @property
    def place(self) -> str:
        """Where it stands, for messages."""
        return f"{self.label} ({self.chapter}, cell {self.cell})"


def cells(path: Path) -> list[dict]:
    """A notebook's cells, each source as one string."""
    found = json.loads(Path(path).read_text(encoding="utf-8"))["cells"]
    return [cell | {"source": "".join(cell["source"])} for cell in found]


def prose(path: Path) -> str:
    """The text of a notebook's Markdown cells."""
    return "\n".join(cell["source"] for cell in cells(path) if cell["cell_type"] == "markdown")


def displays(path: Path) -> list[Display]:
    """A notebook's labelled displays, in their order."""
    return [
        Display(match["label"], match["latex"].strip(), Path(path).stem, number)
        for number, cell in enumerate(cells(path))
        if cell["cell_type"] == "markdown"
        for match in DISPLAY.finditer(cell["source"])
    ]


def records(path: Path) -> list[dict]:
    """What verify, verify_induction, define and assume left in a notebook's outputs, in their order."""
    outputs = (out for cell in cells(path) for out in cell.get("outputs", ()))
    return [out["data"][MIME] for out in outputs if MIME in out.get("data", {})]


def chapters(book: Path) -> list[Path]:
    """The notebooks of a folder that hold labelled displays or records."""
    return [path for path in sorted(Path(book).glob("*.ipynb")) if displays(path) or records(path)]


def equations(book: Path) -> list[tuple[Display, dict]]:
    """Each labelled display of a folder's notebooks with its record, where it has one in the same notebook."""
    found = []
    for path in chapters(book):
        held = {record["label"]: record for record in records(path)}
        found += [(display, held[display.label]) for display in displays(path) if display.label in held]
    return found


def complaint(display: Display, record: dict) -> str:
    """Why a display is not what its record holds, with its place; "" if it is.

    Every definition, identity and inequality can be compared; an assumption, which is a sentence, raises ValueError.
    """
    if record["kind"] == "assumption":
        raise ValueError(f"record: expected a definition, an identity or an inequality, got {display.label}")
    try:
        found = difference(read(display.latex, record), record)
    except ValueError as error:
        found = str(error)
    return found and f"{display.place}: {found}\n    {display.latex}"

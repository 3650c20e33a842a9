"""The ledger: every labelled equation of the book, how it was checked, and what computes it.

It is made from the records that the checks left in the chapters' outputs, so it cannot tell of what did not run.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from multiprocessing import get_context
from pathlib import Path

from tqdm import tqdm

from ddpm_lib.proof.book import Display, equations
from ddpm_lib.proof.implementations import implementations
from ddpm_lib.proof.latex import read
from ddpm_lib.proof.premises import known, premises
from ddpm_lib.proof.same import difference
from ddpm_lib.proof.trial import verdict
from ddpm_lib.proof.waivers import WAIVED

CLAIMS = ("identity", "inequality")
READ = "read back"


@dataclass(frozen=True)
class Entry:
    """One labelled equation.

    kind: identity, inequality, definition or assumption. status: proved, checked or stated. by: the reason named.
    displayed: "read back" where the display is what was verified; else why it is not compared. computed_by: the
    functions of ddpm_lib whose docstrings name it. where: conditions under which it is claimed. given: for each of
    its premises the label of an earlier equation that states it, "in the text", or the rule that it is. slow: why the
    check takes long. mutants: how many were tried and refused, which are the same equation and which survived; empty
    where they were not asked for, or nothing is claimed.
    """

    label: str
    chapter: str
    kind: str
    status: str
    by: str
    displayed: str
    computed_by: tuple[str, ...]
    where: tuple[str, ...] = ()
    given: tuple[str, ...] = ()
    slow: str = ""
    mutants: dict = field(default_factory=dict)


def entries(book: Path, mutants: bool = False, progress: bool = False) -> list[Entry]:
    """The ledger of a folder of chapters, in their order.

    mutants: whether to put each claim's mutants on trial too, on all cores, which takes a minute or more. Raises
    ValueError where the folder holds no labelled equation.
    """
    found = equations(book)
    if not found:
        raise ValueError(f"book: expected a folder of chapters with labelled equations, got {book}")
    with ProcessPoolExecutor(mp_context=get_context("spawn")) if mutants else nullcontext() as pool:
        tried = pool.map(_trial, found) if pool else ({} for _ in found)
        bar = tqdm(
            zip(known(book, found), tried, strict=True),
            "equations",
            len(found),
            leave=False,
            disable=not progress,
            unit="eq",
        )
        computed = implementations()
        return [
            _entry(display, record, computed, list(map(here.origin, premises(record))), trial)
            for (display, record, here), trial in bar
        ]


def _trial(equation: tuple[Display, dict]) -> dict:
    """What became of an equation's mutants; empty for one that claims nothing."""
    display, record = equation
    if record["kind"] not in CLAIMS:
        return {}
    outcome = verdict(display if displayed(display, record) == READ else None, record)
    return asdict(outcome) | {"tried": outcome.tried}


def _entry(display: Display, record: dict, computed: dict, given: list[str], trial: dict) -> Entry:
    return Entry(
        display.label,
        display.chapter,
        record["kind"],
        record["status"],
        record["by"],
        displayed(display, record),
        tuple(computed.get(display.label, ())),
        tuple(record["where"][: len(record.get("where_code", ()))]),
        tuple(given),
        record.get("slow", ""),
        trial,
    )


def displayed(display: Display, record: dict) -> str:
    """ "read back" where the display says what was verified; else the reason why not."""
    if record["kind"] == "assumption":
        return ""
    if display.label in WAIVED:
        return WAIVED[display.label]
    try:
        return difference(read(display.latex, record), record) or READ
    except ValueError as error:
        return str(error)


def totals(ledger: Iterable[Entry]) -> dict[str, int]:
    """The counts that stand on top of the ledger."""
    ledger = list(ledger)
    claims = [entry for entry in ledger if entry.kind in CLAIMS]
    kinds = Counter(entry.kind for entry in ledger)
    counts = {
        "equations": len(ledger),
        **{f"{kind}": kinds[kind] for kind in ("identity", "inequality", "definition", "assumption")},
        "proved": sum(entry.status == "proved" for entry in claims),
        "checked": sum(entry.status == "checked" for entry in claims),
        "read back": sum(entry.displayed == READ for entry in claims),
        "waived": sum(entry.displayed != READ for entry in claims),
        "computed by the library": sum(bool(entry.computed_by) for entry in ledger),
    }
    if any(entry.mutants for entry in ledger):
        tried = [entry.mutants for entry in claims if entry.mutants]
        counts |= {
            "mutants tried": sum(outcome["tried"] for outcome in tried),
            "mutants refused": sum(outcome["refused"] for outcome in tried),
            "mutants proved equal": sum(len(outcome["equal"]) for outcome in tried),
            "mutants that got through": sum(len(outcome["survived"]) for outcome in tried),
        }
    return counts


def as_text(ledger: list[Entry]) -> str:
    """The ledger for a terminal."""
    width = max(len(entry.label) for entry in ledger)
    lines = [f"{count:5d}  {name}" for name, count in totals(ledger).items()]
    chapter = ""
    for entry in ledger:
        if entry.chapter != chapter:
            chapter = entry.chapter
            lines += ["", chapter]
        marks = {"proved": "✓", "checked": "≈", "stated": "·"}
        words = [f"  {marks[entry.status]} {entry.label:{width}s}", f"{entry.kind:10s}", f"{entry.by:24s}"]
        words.append({READ: "=", "": " "}.get(entry.displayed, "≠"))
        if entry.mutants:
            words.append(
                f"{entry.mutants['refused']:2d}/{entry.mutants['tried'] - len(entry.mutants['equal'])}"
            )
        lines.append("  ".join([*words, ", ".join(entry.computed_by)]).rstrip())
    return "\n".join(lines)


def as_json(ledger: list[Entry]) -> dict:
    """The ledger as plain JSON values: totals, and one object an equation."""
    return {"totals": totals(ledger), "equations": [asdict(entry) for entry in ledger]}


def as_markdown(ledger: list[Entry]) -> str:
    """The ledger of one chapter as a table with links, in MyST Markdown."""
    lines = [
        "| equation | kind | checked by | for, given | displayed | mutants refused | computed by |",
        "|---|---|---|---|---|---|---|",
    ]
    for entry in ledger:
        mark = {"proved": "✓ ", "checked": "≈ ", "stated": ""}[entry.status]
        shown = {READ: "✓"}.get(entry.displayed, entry.displayed)
        tried = entry.mutants
        score = f"{tried['refused']} of {tried['tried'] - len(tried['equal'])}" if tried else ""
        names = ", ".join(f"`{name}`" for name in entry.computed_by)
        given = [f"{{eq}}`{name}`" if name.startswith("eq-") else name for name in dict.fromkeys(entry.given)]
        premises = ", ".join([*(f"`{condition}`" for condition in entry.where), *given])
        cells = [f"{{eq}}`{entry.label}` `{entry.label}`", entry.kind, mark + entry.by, premises]
        cells += [shown, score, names]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


__all__ = ["Entry", "as_json", "as_markdown", "as_text", "displayed", "entries", "totals"]

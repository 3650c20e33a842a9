"""The checks put on trial: each identity's mutants, which are to be refused or shown to be the same equation."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from sympy import MatrixBase, MatrixExpr

from ddpm_lib.proof.book import Display
from ddpm_lib.proof.codes import decode
from ddpm_lib.proof.latex import Reading, read
from ddpm_lib.proof.mutants import of_expression, of_latex, pick
from ddpm_lib.proof.record import ProofError
from ddpm_lib.proof.same import is_same, same
from ddpm_lib.proof.statement import parts
from ddpm_lib.proof.verify import recheck

REVERSED = {"<=": ">=", ">=": "<="}
MOST = 8  # mutants of one equation
FEWEST = 6


@dataclass
class Verdict:
    """What became of an equation's mutants: how many were refused, which were not.

    equal: mutants that are the same equation in other words, each proved. survived: wrong or unclear ones that were
    not refused.
    """

    refused: int = 0
    equal: list[str] = field(default_factory=list)
    survived: list[str] = field(default_factory=list)

    @property
    def tried(self) -> int:
        """All mutants."""
        return self.refused + len(self.equal) + len(self.survived)


def verdict(display: Display | None, record: dict, most: int = MOST) -> Verdict:
    """Tries up to so many mutants of a record's right side, and of its left one where there are too few.

    display: the equation as it stands in the chapter, if it can be read back: then it is the LaTeX that is mutated.
    An inequality has one mutant, the reversed one.
    """
    if record["kind"] == "inequality":
        flipped = record | {"relation": REVERSED[record["relation"]]}
        return _judge({f"{REVERSED[record['relation']]} for {record['relation']}": (flipped, {})})
    trials: dict[str, tuple[dict, dict]] = {}
    for found in (
        _displayed(display, record) if display else (),
        _stated(record, "rhs"),
        _stated(record, "lhs"),
    ):
        if len(trials) < FEWEST:
            for (text, sides), _ in pick(found, most - len(trials)).items():
                trials.setdefault(text, (record, dict(sides)))
    return _judge(trials)


def _judge(trials: dict[str, tuple[dict, dict]]) -> Verdict:
    outcome = Verdict()
    for text, (record, sides) in trials.items():
        try:
            status = recheck(record, **sides)
        except (ProofError, ValueError):
            outcome.refused += 1
        else:
            (outcome.equal if status == "proved" else outcome.survived).append(text)
    return outcome


def _displayed(display: Display, record: dict) -> Iterator[tuple[str, tuple]]:
    """Mutants of the display that can be read and say something else, those of its right side first."""
    whole, later = read(display.latex, record), []
    for kind, latex in of_latex(display.latex):
        try:
            mutant = read(latex, record)
        except ValueError:
            continue
        if mutant.relation != whole.relation or is_same(mutant, record):
            continue
        changed = (kind, (latex, _sides(mutant, record)))
        if all(map(same, _entries(mutant.lhs), _entries(whole.lhs))):
            yield changed
        elif not record.get("induction"):  # there the left side is only a name for what the right one is
            later.append(changed)
    yield from later


def _sides(reading: Reading, record: dict) -> tuple:
    if record.get("induction"):
        return (("rhs", reading.rhs),)
    return (("lhs", reading.lhs), ("rhs", reading.rhs))


def _entries(side) -> tuple:
    return side if isinstance(side, tuple) else (side,)


def _stated(record: dict, name: str) -> Iterator[tuple[str, tuple]]:
    """Mutants of one side as it was given to ``verify``."""
    if name == "lhs" and record.get("induction"):
        return
    whole = decode(record[f"{name}_code"])
    if isinstance(whole, MatrixExpr):
        whole = whole.doit().as_explicit()
    entries = parts(whole)
    for place, entry in enumerate(entries):
        for kind, mutant in of_expression(entry):
            side = [*entries[:place], mutant, *entries[place + 1 :]]
            if isinstance(whole, MatrixBase):
                side = [whole.__class__(*whole.shape, side)]
            yield kind, (f"{name}: {mutant}", ((name, tuple(side) if len(side) > 1 else side[0]),))

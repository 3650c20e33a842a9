"""Where the premises of a claim come from: what the book says before it, or a rule of probability.

A premise says what an unknown function is, such as v(t) = sigma^2 alpha_bar[t] + 1 - alpha_bar[t], and is put in before
the claim is checked. The claim is no better than that, so each premise must have been read by the reader.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import permutations
from pathlib import Path
from typing import NamedTuple

from sympy import Eq, Expr, Indexed, Symbol
from sympy.core.function import AppliedUndef

from ddpm_lib.proof import notation as N
from ddpm_lib.proof.book import Display, cells
from ddpm_lib.proof.codes import decode, encode
from ddpm_lib.proof.latex import read, sides_code
from ddpm_lib.proof.same import listed, same
from ddpm_lib.proof.waivers import RULES

INLINE = re.compile(r"(?<!\$)\$(?!\$)([^$]+)\$(?!\$)")
IN_TEXT = "in the text"
PREDICTED = {"x_0_hat": "x_0", "eps_hat": "eps", "v_theta": "v"}  # a network's answers, and what is right


class Stated(NamedTuple):
    """One side of an equation, and what it equals. place: its label, or "in the text"."""

    place: str
    what: Expr
    value: Expr


def premises(record: dict) -> list[Eq]:
    """What a record's claim was given."""
    return [decode(code) for code in record.get("given_code", ())]


def statements(display: Display, record: dict) -> list[Stated]:
    """What a labelled equation says to be equal, in both directions."""
    left, right = sides_code(record)
    if record["kind"] == "assumption" or record["relation"] != "==" or not left:
        return []
    pairs = list(zip(listed(decode(left)), listed(decode(right)), strict=True))
    return [Stated(display.label, a, b) for pair in pairs for a, b in (pair, pair[::-1])]


def said(path: Path, cell: int) -> list[str]:
    """The equations in the running text of a notebook up to a cell, that one included, as LaTeX; the last first."""
    prose = [c["source"] for c in cells(path)[: cell + 1] if c["cell_type"] == "markdown"]
    found = [latex for text in prose for latex in INLINE.findall(text) if "=" in latex]
    return list(dict.fromkeys(reversed(found)))


def known(
    book: Path, display: Display, equations: list, before: list[Stated]
) -> tuple[list[Stated], list[str]]:
    """What has been said where a display stands: before it, by a definition of its chapter, and in the running text.

    equations: all of the book's, with their records. before: what those before this one say.
    """
    defined = [
        stated
        for other, held in equations
        if other.chapter == display.chapter and held["kind"] == "definition"
        for stated in statements(other, held)
    ]
    return before + defined, said(book / f"{display.chapter}.ipynb", display.cell)


def origin(premise: Eq, before: Iterable[Stated], text: Iterable[str]) -> str:
    """The label of the equation that states a premise, or "in the text", or the rule that it is, or "" for none.

    before: what labelled equations say before the claim, and so without its help; text: what ``said`` finds there.
    """
    places = (stated.place for stated in (*before, *_read(premise, text)) if _states(stated, premise))
    return next(places, "") or RULES.get(str(premise), "")


def _read(premise: Eq, text: Iterable[str]) -> Iterator[Stated]:
    """What the text says in the premise's letters."""
    record = {"lhs_code": encode(premise.lhs), "rhs_code": encode(premise.rhs), "kind": ""}
    for latex in text:
        for what, value in permutations(latex.split("="), 2):
            try:
                reading = read(f"{what} = {value}", record)
            except ValueError:
                continue
            yield Stated(IN_TEXT, reading.lhs, reading.rhs)


def _states(stated: Stated, premise: Eq) -> bool:
    """Whether an equation says it, perhaps of other letters.

    v(t) = f(t) says v(s) = f(s), v = f says v(x_0, eps) = f, and what holds for the right v, x_0 and eps holds for
    those that a network's answer stands for.
    """
    function, arguments = premise.lhs, premise.lhs.args
    name = type(function).__name__
    if isinstance(stated.what, Symbol):
        letters = {symbol.name: symbol for symbol in premise.rhs.free_symbols}
        if name in PREDICTED:
            name = PREDICTED[name]
            letters |= {right: letters[said] for said, right in PREDICTED.items() if said in letters}
        bare = stated.value.replace(
            lambda e: isinstance(e, (AppliedUndef, Symbol)) and _name(e) in letters,
            lambda e: letters[_name(e)],
        )
        return stated.what.name == name and same(bare, premise.rhs)
    if not isinstance(stated.what, AppliedUndef) or _name(stated.what) != name:
        return False
    if len(stated.what.args) != len(arguments):
        return False
    put = {old: new for old, new in zip(stated.what.args, arguments, strict=True) if old != new}
    if not all(isinstance(old, (Symbol, Indexed)) for old in put):
        return False
    return same(_as_letter(stated.value.subs(put, simultaneous=True)), _as_letter(premise.rhs))


def _as_letter(e: Expr) -> Expr:
    """The network's noise as the table's letter for it, where it stands as a function of what the network saw."""
    return e.replace(
        lambda f: isinstance(f, AppliedUndef) and _name(f) == "epsilon_theta", lambda f: N.eps_hat
    )


def _name(e: AppliedUndef | Symbol) -> str:
    return e.name if isinstance(e, Symbol) else type(e).__name__

"""Where the premises of a claim come from: what the book says before it, or a rule of probability.

A premise says what an unknown function is, such as v(t) = sigma^2 alpha_bar[t] + 1 - alpha_bar[t], and is put in before
the claim is checked; an induction is given a first value and a recurrence. The claim is no better than that, so each
premise must have been read by the reader.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby, permutations
from pathlib import Path
from typing import NamedTuple

from sympy import Eq, Expr, Indexed, Integral, Product, Sum, Symbol
from sympy.core.function import AppliedUndef

from ddpm_lib.proof import notation as N
from ddpm_lib.proof.book import Display, cells
from ddpm_lib.proof.codes import decode, encode
from ddpm_lib.proof.latex import read, sides_code
from ddpm_lib.proof.record import MIME
from ddpm_lib.proof.reduction import NAMED, by_name
from ddpm_lib.proof.same import listed, same
from ddpm_lib.proof.sentences import chains, said
from ddpm_lib.proof.statement import from_record, is_unknown, parts
from ddpm_lib.proof.waivers import RULES

LAWS = ("p", "q", "E", "Var", "Cov")
STEPS = {N.t, N.s, N.k, N.n}
ENDS = {N.x[N.T], N.bit[N.T], N.T}  # what holds there need not hold elsewhere
IN_TEXT = "in the text"
PREDICTED = {"x_0_hat": "x_0", "eps_hat": "eps", "v_theta": "v"}  # a network's answers, and what is right


class Stated(NamedTuple):
    """One side of an equation, and what it equals.

    place: its label, or "in the text". where: conditions that it has. undefined: ends at which it says nothing, such as
    "t = 1". latex: as it stands in the text.
    """

    place: str
    what: Expr
    value: Expr
    where: tuple[str, ...] = ()
    undefined: tuple[str, ...] = ()
    latex: str = ""


class Known(NamedTuple):
    """What has been said where a claim stands. text: equations without a label, as LaTeX; the last first."""

    label: str
    where: tuple[str, ...]
    before: list[Stated]
    text: list[str]

    def source(self, premise: Eq) -> Stated | None:
        """The equation before the claim that states a premise: a labelled one or, if there is none, one in the text."""
        for stated in (*self.before, *_read(premise, self.text)):
            if set(stated.where) <= set(self.where) and _states(stated, premise):
                return stated
        return None

    def origin(self, premise: Eq) -> str:
        """The label of the equation that states a premise, or "in the text", or the rule that it is, or ""."""
        stated = self.source(premise)
        return stated.place if stated else RULES.get((self.label, str(premise)), "")


def premises(record: dict) -> list[Eq]:
    """What a record's claim was given; for an induction, the first value and the recurrence of what it is about.

    A quantity that can be computed, such as a sum up to n, needs none: ``verify_induction`` has computed it.
    """
    induction = record.get("induction")
    if not induction:
        return [decode(code) for code in record.get("given_code", ())]
    of = tuple(parts(decode(induction["of"]))) if induction["of"] else ()
    return from_record(record).facts(of) if any(map(is_unknown, of)) else []


def known(book: Path, equations: list[tuple[Display, dict]]) -> Iterator[tuple[Display, dict, Known]]:
    """Each equation with what its own chapter has said before it.

    equations: all of the book's, with their records. The text counts up to the display; that of an induction, whose
    proof follows it, up to the check.
    """
    for chapter, group in groupby(equations, lambda equation: equation[0].chapter):
        before: list[Stated] = []
        for display, record in group:
            said = _said(book / f"{chapter}.ipynb", display, record) if premises(record) else []
            where = tuple(record["where"][: len(record.get("where_code", ()))])
            yield display, record, Known(display.label, where, list(before), said)
            before += _statements(display, record, where)


def _statements(display: Display, record: dict, where: tuple[str, ...]) -> list[Stated]:
    """What a labelled equation says to be equal, in both directions."""
    left, right = sides_code(record)
    if record["kind"] == "assumption" or record["relation"] != "==" or not left:
        return []
    pairs = list(zip(listed(decode(left)), listed(decode(right)), strict=True))
    ends = tuple(record["undefined_at"])
    return [Stated(display.label, a, b, where, ends) for pair in pairs for a, b in (pair, pair[::-1])]


def _said(path: Path, display: Display, record: dict) -> list[str]:
    """The equations without a label that stand before a claim, as LaTeX; the last first."""
    found = []
    for number, cell in enumerate(cells(path)):
        outputs = (out["data"].get(MIME, {}) for out in cell.get("outputs", ()) if "data" in out)
        if any(left.get("label") == display.label for left in outputs):
            break
        if cell["cell_type"] == "markdown":
            last = number == display.cell and not record.get("induction")
            found += said(cell["source"].split(f"({display.label})")[0] if last else cell["source"])
            if last:
                break
    return list(dict.fromkeys(reversed(found)))


def _read(premise: Eq, text: Iterable[str]) -> Iterator[Stated]:
    """What the text says in the premise's letters."""
    sides = [premise.rhs, *_elsewhere(premise)]
    record = {"lhs_code": encode(premise.lhs), "rhs_code": encode(sides), "kind": ""}
    for latex in text:
        for chain in chains(latex):
            for what, value in permutations(chain, 2):
                try:
                    reading = read(f"{what} = {value}", record)
                except ValueError:
                    continue
                yield Stated(IN_TEXT, reading.lhs, reading.rhs, latex=latex)


def _elsewhere(premise: Eq) -> Iterator[Expr]:
    """The functions that stand for another step than t, at yet another: so the reader won't take v for v(t - 1)."""
    for call in premise.atoms(AppliedUndef):
        arguments = [argument.xreplace(NAMED) for argument in call.args]
        if not _may_go_without(arguments):
            yield call.func(*(argument.subs(N.t, N.t + 10) + Symbol("elsewhere") for argument in arguments))


def _states(stated: Stated, premise: Eq) -> bool:
    """Whether an equation says it, perhaps of other letters.

    v(t) = f(t) says v(s) = f(s), v = f says v(x_0, eps) = f, and what holds for the right v, x_0 and eps holds for
    those that a network's answer stands for.
    """
    name, arguments = _name(premise.lhs), _arguments(premise.lhs)
    if isinstance(stated.what, Symbol):
        return _may_go_without(arguments) and _states_letter(stated, premise, name)
    kind = Indexed if isinstance(premise.lhs, Indexed) else AppliedUndef
    if not isinstance(stated.what, kind) or _name(stated.what) != name:
        return False
    put = _letters(_arguments(stated.what), arguments, name.split("_")[0] in LAWS)
    if put is None or {f"{old} = {new}" for old, new in put.items()} & set(stated.undefined):
        return False
    if put and _bound(stated.value) & set().union(*({new, *new.free_symbols} for new in arguments)):
        return False
    return same(
        _as_letter(stated.value.xreplace(NAMED).subs(put, simultaneous=True)), _as_letter(premise.rhs)
    )


def _states_letter(stated: Stated, premise: Eq, name: str) -> bool:
    """Whether an equation about a letter says it of the function with that name."""
    held = by_name(premise.rhs)
    letters = {symbol.name: symbol for symbol in held.free_symbols}
    if name in PREDICTED:
        name = PREDICTED[name]
        if {*letters, *map(_name, held.atoms(AppliedUndef))} & set(
            PREDICTED.values()
        ):  # else it would be right
            return False
        letters |= {right: letters[guess] for guess, right in PREDICTED.items() if guess in letters}
    bare = stated.value.replace(
        lambda e: _name(e) in letters if isinstance(e, Symbol) else _may_go_bare(e) and _name(e) in letters,
        lambda e: letters[_name(e)],
    )
    return stated.what.name == name and same(bare, premise.rhs)


def _may_go_bare(e: Expr) -> bool:
    """Whether it is a function that a letter may stand for."""
    return isinstance(e, AppliedUndef) and _may_go_without(_arguments(e))


def _may_go_without(arguments: Iterable[Expr]) -> bool:
    """Whether a function of these may be shown without them: v for v(t), v(x_t), v(x_0, eps), but not for v(t - 1)."""
    here = {N.x[N.t], N.x[0], N.bit[N.t], N.bit[0]}
    return all(a in here or (a.is_Symbol and a not in STEPS - {N.t} | {N.T}) for a in arguments)


def _letters(said: tuple, asked: tuple, law: bool) -> dict | None:
    """The letters to put for those that were said; None where what was said is not about all that is asked.

    f(x, x) says nothing of f(x, y). With x[t - 1] for x[t] goes t - 1 for t, and what is said of x[0] is not said of
    x[t]. law: whether states stand in the brackets, of which another step may be asked and nothing else.
    """
    put = {}
    if len(said) != len(asked):
        return None
    for old, new in zip(said, asked, strict=True):
        if isinstance(old, Indexed) and isinstance(new, Indexed) and old.base == new.base:
            old, new = _step(old, new)
        if put.setdefault(old, new) != new:
            return None
    changed = {old: new for old, new in put.items() if old != new}
    if changed.keys() & set(changed.values()):
        return None
    if law:
        return changed if changed.keys() <= STEPS else None
    return changed if all(isinstance(old, (Symbol, Indexed)) and old not in ENDS for old in changed) else None


def _step(said: Indexed, asked: Indexed) -> tuple[Expr, Expr]:
    """What stands for the step in x[t - 1], and what must be put for it to make that x[k - 1]."""
    old, new = said.indices[0], asked.indices[0]
    steps = [symbol for symbol in old.free_symbols if (old - symbol).is_Integer]
    return (steps[0], new - (old - steps[0])) if steps else (old, new)


def _bound(e: Expr) -> set[Expr]:
    """The letters that a sum, a product or an integral in it binds."""
    bound = {symbol for part in e.atoms(Sum, Product, Integral) for symbol in part.variables}
    return bound | {NAMED[symbol] for symbol in bound & NAMED.keys()}


def _as_letter(e: Expr) -> Expr:
    """The network's noise as the table's letter for it, where it stands as a function of x_t."""
    return e.replace(
        lambda f: (
            isinstance(f, AppliedUndef) and _name(f) == "epsilon_theta" and _arguments(f)[0] == N.x[N.t]
        ),
        lambda f: N.eps_hat,
    )


def _name(e: AppliedUndef | Indexed | Symbol) -> str:
    if isinstance(e, Indexed):
        return e.base.label.name
    return e.name if isinstance(e, Symbol) else type(e).__name__


def _arguments(e: AppliedUndef | Indexed) -> tuple:
    return e.indices if isinstance(e, Indexed) else tuple(arg.xreplace(NAMED) for arg in e.args)

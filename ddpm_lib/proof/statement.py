"""What was stated, as data: the claims that it comes to, and back out of a stored record."""

from __future__ import annotations

from dataclasses import dataclass

from sympy import Expr, MatrixBase, MatrixExpr, Symbol, sympify

from ddpm_lib.proof import notation as N
from ddpm_lib.proof.codes import decode
from ddpm_lib.proof.refuter import Claim


@dataclass(frozen=True)
class Statement:
    """lhs relation rhs, part by part, wherever the conditions ``where`` hold, given what unknown functions are."""

    label: str
    by: str
    lhs: tuple[Expr, ...]
    rhs: tuple[Expr, ...]
    relation: str = "=="
    where: tuple = ()
    given: tuple = ()

    def claims(self) -> list[Claim]:
        """The one claim to check, with what is given put in, one after the other."""
        pairs = list(zip(self.lhs, self.rhs, strict=True))
        for premise in self.given:
            here = {premise.lhs: premise.rhs}
            pairs = [(left.xreplace(here), right.xreplace(here)) for left, right in pairs]
        return [Claim(self.label, self.by, pairs, self.relation, self.where)]


@dataclass(frozen=True)
class Induction:
    """The closed form rhs in var = start, start + 1, ..., from its first value and its recurrence.

    step: what the recurrence makes of the earlier values, which are the symbols ``previous(...)``.
    """

    label: str
    rhs: tuple[Expr, ...]
    base: tuple[Expr, ...]
    step: tuple[Expr, ...]
    var: Symbol = N.t
    start: int = 0
    by: str = "induction"

    @property
    def lhs(self) -> tuple[Expr, ...]:
        """The recurrence applied to the closed form one step earlier."""
        earlier = [closed.subs(self.var, self.var - 1).xreplace(self._names()[0]) for closed in self.rhs]
        here = dict(zip(previous(len(self.rhs)), earlier, strict=True))
        return tuple(step.xreplace(here) for step in self.step)

    def claims(self) -> list[Claim]:
        """Base and step."""
        first = [closed.subs(self.var, self.start).xreplace(self._names()[1]) for closed in self.rhs]
        bases = list(zip(first, self.base, strict=True))
        steps = list(zip(self.lhs, self.rhs, strict=True))
        return [
            Claim(self.label, self.by, bases, part=f"base, {self.var} = {self.start}"),
            Claim(self.label, self.by, steps, "==", (self.var >= self.start + 1,), "step"),
        ]

    def _names(self) -> tuple[dict, dict]:
        """What x_t and the like (after n steps, y) are called one step earlier, and at the start."""
        if self.var == N.t:
            first = {N.x_t: N.x_0, N.bit_t: N.bit_0} if self.start == 0 else {}
            return {N.x_t: N.x_prev, N.bit_t: N.bit_prev}, first
        if self.var == N.T:
            return {N.x_T: N.x[N.T - 1]}, {N.x_T: N.x_0} if self.start == 0 else {}
        if self.var == N.n:
            first = {N.y: N.y_0, N.y_bit: N.y_bit_0} if self.start == 0 else {}
            return {N.y: N.y_prev, N.y_bit: N.y_bit_prev}, first
        return {}, {}


def previous(count: int) -> list[Symbol]:
    """The symbols that stand for the earlier values in an induction's step."""
    return [Symbol(f"_previous_{i}", real=True) for i in range(count)]


def parts(side) -> list[Expr]:
    """A side as the list of its parts: one for an expression, each entry of a sequence, or of a product of matrices."""
    if isinstance(side, MatrixExpr):
        side = side.doit().as_explicit()
    several = isinstance(side, (list, tuple, MatrixBase))
    return [sympify(part) for part in side] if several else [sympify(side)]


def from_record(record: dict, rhs=None, lhs=None) -> Statement | Induction:
    """The statement that a stored record is of; with other sides, a variant of it to check.

    record: as ``record.Record`` in a cell's output. Raises ValueError for a definition or an assumption.
    """
    if record["kind"] not in ("identity", "inequality"):
        raise ValueError(
            f"record: expected an identity or an inequality, got the {record['kind']} {record['label']}"
        )
    right = tuple(parts(decode(record["rhs_code"]) if rhs is None else rhs))
    induction = record.get("induction")
    if induction:
        if lhs is not None:
            raise ValueError(f"lhs: expected None for an induction, whose left side is its step, got {lhs}")
        base, step = (tuple(parts(decode(induction[key]))) for key in ("base", "step"))
        return Induction(record["label"], right, base, step, decode(induction["var"]), induction["start"])
    left = tuple(parts(decode(record["lhs_code"]) if lhs is None else lhs))
    where, given = (tuple(map(decode, record[key])) for key in ("where_code", "given_code"))
    return Statement(record["label"], record["by"], left, right, record["relation"], where, given)

"""What was stated, as data: the claims that it comes to, and back out of a stored record."""

from __future__ import annotations

from dataclasses import dataclass

from sympy import Eq, Expr, Function, Indexed, MatrixBase, MatrixExpr, Symbol, sympify
from sympy.core.function import AppliedUndef

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

    def facts(self, of: tuple[Expr, ...]) -> list[Eq]:
        """What has to be known of the quantities that have the closed form: their first values, their recurrences.

        Where the expression for one does not show var, the earlier one is named f_before. A first value that says
        nothing, as w[0] = w[0], is left out.
        """
        here, there = self._names()
        if self.var == N.t and self.start > 0:
            there = {N.x_t: N.x[self.start], N.bit_t: N.bit[self.start]}
        earlier = [_before(what, what.subs(self.var, self.var - 1).xreplace(here)) for what in of]
        came = dict(zip(previous(len(of)), earlier, strict=True))
        first = [
            [_start(side.subs(self.var, self.start).xreplace(there)) for side in pair]
            for pair in zip(of, self.base, strict=True)
        ]
        pairs = [*first, *zip(of, (step.xreplace(came) for step in self.step), strict=True)]
        return [Eq(*pair, evaluate=False) for pair in pairs if pair[0] != pair[1]]

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


def is_unknown(quantity: Expr) -> bool:
    """Whether a quantity has no value of its own: an unknown function, or an indexed symbol of the chapter's own."""
    own = isinstance(quantity, Indexed) and quantity.base.label.name not in N.BY_KEY
    return own or quantity.has(AppliedUndef)


def _before(quantity: Expr, earlier: Expr) -> Expr:
    if earlier != quantity or not isinstance(quantity, AppliedUndef):
        return earlier
    return Function(f"{type(quantity).__name__}_before", **type(quantity)._kwargs)(*quantity.args)


def _start(e: Expr) -> Expr:
    """The table's y_0 for y(0), and the like."""
    return e.replace(
        lambda f: isinstance(f, AppliedUndef) and f.args == (0,) and f"{type(f).__name__}_0" in N.BY_KEY,
        lambda f: N.BY_KEY[f"{type(f).__name__}_0"].object,
    )


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

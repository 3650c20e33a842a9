"""verify: refute a claim by numbers, or prove it by algebra, and say which."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product

import mpmath
from mpmath import mp, mpf
from sympy import Eq, Expr, Indexed, MatrixBase, S, Symbol, nan, sympify, zoo
from sympy.core.function import AppliedUndef

from ddpm_lib.proof import notation as N
from ddpm_lib.proof.numeric import DIGITS, TOLERANCE, Undefined, evaluate
from ddpm_lib.proof.points import EDGES, INNER, Point, bits_in, describe, seed_of
from ddpm_lib.proof.prover import prove
from ddpm_lib.proof.record import ProofError, Record, Result, check_label, check_reason, show

PRECISE = 120  # digits of the second look at two values that differ by less than they should


def verify(label: str, lhs, rhs, *, by: str, relation: str = "==", where=(), given=()) -> Result:
    """Checks the identity lhs == rhs for every admissible value of its symbols, or raises ProofError.

    label: the equation's label, such as eq-marginal. lhs, rhs: SymPy expressions in the symbols of
    ``notation``, or two sequences of them of one length. by: the step's reason, one of ``REASONS``.
    relation: "==", "<=" or ">=". where: conditions on the symbols, such as [t >= 2], if the claim holds
    only there. given: assumptions on unknown functions, such as [Eq(q(x_t, x_prev, x_0), q(x_t, x_prev))].

    First it looks for a counterexample, with 60 digits at random admissible points; then SymPy is to prove
    it. The result's status is "proved", or "checked" where no proof was found but every point agrees to 50
    digits. Raises ProofError for a false claim, or one that has no value at an admissible point; ValueError
    for a claim that says nothing (both sides are the same expression), an unknown reason or a bad label.
    """
    check_label(label)
    check_reason(by)
    if relation not in ("==", "<=", ">="):
        raise ValueError(f"relation: expected '==', '<=' or '>=', got {relation!r}")
    pairs = _pairs(label, lhs, rhs)
    if all(left == right for left, right in pairs):
        raise ValueError(f"{label} says nothing: both sides are {pairs[0][0]}")
    premises = _premises(given)
    points, undefined, how = _check(label, by, pairs, relation, tuple(where), premises)
    return show(
        Record(
            label=label,
            kind="identity" if relation == "==" else "inequality",
            status="proved" if how else "checked",
            by=by,
            relation=relation,
            lhs=_text(lhs),
            rhs=_text(rhs),
            detail=_detail(by, how, points, undefined, relation),
            seed=seed_of(label),
            points=points,
            where=[str(w) for w in (*where, *given)],
        )
    )


def verify_induction(
    label: str, claim, *, base, step: Callable, var: Symbol = N.t, start: int = 0, by: str = "induction"
) -> Result:
    """Proves a closed form for var = start, start + 1, ... from its first value and its recurrence.

    claim: the closed form in var (an expression, or a sequence of them). base: its value at var = start.
    step: called with the claim at var - 1 (with x_prev in place of x_t), returns what the recurrence makes
    of it at var. Both base == claim(start) and step(claim(var - 1)) == claim(var) go through ``verify``'s
    checks.

        verify_induction("eq-marginal-mean", sqrt(alpha_bar[t]) * x_0,
                         base=x_0, step=lambda previous: sqrt(alpha[t]) * previous)
    """
    check_label(label)
    check_reason(by)
    claims = [sympify(c) for c in _listed(claim)]
    first = {N.x_t: N.x_0} if var == N.t and start == 0 else {}
    at_start = [c.subs(var, start).xreplace(first) for c in claims]
    before = [c.subs(var, var - 1).xreplace({N.x_t: N.x_prev} if var == N.t else {}) for c in claims]
    stepped = step(before if isinstance(claim, (Sequence, MatrixBase)) else before[0])
    bases = _pairs(label, at_start, _listed(base))
    steps = _pairs(label, _listed(stepped), claims)
    if all(left == right for left, right in steps):
        raise ValueError(f"{label} says nothing: the step returns the claim itself")
    _, _, base_how = _check(label, by, bases, "==", (), {}, f"base, {var} = {start}")
    points, undefined, how = _check(label, by, steps, "==", (var >= start + 1,), {}, "step")
    proved = base_how and how
    detail = _detail(
        by, f"base {var} = {start} and step both reduce to 0" if proved else None, points, undefined, "=="
    )
    return show(
        Record(
            label=label,
            kind="identity",
            status="proved" if proved else "checked",
            by=by,
            relation="==",
            lhs=_text(stepped),
            rhs=_text(claim),
            detail=detail,
            seed=seed_of(label),
            points=points,
            where=[f"base at {var} = {start}: {_text(base)}"],
        )
    )


def define(label: str, symbol, expression) -> Result:
    """Records that label defines symbol as expression.

    A quantity of the schedule must be defined as the notation table has it: anything else raises ProofError.
    Raises ValueError for a symbol that occurs in its own definition.
    """
    check_label(label)
    symbol, expression = sympify(symbol), sympify(expression)
    if symbol in expression.free_symbols or expression.has(symbol):
        raise ValueError(f"{label}: {symbol} occurs in its own definition")
    points, detail = 0, "definition"
    if isinstance(symbol, Indexed) and N.BY_KEY.get(symbol.base.label.name, None) is not None:
        points, _, _ = _check(label, "definition", _pairs(label, symbol, expression), "==", (), {})
        detail = f"definition (agrees with the notation table at {points} random points)"
    return show(
        Record(label, "definition", "stated", "definition", "==", _text(symbol), _text(expression), detail,
               seed_of(label), points)
    )  # fmt: skip


def assume(label: str, statement) -> Result:
    """Records that label is an assumption: a sentence, or a SymPy relation. Nothing is checked."""
    check_label(label)
    if not str(statement).strip():
        raise ValueError(f"{label}: statement: expected a sentence or a relation, got {statement!r}")
    return show(
        Record(label, "assumption", "stated", "assumption", "", _text(statement), "", f"assumed: {statement}")
    )


def _listed(e) -> list:
    return list(e) if isinstance(e, (list, tuple, MatrixBase)) else [e]


def _text(e) -> str:
    return e if isinstance(e, str) else str(e)


def _pairs(label: str, lhs, rhs) -> list[tuple[Expr, Expr]]:
    """Both sides as lists of expressions, checked for what can never be true or false."""
    shapes = [side.shape if isinstance(side, MatrixBase) else None for side in (lhs, rhs)]
    left, right = ([sympify(e) for e in _listed(side)] for side in (lhs, rhs))
    if len(left) != len(right) or not left or shapes[0] != shapes[1]:
        raise ValueError(
            f"{label}: expected two sides of one shape, got {len(left)} and {len(right)} expressions"
        )
    for name, side in (("lhs", left), ("rhs", right)):
        for e in side:
            if not isinstance(e, Expr) or e.has(nan, zoo):
                raise ValueError(f"{label}: {name}: expected a SymPy expression with a value, got {e}")
    return list(zip(left, right, strict=True))


def _premises(given) -> dict[Expr, Expr]:
    premises: dict[Expr, Expr] = {}
    for premise in given:
        if (
            not isinstance(premise, Eq)
            or not isinstance(premise.lhs, AppliedUndef)
            or premise.lhs in premises
        ):
            raise ValueError(
                f"given: expected equations with one unknown function each on the left, got {premise}"
            )
        premises[premise.lhs] = premise.rhs
    return premises


def _check(label, by, pairs, relation, where, premises, part="") -> tuple[int, list[str], str | None]:
    """Refutes or proves each pair: the number of inner points, where the sides have no value, how it was
    proved."""
    pairs = [tuple(side.xreplace(premises) for side in pair) for pair in pairs]
    name = f"{label} ({part})" if part else label
    points, undefined = _refute(label, name, by, pairs, relation, where)
    how = ""
    for left, right in pairs:
        if left == right:
            continue
        how = prove(left, right, relation)
        if how is None:
            break
    return points, undefined, how if how != "" else "both sides are one expression"


def _refute(label, name, by, pairs, relation, where) -> tuple[int, list[str]]:
    seed, free = seed_of(label), set().union(*(side.free_symbols for pair in pairs for side in pair))
    inner = []
    for number in range(100 * len(INNER)):
        point = Point(seed, number)
        if _admits(where, point):
            inner.append(point)
        if len(inner) == len(INNER):
            break
    if not inner:
        raise ValueError(f"{label}: where: no admissible point satisfies {', '.join(map(str, where))}")
    for point in inner:
        try:
            _compare(label, name, by, pairs, relation, point)
        except Undefined as error:
            at = _at(describe(point, [side for pair in pairs for side in pair]))
            raise ProofError(f"{name} has no value{at}: {error}. Claimed by {by}.", label) from None
    undefined = []
    for number, (edge, (steps, needs)) in enumerate(EDGES.items(), start=len(INNER)):
        point = Point(seed, number, steps=steps)
        if needs <= free and _admits(where, point):
            try:
                _compare(label, name, by, pairs, relation, point)
            except Undefined:
                undefined.append(edge)
    return len(inner), undefined


def _admits(where, point: Point) -> bool:
    for condition in where:
        held = sympify(condition).subs({f: point.value(f) for f in condition.free_symbols})
        if held not in (S.true, S.false):
            raise ValueError(f"where: expected conditions on plain symbols, got {condition}")
        if held == S.false:
            return False
    return True


def _compare(label, name, by, pairs, relation, point: Point) -> None:
    """Raises ProofError where a pair differs at the point, in any case of its bits; Undefined where it has
    no value."""
    for left, right in pairs:
        bits = bits_in([left, right])
        for values in product((S.Zero, S.One), repeat=len(bits)):
            here = Point(
                point.seed, point.number, dict(zip(bits, values, strict=True)), (point.s, point.t, point.T)
            )
            a, b = evaluate(left, here), evaluate(right, here)
            if _holds(a, b, relation) or _holds_precisely(left, right, relation, here):
                continue
            values = describe(here, [left, right])
            sign = {"==": "differs from", "<=": "is above", ">=": "is below"}[relation]
            with mp.workdps(DIGITS):
                shown_a, shown_b = _distinct(a, b)
                gap = mpmath.nstr(a - b, 6)
            raise ProofError(
                f"{name} is false:{_at(values)} the left side is {shown_a}, the right side {shown_b}"
                f" (it {sign} the right side; difference {gap}). Claimed by {by}.",
                label, values, a, b,
            )  # fmt: skip


def _holds(a: mpf, b: mpf, relation: str) -> bool:
    with mp.workdps(DIGITS):
        same = a == b or abs(a - b) <= TOLERANCE * max(abs(a), abs(b))
        return same or (relation == "<=" and a < b) or (relation == ">=" and a > b)


def _holds_precisely(left: Expr, right: Expr, relation: str, point: Point) -> bool:
    """The same with twice the digits, for sides that nearly cancel: rounding shrinks with them, a
    difference stays."""
    a, b = evaluate(left, point), evaluate(right, point)
    with mp.workdps(PRECISE):
        coarse = abs(a - b)
        if coarse > mpf(10) ** -(DIGITS // 3) * (1 + abs(a)):
            return False
        a, b = evaluate(left, point, PRECISE), evaluate(right, point, PRECISE)
    if _holds(a, b, relation):
        return True
    with mp.workdps(PRECISE):
        return abs(a - b) <= mpf(10) ** -(PRECISE - DIGITS - 20) * coarse


def _distinct(a: mpf, b: mpf) -> tuple[str, str]:
    """Both values in as few digits as tell them apart, and a few more."""
    for digits in range(1, DIGITS):
        if mpmath.nstr(a, digits) != mpmath.nstr(b, digits):
            return mpmath.nstr(a, digits + 3), mpmath.nstr(b, digits + 3)
    return mpmath.nstr(a, DIGITS), mpmath.nstr(b, DIGITS)


def _at(values: dict[str, str]) -> str:
    return f" at {', '.join(f'{name}={value}' for name, value in values.items())}" if values else ""


def _detail(by: str, how: str | None, points: int, undefined: list[str], relation: str) -> str:
    agree = (
        f"{points} random points agree to 50 digits"
        if relation == "=="
        else f"it holds at {points} random points"
    )
    limits = f"; not defined at {', '.join(undefined)}" if undefined else ""
    if how:
        return f"proved by {by} (SymPy: {how}; {agree}{limits})"
    return f"checked, not proved: {by} ({agree}{limits})"

"""The search for a counterexample: both sides of a claim, with 60 digits, at random admissible points."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product

import mpmath
from mpmath import mp, mpf
from sympy import Abs, Expr, Integral, Max, Min, Piecewise, S, Symbol

from ddpm_lib.proof import notation as N
from ddpm_lib.proof.descent import least
from ddpm_lib.proof.numeric import DIGITS, Undefined, evaluate
from ddpm_lib.proof.points import EDGES, INNER, Point, bits_in, describe, halves, seed_of
from ddpm_lib.proof.record import ProofError

PRECISE = 120  # digits of the second look at two values that differ by less than they should
FAR = 6  # from this of the points on, a claim without integrals is tried near the ends of its symbols' ranges
FEWEST = 4  # random points that a condition must leave
KINKED = (Min, Max, Abs, Piecewise)  # functions that have one form here and another there


@dataclass(frozen=True)
class Claim:
    """What is to be checked: for each pair, left == right (or <=, >=) wherever the conditions hold."""

    label: str
    by: str
    pairs: Sequence[tuple[Expr, Expr]]
    relation: str = "=="
    where: tuple = ()
    part: str = ""

    @property
    def name(self) -> str:
        """The label, with the part of a proof that this claim is."""
        return f"{self.label} ({self.part})" if self.part else self.label


def refute(claim: Claim) -> tuple[int, list[str]]:
    """Raises ProofError at a point where the claim is false or has no value.

    Else returns how many random points it held at, and at which ends of the steps' ranges (t = 1, ...) it
    has no value. There, and only there, a side may be undefined: β̃_1 = 0 is no variance.
    """
    sides = [side for pair in claim.pairs for side in pair]
    free = set().union(*(side.free_symbols for side in sides))
    inner = _inner_points(claim)
    for point in inner:
        try:
            _compare(claim, point, _apart)
        except Undefined as error:
            at = _at(describe(point, sides))
            message = f"{claim.name} has no value{at}: {error}. Claimed by {claim.by}."
            raise ProofError(message, claim.label) from None
    undefined = []
    for number, (edge, (steps, needs)) in enumerate(EDGES.items(), start=len(INNER)):
        point = Point(inner[0].seed, number, inner[0].patterns, steps)
        if needs <= free and _admits(claim.where, point):
            try:
                _compare(claim, point, _apart)
            except Undefined:
                undefined.append(edge)
    return len(inner), undefined


def confirm(claim: Claim) -> None:
    """A closer look at a claim that no proof was found for: twice the digits, at three of the points.

    An inequality is tried where it comes nearest to failing, too; and an equation that has another form elsewhere, as
    with a minimum, where its sides are farthest apart. Raises ProofError.
    """
    points = _inner_points(claim)
    for point in points[:3]:
        _compare(claim, point, _closely_apart)
    for left, right in claim.pairs:
        for relation in _searched(claim.relation, left, right):
            for point in least(left, right, relation, points, lambda at: _admits(claim.where, at)):
                try:
                    _compare(claim, point, _apart)
                except Undefined:  # in another case of its bits
                    continue


def _searched(relation: str, left: Expr, right: Expr) -> tuple[str, ...]:
    """The relations whose failure is looked for: the claim's own; of an equation with a kink both, of others none."""
    if relation != "==":
        return (relation,)
    return ("<=", ">=") if left.has(*KINKED) or right.has(*KINKED) else ()


def _inner_points(claim: Claim) -> list[Point]:
    sides = [side for pair in claim.pairs for side in pair]
    seed, patterns = seed_of(claim.label), halves(sides)
    closed = not any(
        side.has(Integral) for side in sides
    )  # far out, an integral's narrow peak could be missed
    wanted = len(INNER) * (
        8 if closed and claim.relation != "==" else 1
    )  # an inequality may fail in a corner only
    inner = []
    for number in range(100 * wanted):
        point = Point(seed, number, patterns, far=closed and number % len(INNER) >= FAR)
        if _admits(claim.where, point):
            inner.append(point)
        if len(inner) == wanted:
            break
    if len(inner) < FEWEST:
        conditions = ", ".join(map(str, claim.where))
        raise ValueError(
            f"{claim.label}: where: only {len(inner)} points inside the range 1 < t < T satisfy {conditions}; "
            "put a single value into both sides instead"
        )
    return inner


def _admits(where: tuple, point: Point) -> bool:
    for condition in where:
        values = {f: point.value(f) for f in condition.free_symbols if isinstance(f, Symbol)}
        held = condition.subs(values)
        if held not in (S.true, S.false):
            raise ValueError(f"where: expected conditions on plain symbols such as t >= 2, got {condition}")
        if held == S.false:
            return False
    return True


def _compare(claim: Claim, point: Point, difference: Callable) -> None:
    """Raises ProofError where a pair differs at the point, in any case of its bits."""
    for place, (left, right) in enumerate(claim.pairs, start=1):
        bits = bits_in([left, right])
        for values in product((S.Zero, S.One), repeat=len(bits)):
            case = dict(zip(bits, values, strict=True))
            if point.t == 1 and len({case[b] for b in (N.bit_prev, N.bit_0) if b in case}) == 2:
                continue  # x_{t-1} is x_0 there
            here = point.fixing(case)
            apart = difference(left, right, claim.relation, here)
            if apart is not None:
                which = f" in part {place} of {len(claim.pairs)}" if len(claim.pairs) > 1 else ""
                raise _error(claim, which, describe(here, [left, right]), *apart)


def _apart(left: Expr, right: Expr, relation: str, point: Point) -> tuple[mpf, mpf] | None:
    """Both values where the relation fails at the point; an equality holds if they agree to 50 digits.

    Where the sides nearly cancel (or both should be 0) it looks again with twice the digits: rounding shrinks then,
    a difference stays.
    """
    a, b = evaluate(left, point), evaluate(right, point)
    if _agree(a, b, relation, 50):
        return None
    with mp.workdps(PRECISE):
        coarse = abs(a - b)
        if coarse > mpf(10) ** -20:
            return a, b
        a, b = evaluate(left, point, PRECISE), evaluate(right, point, PRECISE)
        shrinks = abs(a - b) <= mpf(10) ** (DIGITS + 20 - PRECISE) * coarse
    return None if shrinks or _agree(a, b, relation, 50) else (a, b)


def _closely_apart(left: Expr, right: Expr, relation: str, point: Point) -> tuple[mpf, mpf] | None:
    """The same to 90 digits."""
    a, b = evaluate(left, point, PRECISE), evaluate(right, point, PRECISE)
    with mp.workdps(PRECISE):
        both_zero = max(abs(a), abs(b)) < mpf(10) ** -90
    return None if both_zero or _agree(a, b, relation, 90) else (a, b)


def _agree(a: mpf, b: mpf, relation: str, digits: int) -> bool:
    with mp.workdps(PRECISE):
        same = a == b or abs(a - b) <= mpf(10) ** -digits * max(abs(a), abs(b))
        return same or (relation == "<=" and a < b) or (relation == ">=" and a > b)


def _error(claim: Claim, which: str, values: dict[str, str], a: mpf, b: mpf) -> ProofError:
    with mp.workdps(PRECISE):
        left, right = _distinct(a, b)
        gap = mpmath.nstr(a - b, 4)
    relation = "" if claim.relation == "==" else f", but claimed is left {claim.relation} right"
    return ProofError(
        f"{claim.name} is false{which}:{_at(values)} the left side is {left}, the right side {right} "
        f"(difference {gap}{relation}). Claimed by {claim.by}.",
        *(claim.label, values, a, b),
    )


def _distinct(a: mpf, b: mpf) -> tuple[str, str]:
    """Both values in as few digits as tell them apart, and a few more."""
    for digits in range(1, PRECISE):
        if mpmath.nstr(a, digits) != mpmath.nstr(b, digits):
            return mpmath.nstr(a, digits + 3), mpmath.nstr(b, digits + 3)
    return mpmath.nstr(a, PRECISE), mpmath.nstr(b, PRECISE)


def _at(values: dict[str, str]) -> str:
    return f" at {', '.join(f'{name}={value}' for name, value in values.items())}" if values else ""

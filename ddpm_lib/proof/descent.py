"""Where an inequality comes nearest to failing: from random points down the gap between its sides, one value at a time.

A random point misses what is false in a corner, or in a valley that is narrow, as ρ(1-ρ) <= 0.2499 is. So every
value is tried at the ends of its range and at steps that shrink around where it is, and what lessens the gap is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product

from mpmath import mpf
from sympy import Expr, Indexed, Integral, Rational, S, Symbol
from sympy.core.function import AppliedUndef

from ddpm_lib.proof import notation as N
from ddpm_lib.proof.numeric import Undefined, evaluate, scale_of
from ddpm_lib.proof.points import Point, lookup, named_entry

STARTS = 3  # the random points with the least gap, from which it descends
MOST = 700  # evaluations of the gap from each of them: a count, so that no clock decides what is found
ROUGHLY = 30  # digits of the gap
ROUNDING = mpf(10) ** (8 - ROUGHLY)  # what part of the sides is no gap, but noise, which would end the search
FINEST = 12  # times a step is cut to a quarter, each when it leads nowhere any more
TINY, HUGE = Rational(1, 10**6), S(10**6)
LONG = (1, 11, 12)  # s, t, T of a chain that is longer than those of the random points
SCALE = Symbol("scale", positive=True)  # of an unknown function


def least(
    left: Expr, right: Expr, relation: str, points: list[Point], admits: Callable[[Point], bool]
) -> list[Point]:
    """For each start the admissible point with the least gap that the descent came to; none where an integral is.

    The gap is right - left for "<=" and left - right for ">=". The caller looks at the points with all digits.
    """
    if left.has(Integral) or right.has(Integral):
        return []
    over, under = (right, left) if relation == "<=" else (left, right)

    def gap(point: Point) -> mpf | None:
        try:
            if not admits(point):
                return None
            a, b = evaluate(over, point, ROUGHLY), evaluate(under, point, ROUGHLY)
            return mpf(0) if abs(a - b) <= ROUNDING * max(abs(a), abs(b)) else a - b
        except (Undefined, ValueError, ZeroDivisionError):
            return None

    first = points[0]
    points = [*points, Point(first.seed, first.number, first.patterns, LONG)]
    known = [(value, place) for place, point in enumerate(points) if (value := gap(point)) is not None]
    return [
        _descend(points[place], value, gap, _movable(points[place], [left, right]))
        for value, place in sorted(known)[:STARTS]
    ]


@dataclass(frozen=True)
class Movable:
    """A value that can be moved: the key that ``Point.fixing`` takes, what it is at a point, and its range.

    The range is that of a symbol, or between 0 and 1 for None.
    """

    key: Symbol | tuple[str, int]
    now: Callable[[Point], Expr]
    like: Symbol | None


def _descend(point: Point, lowest: mpf, gap: Callable, movable: list[Movable]) -> Point:
    left, fineness, first = MOST, 1, True
    while fineness <= FINEST:
        before = lowest
        for what in movable:
            for value in _values(what.like, what.now(point), Rational(1, 4**fineness), first):
                if left == 0 or lowest < 0:
                    return point
                there, left = point.fixing({what.key: value}), left - 1
                found = gap(there)
                if found is not None and found < lowest:
                    point, lowest = there, found
        first = False
        if lowest == before:
            fineness += 1
    return point


def _movable(point: Point, sides: list[Expr]) -> list[Movable]:
    """Plain symbols, but for steps and bits; the schedule's rates where a table is used; entries; functions' scales."""
    free = set().union(*(side.free_symbols for side in sides))
    indexed = sorted((q for q in free if isinstance(q, Indexed)), key=str)
    fixed = {N.s, N.t, N.T, N.k} | {q.base.label for q in indexed}
    plain = [
        Movable(f, lambda at, f=f: at.value(f), f)
        for f in sorted((f for f in free if isinstance(f, Symbol)), key=lambda f: f.name)
        if f not in fixed and _span(f) not in ("bit", "table")
    ]
    rates = [
        Movable(("beta", m), lambda at, m=m: at.beta(m), None)
        for m in range(1, point.T + 1)
        if any(_span(q.base.label) == "table" for q in indexed)
    ]
    functions = sorted({f.func.__name__ for side in sides for f in side.atoms(AppliedUndef)})
    scales = [
        Movable(scale_of(name), lambda at, name=name: at.fixed.get(scale_of(name), S.One), SCALE)
        for name in functions
    ]
    entries = [entry for q in indexed for entry in _entries(point, q, free)]
    return [*plain, *rates, *{entry.key: entry for entry in entries}.values(), *scales]


def _entries(point: Point, q: Indexed, free: set) -> Iterator[Movable]:
    """The entries that an indexed symbol has here, at every step where an index runs; none of a table, none of bits."""
    if _span(q.base.label) == "table" or q.base == N.bit:
        return
    values = {f: point.value(f) for f in q.free_symbols & free if isinstance(f, Symbol) and f != q.base.label}
    indices = [index.subs(values) for index in q.indices]
    for m, *others in product(*([i] if i.is_Integer else range(1, point.T + 1) for i in indices)):
        name, step = named_entry(q, [int(i) for i in others]), int(m)
        symbol = point.named(name, step) if q.base == N.x else None
        if symbol is not None:
            yield Movable(symbol, lambda at, f=symbol: at.value(f), symbol)
        elif step >= 0:
            like = Symbol(name, real=True, positive=q.is_positive or None)
            yield Movable((name, step), lambda at, q=q, m=step, name=name: lookup(at, q, m, name), like)


def _span(symbol: Symbol) -> str:
    row = N.BY_KEY.get(symbol.name)
    return "" if row is None else row.span


def _values(key: Symbol | None, now: Expr, step: Rational, ends: bool) -> Iterator[Expr]:
    """The ends of the value's range, in the first round, and two steps from where it is."""
    if key is None or _span(key) == "(0,1)":
        if ends:
            yield from (TINY, S.Half, 1 - TINY)
        room = min(now, 1 - now)
        yield from (now - step * room, now + step * room)
    elif key.is_integer:
        low = 1 if key.is_positive else 0 if key.is_nonnegative else -1000
        yield from (S(n) for n in (low, 1000, max(now - 1, low), now + 1))
    elif key.is_nonnegative:
        if ends:
            yield from (TINY, S.One, HUGE)
        yield from (now * (1 - step), now * (1 + step))
    else:
        sign = -1 if key.is_negative or key.is_nonpositive else 1
        if ends:
            yield from (sign * HUGE, sign * TINY)
            if sign == 1 and key.is_positive is None:
                yield from (S.Zero, -HUGE)
        yield from (now - 4 * step, now + 4 * step)

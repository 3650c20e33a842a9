"""Where an inequality comes nearest to failing: from random points down the gap between its sides, one value at a time.

A random point misses what is false in a corner, or in a valley that is narrow, as ρ(1-ρ) <= 0.2499 is. So every
value is tried at the ends of its range and at steps that shrink around where it is, and what lessens the gap is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from mpmath import mpf
from sympy import Expr, Indexed, Integral, Rational, S, Symbol

from ddpm_lib.proof import notation as N
from ddpm_lib.proof.numeric import Undefined, evaluate
from ddpm_lib.proof.points import Point

STARTS = 3  # the random points with the least gap, from which it descends
MOST = 700  # evaluations of the gap from each of them: a count, so that no clock decides what is found
ROUGHLY = 30  # digits of the gap
FINEST = 12  # times a step is cut to a quarter, each when it leads nowhere any more
TINY, HUGE = Rational(1, 10**6), S(10**6)
LONG = (1, 11, 12)  # s, t, T of a chain that is longer than those of the random points


def least(
    left: Expr, right: Expr, relation: str, points: list[Point], admits: Callable[[Point], bool]
) -> list[Point]:
    """For each start the admissible point with the least gap that the descent came to; none where an integral is.

    The gap is right - left for "<=" and left - right for ">=". The caller looks at the points with all digits.
    """
    if left.has(Integral) or right.has(Integral):
        return []
    free = left.free_symbols | right.free_symbols
    over, under = (right, left) if relation == "<=" else (left, right)

    def gap(point: Point) -> mpf | None:
        try:
            return evaluate(over, point, ROUGHLY) - evaluate(under, point, ROUGHLY) if admits(point) else None
        except (Undefined, ValueError, ZeroDivisionError):
            return None

    first = points[0]
    points = [*points, Point(first.seed, first.number, first.patterns, LONG)]
    known = [(value, place) for place, point in enumerate(points) if (value := gap(point)) is not None]
    return [_descend(points[place], value, gap, free) for value, place in sorted(known)[:STARTS]]


def _descend(point: Point, lowest: mpf, gap: Callable, free: set) -> Point:
    left, keys, fineness, first = MOST, _keys(point, free), 1, True
    while fineness <= FINEST:
        before = lowest
        for key in keys:
            for value in _values(key, _now(point, key), Rational(1, 4**fineness), first):
                if left == 0 or lowest < 0:
                    return point
                there, left = point.fixing({key: value}), left - 1
                found = gap(there)
                if found is not None and found < lowest:
                    point, lowest = there, found
        first = False
        if lowest == before:
            fineness += 1
    return point


def _keys(point: Point, free: set) -> list:
    """What can be moved: plain symbols, but for steps and bits, and the rates of the schedule where a table is used."""
    fixed = {N.s, N.t, N.T, N.k}
    labels = {q.base.label for q in free if isinstance(q, Indexed)}
    plain = [
        f
        for f in free
        if isinstance(f, Symbol) and f not in fixed | labels and _span(f) not in ("bit", "table")
    ]
    tables = any(isinstance(q, Indexed) and _span(q.base.label) == "table" for q in free)
    rates = [("beta", m) for m in range(1, point.T + 1)] if tables else []
    return [*sorted(plain, key=lambda f: f.name), *rates]


def _span(symbol: Symbol) -> str:
    row = N.BY_KEY.get(symbol.name)
    return "" if row is None else row.span


def _now(point: Point, key) -> Expr:
    return point.value(key) if isinstance(key, Symbol) else point.beta(key[1])


def _values(key, now: Expr, step: Rational, ends: bool) -> Iterator[Expr]:
    """The ends of the value's range, in the first round, and two steps from where it is."""
    if isinstance(key, tuple) or _span(key) == "(0,1)":
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

"""Random admissible points: a schedule and a value for every free symbol, in short decimals to retype."""

from __future__ import annotations

import hashlib

from sympy import Expr, Indexed, Rational, S, Symbol

from ddpm_lib.proof import notation as N

INNER = (  # s, t, T of the random points: away from the ends, so both sides must have a value there
    *((1, 3, 5), (1, 2, 4), (2, 5, 7), (3, 4, 5)),
    *((1, 6, 8), (2, 3, 9), (4, 7, 8), (5, 9, 11)),
)
EDGES = {  # the ends of the steps' ranges, with the symbols that make each worth a look
    "s = 0": ((0, 3, 5), {N.s}),
    "t = T": ((1, 4, 4), {N.t, N.T}),
    "t = 1": ((0, 1, 3), {N.t}),
    "T = 1": ((0, 1, 1), {N.T}),
}
LONGEST = 10_000  # the last step that a table is computed for
RATES = ((3, 60), (1, 20), (40, 90), (5, 50))  # β in hundredths; points differ in how noisy they are


def seed_of(label: str) -> int:
    """The fixed seed that belongs to a label."""
    return int.from_bytes(hashlib.sha256(label.encode()).digest()[:4], "big")


def halves(expressions: list[Expr]) -> dict[str, int]:
    """A pattern for each free symbol that says at which points it is in the lower half of its range.

    Of up to seven symbols every two, over eight points, are in both halves in all four combinations; so a
    claim that only holds for x_0 and x_t of one sign is met with the other.
    """
    free = set().union(*(e.free_symbols for e in expressions))
    return {
        name: 1 + place % 7
        for place, name in enumerate(sorted(f.name for f in free if isinstance(f, Symbol)))
    }


class Point:
    """An admissible choice of values. Each is drawn when it is first asked for, and depends only on the
    seed, the number of the point and the name, so neither the order nor the other symbols matter.

    What the table ties together is tied here too: x_{t-1} is x_0 at t = 1, x_t is x_T at t = T, and so on.
    """

    def __init__(
        self, seed: int, number: int, patterns=None, steps: tuple | None = None, fixed=None, far: bool = False
    ):
        self.seed, self.number, self.patterns, self.fixed = seed, number, patterns or {}, fixed or {}
        self.far = far  # whether plain symbols are near the ends of their ranges
        self._known: dict[tuple[str, int], Expr] = {}
        self.s, self.t, self.T = self.steps = steps or INNER[number % len(INNER)]

    def _key(self) -> tuple:
        return (
            self.seed,
            self.number,
            self.far,
            self.steps,
            frozenset(self.patterns.items()),
            frozenset(self.fixed.items()),
        )

    def __eq__(self, other) -> bool:
        return isinstance(other, Point) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def fixing(self, values: dict) -> Point:
        """This point with other values for some symbols, or for (key, step) entries of the tables."""
        return Point(self.seed, self.number, self.patterns, self.steps, {**self.fixed, **values}, self.far)

    def draw(self, name: str, low: int, high: int) -> int:
        """A whole number in low..high."""
        text = f"{self.seed}/{self.number}/{name}"
        return low + int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") % (high - low + 1)

    def lower(self, name: str) -> bool:
        """Whether the symbol is in the lower half of its range here."""
        pattern = self.patterns.get(name)
        flip = self.seed % 2  # half of the labels start with a negative value
        return bool(
            (bin(self.number & pattern).count("1") + flip) % 2 if pattern else self.draw(name + "/half", 0, 1)
        )

    def beta(self, m: int) -> Expr:
        """β_m of this point's schedule; β_0 = 0."""
        _check_step(m)
        if ("beta", m) in self.fixed:
            return self.fixed["beta", m]
        if ("alpha_bar", m) in self.fixed:
            return 1 - self.fixed["alpha_bar", m] / self.alpha_bar(m - 1)
        return Rational(self.draw(f"beta[{m}]", *RATES[self.number % len(RATES)]), 100) if m else S.Zero

    def alpha_bar(self, m: int) -> Expr:
        """ᾱ_m of this point's schedule; ᾱ_0 = 1."""
        _check_step(m)
        value = S.One
        for j in range(1, m + 1):
            value *= 1 - self.beta(j)
        return value

    def schedule(self, key: str, m: int) -> Expr:
        """The value at step m of one of the table's schedule quantities, by its key."""
        if (key, m) not in self._known:
            self._known[key, m] = self._schedule(key, m)
        return self._known[key, m]

    def _schedule(self, key: str, m: int) -> Expr:
        if key == "beta":
            return self.beta(m)
        if key == "alpha":
            return 1 - self.beta(m)
        if key == "alpha_bar":
            return self.alpha_bar(m)
        noise = 1 - self.alpha_bar(m)
        if key == "snr":
            return self.alpha_bar(m) / noise
        before = 1 - self.alpha_bar(m - 1)
        if key == "beta_tilde":
            return before / noise * self.beta(m)
        if key == "sigma":  # 0 < sigma² < 1 - alpha_bar[m - 1]
            return before**S.Half * Rational(self.draw(f"sigma[{m}]", 10, 95), 100)
        raise KeyError(key)

    def value(self, symbol: Symbol) -> Expr:
        """The value of a free symbol. Raises ValueError for one without any assumption."""
        symbol = self._same(symbol)
        if symbol in self.fixed:
            return self.fixed[symbol]
        if symbol in (N.s, N.t, N.T):
            return S({N.s: self.s, N.t: self.t, N.T: self.T}[symbol])
        if symbol == N.k:
            return S(self.draw("k", 1, self.t))
        name, row = symbol.name, N.BY_KEY.get(symbol.name)
        span = row.span if row is not None else ""
        if span == "bit":
            return S(self.draw(name, 0, 1))
        if span == "(0,1)":
            near_end = Rational(self.draw(name, 2, 20), 1000)
            if self.far:
                return near_end if self.lower(name) else 1 - near_end
            return Rational(self.draw(name, *((4, 48) if self.lower(name) else (52, 96))), 100)
        if symbol.is_integer:
            low = 1 if symbol.is_positive else 0 if symbol.is_nonnegative else -6
            return S(self.draw(name, low, 9))
        if symbol.is_nonnegative and self.far:
            return Rational(self.draw(name, *((5, 50) if self.lower(name) else (10_000, 90_000))), 1000)
        if symbol.is_nonnegative:
            return Rational(self.draw(name, *((15, 95) if self.lower(name) else (105, 280))), 100)
        if symbol.is_real:
            negative = symbol.is_negative or symbol.is_nonpositive or self.lower(name)
            size = self.draw(name, 300, 900) if self.far else self.draw(name, 11, 249)
            return Rational(-size if negative else size, 100)
        raise ValueError(
            f"{name}: expected a symbol with an assumption (real, positive, integer, ...), got none"
        )

    def _same(self, symbol: Symbol) -> Symbol:
        """The symbol that this one coincides with at this point's steps."""
        if symbol == N.x_s and self.s == self.t - 1:
            symbol = N.x_prev
        if symbol == N.x_T and self.t == self.T:
            symbol = N.x_t
        at_start = (symbol == N.x_prev and self.t == 1) or (symbol == N.x_s and self.s == 0)
        return N.x_0 if at_start else symbol

    def entry(self, key: str, m: int) -> Expr:
        """The value of x[m] or bit[m], or of a user's own indexed symbol."""
        _check_step(m)
        named = self.named(key, m)
        if named is not None:
            return self.value(named)
        if (key, m) in self.fixed:
            return self.fixed[key, m]
        if key == "bit":
            return S(self.draw(f"bit[{m}]", 0, 1))
        return Rational(self.draw(f"{key}[{m}]", -249, 249), 100)

    def named(self, key: str, m: int) -> Symbol | None:
        """The symbol that has a name of its own and is x[m] or bit[m] here, if there is one."""
        names = {self.T: "T", self.s: "s", self.t: "t", self.t - 1: "prev", 0: "0"}
        row = N.BY_KEY.get(f"{key}_{names.get(m, '')}")
        return None if row is None else row.object


def _check_step(m: int) -> None:
    if not 0 <= m <= LONGEST:
        raise IndexError(f"there is no step {m}" if m < 0 else "a step that far cannot be computed")


def named_entry(q: Indexed, others: list[int]) -> str:
    """The name of an indexed symbol, with all of its indices but the first."""
    return ",".join([q.base.label.name, *map(str, others)])


def lookup(point: Point, q: Indexed, m: int, key: str = "") -> Expr:
    """The value of an indexed symbol at the index m; its name with further indices, if it has any, is the key."""
    row = N.BY_KEY.get(q.base.label.name)
    if row is not None and row.span == "table":
        return point.schedule(row.key, m)
    name = key or q.base.label.name
    value = point.entry(name, m)
    return abs(value) + Rational(1, 20) if q.is_positive and (name, m) not in point.fixed else value


def bits_in(expressions: list[Expr]) -> list[Symbol]:
    """The free bits of the expressions, in a fixed order."""
    free = set().union(*(e.free_symbols for e in expressions))
    return sorted((row.object for row in N.TABLE if row.span == "bit" and row.object in free), key=str)


def describe(point: Point, expressions: list[Expr]) -> dict[str, str]:
    """The point as name -> short decimal, of what the expressions hold: steps, then tables, then the rest."""
    free = set().union(*(e.free_symbols for e in expressions))
    indexed = sorted((f for f in free if isinstance(f, Indexed)), key=str)
    labels = {q.base.label for q in indexed}
    symbols = sorted((f for f in free if isinstance(f, Symbol) and f not in labels), key=lambda f: f.name)
    values = {f: point.value(f) for f in symbols}
    shown = {f.name: short(v) for f, v in values.items() if f.is_integer}
    for q in indexed:
        index, *others = (m.subs(values) for m in q.indices)
        if index.is_Integer and all(m.is_Integer for m in others):
            shown[str(q)] = _entry(point, q, int(index), named_entry(q, others) if others else "")
        elif not others:  # the index runs: show the table from its first step
            last = point.T if N.T in free else point.t
            shown |= {f"{q.base}[{m}]": _entry(point, q, m) for m in range(1, last + 1)}
    return shown | {f.name: short(v) for f, v in values.items() if not f.is_integer}


def _entry(point: Point, q: Indexed, m: int, key: str = "") -> str:
    try:
        return short(lookup(point, q, m, key))
    except IndexError:
        return "undefined"


def short(value: Expr) -> str:
    """A number in at most six significant digits."""
    if not value.is_finite:
        return "infinite"
    return str(value) if value.is_Integer else f"{float(value):.6g}"

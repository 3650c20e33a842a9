"""Random admissible points: a schedule and a value for every free symbol, short decimals that a reader can
retype."""

from __future__ import annotations

import hashlib

from sympy import Expr, Indexed, Rational, S, Symbol

from ddpm_lib.proof import notation as N

INNER = ((1, 3, 5), (1, 2, 4), (2, 4, 6), (1, 5, 6), (2, 6, 8))  # s, t, T: there both sides must have a value
EDGES = {  # the ends of the steps' ranges, with the symbols that make each worth a look
    "s = 0": ((0, 3, 5), {N.s}),
    "s = t - 1": ((3, 4, 6), {N.s, N.t}),
    "t = T": ((1, 4, 4), {N.t, N.T}),
    "t = 1": ((0, 1, 3), {N.t}),
    "T = 1": ((0, 1, 1), {N.T}),
}
RATES = (
    (3, 60),
    (1, 20),
    (40, 90),
    (5, 50),
    (10, 70),
)  # β in hundredths; points differ in how noisy they are


def seed_of(label: str) -> int:
    """The fixed seed that belongs to a label."""
    return int.from_bytes(hashlib.sha256(label.encode()).digest()[:4], "big")


class Point:
    """An admissible choice of values. Each is drawn when it is first asked for, and depends only on seed,
    number
    of the point and name, so that neither order nor other symbols matter."""

    def __init__(self, seed: int, number: int, fixed: dict | None = None, steps: tuple | None = None):
        self.seed, self.number, self.fixed = seed, number, fixed or {}
        self.s, self.t, self.T = steps or INNER[number % len(INNER)]

    def draw(self, name: str, low: int, high: int) -> int:
        """A whole number in low..high."""
        text = f"{self.seed}/{self.number}/{name}"
        return low + int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") % (high - low + 1)

    def beta(self, m: int) -> Rational:
        """β_m of this point's schedule; β_0 = 0."""
        if m < 0:
            raise IndexError(f"there is no step {m}")
        return Rational(self.draw(f"beta[{m}]", *RATES[self.number % len(RATES)]), 100) if m else S.Zero

    def alpha_bar(self, m: int) -> Rational:
        """ᾱ_m of this point's schedule; ᾱ_0 = 1."""
        if m < 0:
            raise IndexError(f"there is no step {m}")
        value = S.One
        for j in range(1, m + 1):
            value *= 1 - self.beta(j)
        return value

    def real(self, name: str) -> Rational:
        """A real number between -2.5 and 2.5; its sign changes from each even point to the next."""
        sign = 1 if self.draw(name + "/sign", 0, 1) else -1
        if self.number % 2:  # the sign opposite to the point before
            before = Point(self.seed, self.number - 1).draw(name + "/sign", 0, 1)
            sign = -1 if before else 1
        return Rational(sign * self.draw(name, 11, 249), 100)

    def schedule(self, key: str, m: int) -> Expr:
        """The value at step m of one of the table's schedule quantities, by its key."""
        if (key, m) in self.fixed:
            return self.fixed[key, m]
        if key == "beta":
            return self.beta(m)
        if key == "alpha":
            return 1 - self.beta(m)
        if key == "alpha_bar":
            return self.alpha_bar(m)
        noise, before = 1 - self.alpha_bar(m), 1 - self.alpha_bar(m - 1) if m else None
        if key == "beta_tilde":
            return before / noise * self.beta(m)
        if key == "snr":
            return self.alpha_bar(m) / noise
        if key == "sigma":  # 0 < sigma² < 1 - alpha_bar[m - 1]
            return before**S.Half * Rational(self.draw(f"sigma[{m}]", 10, 95), 100)
        raise KeyError(key)

    def value(self, symbol: Symbol) -> Expr:
        """The value of a free symbol."""
        if symbol in self.fixed:
            return self.fixed[symbol]
        name, row = symbol.name, N.BY_KEY.get(symbol.name)
        if symbol in (N.s, N.t, N.T):
            return S({N.s: self.s, N.t: self.t, N.T: self.T}[symbol])
        if symbol == N.k:
            return S(self.draw("k", 1, max(self.t, 1)))
        if row is not None and row.object == symbol and row.span == "(0,1)":
            return Rational(self.draw(name, 4, 96), 100)
        if row is not None and row.object == symbol and row.span == "bit":
            return S(self.draw(name, 0, 1))
        if symbol.is_integer:
            low = 1 if symbol.is_positive else 0 if symbol.is_nonnegative else -4
            return S(self.draw(name, low, 5))
        if symbol.is_positive:
            return Rational(self.draw(name, 15, 280), 100)
        if symbol.is_nonnegative:
            return Rational(self.draw(name, 0, 280), 100)
        if symbol.is_real:
            return -abs(self.real(name)) if symbol.is_negative else self.real(name)
        raise ValueError(
            f"{name}: expected a symbol with an assumption (real, positive, integer, ...), got none"
        )

    def entry(self, base_key: str, m: int) -> Expr:
        """The value of x[m] or bit[m], or of a user's own indexed symbol."""
        shared = {0: "0", self.t: "t", self.t - 1: "prev"}
        if base_key == "x" and m in shared:
            return self.value(N.BY_KEY[f"x_{shared[m]}"].object)
        if base_key == "bit" and m in shared:
            return self.value(N.BY_KEY[f"bit_{shared[m]}"].object)
        if base_key == "bit":
            return S(self.draw(f"bit[{m}]", 0, 1))
        return self.real(f"{base_key}[{m}]")


def bits_in(expressions: list[Expr]) -> list[Symbol]:
    """The free bits of the expressions, in a fixed order."""
    free = set().union(*(e.free_symbols for e in expressions))
    return sorted((row.object for row in N.TABLE if row.span == "bit" and row.object in free), key=str)


def describe(point: Point, expressions: list[Expr]) -> dict[str, str]:
    """The point as name -> short decimal, for what the expressions hold: steps first, then tables, then the
    rest."""
    free = set().union(*(e.free_symbols for e in expressions))
    symbols = sorted((f for f in free if isinstance(f, Symbol)), key=lambda f: (not f.is_integer, f.name))
    labels = {q.base.label for q in free if isinstance(q, Indexed)}
    shown = {f.name: short(point.value(f)) for f in symbols if f not in labels and f.is_integer}
    for q in sorted((q for q in free if isinstance(q, Indexed)), key=str):
        index = q.indices[0].subs({f: point.value(f) for f in q.indices[0].free_symbols})
        if index.is_Integer:
            shown[str(q)] = short(lookup(point, q, int(index)))
    shown |= {f.name: short(point.value(f)) for f in symbols if f not in labels and not f.is_integer}
    return shown


def lookup(point: Point, q: Indexed, m: int) -> Expr:
    """The value of an indexed symbol at the index m."""
    row = N.BY_KEY.get(q.base.label.name)
    if row is not None and row.object == q.base and row.span == "table":
        return point.schedule(row.key, m)
    return point.entry(q.base.label.name, m)


def short(value: Expr) -> str:
    """A number in at most six significant digits."""
    return str(value) if value.is_Integer else f"{float(value):.6g}"

"""Random admissible points: a schedule and a value for every free symbol, short decimals that a reader can retype."""

from __future__ import annotations

import hashlib
from itertools import product

from sympy import Expr, Function, Indexed, IndexedBase, Integer, Rational, S, Symbol
from sympy.core.function import AppliedUndef

from ddpm_lib.proof import notation as N

STEPS = (  # s, t, T of each point: inside the chain, then at the ends of their ranges
    (1, 3, 5), (0, 2, 4), (2, 4, 6), (1, 5, 6), (2, 6, 8), (0, 3, 3), (3, 4, 4), (0, 1, 2), (0, 1, 1),
)
INNER = 5  # the first of these are inside: there both sides must have a value
RATES = ((3, 60), (1, 20), (40, 90), (5, 50), (10, 70))  # β in hundredths; points differ in how noisy they are


def seed_of(label: str) -> int:
    """The fixed seed that belongs to a label."""
    return int.from_bytes(hashlib.sha256(label.encode()).digest()[:4], "big")


class Point:
    """An admissible choice of values. Each is drawn when it is first asked for, and depends only on seed, number
    of the point and name, so that neither order nor other symbols matter."""

    def __init__(self, seed: int, number: int, fixed: dict | None = None):
        self.seed, self.number, self.fixed = seed, number, fixed or {}
        self.s, self.t, self.T = STEPS[number % len(STEPS)]
        self.inner = number % len(STEPS) < INNER

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

"""From the table's symbols to independent atoms.

The quantities of a schedule hang together (alpha_bar[t] = alpha[t] alpha_bar[t - 1], ...). Here they are
written in independent positive numbers u, such as alpha[t] = 1 / (1 + u), so that a claim becomes one about
free symbols and the sign of beta[t], of 1 - alpha_bar[t] and the like is manifest. Every schedule is such a
choice of numbers.
"""

from __future__ import annotations

from sympy import Expr, Indexed, S, Symbol, sqrt

from ddpm_lib.proof import notation as N
from ddpm_lib.proof.distributions import bernoulli_pmf, normal_pdf

SCHEDULE = {N.alpha, N.alpha_bar, N.beta, N.beta_tilde, N.snr, N.sigma}
LONGEST_SUM = 64  # a sum with more terms than this is not written out


def open_notation(e: Expr) -> Expr:
    """e with densities written out, and x[t], x[t - 1], x[0] replaced by x_t, x_prev, x_0 (the same for
    bits)."""
    e = e.replace(lambda f: isinstance(f, (normal_pdf, bernoulli_pmf)), lambda f: f.doit())
    t, s, T, zero = N.t, N.s, N.T, S.Zero
    same = {N.x[zero]: N.x_0, N.x[t]: N.x_t, N.x[t - 1]: N.x_prev, N.x[s]: N.x_s, N.x[T]: N.x_T}
    same |= {N.bit[zero]: N.bit_0, N.bit[t]: N.bit_t, N.bit[t - 1]: N.bit_prev}
    return e.xreplace(same)


def in_alphas(e: Expr) -> Expr:
    """e with beta, beta_tilde and snr written in alpha and alpha_bar (also under a sum or product)."""
    ab = N.alpha_bar

    def rewrite(q: Indexed) -> Expr:
        (m,) = q.indices
        if q.base == N.beta:
            return 1 - N.alpha[m] if m != 0 else S.Zero
        if q.base == N.beta_tilde:
            return (1 - ab[m - 1]) / (1 - ab[m]) * (1 - N.alpha[m])
        if q.base == N.snr:
            return ab[m] / (1 - ab[m])
        return q

    e = e.replace(lambda q: isinstance(q, Indexed), rewrite)
    return e.xreplace({N.alpha_bar[0]: S.One, N.alpha[0]: S.One})


def _split(index: Expr) -> tuple[Expr, int]:
    """An index as base + whole number: t - 1 is (t, -1), 3 is (0, 3)."""
    offset, base = index.as_coeff_Add()
    return (base, int(offset)) if offset.is_Integer else (index, 0)


class Chart:
    """Writes the schedule's quantities, already in alphas, in independent positive symbols.

    One chart serves both sides of a claim: the same quantity must get the same symbols.
    """

    ORDER = (N.s, N.t, N.T)

    def __init__(self, expressions: list[Expr]):
        self.values: dict[Expr, Expr] = {}
        self._count = 0
        indexed = set().union(*(e.atoms(Indexed) for e in expressions)) if expressions else set()
        sigmas = {q.indices[0] for q in indexed if q.base == N.sigma}
        offsets: dict[Expr, tuple[set[int], set[int]]] = {}
        for base, m, is_bar in [
            *(
                (*_split(q.indices[0]), q.base == N.alpha_bar)
                for q in indexed
                if q.base in (N.alpha, N.alpha_bar)
            ),
            *((*_split(m - 1), True) for m in sigmas),
        ]:
            offsets.setdefault(base, (set(), set()))[is_bar].add(m)
        tops: list[tuple[int, Expr, int]] = []
        rank = {base: place for place, base in enumerate(self.ORDER)}
        for base in sorted(offsets, key=lambda b: (rank.get(b, len(rank)), str(b))):
            self._family(base, *offsets[base], tops, rank)
        for m in sorted(sigmas, key=str):
            self.values[N.sigma[m]] = sqrt((1 - self.bar(m - 1)) * self._fraction())
        for q in sorted(indexed - set(self.values), key=str):
            if q.base in (N.x, N.bit):
                self.values[q] = Symbol(str(q), **({"real": True} if q.base == N.x else {"integer": True}))
        for row in N.TABLE:
            if row.span == "(0,1)" and any(e.has(row.object) for e in expressions):
                self.values[row.object] = self._fraction()

    def _fraction(self) -> Expr:
        """A new number between 0 and 1, as 1 / (1 + u) with u > 0."""
        self._count += 1
        return 1 / (1 + Symbol(f"u{self._count}", positive=True))

    def bar(self, m: Expr) -> Expr:
        """The chart's alpha_bar[m]."""
        return S.One if m == 0 else self.values[N.alpha_bar[m]]

    def _family(self, base, alphas: set[int], bars: set[int], tops: list, rank: dict) -> None:
        """alpha and alpha_bar at the indices base + offset."""
        if not bars:
            for m in sorted(alphas):
                self.values[N.alpha[base + m]] = self._fraction()
            return
        first = min(bars | {m - 1 for m in alphas})
        if base == 0:
            first = min(first, 0) if first >= 0 else first
            bar = S.One if first == 0 else self._fraction()
        else:
            bar = self._fraction()
            for earlier, last in reversed(
                tops
            ):  # s <= t - 1 and t <= T: the later one is a part of the earlier
                gap = 1 if earlier == N.s else 0
                if rank.get(base) is not None and last <= first + gap:
                    bar = self.bar(earlier + last) * bar
                    break
        self.values[N.alpha_bar[base + first]] = bar
        last = max(bars | alphas)
        for m in range(first + 1, last + 1):
            step = self._fraction()
            self.values[N.alpha[base + m]] = step
            bar = bar * step
            self.values[N.alpha_bar[base + m]] = bar
        if base in rank:
            tops.append((base, last))

    def apply(self, e: Expr) -> Expr:
        """e in the chart's symbols."""
        return e.xreplace(self.values)

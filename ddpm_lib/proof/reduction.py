"""From the table's symbols to independent atoms.

The quantities of a schedule hang together (alpha_bar[t] = alpha[t] alpha_bar[t - 1], ...). Here they are
written in independent positive numbers u, such as alpha[t] = 1 / (1 + u), so that a claim becomes one about
free symbols and the sign of beta[t], of 1 - alpha_bar[t] and the like is manifest. Every schedule is such a
choice of numbers.
"""

from __future__ import annotations

from sympy import (
    Abs,
    Derivative,
    Expr,
    Indexed,
    IndexedBase,
    Integral,
    Limit,
    Mul,
    Pow,
    Product,
    S,
    Sum,
    Symbol,
    expand,
    sqrt,
)

from ddpm_lib.proof import notation as N
from ddpm_lib.proof.distributions import bernoulli_pmf, normal_pdf

NAMED = {  # the names of a trajectory's entries
    N.x_0: N.x[0],
    N.x_prev: N.x[N.t - 1],
    N.x_t: N.x[N.t],
    N.x_s: N.x[N.s],
    N.x_T: N.x[N.T],
    N.bit_0: N.bit[0],
    N.bit_prev: N.bit[N.t - 1],
    N.bit_t: N.bit[N.t],
}
RUNNING = (N.t, N.s, N.T)


def open_notation(e: Expr) -> Expr:
    """e with densities written out, and the trajectory's entries by their names.

    |f - 1| is 1 - f for a number between 0 and 1, which SymPy cannot know.
    """
    e = by_name(e.replace(lambda f: isinstance(f, (normal_pdf, bernoulli_pmf)), lambda f: f.doit()))
    return e.xreplace({Abs(row.object - 1): 1 - row.object for row in N.TABLE if row.span == "(0,1)"})


def by_name(e: Expr) -> Expr:
    """e with x_t, x_prev, x_0, bit_t, ... for x[t], x[t - 1], x[0], bit[t], ..."""
    return e.xreplace({entry: name for name, entry in NAMED.items()})


def follow_steps(e: Expr, step: Symbol = N.t, to: Expr = N.t) -> Expr:
    """e with x_t, x_prev, bit_t, ... written x[t], x[t - 1], bit[t], so that they move when the step does.

    With other arguments, e with step replaced by to, in these names too.
    """
    return e.xreplace(NAMED).xreplace({step: to})


def rename_bound(e: Expr) -> Expr:
    """e with a name of its own, by depth, for each variable that a sum, product, integral or limit binds.

    So a free t and one that a sum runs over are never mixed up, and the variable's name makes no difference. Where a
    sum runs over t, then x_t, x_prev and the like run with it. An integral over x[k], or one over x_t that also holds
    x[k], keeps its name: which entry x[k] is shows only at a point.
    """
    return e.replace(lambda f: isinstance(f, (Sum, Product, Integral, Limit)), _rename)


def _rename(e: Expr) -> Expr:
    if isinstance(e, Limit):
        body, x, *rest = e.args
        if not isinstance(x, Symbol):
            return e
        own = _own_name(x, body)
        return Limit(follow_steps(body, x, own) if x in RUNNING else body.xreplace({x: own}), own, *rest)
    body = e.function
    for x, *bounds in e.limits:  # from the inside out
        if isinstance(x, Symbol) and (
            isinstance(e, (Sum, Product)) or not body.atoms(IndexedBase) & {N.x, N.bit}
        ):
            own = _own_name(x, body)
            body = follow_steps(body, x, own) if x in RUNNING else body.xreplace({x: own})
            x = own
        body = e.func(body, (x, *bounds))
    return body


def _own_name(x: Symbol, body: Expr) -> Symbol:
    depths = [int(f.name.rsplit("_", 1)[1]) for f in body.atoms(Symbol) if f.name.startswith("_bound_")]
    kind = "step" if x.is_integer else "positive" if x.is_positive else "real"
    return Symbol(f"_bound_{kind}_{1 + max(depths, default=0)}", **x.assumptions0)


def plain_limits(e: Expr) -> Expr:
    """e with limits in beta[m], alpha[m] or alpha_bar[m] turned into ones in a plain symbol.

    Derivatives in these, and in symbols that the chart replaces, are done: they hold all other symbols fixed.
    """

    def rewrite(limit: Limit) -> Expr:
        body, q, target, direction = limit.args
        (m,) = q.indices
        body = in_alphas(open_notation(body))
        bars = {b.indices[0] for b in body.atoms(Indexed) if b.base == N.alpha_bar}
        near = Symbol(f"_{q}", positive=True)
        if q.base == N.alpha_bar:  # every other quantity of the schedule would move with it
            others = {b for b in body.atoms(Indexed) if b.base in (N.alpha, N.alpha_bar, N.sigma)} - {q}
            return limit if others else Limit(body.xreplace({q: near}), near, target, direction)
        alpha = 1 - near if q.base == N.beta else near
        later = {b: b - m for b in bars if (b - m).is_Integer and b - m >= 0}
        steps = {
            N.alpha_bar[b]: N.alpha_bar[m - 1] * Mul(*[N.alpha[m + j] for j in range(int(count) + 1)])
            for b, count in later.items()
        }
        return Limit(body.xreplace(steps).xreplace({N.alpha[m]: alpha}), near, target, direction)

    in_table = (N.beta, N.alpha, N.alpha_bar)
    e = e.replace(
        lambda f: (
            isinstance(f, Derivative) and any(isinstance(x, Indexed) or _is_fraction(x) for x in f.variables)
        ),
        lambda f: open_notation(f).doit(integrals=False),
    )
    return e.replace(
        lambda f: isinstance(f, Limit) and isinstance(f.args[1], Indexed) and f.args[1].base in in_table,
        rewrite,
    )


def _is_fraction(x: Symbol) -> bool:
    row = N.BY_KEY.get(x.name)
    return row is not None and row.span == "(0,1)"


def in_alphas(e: Expr) -> Expr:
    """e with beta, beta_tilde and snr written in alpha and alpha_bar (also under a sum or product)."""
    ab = N.alpha_bar

    def rewrite(q: Indexed) -> Expr:
        m = q.indices[0]
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


LONGEST_CHAIN = 16  # up to this step, alpha_bar is written as the product of all alphas from alpha[1] on


class Chart:
    """Writes the schedule's quantities, already in alphas, in independent positive symbols.

    One chart serves both sides of a claim: the same quantity must get the same symbols.
    """

    ORDER = (N.s, N.t, N.T)

    def __init__(self, expressions: list[Expr]):
        self.values: dict[Expr, Expr] = {}
        self._count = 0
        self._powers(expressions)
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
                self.values[q] = Symbol(f"_{q}", **({"real": True} if q.base == N.x else {"integer": True}))
        for row in N.TABLE:
            if row.span == "(0,1)" and any(row.object in e.free_symbols for e in expressions):
                self.values[row.object] = self._fraction()

    def _fraction(self) -> Expr:
        """A new number between 0 and 1, as 1 / (1 + u) with u > 0."""
        self._count += 1
        return 1 / (1 + Symbol(f"_u{self._count}", positive=True))

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
        if base == 0 and first >= 0 and max(bars) <= LONGEST_CHAIN:
            first, bar = 0, S.One
        else:
            bar = self._fraction()
            for earlier, last in reversed(tops):
                gap = 1 if earlier == N.s else 0  # s <= t - 1 and t <= T: alpha_bar is less at the later one
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

    def _powers(self, expressions: list[Expr]) -> None:
        """(1 - rate)**n and its like, for whole n >= 1, in one more number between 0 and 1 for each such n.

        It stands for the lowest of the powers n + c that occur, so that 1 - (1 - rate)**(n - 1) has a sign too.
        """
        bound = {
            x for e in expressions for f in e.atoms(Limit, Integral) for x in f.atoms(Symbol) - f.free_symbols
        }
        powers = {
            p
            for e in expressions
            for p in e.atoms(Pow)
            if p.base == 1 - N.rate and not p.exp.is_number and not p.exp.free_symbols & bound
        }
        terms = {p: expand(p.exp).as_coefficients_dict() for p in powers}
        lowest: dict[Expr, Expr] = {}
        for p, exponent in list(terms.items()):
            counts = [c for c in exponent if c != 1]
            if not all(c.is_Symbol and c.is_integer and c.is_positive for c in counts):
                del terms[p]
                continue
            for c in counts:
                offset = exponent[S.One] / exponent[c] if len(counts) == 1 else S.Zero
                lowest[c] = min(lowest.get(c, S.Zero), offset)
        kept = {c: self._fraction() for c in sorted(lowest, key=str)}
        for p, exponent in terms.items():
            rest = exponent[S.One] - sum(exponent[c] * lowest[c] for c in exponent if c != 1)
            self.values[p] = (1 - N.rate) ** rest * Mul(*[kept[c] ** exponent[c] for c in exponent if c != 1])

    def apply(self, e: Expr) -> Expr:
        """e in the chart's symbols."""
        powers = {p: value for p, value in self.values.items() if p.is_Pow}
        return e.xreplace(powers).xreplace(self.values)

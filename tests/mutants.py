"""Wrong versions of a right expression, and an evaluation of its own to tell which of them really are wrong.

Nothing here uses the proof engine, which is what the mutants are to test.
"""

import random
from itertools import combinations

from sympy import Add, Expr, Indexed, Integer, Mul, Pow, Rational, S, Symbol, sympify

from ddpm_lib.proof import notation as N

SWAPPED_TABLES = {N.alpha: N.alpha_bar, N.alpha_bar: N.alpha, N.beta: N.beta_tilde, N.beta_tilde: N.beta}
ALIKE = [  # symbols that are easily taken for each other
    {N.x_0, N.x_t, N.x_prev},
    {N.bit_0, N.bit_t, N.bit_prev},
    {N.mean_p, N.mean_q},
    {N.var_p, N.var_q},
    {N.prob_p, N.prob_q},
]


def mutants(e: Expr) -> dict[Expr, str]:
    """Expressions that differ from e in one place, each with what was done to it."""
    e = sympify(e)
    found = {}
    for mutant, what in [*_everywhere(e), *_one_place(e)]:
        if mutant != e and not mutant.has(S.NaN, S.ComplexInfinity):
            found.setdefault(mutant, what)
    return found


def _everywhere(e: Expr):
    tables = {q: SWAPPED_TABLES[q.base][q.indices[0]] for q in e.atoms(Indexed) if q.base in SWAPPED_TABLES}
    yield e.xreplace(tables), "alpha and alpha_bar, beta and beta_tilde exchanged throughout"
    yield e.xreplace({N.t: N.t - 1}), "t - 1 for t throughout"
    for group in ALIKE:
        for a, b in combinations(sorted(group & e.free_symbols, key=str), 2):
            yield e.xreplace({a: b, b: a}), f"{a} and {b} exchanged"


def _one_place(e: Expr):
    """e with one of its parts changed, at every depth."""
    yield from _changed(e)
    if isinstance(e, Indexed):
        return
    for place, arg in enumerate(e.args):
        if isinstance(arg, Expr):
            for mutant, what in _one_place(arg):
                yield e.func(*e.args[:place], mutant, *e.args[place + 1 :]), what


def _changed(e: Expr):
    if isinstance(e, Indexed):
        (m,) = e.indices
        if e.base in SWAPPED_TABLES:
            yield SWAPPED_TABLES[e.base][m], f"{SWAPPED_TABLES[e.base]} for {e.base}"
        yield e.base[m - 1], f"{m - 1} for {m}"
        yield e.base[m + 1], f"{m + 1} for {m}"
        yield Pow(e, Rational(1, 2)), f"a root of {e}"
    elif isinstance(e, Symbol):
        for group in ALIKE:
            if e in group:
                yield from ((other, f"{other} for {e}") for other in sorted(group - {e}, key=str))
    elif e.is_Rational:
        yield e + 1, f"{e + 1} for {e}"
        yield -e, f"{-e} for {e}"
    elif e.is_Add:
        for place, term in enumerate(e.args):
            rest = [*e.args[:place], *e.args[place + 1 :]]
            yield Add(-term, *rest), f"the sign of {term}"
            yield Add(*rest), f"without {term}"
    elif e.is_Mul:
        yield -e, "a sign"
        for place, factor in enumerate(e.args):
            rest = [*e.args[:place], *e.args[place + 1 :]]
            yield Mul(*rest), f"without {factor}"
            yield Mul(1 / factor, *rest), f"{factor} on the other side of the fraction"
    elif e.is_Pow:
        if e.exp.is_Rational and e.exp.q == 2:
            yield e.base ** (2 * e.exp), "without the root"
        if e.exp.is_Integer and abs(e.exp) == 2:
            yield e.base ** (e.exp / 2), "without the square"
    elif len(e.args) > 1:
        for i, j in combinations(range(len(e.args)), 2):
            args = list(e.args)
            args[i], args[j] = args[j], args[i]
            yield e.func(*args), f"arguments {i + 1} and {j + 1} exchanged"


def differ(a: Expr, b: Expr, trials: int = 6) -> bool:
    """Whether a and b have different values somewhere, by floats on random schedules."""
    return any(_differ_at(a, b, random.Random(trial)) for trial in range(trials))


def _differ_at(a: Expr, b: Expr, rng: random.Random) -> bool:
    t = rng.randint(3, 6)
    beta = [0.0] + [rng.uniform(0.05, 0.6) for _ in range(12)]
    bar = [1.0]
    for rate in beta[1:]:
        bar.append(bar[-1] * (1 - rate))
    symbols = sorted((a.free_symbols | b.free_symbols), key=str)
    values = {f: rng.uniform(0.2, 0.8) if f.is_positive else rng.uniform(-2, 2) for f in symbols}
    values |= {N.t: t, N.s: t - 2, N.T: t + 2, N.n: 4, N.bit_0: t % 2, N.bit_t: rng.randint(0, 1)}
    values[N.bit_prev] = rng.randint(0, 1)

    def table(q: Indexed) -> float:
        m = int(q.indices[0])
        return {
            N.beta: lambda: beta[m],
            N.alpha: lambda: 1 - beta[m],
            N.alpha_bar: lambda: bar[m],
            N.beta_tilde: lambda: (1 - bar[m - 1]) / (1 - bar[m]) * beta[m],
            N.snr: lambda: bar[m] / (1 - bar[m]) if m else float("nan"),
        }[q.base]()

    results = []
    for e in (a, b):
        e = e.xreplace({f: Integer(values[f]) for f in (N.t, N.s, N.T, N.n)}).doit()
        e = e.xreplace({q: sympify(table(q)) for q in e.atoms(Indexed)})
        e = e.xreplace({f: sympify(values[f]) for f in e.free_symbols if f in values})
        results.append(complex(e.evalf()))
    return not abs(results[0] - results[1]) <= 1e-9 * (1 + abs(results[0]))

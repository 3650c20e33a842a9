"""An evaluation of its own, by floats, to tell which mutants of an expression really are wrong.

Nothing here uses the proof engine, which is what the mutants are to test.
"""

import random

from sympy import Expr, Indexed, Integer, sympify

from ddpm_lib.proof import notation as N


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

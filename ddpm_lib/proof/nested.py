"""Integrals inside integrals, at a point: all but the outermost are done exactly, in the point's own numbers.

Quadrature in two or more dimensions is out of reach with 60 digits; so the inner integrals, which are over
the real line and Gaussian in what the book derives, are done in closed form, and the outermost is left for
quadrature.
"""

from __future__ import annotations

from sympy import Expr, Indexed, Integral, Symbol, oo

from ddpm_lib.proof import notation as N
from ddpm_lib.proof.evaluation import do_sums, gaussian_integral
from ddpm_lib.proof.points import Point, lookup, named_entry
from ddpm_lib.proof.reduction import open_notation


def is_nested(e: Expr) -> bool:
    """Whether an integral in e holds another."""
    return any(len(i.limits) > 1 or i.function.has(Integral) for i in e.atoms(Integral))


def outermost_only(e: Expr, point: Point) -> Expr | None:
    """e at the point, with single integrals only; None where an inner one has no closed form."""
    steps = {f: point.value(f) for f in e.free_symbols if isinstance(f, Symbol) and f.is_integer}
    e = open_notation(do_sums(e.xreplace(steps)))
    if N.x in (q.base for q in e.atoms(Indexed)):  # one name for each coordinate
        e = e.xreplace({f: N.x[m] for m in range(point.T, -1, -1) if (f := point.named("x", m)) is not None})
    bound = {limit[0] for i in e.atoms(Integral) for limit in i.limits}
    values = {v: Symbol(f"_{v}", real=True) for v in bound}
    for q in e.atoms(Indexed) - bound:
        m, *others = q.indices
        if not all(index.is_Integer for index in q.indices):
            return None
        values[q] = lookup(point, q, int(m), named_entry(q, others))
    labels = {q.base.label for q in e.atoms(Indexed)}
    values |= {f: point.value(f) for f in e.free_symbols - bound - labels if isinstance(f, Symbol)}
    return _close(e.xreplace(values), outermost=True)


def _close(e: Expr, outermost: bool) -> Expr | None:
    """e with its integrals done, except for the outermost variable of the outermost ones."""
    if not e.has(Integral):
        return e
    if isinstance(e, Integral):
        value = _close(e.function, outermost=False)
        limits = list(e.limits)
        while limits[1:] or (limits and not outermost):
            x, *bounds = limits.pop(0)
            if value is None or bounds != [-oo, oo]:
                return None
            value = gaussian_integral(value, x)
        return Integral(value, *limits) if limits and value is not None else value
    args = [_close(arg, outermost) if isinstance(arg, Expr) else arg for arg in e.args]
    return None if any(arg is None for arg in args) else e.func(*args)

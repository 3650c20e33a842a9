"""Evaluates a claim's side at a point with many digits, by mpmath and without SymPy's own simplifications."""

from __future__ import annotations

from functools import lru_cache

import mpmath
import sympy
from mpmath import mp, mpf
from sympy import (
    Abs,
    Derivative,
    Dummy,
    Expr,
    Indexed,
    IndexedBase,
    Integral,
    Limit,
    Max,
    Min,
    Piecewise,
    Product,
    Rational,
    S,
    Sum,
    Symbol,
    log,
    oo,
)
from sympy.core.function import AppliedUndef
from sympy.logic.boolalg import Boolean

from ddpm_lib.proof import notation as N
from ddpm_lib.proof.distributions import bernoulli_pmf, normal_pdf
from ddpm_lib.proof.nested import is_nested, outermost_only
from ddpm_lib.proof.points import Point, lookup, named_entry
from ddpm_lib.proof.quadrature import Undefined, over_the_line

DIGITS = 60
MOST_TERMS = 5000  # of a sum that is added up term by term


@lru_cache(maxsize=1024)
def evaluate(e: Expr, point: Point, digits: int = DIGITS) -> mpf:
    """The value of e at the point, computed with this many digits. Raises Undefined.

    Values are remembered: one integral is often a side of several claims.
    """
    if is_nested(e):
        try:
            e = outermost_only(e, point)
        except IndexError as error:
            raise Undefined(str(error)) from None
        if e is None:
            raise Undefined("an integral within an integral, which cannot be evaluated")
    with mp.workdps(digits):
        return +_walk(e, point, {})


def _walk(e: Expr, point: Point, env: dict) -> mpf:
    """The value of e, with env the values of the symbols that a sum, integral or limit around it binds."""
    if isinstance(e, (Symbol, Indexed)):
        return _symbol(e, point, env)
    if e.is_Rational:
        return mpf(e.p) / e.q
    if e.is_Number or e.is_NumberSymbol:
        if not e.is_finite:
            raise Undefined(f"{e} occurs in it")
        return mpmath.mpmathify(e.evalf(mp.dps + 5))
    if type(e) in BINDERS:
        return BINDERS[type(e)](e, point, env)
    if isinstance(e, AppliedUndef):
        return _any_function(e, point, [_walk(arg, point, env) for arg in e.args])
    return _apply(e, [_walk(arg, point, env) for arg in e.args])


def _symbol(e: Symbol | Indexed, point: Point, env: dict) -> mpf:
    if isinstance(e, Symbol):
        return env[e] if e in env else _number(point.value(e))
    entry = _entry(e, point, env)
    if entry in env:
        return env[entry]
    if isinstance(entry, Symbol):
        return _number(point.value(entry))
    try:
        return _number(lookup(point, e, entry[1], entry[0]))
    except (IndexError, ZeroDivisionError) as error:
        raise Undefined(f"{e}: {error}") from None


def _entry(e: Indexed, point: Point, env: dict) -> tuple[str, int] | Symbol:
    """What an indexed symbol is at this point: (name, step), or the symbol that has its own name, as x_0
    for x[0]."""
    m, *others = (_index(_walk(index, point, env)) for index in e.indices)
    key = named_entry(e, others)
    named = point.named(key, m) if e.base in (N.x, N.bit) else None
    return (key, m) if named is None else named


def _number(value: Expr) -> mpf:
    if value is None or value.has(oo) or not value.is_finite:
        raise Undefined("a table has no finite value there")
    return mpf(value.p) / value.q if value.is_Rational else mpmath.mpmathify(value.evalf(mp.dps + 5))


def _index(value: mpf) -> int:
    if value != int(value):
        raise Undefined(f"{mpmath.nstr(value)} is not a step")
    return int(value)


def _apply(e: Expr, args: list[mpf]) -> mpf:
    if e.is_Add:
        return mpmath.fsum(args)
    if e.is_Mul:
        return mpmath.fprod(args)
    if e.is_Pow:
        return _power(*args)
    if e.func == log and args[0] <= 0:
        raise Undefined(f"the logarithm of {mpmath.nstr(args[0], 6)}")
    if e.func not in FUNCTIONS:
        raise Undefined(f"{e.func} cannot be evaluated")
    value = FUNCTIONS[e.func](*args)
    if not isinstance(value, mpf) or not mpmath.isfinite(value):
        raise Undefined(f"{e.func} has no finite real value there")
    return value


def _power(base: mpf, exponent: mpf) -> mpf:
    if base == 0 and exponent < 0:
        raise Undefined("a division by zero")
    if base < 0 and exponent != mpmath.nint(exponent):
        raise Undefined(f"a root of {mpmath.nstr(base, 6)}")
    return mpmath.power(base, exponent)


def _normal_pdf(x: mpf, mean: mpf, var: mpf) -> mpf:
    if var <= 0:
        raise Undefined(f"a normal density with the variance {mpmath.nstr(var, 6)}")
    return mpmath.exp(-((x - mean) ** 2) / (2 * var)) / mpmath.sqrt(2 * mpmath.pi * var)


def _bernoulli_pmf(x: mpf, p: mpf) -> mpf:
    if x not in (0, 1) or not 0 <= p <= 1:
        raise Undefined(f"a Bernoulli probability at x = {mpmath.nstr(x, 6)}, p = {mpmath.nstr(p, 6)}")
    return p if x == 1 else 1 - p


def _any_function(e: AppliedUndef, point: Point, args: list[mpf]) -> mpf:
    """An unknown function stands for any: here a smooth and wavy one that decays in each argument.

    It takes both signs, unless it was declared positive. The point may fix a scale, by the key ``scale_of`` its name.
    """
    name = e.func.__name__

    def number(what: str, low: int, high: int) -> mpf:
        return mpf(point.draw(f"{name}/{what}", low, high)) / 100

    exponent, phase = mpf(0), number("phase", 0, 300)
    for i, u in enumerate(args):
        exponent += (u - number(f"{i}/centre", -90, 90)) ** 2 / number(f"{i}/width", 50, 180)
        phase += number(f"{i}/wave", 30, 90) * u
    wave = mpmath.sin(phase) + (2 if e.is_positive else 0)
    scale = _number(point.fixed.get(scale_of(name), S.One))
    return scale * mpmath.power(2, number("height", -500, 230)) * wave * mpmath.exp(-exponent)


def scale_of(name: str) -> tuple[str, int]:
    """The key by which a point fixes the scale of the unknown function of this name."""
    return f"{name}/scale", 0


def _sum(e: Sum | Product, point: Point, env: dict) -> mpf:
    k, low, high, body = _peel(e)
    if low.has(oo) or high.has(oo):
        raise Undefined("an infinite sum")
    low, high = _index(_walk(low, point, env)), _index(_walk(high, point, env))
    if high < low - 1 or high - low > MOST_TERMS:
        raise Undefined(f"a sum or product from {low} to {high}")
    values = [_walk(body, point, {**env, k: mpf(m)}) for m in range(low, high + 1)]
    return mpmath.fsum(values) if isinstance(e, Sum) else mpmath.fprod(values)


def _peel(e: Expr) -> tuple:
    """The outermost variable of a sum or an integral with its bounds, and what is inside."""
    *inner, (x, *bounds) = e.limits
    return (x, *bounds, e.func(e.function, *inner) if inner else e.function)


def _derivative(e: Derivative, point: Point, env: dict) -> mpf:
    (x, order), *others = e.variable_count
    if others:
        raise Undefined("a mixed derivative")
    key = x if isinstance(x, Symbol) else _entry(x, point, env)
    return mpmath.diff(lambda u: _walk(e.expr, point, {**env, key: u}), _walk(x, point, env), int(order))


def _limit(e: Limit, point: Point, env: dict) -> mpf:
    """The value close to the limit, at two distances that must agree to half of the digits."""
    body, x, target, direction = e.args
    values = []
    for digits in (mp.dps, 2 * mp.dps):
        distance = Rational(1, 10**digits)
        with mp.workdps(4 * digits):
            if target in (oo, -oo):
                near = (1 if target == oo else -1) / distance
            else:
                near = _exact(target) + (-distance if str(direction) == "-" else distance)
            if isinstance(x, Indexed):
                values.append(_walk(body, point.fixing({_entry(x, point, env): near}), env))
            else:
                values.append(_walk(body, point, {**env, x: _number(near)}))
    if abs(values[0] - values[1]) > mpf(10) ** -(mp.dps // 2) * (1 + abs(values[1])):
        raise Undefined("a limit that does not settle")
    return values[1]


def _exact(target: Expr) -> Expr:
    if not target.is_Rational:
        raise Undefined(f"a limit at {target}, which is not a rational number")
    return target


def _piecewise(e: Piecewise, point: Point, env: dict) -> mpf:
    for value, condition in e.args:
        if _true(condition, point, env):
            return _walk(value, point, env)
    raise Undefined("no piece applies")


def _true(condition: Boolean, point: Point, env: dict) -> bool:
    if condition in (S.true, S.false):
        return bool(condition)
    name = condition.func.__name__
    if name in ("And", "Or", "Not"):
        held = [_true(arg, point, env) for arg in condition.args]
        return {"And": all(held), "Or": any(held), "Not": not held[0]}[name]
    if not condition.is_Relational:
        raise Undefined(f"{condition} cannot be evaluated")
    a, b = (_walk(arg, point, env) for arg in condition.args)
    return {"==": a == b, "!=": a != b, "<": a < b, "<=": a <= b, ">": a > b, ">=": a >= b}[condition.rel_op]


def _integral(e: Integral, point: Point, env: dict) -> mpf:
    x, *bounds, body = _peel(e)
    if isinstance(x, Indexed):
        x = _entry(x, point, env)

    if isinstance(x, Symbol) and not {N.x, N.bit} & body.atoms(IndexedBase):
        env = dict(env)
        body = _fold(body, x, point, env)

    def f(u):
        return _walk(body, point, {**env, x: u})

    if bounds == [-oo, oo]:
        return over_the_line(f)
    if len(bounds) != 2:
        raise Undefined("an integral without limits")
    low, high = (
        mpmath.inf * (1 if b == oo else -1) if b in (oo, -oo) else _walk(b, point, env) for b in bounds
    )
    value, error = mpmath.quad(f, [low, high], error=True)
    if not mpmath.isfinite(value) or error > mpf(10) ** (4 - mp.dps) * (1 + abs(value)):
        raise Undefined("an integral that cannot be evaluated to 50 digits")
    return value


def _fold(e: Expr, x: Symbol, point: Point, env: dict) -> Expr:
    """e with what does not depend on x evaluated once, into symbols that env gets the values of."""
    if x not in e.free_symbols:
        if e.is_Atom:
            return e
        known = Dummy()
        env[known] = _walk(e, point, env)
        return known
    if e.is_Atom or type(e) in BINDERS:
        return e
    if e.is_Add or e.is_Mul:  # the constant terms or factors together
        apart = [arg for arg in e.args if x not in arg.free_symbols]
        rest = [_fold(arg, x, point, env) for arg in e.args if x in arg.free_symbols]
        return e.func(_fold(e.func(*apart), x, point, env), *rest) if apart else e.func(*rest)
    return e.func(*[_fold(arg, x, point, env) for arg in e.args])


BINDERS = {
    Sum: _sum,
    Product: _sum,
    Integral: _integral,
    Derivative: _derivative,
    Limit: _limit,
    Piecewise: _piecewise,
}
FUNCTIONS = {
    normal_pdf: _normal_pdf,
    bernoulli_pmf: _bernoulli_pmf,
    Abs: abs,
    Max: max,
    Min: min,
    **{
        getattr(sympy, name): getattr(mpmath, name)
        for name in (
            *("exp", "log", "sin", "cos", "tan", "sinh", "cosh", "tanh", "atan", "erf", "erfc", "sign"),
            *("gamma", "loggamma", "factorial", "binomial", "hermite", "floor"),
        )
    },
}

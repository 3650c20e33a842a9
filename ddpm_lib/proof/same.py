"""Whether two expressions are one statement: the same structure, however it is written down.

Two sides are the same if they differ only in what a reader does not count as a difference: the order of terms and
factors, the names of bound variables, where a number stands (2(a + b) or 2a + 2b, a - b or -(b - a)), x[t] or x_t.
Nothing is expanded, simplified or rewritten by the schedule's relations: that alpha[t] is 1 - beta[t] is a claim.
"""

from __future__ import annotations

from collections import Counter
from functools import reduce
from itertools import pairwise

from sympy import (
    Add,
    Derivative,
    Expr,
    ImmutableMatrix,
    IndexedBase,
    Integer,
    Integral,
    Limit,
    MatMul,
    MatPow,
    MatrixBase,
    MatrixExpr,
    Max,
    Min,
    Mul,
    Pow,
    Product,
    Rational,
    S,
    Sum,
    Symbol,
    Tuple,
    factorrat,
)

from ddpm_lib.proof.codes import decode
from ddpm_lib.proof.latex import Reading, sides_code
from ddpm_lib.proof.reduction import NAMED

BOUND = {Sum: {"integer": True}, Product: {"integer": True}, Integral: {"real": True}, Limit: {"real": True}}


def same(shown: Expr, held: Expr) -> bool:
    """Whether a displayed side and a verified one, expressions or matrices of them, are one statement."""
    matrices = [isinstance(side, (MatrixBase, MatrixExpr)) for side in (shown, held)]
    if not any(matrices):
        return shown == held or form(shown) == form(held)
    if all(matrices) and isinstance(held, MatrixBase) and not isinstance(shown, MatrixBase):
        # Verified was the product's value, multiplied out in an order that can't be seen any more.
        shown, held = ImmutableMatrix(shown).expand(), held.expand()
    return all(matrices) and _matrix_form(shown) == _matrix_form(held)


def form(e: Expr) -> tuple:
    """A hashable form (number, factors) of e, equal for expressions that are only written differently."""
    return _form(e.xreplace(NAMED), 0)


def _matrix_form(m) -> tuple:
    """The same for a matrix, or for sums, products and powers of matrices as they are written."""
    if isinstance(m, MatrixBase):
        return m.shape, tuple(map(form, m))
    if isinstance(m, MatMul):
        number, factors = m.as_coeff_matrices()
        return MatMul, form(number), tuple(map(_matrix_form, factors))
    if isinstance(m, MatPow):
        return MatPow, _matrix_form(m.base), form(m.exp)
    return m.func, frozenset(Counter(map(_matrix_form, m.args)).items())


def _form(e: Expr, depth: int) -> tuple:
    """The same inside of depth sums, products, integrals or limits."""
    if isinstance(e, Rational):
        return e, ()
    if isinstance(e, Mul):
        return _product([_form(arg, depth) for arg in e.args])
    if isinstance(e, Pow):
        return _power(_form(e.base, depth), e.exp, depth)
    if isinstance(e, Add):
        return _sum([_form(arg, depth) for arg in e.args])
    if isinstance(e, (Sum, Product, Integral, Limit)):
        return S.One, _once(_bound(e, depth))
    if e.is_Atom or not e.args:
        return S.One, _once(e)
    if isinstance(e, Derivative):
        return S.One, _once((e.func, _form(e.expr, depth), e.variable_count))
    args = [
        _form(arg, depth) if isinstance(arg, Expr) and not isinstance(arg, IndexedBase) else arg
        for arg in e.args
    ]
    return S.One, _once((e.func, frozenset(args) if isinstance(e, (Min, Max)) else tuple(args)))


def _once(thing) -> tuple:
    return ((thing, S.One),)


def _collected(number: Rational, factors) -> tuple:
    """The form of number times factors, each base with a numeric exponent once, in an order of their own.

    Roots of numbers are factors with a prime as their base; whole powers of it go to the number.
    """
    numeric, others = Counter(), []
    for base, exponent in factors:
        if isinstance(exponent, Rational):
            numeric[base] += exponent
        else:
            others.append((base, exponent))
    for base in [base for base in numeric if isinstance(base, Integer)]:
        whole = numeric[base].floor()
        number, numeric[base] = number * base**whole, numeric[base] - whole
    found = [(base, exponent) for base, exponent in numeric.items() if exponent != 0]
    return number, tuple(sorted([*found, *others], key=repr))


def _product(forms: list[tuple]) -> tuple:
    number = S.One
    for coefficient, _ in forms:
        number *= coefficient
    return _collected(number, [factor for _, rest in forms for factor in rest])


def _power(base: tuple, exponent: Expr, depth: int) -> tuple:
    number, rest = base
    if not isinstance(exponent, Rational):
        return S.One, (((number, rest), _form(exponent, depth)),)
    if exponent.is_Integer:
        return _collected(number**exponent, _scaled(rest, exponent))
    roots = [(Integer(prime), power * exponent) for prime, power in factorrat(abs(number)).items()]
    whole = rest if number > 0 else _once(("negative", rest))
    return _collected(S.One, [*roots, *_scaled(whole, exponent)])


def _scaled(rest: tuple, exponent: Rational) -> tuple:
    if not rest:
        return ()
    if len(rest) == 1 and isinstance(rest[0][1], Rational):
        base, inner = rest[0]
        if exponent.is_Integer or inner == 1:
            return ((base, inner * exponent),)
    if exponent.is_Integer and all(isinstance(inner, Rational) for _, inner in rest):
        return tuple((base, inner * exponent) for base, inner in rest)
    return ((rest, exponent),) if exponent != 1 else rest


def _sum(forms: list[tuple]) -> tuple:
    terms: Counter = Counter()
    for number, rest in forms:
        terms[rest] += number
    found = sorted(((rest, n) for rest, n in terms.items() if n != 0), key=lambda term: repr(term[0]))
    if not found:
        return S.Zero, ()
    if len(found) == 1:
        return found[0][1], found[0][0]
    content = reduce(Rational.gcd, [number for _, number in found])
    if found[0][1] < 0:
        content = -content
    return content, _once(("sum", tuple((rest, number / content) for rest, number in found)))


def _bound(e, depth: int) -> tuple:
    """A sum, product, integral or limit, with its variables named by how deep they are bound.

    An indexed variable, such as x[3] or beta[t], keeps its name: what else moves with it shows only in its index.
    """
    limits = [e.args[1:]] if isinstance(e, Limit) else e.limits
    own, ends = {}, []
    for x, *bounds in reversed(limits):  # from the outside in
        bounds = tuple(_form(b.xreplace(own), depth) if isinstance(b, Expr) else b for b in bounds)
        if isinstance(x, Symbol):
            own[x] = Symbol(f"_{depth}", **BOUND[type(e)])
        ends.append((own.get(x, x), *bounds))
        depth += 1
    return type(e), _form(e.args[0].xreplace(own), depth), tuple(ends)


def difference(reading: Reading, record: dict) -> str:
    """How a display differs from what was verified, as one line to read; "" if it is the same statement."""
    if reading.relation != record["relation"]:
        return f"displayed with {reading.relation}, verified with {record['relation']}"
    displayed = list(zip(listed(reading.lhs), listed(reading.rhs), strict=True))
    verified = list(zip(*_sides(record), strict=True))
    if len(displayed) != len(verified):
        return f"{len(displayed)} equations displayed, {len(verified)} verified"
    ways = [displayed]
    if all(
        before[1] == after[0] for before, after in pairwise(displayed)
    ):  # a = b = c, verified as a = b and a = c
        ways.append([(displayed[0][0], right) for _, right in displayed])
    for pairs in ways:
        found = [
            f"{side} displayed as {shown}, verified as {held}"
            for pair, known in zip(pairs, verified, strict=True)
            for side, shown, held in zip(("left side", "right side"), pair, known, strict=True)
            if held is not None and not same(shown, held)
        ]
        if not found:
            return ""
    return "; ".join(found)


def is_same(reading: Reading, record: dict) -> bool:
    """Whether a display is the statement that was verified: each side the same, and so the relation."""
    return not difference(reading, record)


def _sides(record: dict) -> tuple[list, list]:
    """What was verified, as lists; None for a left side that is only text."""
    left, right = sides_code(record)
    right = listed(decode(right))
    return listed(decode(left)) if left else [None] * len(right), right


def listed(side) -> list:
    return list(side) if isinstance(side, (list, tuple, Tuple)) else [side]

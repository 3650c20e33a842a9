"""The proof by SymPy: reduce both sides to independent atoms, do the sums and integrals, compare."""

from __future__ import annotations

from itertools import product

from sympy import (
    Add,
    Derivative,
    Expr,
    Function,
    Indexed,
    Integral,
    Limit,
    Max,
    Min,
    Mul,
    Piecewise,
    Product,
    S,
    StrictLessThan,
    Subs,
    Sum,
    Symbol,
    cancel,
    exp,
    expand,
    expand_mul,
    log,
    nan,
    oo,
    simplify,
    together,
    zoo,
)
from sympy.core.function import AppliedUndef

from ddpm_lib.proof.evaluation import do_integrals, do_sums
from ddpm_lib.proof.normal_form import canon, is_zero, log_term, rational
from ddpm_lib.proof.points import bits_in
from ddpm_lib.proof.reduction import Chart, follow_steps, in_alphas, open_notation, plain_limits

SMALL = 200  # operations up to which SymPy's own simplify is tried, on functions that the normal form leaves alone
BOUND = (Integral, Limit, Sum, Product)
DECIDED = (exp, log, AppliedUndef)


class NotProved(Exception):
    """SymPy did not get to the end; this says nothing about the claim."""


def prove(left: Expr, right: Expr, relation: str = "==", where: tuple = ()) -> str | None:
    """How left == right (or <=, >=) was proved, in a few words; None if it was not.

    where: the claim's conditions. Of these, u < 1 for a positive u is used: u is then written 1 / (1 + w), w > 0.
    """
    below = {c.lhs: 1 / (1 + Symbol(f"_above_{c.lhs}", positive=True)) for c in where if _is_below_one(c)}
    if below and not (left.has(*BOUND) or right.has(*BOUND)):
        left, right = (_slopes_done(side).xreplace(below) for side in (left, right))
    bits = bits_in([left, right])
    cases = [dict(zip(bits, values, strict=True)) for values in product((S.Zero, S.One), repeat=len(bits))]
    how = ""
    for case in cases:
        how = _prove_case(left.xreplace(case), right.xreplace(case), relation)
        if how is None:
            return None
    return how + (f" in all {len(cases)} cases of {', '.join(map(str, bits))}" if bits else "")


def _is_below_one(condition) -> bool:
    return isinstance(condition, StrictLessThan) and condition.rhs == 1 and condition.lhs.is_positive is True


def _slopes_done(e: Expr) -> Expr:
    return e.replace(lambda f: isinstance(f, Derivative), lambda f: f.doit())


def _prove_case(left: Expr, right: Expr, relation: str) -> str | None:
    try:
        if relation != "==":
            return _why_ordered(*((left, right) if relation == ">=" else (right, left)))
        left, right = (standard_form(side) for side in (left, right))
        if _equal(left, right):
            return "difference reduces to 0"
    except NotProved:
        pass
    try:
        if relation == "==" and _each_term_vanishes(left - right):
            return "difference reduces to 0 term by term"
    except NotProved:
        pass
    if relation == "==":
        for step in _upper_limits(left, right):
            if _by_induction(left, right, *step):
                return f"base and step of an induction on {step[0]}"
    return None


def standard_form(e: Expr) -> Expr:
    """e in alpha, alpha_bar and plain symbols, its finite sums and products written out."""
    return in_alphas(open_notation(do_sums(in_alphas(open_notation(plain_limits(e))))))


def _in_chart(sides: list[Expr]) -> list[Expr]:
    """The sides in independent symbols, sums that stay closed as symbols, integrals and limits done."""
    sealed: dict[Expr, Symbol] = {}
    sides = [_seal(side, sealed) for side in sides]
    bound = {b for side in sides for e in side.atoms(Integral, Limit, Derivative) for b in _bound(e)}
    indices = {f for side in sides for q in side.atoms(Indexed) for f in q.indices[0].free_symbols}
    if any(bound & e.free_symbols for e in sealed) or bound & indices:
        raise NotProved("an open sum or an index holds the variable of an integral or a limit")
    chart = Chart(sides)
    sides = [_seal_unknown(do_integrals(chart.apply(side)), sealed) for side in sides]
    if any(side.has(Integral, Limit, Derivative, Sum, Product, nan, zoo, oo, -oo) for side in sides):
        raise NotProved("an integral or a limit is left")
    return sides


def _bound(e: Expr) -> set:
    if isinstance(e, Limit):
        return {e.args[1]}
    return {entry[0] for entry in e.args[1:]}


def _seal(e: Expr, sealed: dict[Expr, Symbol]) -> Expr:
    """e with its outermost open sums and products replaced by one symbol each."""
    if isinstance(e, (Sum, Product)):
        if e not in sealed:
            sign = {"positive": True} if e.function.is_positive else {"real": True}
            sealed[e] = Symbol(f"_sum{len(sealed)}", **sign)
        return sealed[e]
    if e.is_Atom or not e.args or not e.has(Sum, Product):
        return e
    return e.func(*[_seal(arg, sealed) if isinstance(arg, Expr) else arg for arg in e.args])


def _seal_unknown(e: Expr, sealed: dict[Expr, Symbol]) -> Expr:
    """e with the integrals of unknown functions, which stay closed, replaced by a symbol each, and so their slopes.

    A slope is sealed only at the function's own variables: inside a ``Subs`` its variable is bound.
    """
    whole = {i for i in e.atoms(Integral) if i.has(AppliedUndef)}
    for i in sorted(whole, key=str):
        sealed.setdefault(i, Symbol(f"_integral{len(sealed)}", real=True))
    e = e.xreplace({i: sealed[i] for i in whole})
    slopes = set() if e.has(Subs) else {f for f in e.atoms(Derivative) if isinstance(f.expr, AppliedUndef)}
    for f in sorted(slopes, key=str):
        sealed.setdefault(f, Symbol(f"_slope{len(sealed)}", real=True))
    return e.xreplace({f: sealed[f] for f in slopes})


def _equal(left: Expr, right: Expr) -> bool:
    left, right = _in_chart([left, right])
    difference = left - right
    if is_zero(difference):
        return True
    beyond = {f for f in difference.atoms(Function, Piecewise, Max, Min) if not isinstance(f, DECIDED)}
    return bool(beyond) and difference.count_ops() < SMALL and simplify(canon(difference)) == 0


def _why_ordered(larger: Expr, smaller: Expr) -> str | None:
    """The reason why larger >= smaller, if one is found."""
    (difference,) = _in_chart([standard_form(larger - smaller)])
    reason = _why_nonnegative(difference)
    return reason or _why_each_term(larger - smaller)


def _why_each_term(e: Expr) -> str | None:
    """The reason why e >= 0 if it is one sum over the same steps, term by term, and a rest."""
    parts = _term_by_term(e)
    reasons = [_why_nonnegative(_in_chart([standard_form(part)])[0]) for part in parts]
    return f"each term: {reasons[0]}" if parts and all(reasons) else None


def _each_term_vanishes(e: Expr) -> bool:
    """Whether e is sums over the same steps whose terms cancel, and a rest that is 0."""
    parts = _term_by_term(e)
    return bool(parts) and all(_equal(standard_form(part), S.Zero) for part in parts)


def _term_by_term(e: Expr) -> list[Expr]:
    """The common term of the sums in e, as an expression in one step of its own, and what stands beside them.

    Empty where e has no sum, or sums over different steps.
    """
    rest, bodies = S.Zero, {}
    for term in Add.make_args(expand_mul(e, deep=False)):
        sums = [part for part in Mul.make_args(term) if isinstance(part, Sum) and len(part.limits) == 1]
        if len(sums) != 1 or (term / sums[0]).has(Sum):
            rest += term
            continue
        (k, low, high) = sums[0].limits[0]
        step = Symbol("_step", **k.assumptions0)
        key = (low, high, step)
        bodies[key] = bodies.get(key, S.Zero) + term / sums[0] * sums[0].function.xreplace({k: step})
    if len(bodies) != 1 or not all((low - 1).is_nonnegative for low, _, _ in bodies):
        return []
    return [*bodies.values(), rest]


def _why_nonnegative(e: Expr) -> str | None:
    """The reason why e >= 0, if one is found."""
    if _nonnegative(e):
        return "the difference is built from nonnegative terms"
    for form in (
        expand_mul(e, deep=False),
        expand(canon(e)),
    ):  # with the logarithms as they were written, and split
        if _nonnegative(_below_logs(form)):
            return "log u <= u - 1, and what is left is nonnegative"
    return None


def _nonnegative(e: Expr) -> bool:
    return any(form.is_nonnegative is True for form in (e, rational(canon(e)), expand(canon(e))))


def _below_logs(e: Expr) -> Expr:
    """A lower bound of e by c log(u) >= c (1 - 1/u), c > 0; logarithms with one c, up to sign, share one u."""
    rest, coefficients = S.Zero, {}
    for term in Add.make_args(e):
        coefficient, logarithm = log_term(term)
        if logarithm is None:
            rest += term
        else:
            u = logarithm.args[0]
            coefficients[u] = coefficients.get(u, S.Zero) + coefficient
    joint: dict[Expr, Expr] = {}
    for u, coefficient in coefficients.items():
        c, sign = rational(canon(coefficient)), 1
        if c.is_negative:
            c, sign = rational(-c), -1
        joint[c] = joint.get(c, S.One) * rational(canon(u)) ** sign
    if not all(c.is_positive and u.is_positive for c, u in joint.items()):
        return e
    return rest + Add(*[c * (1 - 1 / u) for c, u in joint.items()])


def _upper_limits(*sides: Expr) -> list[tuple[Symbol, Expr]]:
    """The symbols that open sums and products run up to, each with the lowest value that it may have."""
    limits = [limit for side in sides for e in side.atoms(Sum, Product) for limit in e.limits]
    found = {high for _, _, high in limits if isinstance(high, Symbol) and high.is_nonnegative}
    return [(n, S.One if n.is_positive else S.Zero) for n in sorted(found, key=lambda n: n.name)]


def _by_induction(left: Expr, right: Expr, n: Symbol, start: Expr) -> bool:
    """left(start) = right(start), and left - right at n + 1 is a multiple of left - right at n."""
    left, right = follow_steps(left), follow_steps(right)
    try:
        if not _equal(*(standard_form(side.subs(n, start)) for side in (left, right))):
            return False
        sides = [standard_form(side.subs(n, m)) for m in (n, n + 1) for side in (left, right)]
        sealed: dict[Expr, Symbol] = {}
        sides = [_seal(side, sealed) for side in sides]
        l0, r0, l1, r1 = _in_chart(sides)
    except (NotProved, IndexError):
        return False
    if is_zero(l1 * r0 - r1 * l0) and r0.is_nonzero:
        return True
    now, after = canon(l0 - r0), canon(l1 - r1)
    for symbol in sealed.values():
        slope = expand(now).coeff(symbol)
        if slope != 0:
            ratio = cancel(together(expand(after).coeff(symbol) / slope))
            if is_zero(after - ratio * now):
                return True
    return False

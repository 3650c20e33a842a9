"""Does a claim's integrals, sums, products, derivatives and limits, so that the normal form can decide it."""

from __future__ import annotations

from sympy import (
    Add,
    Derivative,
    Dummy,
    Expr,
    Indexed,
    Integral,
    Limit,
    Mul,
    Poly,
    PolynomialError,
    Product,
    S,
    Sum,
    Symbol,
    binomial,
    erf,
    exp,
    expand,
    expand_log,
    factorial2,
    limit,
    log,
    oo,
    pi,
    sqrt,
    together,
)
from sympy.core.function import AppliedUndef

from ddpm_lib.proof import notation as N
from ddpm_lib.proof.normal_form import canon, rational
from ddpm_lib.proof.reduction import Chart, in_alphas, open_notation

LONGEST_SUM = 64  # a sum of more terms than this is not written out


class Diverges(ValueError):
    """An integral over the real line that has no finite value."""


def do_sums(e: Expr) -> Expr:
    """e with its finite sums written out, products of alpha closed, and the others in one standard form."""
    if e.is_Atom or isinstance(e, Indexed) or not e.args:
        return e
    if isinstance(e, (Sum, Product)):
        return _one_sum(e)
    e = e.func(*[do_sums(arg) if isinstance(arg, Expr) else arg for arg in e.args])
    return _log_of_products(e) if isinstance(e, log) and e.has(Product) else e


def _log_of_products(e: Expr) -> Expr:
    """log of a product over k as the sum of the logs, for factors that are positive at every step."""
    total, rest = S.Zero, S.One
    for part in Mul.make_args(e.args[0]):
        whole, power = part.as_base_exp()
        if isinstance(whole, Product) and len(whole.limits) == 1 and _positive_at_each(whole):
            total += power * do_sums(Sum(log(whole.function), *whole.limits))
        else:
            rest *= part
    return total + log(rest)


def _positive_at_each(whole: Product) -> bool:
    """Whether the factor is positive for each k of the range, of which every k >= 1."""
    k, low, _ = whole.limits[0]
    body = in_alphas(open_notation(whole.function.subs(k, Dummy(integer=True, positive=True))))
    return bool((low - 1).is_nonnegative and canon(Chart([body]).apply(body)).is_positive)


def _one_sum(e: Sum | Product) -> Expr:
    kind = type(e)
    body = do_sums(e.function)
    for k, low, high in e.limits:
        body = _over(kind, body, k, low, high)
    return body


def _over(kind, body: Expr, k: Symbol, low: Expr, high: Expr) -> Expr:
    """The sum (or product) of body for k = low..high."""
    is_sum = kind is Sum
    join = Add if is_sum else Mul
    if (high - low).is_Integer:
        if high - low > LONGEST_SUM:
            return kind(body, (k, low, high))
        if high < low - 1:
            raise ValueError(f"a sum or product runs from {low} to {high}: expected low <= high + 1")
        return join(*[do_sums(body.subs(k, low + j)) for j in range(int(high - low) + 1)])
    if not is_sum:
        whole = [part for part in map(lambda p: _bar_ratio(p, k, low, high), Mul.make_args(body))]
        if all(part is not None for part in whole):
            return Mul(*whole)
    if low.is_Integer and low != 1 and high is not oo:
        body, high = body.subs(k, k + low - 1), high - low + 1
        low = S.One
    offset, base = high.as_coeff_Add()
    ends = S.Zero if is_sum else S.One
    if offset.is_Integer and abs(offset) <= LONGEST_SUM and high is not oo:
        extra = range(1, int(offset) + 1) if offset > 0 else range(int(offset) + 1, 1)
        parts = [body.subs(k, base + j) for j in extra]
        ends, high = join(*parts), base
        if offset < 0:
            ends = -ends if is_sum else 1 / ends
    if not is_sum:
        return Mul(*[_product(part, k, low, high) for part in Mul.make_args(body)]) * ends
    return Add(*[_sum(term, k, low, high) for term in Add.make_args(expand(expand_log(body)))]) + ends


def _bar_ratio(part: Expr, k, low, high) -> Expr | None:
    """The product of alpha[k + c]**p over k = low..high, which is a ratio of two alpha_bar."""
    base, power = part.as_base_exp()
    if isinstance(base, Indexed) and base.base == N.alpha and not power.has(k):
        shift = base.indices[0] - k
        if not shift.has(k):
            return (N.alpha_bar[high + shift] / N.alpha_bar[low - 1 + shift]) ** power
    return part ** (high - low + 1) if not part.has(k) else None


def _product(part: Expr, k, low, high) -> Expr:
    ratio = _bar_ratio(part, k, low, high)
    return Product(part, (k, low, high)) if ratio is None else ratio


def _sum(term: Expr, k, low, high) -> Expr:
    free, bound = term.as_independent(k, as_Add=False)
    if bound == 1:
        return free * (high - low + 1)
    whole = Sum(bound, (k, low, high))
    if not bound.has(Indexed):
        done = whole.doit()
        if not done.has(Sum, S.NaN, oo) and done.is_Piecewise is not True:
            whole = done
    return free * whole


def do_integrals(e: Expr) -> Expr:
    """e, in a chart's symbols, with its derivatives, integrals and limits done as far as possible."""
    if e.is_Atom or not e.args or isinstance(e, (Indexed, Sum, Product)):
        return e
    args = [do_integrals(arg) if isinstance(arg, Expr) else arg for arg in e.args]
    if isinstance(e, Integral):
        value = args[0]
        for bounds in e.limits:
            value = _integral(value, *bounds)
        return value
    if isinstance(e, Derivative):  # also under an integral: what is there is taken to be smooth, and to decay
        slope = Derivative(args[0], *e.args[1:]).doit(integrals=False)
        return do_integrals(slope) if slope.has(Integral) else slope
    if isinstance(e, Limit):
        return _limit(canon(args[0]), *e.args[1:3], str(e.args[3]))
    return e.func(*args)


def _limit(body: Expr, x: Symbol, target: Expr, direction: str) -> Expr:
    powers = [part.as_base_exp() for part in Mul.make_args(body)]
    if target is oo and all(
        abs(exponent) == x for _, exponent in powers
    ):  # of a number below 1, perhaps negative
        whole = Mul(*[base ** (exponent / x) for base, exponent in powers])
        if rational(1 - whole).is_positive and rational(1 + whole).is_positive:
            return S.Zero
    try:
        return limit(body, x, target, dir=direction)
    except NotImplementedError:
        return Limit(body, x, target, direction)


def _integral(f: Expr, x: Symbol, *bounds: Expr) -> Expr:
    if len(bounds) == 2:
        done = gaussian_integral(f, x, *bounds)
        if done is not None:
            return done
    if f.has(AppliedUndef):
        return _split_unknown(f, x, bounds)
    whole = Integral(f, (x, *bounds))
    # SymPy's general algorithms may run for hours on what has no closed form; this one gives up soon.
    return whole if bounds == (-oo, oo) or len(bounds) != 2 else whole.doit(manual=True)


def _split_unknown(f: Expr, x: Symbol, bounds: tuple) -> Expr:
    """The integral of unknown functions, taken to be integrable, as a sum of those of its terms."""
    known: dict[Expr, Expr] = {}
    total = S.Zero
    for term in Add.make_args(expand(canon(_fold(f, x, known)))):
        free, bound = (
            part.xreplace({name: e for e, name in known.items()})
            for part in term.as_independent(x, as_Add=False)
        )
        done = None if bound.has(AppliedUndef) or len(bounds) != 2 else gaussian_integral(bound, x, *bounds)
        total += free * (Integral(bound, (x, *bounds)) if done is None else done)
    return total


def gaussian_integral(f: Expr, x: Symbol, low: Expr = -oo, high: Expr = oo) -> Expr | None:
    """The integral of a sum of terms polynomial(x) exp(quadratic(x)); None if f has no such form.

    Completes the square: exp(-a x² + b x + c) has the mass √(π/a) exp(c + b²/(4a)) over R, and x under it is normal
    with mean b/(2a) and variance 1/(2a), whose moments are known. Over an interval it is done for constant polynomials,
    by the error function. Raises Diverges where a is not positive and the range is all of R.
    """
    known: dict[Expr, Expr] = {}
    value = _gaussian(_fold(f, x, known), x, low, high, {name: part for part, name in known.items()})
    return None if value is None else value.xreplace({name: part for part, name in known.items()})


def _fold(e: Expr, x: Symbol, known: dict[Expr, Expr]) -> Expr:
    """e with a symbol of known sign for each part that does not hold x: what is integrated stays short."""
    if x not in e.free_symbols:
        factor, part = e.as_coeff_Mul()
        if part.is_Atom:
            return e
        if part not in known:
            closed = part if part.is_positive or part.is_negative else rational(canon(part))
            if closed.is_negative:
                return -factor * _fold(-part, x, known)
            sign = {"positive": True} if closed.is_positive else {"real": True}
            known[part] = Symbol(f"_known{len(known)}", **sign)
        return factor * known[part]
    if e.is_Atom or isinstance(e, (Integral, Sum, Product, Derivative, Limit)):
        return e
    if e.is_Add or e.is_Mul:
        free, bound = e.as_independent(x, as_Add=e.is_Add)
        args = [_fold(arg, x, known) for arg in e.func.make_args(bound)]
        return e.func(_fold(free, x, known), *args)
    return e.func(*[_fold(arg, x, known) for arg in e.args])


def _gaussian(f: Expr, x: Symbol, low: Expr, high: Expr, known: dict[Expr, Expr]) -> Expr | None:
    """The same for f with its constants folded; known: what they stand for."""
    total = S.Zero
    for term in Add.make_args(expand(canon(f), power_exp=False, log=False)):
        free, bound = term.as_independent(x, as_Add=False)
        exponent = Add(*[part.args[0] for part in Mul.make_args(bound) if isinstance(part, exp)])
        weight = Mul(*[part for part in Mul.make_args(bound) if not isinstance(part, exp)])
        try:
            quadratic, polynomial = Poly(together(exponent), x), Poly(weight, x)
        except PolynomialError:
            return None
        if polynomial.is_zero:
            continue
        if quadratic.degree() > 2:
            return None
        a, b, c = (rational(quadratic.coeff_monomial(x**m)) for m in (2, 1, 0))
        a = -a
        whole_line = (low, high) == (-oo, oo)
        sign = a if a.is_positive else rational(canon(a.xreplace(known)))
        if sign.is_positive is not True:
            if whole_line and sign.is_nonpositive:
                raise Diverges(f"the integral of {term.xreplace(known)} over {x} has no finite value")
            return None
        centre, spread = rational(b / (2 * a)), rational(1 / (2 * a))
        mass = free * canon(sqrt(pi / a)) * exp(rational(c + b**2 / (4 * a)))
        if whole_line:
            total += mass * Add(*[w * _moment(power, centre, spread) for (power,), w in polynomial.terms()])
        elif polynomial.degree() == 0:
            ends = [erf(canon(sqrt(a)) * (end - centre)) for end in (low, high)]
            total += mass * polynomial.LC() * (ends[1] - ends[0]) / 2
        else:
            return None
    return total


def _moment(power: int, mean: Expr, var: Expr) -> Expr:
    """E[x**power] of a normal x."""
    even = [(j, factorial2(j - 1) if j else S.One) for j in range(0, power + 1, 2)]
    return Add(*[binomial(power, j) * mean ** (power - j) * var ** (j // 2) * double for j, double in even])

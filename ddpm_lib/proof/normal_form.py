"""Is an expression identically zero? A decision by normal forms, for what the derivations are made of.

Roots, logarithms and exponentials are split into independent generators (the square root of an irreducible
positive factor, its logarithm, the exponential of one exponent); what is left is a rational function of
these, and it is zero exactly when its numerator, with each root's own equation used, is the zero
polynomial. A root or a logarithm of a product is split only where SymPy knows the factor to be positive, so
no branch cut is crossed.
"""

from __future__ import annotations

from itertools import combinations

from sympy import (
    QQ,
    Abs,
    Add,
    Expr,
    Integer,
    Mul,
    Pow,
    Rational,
    S,
    Symbol,
    cancel,
    exp,
    expand,
    expand_log,
    factor,
    factorint,
    fraction,
    ilcm,
    log,
    together,
)
from sympy.functions.elementary.hyperbolic import HyperbolicFunction
from sympy.polys.orderings import lex
from sympy.polys.rings import PolyElement, PolyRing


def rational(e: Expr) -> Expr:
    """e as one fraction, numerator and denominator factored; roots and logarithms are taken as they stand."""
    return factor(together(e))


def _factors(e: Expr) -> list[tuple[Expr, Expr]]:
    """e as a product of (base, exponent); integers come as their primes; a base may be of any sign."""
    pairs = []
    for part in Mul.make_args(rational(canon(e))):
        if part.is_Rational:
            sign = -1 if part < 0 else 1
            if sign < 0:
                pairs.append((S.NegativeOne, S.One))
            for number, power in ((abs(part.p), 1), (part.q, -1)):
                pairs += [(Integer(p), Integer(power * m)) for p, m in factorint(number).items()]
        elif isinstance(part, exp):
            pairs.append((part, S.One))
        else:
            pairs.append(part.as_base_exp())
    return pairs


def _power(base: Expr, exponent: Expr) -> Expr:
    """base**exponent for a fractional or symbolic exponent, the positive factors of base taken apart."""
    result, rest = S.One, S.One
    for factor_, power in _factors(base):
        if isinstance(factor_, exp) and factor_.args[0].is_real:
            result *= exp(canon(factor_.args[0] * power * exponent))
        elif factor_.is_positive and power.is_real:
            for term in Add.make_args(expand(power * exponent)):
                result *= Pow(factor_, term)
        else:
            rest *= factor_**power
    return result * Pow(rest, exponent)


def _log(argument: Expr) -> Expr:
    """log(argument), the positive factors of the argument taken apart."""
    result, rest = S.Zero, S.One
    for factor_, power in _factors(argument):
        if isinstance(factor_, exp) and factor_.args[0].is_real:
            result += factor_.args[0] * power
        elif factor_.is_positive and power.is_real:
            result += power * log(factor_)
        else:
            rest *= factor_**power
    return result + log(rest)


def canon(e: Expr) -> Expr:
    """e with every root, power and logarithm inside it split into positive irreducible factors."""
    if e.is_Atom or not e.args or e.is_Boolean:
        return e
    if isinstance(e, exp):
        exponent = S.Zero
        prefactor = S.One
        for term in (
            Add.make_args(expand(expand_log(canon(e.args[0])))) if e.args[0].has(log) else [canon(e.args[0])]
        ):
            coefficient, logarithm = log_term(term)
            if logarithm is not None and logarithm.args[0].is_positive:
                prefactor *= Pow(logarithm.args[0], coefficient)
            else:
                exponent += term
        return prefactor * exp(cancel(together(exponent)))
    if isinstance(e, HyperbolicFunction):
        return canon(e.rewrite(exp))
    if isinstance(e, log):
        return _log(e.args[0])
    if isinstance(e, Abs):  # opens itself where the sign is known
        return Abs(rational(canon(e.args[0])))
    if e.is_Pow and not e.exp.is_Integer:
        return _power(e.base, canon(e.exp))
    e = e.func(*[canon(arg) if isinstance(arg, Expr) else arg for arg in e.args])
    return _merged(e) if e.is_Mul else e


def _merged(e: Expr) -> Expr:
    """The product e with its exponentials as one."""
    exponents = [part.args[0] for part in e.args if isinstance(part, exp)]
    if len(exponents) < 2:
        return e
    return Mul(*[part for part in e.args if not isinstance(part, exp)]) * exp(
        cancel(together(Add(*exponents)))
    )


def log_term(term: Expr) -> tuple[Expr, Expr | None]:
    """term as coefficient * log(something), or None in the second place if it has no such form."""
    logs = [part for part in Mul.make_args(term) if isinstance(part, log)]
    if len(logs) != 1:
        return S.One, None
    return term / logs[0], logs[0]


class _Generators:
    """Gives a symbol to each independent root, exponential, logarithm or unopened function in an expression."""

    def __init__(self):
        self.roots: dict[Expr, tuple[Symbol, int]] = {}  # base -> symbol r, q with r**q = base
        self.orders: dict[Expr, int] = {}
        self.powers: list[tuple[Expr, Symbol]] = []  # exponent E -> symbol for exp(E)
        self.others: dict[Expr, Symbol] = {}

    def scan(self, e: Expr) -> None:
        """Note which roots of which base occur, so that one symbol serves them all."""
        for power in e.atoms(Pow):
            if power.exp.is_Rational and not power.exp.is_Integer:
                self.orders[power.base] = ilcm(self.orders.get(power.base, 1), power.exp.q)

    def _new(self, kind: str) -> Symbol:
        return Symbol(f"_{kind}{len(self.roots) + len(self.powers) + len(self.others)}", positive=True)

    def _exponential(self, exponent: Expr) -> Expr:
        """The symbol for exp(exponent), as a power of a known one where the exponent is a multiple of its own."""
        if exponent == 0:
            return S.One
        for known, symbol in self.powers:
            multiple = _multiple(exponent, known)
            if multiple is not None:
                return symbol**multiple
        for (one, first), (other, second) in combinations(self.powers, 2):
            for sign in (1, -1):
                if is_zero(exponent - one - sign * other):
                    return first * second**sign
            if is_zero(exponent + one - other):
                return second / first
        symbol = self._new("exp")
        self.powers.append((exponent, symbol))
        return symbol

    def replace(self, e: Expr) -> Expr:
        """e with its generators in place of roots, exponentials and functions."""
        if e.is_Number or isinstance(e, Symbol):
            return e
        if e.is_Add or e.is_Mul:
            return e.func(*[self.replace(arg) for arg in e.args])
        if isinstance(e, exp):
            return self._exponential(e.args[0])
        if e.is_Pow and e.exp.is_Integer:
            return self.replace(e.base) ** e.exp
        if e.is_Pow and e.exp.is_Rational:
            if e.base not in self.roots:
                self.roots[e.base] = (self._new("root"), self.orders[e.base])
            symbol, order = self.roots[e.base]
            return symbol ** (e.exp * order)
        if e.is_Pow and e.base.is_positive:
            return self._exponential(e.exp * log(e.base))
        if e not in self.others:
            self.others[e] = self._new("other")
        return self.others[e]

    def vanishes(self, numerator: Expr) -> bool:
        """Whether the numerator is the zero polynomial once r**q is replaced by its base for each root r.

        The arithmetic is that of SymPy's polynomial rings, a hundred times as fast as that of its expressions.
        """
        roots = [(symbol, order, self.replace(base)) for base, (symbol, order) in list(self.roots.items())]
        symbols = numerator.free_symbols.union(*(value.free_symbols for _, _, value in roots))
        if not symbols:
            return expand(numerator) == 0
        ring = PolyRing(sorted(symbols, key=str), QQ, lex)
        try:
            polynomial = ring.from_expr(numerator)
            rules = [
                (ring.symbols.index(symbol), order, ring.from_expr(value))
                for symbol, order, value in roots
                if symbol in symbols
            ]
        except ValueError:  # an integral or the like is left in it, or a root of a fraction
            return False
        for _ in range(1 + len(rules)):
            for place, order, value in rules:
                polynomial = _reduced(polynomial, place, order, value)
        return polynomial == 0


def _reduced(polynomial: PolyElement, place: int, order: int, value: PolyElement) -> PolyElement:
    """The polynomial with r**order = value, for the generator r at this place: no power of r reaches the order."""
    ring = polynomial.ring
    shares: dict[int, PolyElement] = {}
    for monomial, coefficient in polynomial.terms():
        times, power = divmod(monomial[place], order)
        rest = (*monomial[:place], power, *monomial[place + 1 :])
        share = shares.setdefault(times, ring.zero)
        shares[times] = share + ring.term_new(rest, coefficient)
    return sum((share * value**times for times, share in shares.items()), ring.zero)


def _multiple(e: Expr, known: Expr) -> Integer | None:
    """The whole number m with e = m known, if there is one."""
    ratio = _value(e / known)
    if ratio is None or round(ratio) == 0 or abs(ratio - round(ratio)) > 1e-9:
        return None
    return Integer(round(ratio)) if is_zero(e - round(ratio) * known) else None


def _value(e: Expr) -> float | None:
    """e at one generic point, as a float; None if it has no real value there, or holds an unknown function."""
    point = {}
    for place, f in enumerate(sorted(e.free_symbols, key=str)):
        point[f] = Integer(3 + place) if f.is_integer else Rational(17 + 5 * place, 23 + 3 * place)
    value = e.xreplace(point).evalf(20)
    return float(value) if value.is_Float or value.is_Rational else None


def is_zero(e: Expr) -> bool:
    """True only if e is identically zero. False means: not shown."""
    if e == 0:
        return True
    e = canon(e)
    if e == 0:
        return True
    value = _value(e)
    if value is not None and abs(value) > 1e-9:
        return False
    generators = _Generators()
    generators.scan(e)
    numerator, _ = fraction(together(generators.replace(e)))
    return generators.vanishes(numerator)

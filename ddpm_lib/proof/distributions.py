"""Densities and averages as SymPy objects, which stay whole and readable until ``verify`` or ``doit`` opens them."""

from __future__ import annotations

from sympy import Expr, Function, Integral, Sum, exp, log, oo, pi, sqrt, sympify


class normal_pdf(Function):
    r"""N(x; mean, var), the normal density of x with the given mean and *variance* (not standard
    deviation)."""

    nargs = 3

    def doit(self, **hints) -> Expr:
        """The density written out."""
        x, mean, var = (arg.doit(**hints) for arg in self.args)
        return exp(-((x - mean) ** 2) / (2 * var)) / sqrt(2 * pi * var)

    def fdiff(self, argindex: int = 1) -> Expr:
        """The density's derivative in x, in its mean or in its variance."""
        x, mean, var = self.args
        away = (x - mean) / var
        return self * {1: -away, 2: away, 3: (away**2 - 1 / var) / 2}[argindex]

    def _eval_is_positive(self):
        x, mean, var = self.args
        return True if var.is_positive and x.is_real and mean.is_real else None

    def _latex(self, printer, exp=None):
        x, mean, var = (printer.doprint(arg) for arg in self.args)
        density = rf"\mathcal N\left({x};\, {mean},\, {var}\right)"
        return density if exp is None else f"{density}^{{{exp}}}"


class bernoulli_pmf(Function):
    r"""B(x; p): the probability of x in {0, 1} when 1 has probability p, p^x (1-p)^(1-x)."""

    nargs = 2

    def doit(self, **hints) -> Expr:
        """The probability written out."""
        x, p = (arg.doit(**hints) for arg in self.args)
        return p**x * (1 - p) ** (1 - x)

    def _latex(self, printer, exp=None):
        x, p = (printer.doprint(arg) for arg in self.args)
        mass = rf"\mathcal B\left({x};\, {p}\right)"
        return mass if exp is None else f"{mass}^{{{exp}}}"


def expectation(value, density, x) -> Expr:
    """E[value] when x has this density: the integral over the real line; for a bit x, the sum over {0, 1}."""
    value, density, x = sympify(value), sympify(density), sympify(x)
    if x.is_integer:
        return Sum(value * density, (x, 0, 1))
    return Integral(value * density, (x, -oo, oo))


def kl_integral(p, q, x) -> Expr:
    """KL(p ‖ q) = E_p[log p(x) - log q(x)], in nats, as the integral (for a bit x, the sum) that defines it."""
    p, q = sympify(p), sympify(q)
    return expectation(log(p / q), p, x)


def kl_bernoulli(p, q) -> Expr:
    """KL of two Bernoulli distributions with probabilities p and q of a 1, in nats."""
    p, q = sympify(p), sympify(q)
    return p * log(p / q) + (1 - p) * log((1 - p) / (1 - q))


def unknown_density(name: str):
    """A positive function that stands for any: a claim about it is tried on smooth ones, and proved for all."""
    return Function(name, positive=True)

"""Inequalities that no proof is found for: a false one is refused although random points do not meet what is false."""

import time

import pytest
import sympy
from sympy import Function, IndexedBase, Rational, Symbol, cos, exp, log, sqrt

from ddpm_lib.proof import ProofError, verify
from ddpm_lib.proof import notation as N

t, n = N.t, Symbol("n", integer=True, positive=True)
y, a, b = Symbol("y", real=True), Symbol("a", positive=True), Symbol("b", positive=True)
OPEN = N.prob * (1 - N.prob)
OWN, F = IndexedBase("w", positive=True), Function("f", positive=True)
FALSE = {
    "a little below a maximum": (OPEN, "<=", Rational(2499, 10000)),
    "by a millionth below it": (OPEN, "<=", Rational(1, 4) - Rational(1, 10**6)),
    "above a zero that is no round number": ((y - Rational(1, 3)) ** 2, ">=", Rational(1, 10**9)),
    "above a zero at 0": (N.eps**2, ">=", Rational(1, 100)),
    "below what grows": (N.x_t**2, "<=", sympy.Integer(100)),
    "above what can be small": (N.var, ">=", Rational(1, 1000)),
    "below what can be large": (N.var, "<=", sympy.Integer(1000)),
    "below a first level of signal": (N.alpha_bar[t], "<=", Rational(999, 1000)),
    "above a first rate": (N.beta[t], ">=", Rational(1, 1000)),
    "below a first signal-to-noise ratio": (N.snr[t], "<=", sympy.Integer(1000)),
    "below a late step": (t, "<=", sympy.Integer(9)),
    "below a large count": (n, "<=", sympy.Integer(9)),
    "below an entry of one's own": (OWN[t], "<=", sympy.Integer(3)),
    "above an entry of one's own": (OWN[t], ">=", Rational(1, 50)),
    "below a sum of such entries": (sympy.Sum(OWN[N.k], (N.k, 1, t)), "<=", sympy.Integer(100)),
    "below an unknown function": (F(y), "<=", sympy.Integer(100)),
    "above an unknown positive function": (F(y), ">=", Rational(1, 10**4)),
    "above a valley of two values": ((a - b) ** 2 + (a * b - 2) ** 2, ">=", Rational(1, 1000)),
}
UNPROVED = {
    "a function that rises": (sympy.tanh(N.var), "<=", sympy.tanh(N.var + N.var_p)),
    "a mean of two logarithms": ((log(a) + log(b)) / 2, "<=", log((a + b) / 2)),
    "with equality within the range": (cos(y), "<=", 1 + y**4),
    "of a table": (exp(-N.alpha_bar[t]) * sqrt(N.beta[t]), "<=", sqrt(sympy.tan(N.beta[t]))),
}


@pytest.mark.parametrize("name", FALSE)
def test_a_false_inequality_is_refused_wherever_it_fails(name):
    lhs, relation, rhs = FALSE[name]
    begun = time.process_time()
    with pytest.raises(ProofError, match="is false"):
        verify("eq-false", lhs, rhs, relation=relation, by="algebra")
    assert time.process_time() - begun < 5  # its budget is 2 s, counted in evaluations; machines differ


@pytest.mark.parametrize("name", FALSE)
def test_it_is_refused_with_its_sides_exchanged_too(name):
    lhs, relation, rhs = FALSE[name]
    with pytest.raises(ProofError, match="is false"):
        verify("eq-false", rhs, lhs, relation={"<=": ">=", ">=": "<="}[relation], by="algebra")


@pytest.mark.parametrize(
    ("lhs", "rhs"),
    [
        (sympy.Min(N.d, 50), N.d),
        (sympy.Max(N.x_0, 10), sympy.Integer(10)),
        (sympy.Piecewise((N.var, N.var < 1000), (0, True)), N.var),
    ],
)
def test_an_equation_that_fails_far_out_is_refused(lhs, rhs):
    """Also where the sides differ by rounding before they differ in truth; what is tried first is by the label."""
    noise = (1 + y**2) * (2 + sympy.sin(a))
    for k in range(12):
        with pytest.raises(ProofError, match="is false"):
            verify(
                f"eq-false-{k}",
                log(exp(lhs) * noise),
                rhs + log(1 + y**2) + log(2 + sympy.sin(a)),
                by="algebra",
            )
    with pytest.raises(ProofError, match="is false"):
        verify("eq-false", lhs, rhs, by="algebra")


@pytest.mark.parametrize("name", UNPROVED)
def test_a_true_inequality_is_not_refused(name):
    lhs, relation, rhs = UNPROVED[name]
    assert verify("eq-true", lhs, rhs, relation=relation, by="algebra").status in ("checked", "proved")


def test_the_search_keeps_to_the_conditions():
    small = sympy.tanh(N.prob) - Rational(1, 2)
    assert verify("eq-small", small, sympy.S.Zero, relation="<=", by="algebra", where=[N.prob <= 0.5])
    with pytest.raises(ProofError, match="is false"):
        verify("eq-small", small, sympy.S.Zero, relation="<=", by="algebra")

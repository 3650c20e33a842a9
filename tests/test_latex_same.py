"""What the reader holds to be the same statement, and what not."""

import pytest
from sympy import (
    Integral,
    Limit,
    Rational,
    Sum,
    Symbol,
    exp,
    log,
    sqrt,
)

from ddpm_lib.proof import ProofError, verify_induction
from ddpm_lib.proof import notation as N
from ddpm_lib.proof.distributions import normal_pdf
from ddpm_lib.proof.latex import read
from ddpm_lib.proof.same import difference, is_same, same
from tests.test_latex import T, a, alpha, alpha_bar, b, beta, c, i, j, k, n, record, t, w, x, y

SAME = [
    (2 * (a + b), 2 * a + 2 * b),
    ((a - b) ** 2, (b - a) ** 2),
    (Rational(1, 2) * (a * (b - 1) - c), a * (b - 1) / 2 - c / 2),
    (1 / (2 * (1 - a)), Rational(1, 2) / (1 - a)),
    (sqrt(2 + 2 * x), sqrt(2) * sqrt(1 + x)),
    (sqrt(2) * sqrt(6 + 6 * x), 2 * sqrt(3) * sqrt(1 + x)),
    ((2 * a**b + 2) / (1 + x), 2 * (a**b + 1) / (1 + x)),
    (Sum(a**i, (i, 1, n)), Sum(a**j, (j, 1, n))),
    (Integral(y * a, (y, 0, 1)), Integral(x * a, (x, 0, 1))),
    (Sum(N.x[k] ** 2, (k, 1, T)), Sum(N.x_t**2, (t, 1, T))),
    (N.x[t - 1], N.x_prev),
]
DIFFERENT = [
    (alpha[t], 1 - beta[t]),
    (alpha[t] * alpha_bar[t - 1], alpha_bar[t]),
    (a * (b - 1), a * b - a),
    ((a + b) ** 2, a**2 + 2 * a * b + b**2),
    (a / b + c / b, (a + c) / b),
    (log(a / b), log(a) - log(b)),
    (exp(x) ** 2 + 1, exp(x) + 1),
    (normal_pdf(x, a, b), normal_pdf(a, x, b)),
    (Sum(a * i, (i, 1, n)), a * Sum(i, (i, 1, n))),
    (Integral(x, (x, 0, 1)), Rational(1, 2)),
    (Integral(x * y, (x, 0, 1), (y, 0, 2)), Integral(x * y, (y, 0, 2), (x, 0, 1))),
    (Limit(x, x, 0, "+"), Limit(x, x, 0, "-")),
    (Sum(w[i], (i, 1, n)), Sum(w[i], (i, 0, n))),
    (sqrt(a - b), sqrt(b - a)),
    (x, a),
]


@pytest.mark.parametrize(("one", "other"), SAME, ids=str)
def test_what_a_reader_does_not_count_as_a_difference(one, other):
    assert same(one, other)
    assert same(1 / (1 + one), 1 / (1 + other))


@pytest.mark.parametrize(("one", "other"), DIFFERENT, ids=str)
def test_an_equal_value_is_not_the_same_statement(one, other):
    assert not same(one, other)
    assert not same(log(2 + one), log(2 + other))


def test_a_difference_shows_both():
    held = record(a - b, c, "<=")
    assert difference(read(r"a - b \le c", held), held) == ""
    assert "displayed as a + b, verified as a - b" in difference(read(r"a + b \le c", held), held)
    assert "displayed with ==" in difference(read("a - b = c", held), held)
    assert "right side displayed as a - b" in difference(read(r"c \le a - b", held), held)


def test_an_induction_says_what_its_closed_form_is_of():
    clocks = Sum(2 * k - 1, (k, 1, n))
    claim = {"base": 0, "step": lambda before: before + 2 * n - 1, "var": n}
    done = verify_induction("eq-odd-numbers", n**2, of=clocks, **claim).record.__dict__
    assert is_same(read(r"\sum_{k=1}^{n} (2 k - 1) = n^2", done), done)
    assert not is_same(read(r"\sum_{k=1}^{n} (2 k + 1) = n^2", done), done)
    with pytest.raises(ProofError, match="eq-odd-numbers"):
        verify_induction("eq-odd-numbers", n**2, of=Sum(2 * k, (k, 1, n)), **claim)
    without = verify_induction("eq-odd-numbers", n**2, **claim).record.__dict__
    assert not is_same(read(r"\sum_{k=1}^{n} (2 k - 1) = n^2", without), without)


def test_a_definition_may_name_what_it_defines_as_text():
    rate, m = Symbol("lr_max", positive=True), Symbol("m", positive=True)
    held = record("lr(m)", rate * m, kind="definition")
    assert is_same(read(r"\mathrm{lr}(m) = \mathrm{lr}_{\max}\, m", held), held)
    assert not is_same(read(r"\mathrm{lr}(m) = \mathrm{lr}_{\max}\, m^2", held), held)
    with pytest.raises(ValueError, match="unknown letter"):
        read(r"\mathrm{rate} = \mathrm{lr}_{\max}\, m", held)

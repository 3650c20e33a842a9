"""The reader of displayed equations: what it reads, what it refuses, and what it holds to be the same statement."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import sympy
from hypothesis import given, settings
from hypothesis import strategies as st
from sympy import (
    Derivative,
    Function,
    ImmutableMatrix,
    IndexedBase,
    Integral,
    Limit,
    MatMul,
    MatPow,
    Min,
    Product,
    Rational,
    S,
    Subs,
    Sum,
    Symbol,
    cos,
    exp,
    gamma,
    log,
    oo,
    pi,
    sin,
    sqrt,
    symbols,
)
from sympy.printing.latex import LatexPrinter

from ddpm_lib.proof import ProofError, book, verify_induction
from ddpm_lib.proof import notation as N
from ddpm_lib.proof.codes import decode, encode
from ddpm_lib.proof.distributions import bernoulli_pmf, expectation, kl_bernoulli, kl_integral, normal_pdf
from ddpm_lib.proof.latex import read, sides_code
from ddpm_lib.proof.same import difference, is_same, same
from ddpm_lib.proof.tokens import tokens

BOOK = Path(__file__).resolve().parents[1] / "book"
a, b, c = symbols("a b c", positive=True)
x, y = Symbol("z", real=True), N.y
i, j = symbols("i j", integer=True, positive=True)
phi = Symbol("phi", real=True)
mu_tilde, q, p = Function("mu_tilde"), Function("q"), Function("p")
u, w = IndexedBase("u", real=True), IndexedBase("w", positive=True)
alpha, alpha_bar, beta, t, T, k, n = N.alpha, N.alpha_bar, N.beta, N.t, N.T, N.k, N.n


def record(lhs, rhs=0, relation="==", **others):
    """A record as verify leaves it, with two sides or two lists of them."""
    sides = {"lhs_code": encode(lhs), "rhs_code": encode(rhs), "lhs": str(lhs), "rhs": str(rhs)}
    return {"label": "eq-some", "kind": "identity", "relation": relation, **sides, **others}


def left(latex, *held):
    """What the left side of ``latex = 0`` is, with the letters that a record of these expressions holds."""
    return read(latex + " = 0", record(list(held or [a + b + c + x + i + j]), [0] * max(1, len(held)))).lhs


ALGEBRA = {
    r"-a^2": -(a**2),
    r"-a^{2}b": -(a**2) * b,
    r"2 a - b c": 2 * a - b * c,
    r"a - b - c": a - b - c,
    r"a b^c": a * b**c,
    r"\frac12 a": a / 2,
    r"\frac1{2}a": a / 2,
    r"\frac ab c": a * c / b,
    r"\tfrac{a}{b + c}": a / (b + c),
    r"\frac{a}{b} \cdot \frac{c}{2}": a * c / (2 * b),
    r"\sqrt{a}b": sqrt(a) * b,
    r"\sqrt 2 a": sqrt(2) * a,
    r"\sqrt{a b}": sqrt(a * b),
    r"10^{-b/c}": 10 ** (-b / c),
    r"a b / c": a * b / c,
    r"a (b + c)": a * (b + c),
    r"a(b+c)(b-c)": a * (b + c) * (b - c),
    r"\left(a - b\right)^2": (a - b) ** 2,
    r"\bigl(a - b\bigr)^2": (a - b) ** 2,
    r"e^{-a^2/2}": exp(-(a**2) / 2),
    r"e^a b": exp(a) * b,
    r"2 \pi a": 2 * pi * a,
    r"\binom{i}{j}": sympy.binomial(i, j),
    r"i!": sympy.factorial(i),
    r"\lvert z - a \rvert": abs(x - a),
    r"\left|z\right|": abs(x),
    r"\min\left(1, \frac ab\right)": Min(1, a / b),
    r"a \\ & \quad + b": a + b,
    r"\phantom{= {}} a + \Bigl( b \\ & \quad - c \Bigr)": a + b - c,
}


@pytest.mark.parametrize("latex", ALGEBRA)
def test_algebra(latex):
    assert left(latex) == ALGEBRA[latex]


def test_an_exponent_without_braces_is_one_digit():
    assert left(r"2^1 \cdot 3") == 6
    with pytest.raises(ValueError, match="a sign is missing before '0'"):
        left(r"2^10")


FUNCTIONS = {
    r"\log \frac ab + c": log(a / b) + c,
    r"\log(a) b": log(a) * b,
    r"\log\left(a\right)b": log(a) * b,
    r"\log a\, b": log(a) * b,
    r"\log a + b": log(a) + b,
    r"\log \sqrt a": log(sqrt(a)),
    r"\log a^2 + b": log(a**2) + b,
    r"\log^2 a": log(a) ** 2,
    r"\log_2 a": log(a) / log(2),
    r"\sin a \cos b": sin(a) * cos(b),
    r"\cos\phi\; z + \sin\phi\; a": cos(phi) * x + sin(phi) * a,
    r"\sin^2(a)": sin(a) ** 2,
    r"\log \log a": log(log(a)),
    r"\log \prod_{i=1}^{j} a^i": log(Product(a**i, (i, 1, j))),
    r"\exp\left(-a\right)": exp(-a),
    r"\Gamma(a + 1)^2": gamma(a + 1) ** 2,
    r"\mathrm{erf}(z)": sympy.erf(x),
}


@pytest.mark.parametrize("latex", FUNCTIONS)
def test_functions_end_where_a_reader_sees_them_end(latex):
    assert left(latex, a + b + c + x + i + j + phi) == FUNCTIONS[latex]


BINDERS = {
    r"\sum_{i=1}^{n} a^i + b": Sum(a**i, (i, 1, n)) + b,
    r"\sum_{i=1}^{n} a^i b": Sum(a**i * b, (i, 1, n)),
    r"a \sum_{i=1}^{n} -\log u_i + b": a * Sum(-log(u[i]), (i, 1, n)) + b,
    r"\left(\sum_{i=1}^{n} u_i\right) b": Sum(u[i], (i, 1, n)) * b,
    r"\sum_{i=1}^{n} \sum_{j=1}^{i} a^j": Sum(a**j, (j, 1, i), (i, 1, n)),
    r"\prod_{i=1}^{n} u_i \prod_{i=1}^{n} w_i": Product(u[i], (i, 1, n)) * Product(w[i], (i, 1, n)),
    r"\sum_{i=0}^{n-1} u_{i+1}": Sum(u[i + 1], (i, 0, n - 1)),
    r"\int_{-\infty}^{\infty} z + a\, dz": Integral(x + a, (x, -oo, oo)),
    r"\int_0^1 z\, dz\, b": Integral(x, (x, 0, 1)) * b,
    r"\frac12 \int_0^a \log z \, dz + b": Integral(log(x), (x, 0, a)) / 2 + b,
    r"\int_0^1 \int_0^z y\, dy\, dz": Integral(y, (y, 0, x), (x, 0, 1)),
    r"\int_0^1 \frac{1}{1 + z}\, \mathrm d z": Integral(1 / (1 + x), (x, 0, 1)),
    r"\lim_{n \to \infty} \frac an": Limit(a / n, n, oo),
    r"\lim_{a \to 0} \frac{a}{b} + c": Limit(a / b, a, 0) + c,
    r"\lim_{z \to 0} z": Limit(x, x, 0, "+-"),
    r"\lim_{z \to 0^-} z": Limit(x, x, 0, "-"),
    r"\frac{d}{dz} z^2 a + b": Derivative(x**2 * a, x) + b,
    r"\frac{d^2 z^3}{dz^2}\, b": Derivative(x**3, (x, 2)) * b,
    r"\frac{\partial}{\partial \sigma^2} \sigma^4": Derivative(N.var**2, N.var),
    r"\left. \frac{d}{dz} z^2 \right|_{z = 0}": Subs(Derivative(x**2, x), x, 0),
}


@pytest.mark.parametrize("latex", BINDERS)
def test_sums_integrals_limits_and_slopes_reach_as_far_as_they_say(latex):
    read_back = left(latex, a + b + c + x + y + i + j + u[i] + w[i] + N.var)
    assert same(read_back, BINDERS[latex])


def test_the_dimension_d_is_no_differential():
    assert left(r"-\frac d2 a", a) == -N.d * a / 2
    assert left(r"\int_0^1 \frac{d}{2} z\, dz", x) == Integral(N.d * x / 2, (x, 0, 1))


TABLE = {
    r"\bar\alpha_{t-1}": alpha_bar[t - 1],
    r"\bar{\alpha}_t": alpha_bar[t],
    r"\beta_1 + \beta_t + \beta": beta[1] + beta[t] + N.rate,
    r"\sqrt{\bar\alpha_t}\, x_0": sqrt(alpha_bar[t]) * N.x_0,
    r"x_{t-1} + x_t + x_s + x_T": N.x_prev + N.x_t + N.x_s + N.x_T,
    r"\mathrm{SNR}_{t-1}": N.snr[t - 1],
    r"\tilde\beta_1": N.beta_tilde[1],
    r"\varepsilon_\theta - \varepsilon": N.eps_hat - N.eps,
    r"\hat x_0": N.x_0_hat,
    r"\sigma_q^2 + \sigma^2": N.var_q + N.var,
    r"2 \sigma_p^4": 2 * N.var_p**2,
    r"\sigma_p": sqrt(N.var_p),
    r"\sigma_t^2": N.sigma[t] ** 2,
    r"y'^2": N.y_prev**2,
    r"\mu_p - \mu": N.mean_p - N.mean,
}


@pytest.mark.parametrize("latex", TABLE)
def test_letters_of_the_table(latex):
    assert left(latex, S.One * 5) == TABLE[latex]


def test_the_record_says_whether_a_state_is_real_or_a_bit():
    real, bits = normal_pdf(N.x_t, N.x_0, 1), bernoulli_pmf(N.bit_t, N.bit_0)
    assert left(r"\mathcal N(x_t;\, x_0,\, 1)", real) == real
    assert left(r"\mathcal B(x_t;\, x_0)", bits) == bits
    assert left("y' + y", N.y_bit) == N.y_bit_prev + N.y_bit
    with pytest.raises(ValueError, match=r"x_\{0\} may be"):
        left("x_0", N.x_0 + N.bit_0)


def test_own_letters_have_the_names_that_the_record_gives_them():
    delta, norm, theta = Symbol("delta_ij"), Symbol("norm_g", positive=True), Symbol("theta_bar_0")
    assert left(r"\delta_{ij} + \lVert g \rVert + \bar\theta_0", delta + norm + theta) == delta + norm + theta
    assert left(r"\bar\theta_{n-1}", IndexedBase("theta_bar")[n]) == IndexedBase("theta_bar")[n - 1]
    assert left(r"e + 1", Symbol("e")) == Symbol("e") + 1
    assert left(r"\sigma_1^2", Symbol("sigma_1", positive=True)) == Symbol("sigma_1", positive=True) ** 2


def test_functions_of_the_record():
    assert left(r"q(x_t \mid x_{t-1}, x_0)", q(N.x_t, N.x_prev, N.x_0)) == q(N.x_t, N.x_prev, N.x_0)
    assert left(r"q(x_0, x_t)", Function("q_joint")(N.x_0, N.x_t)) == Function("q_joint")(N.x_0, N.x_t)
    assert left(r"\tilde\mu_{t-1}(x_t, x_0)", mu_tilde(t, N.x_t, N.x_0)) == mu_tilde(t - 1, N.x_t, N.x_0)
    assert left(r"w_t (z - a)", Function("w")(t) + x + a) == Function("w")(t) * (x - a)
    assert left(r"v - a", Function("v")(N.x_0, N.eps) + a) == Function("v")(N.x_0, N.eps) - a
    assert left(r"\mathbb E[x_t \mid x_0]", Function("E")(N.x_t, N.x_0)) == Function("E")(N.x_t, N.x_0)
    assert left(r"\mathrm{Cov}[x_t]_{ij}", Function("Cov_ij")(N.x_t)) == Function("Cov_ij")(N.x_t)
    assert left(r"\varepsilon^*(x_t, t)", Function("eps_star")(N.x_t, t)) == Function("eps_star")(N.x_t, t)
    tail = Function("p_tail")
    assert left(r"p(x_{k-1}, x_k, \dots, x_T)", tail(k) + N.x[k]) == tail(k - 1)
    assert left(r"p(x_T) - p(x_0, \dots, x_T)", tail(k)) == tail(T) - tail(0)


def test_densities_means_and_divergences():
    one, two = normal_pdf(y, N.mean_p, N.var_p), normal_pdf(y, N.mean_q, N.var_q)
    in_latex = r"\mathcal N\left(y;\, \mu_p,\, \sigma_p^2\right)", r"\mathcal N(y;\, \mu_q, \sigma_q^2)"
    assert left(in_latex[0] + "^2", y) == one**2
    assert left(rf"\mathrm{{KL}}\left({in_latex[0]} \,\middle\|\, {in_latex[1]}\right)", y) == kl_integral(
        one, two, y
    )
    coins = left(r"\mathrm{KL}\left(\mathcal B(\rho_p) \,\|\, \mathcal B(\rho_q)\right)", y)
    assert coins == kl_bernoulli(N.prob_p, N.prob_q)
    assert left(rf"\mathbb E_{{{in_latex[0]}}}\left[y^2\right]", y) == expectation(y**2, one, y)
    nested = Integral(x * y * p(x) * one, (x, -oo, oo), (y, -oo, oo))
    assert left(rf"\mathbb E_{{p(z),\, {in_latex[0]}}}[z y]", p(x) + y) == nested


def test_matrices_stay_as_they_are_displayed():
    m = ImmutableMatrix([[a, 1], [0, b]])
    shown = r"\begin{pmatrix} a & 1 \\ 0 & b \end{pmatrix}"
    assert left(shown, m) == m
    assert left(rf"2 {shown} {shown}^n", m) == MatMul(2, m, MatPow(m, n))
    assert is_same(read(rf"{shown} {shown} = {shown}", record(m * m, m)), record(m * m, m))
    assert is_same(read(rf"{shown} {shown} = {shown}", record(MatMul(m, m), m)), record(MatMul(m, m), m))
    assert not is_same(read(rf"{shown} {shown}^2 = {shown}", record(m * m, m)), record(MatMul(m, m), m))


REFUSED = {
    r"\foo a": r"unknown macro \\foo",
    r"a \cdots b": r"unknown macro \\cdots",
    r"g": "unknown letter g",
    r"\kappa_3": r"unknown letter \\kappa_\{3\}",
    r"\log a b": "in the argument of",
    r"\log a (b)": "in the argument of",
    r"\log a \cdot b": "in the argument of",
    r"\log 2\, a": "in the argument of",
    r"\log (a)^2": "is the power",
    r"\log": r"no reading of \\log",
    r"\sin^{-1} a": "an inverse or a power",
    r"\sin' a": r"no reading of \\sin",
    r"a/b c": "in the denominator",
    r"a/b/c": "no reading",
    r"a + - b": "no reading",
    r"2 3": "a sign is missing",
    r"a 2": "a sign is missing",
    r"\frac12 3": "a sign is missing",
    r"\infty \infty": "a sign is missing",
    r"a b +": "no reading",
    r"(a, b)": "no reading",
    r"(a + b]": "brackets that do not match",
    r"(a + b": "expected a relation",
    r"a^2^3": "no reading|two times",
    r"a_1_2": "two times",
    r"a^+": "exponent",
    r"2_3": "marks",
    r"2^*": "marks",
    r"f(x, a)": "no function f",
    r"\mathbb E[z]": "no function E",
    r"\mathrm{KL}(a \,\|\, b)": "density of a variable",
    r"\mathcal N(z; a)": "no reading",
    r"\mathcal N(z, a, b)": "no reading",
    r"\mathcal N(z;\, a,\, b)_2": "no function|marks",
    r"\int f(z) dz": "both ends",
    r"\int_0^1 z": "no reading",
    r"\sum_i a": "no reading of the ends",
    r"\sum_{i}^{n} a": "no reading of the ends",
    r"\prod_{i=1}^{n} a \prod_{j=1}^{n} b": "where does the first product end",
    r"\frac{d}{dz}": "no reading of the derivative",
    r"\frac{d}{dz}^2 z": "no reading of the derivative",
    r"\hat{a + b}": "no reading",
    r"\lVert a + b \rVert": "expected one letter",
    r"\left. a \right|_{a + b = 0}": "expected one letter",
    r"\lim_{a \to b^+} a": "exponent",
    r"a \text{ if } b": r"unknown macro \\text",
    r"a \approx b": r"unknown macro \\approx",
    r"0.5 \% a": "unknown macro",
}


@pytest.mark.parametrize("latex", REFUSED)
def test_what_has_no_one_meaning_is_refused_by_name(latex):
    with pytest.raises(ValueError, match=REFUSED[latex]):
        left(latex)


@pytest.mark.parametrize("latex", ["a", r"a \\ b", "a = b < c", "a = b, c", ""])
def test_a_display_without_one_relation_is_refused(latex):
    with pytest.raises(ValueError, match="latex: "):
        read(latex, record(a + b + c))


def test_several_equations_and_chains():
    held = record([a, b], [b, c])
    for latex in (
        r"a = b, \qquad b = c",
        r"a &= b \\ b &= c",
        r"\begin{aligned} a &= b, \\ b &= c \end{aligned}",
        "a = b = c",
    ):
        reading = read(latex, held)
        assert reading.lhs == (a, b)
        assert reading.rhs == (b, c)
        assert is_same(reading, held)
    assert is_same(read("a = b = c", held), record([a, a], [b, c]))
    assert not is_same(read("a = b = c", held), record(a, c))
    assert not is_same(read(r"a = b, \quad c = a", held), record([a, a], [b, a]))
    assert read(r"a \\ & \quad \le b", held) == (a, b, "<=")
    assert read(r"\frac{a}{b} \\[1ex] & \quad + c \\ & = 0 \tag{S 1}", held) == (a / b + c, 0, "==")
    with pytest.raises(ValueError, match="one kind of relation"):
        read(r"a \le b = c", held)


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


class Printer(LatexPrinter):
    """SymPy's own printer, which knows nothing of the reader, with the book's letters."""

    def _print_Symbol(self, e, style=None):
        row = N.BY_KEY.get(e.name)
        return row.latex if row is not None and row.object == e else self.letter(e.name)

    def _print_Indexed(self, e):
        row = N.BY_KEY.get(str(e.base.label))
        stem = re.sub("_[tk]$", "", row.latex) if row is not None else self.letter(str(e.base.label))
        return f"{stem}_{{{self._print(e.indices[0])}}}"

    def _print_Function(self, e, exp=None):
        if not isinstance(e, sympy.core.function.AppliedUndef):
            return super()._print_Function(e, exp)
        name, arguments = type(e).__name__, [self._print(arg) for arg in e.args]
        shown = r" \mid ".join([arguments[0], ", ".join(arguments[1:])] if arguments[1:] else arguments)
        if name.endswith("_tail"):
            name, shown = name.removesuffix("_tail"), rf"x_{{{arguments[0]}}}, \dots, x_T"
        if name.endswith("_joint"):
            name, shown = name.removesuffix("_joint"), ", ".join(arguments)
        shown = rf"{self.letter(name)}\left({shown}\right)"
        return shown if exp is None else f"{shown}^{{{exp}}}"

    @staticmethod
    def letter(name):
        base, *marks = name.split("_")
        accents = [mark for mark in marks if mark in ("bar", "hat", "tilde")]
        star = "^*" if "star" in marks else ""
        subs = [mark for mark in marks if mark not in (*accents, "star")]
        if base == "norm":
            return rf"\lVert {subs[0]} \rVert"
        greek = {"eps": r"\varepsilon", "lambda": r"\lambda"}.get(base) or rf"\{base}"
        head = base if len(base) == 1 else greek if known(greek) else rf"\mathrm{{{base}}}"
        for accent in accents:
            head = rf"\{accent}{{{head}}}"
        return head + star + "".join(f"_{{{sub if len(sub) < 3 else word(sub)}}}" for sub in subs)


def known(macro):
    try:
        return bool(tokens(macro))
    except ValueError:
        return False


def word(sub):
    return rf"\{sub}" if known(rf"\{sub}") else rf"\mathrm{{{sub}}}"


PRINTER = Printer({"root_notation": False, "mat_str": "pmatrix", "mat_delim": ""})


def claims():
    found = []
    for display, held in book.equations(BOOK):
        codes = sides_code(held)
        if held["kind"] in ("identity", "inequality") and all(codes):
            found.append(pytest.param(held, *map(decode, codes), id=display.label))
    return found


@pytest.mark.parametrize(("held", "lhs", "rhs"), claims())
def test_what_sympy_prints_of_each_claim_is_read_back(held, lhs, rhs):
    sides = [side if isinstance(side, (list, tuple)) else [side] for side in (lhs, rhs)]
    pairs = list(zip(*sides, strict=True))
    latex = r", \quad ".join(f"{PRINTER.doprint(one)} = {PRINTER.doprint(other)}" for one, other in pairs)
    reading = read(latex, held)
    assert difference(reading._replace(relation=held["relation"]), held) == "", latex


atoms = st.sampled_from([a, b, c, x, S(2), S(3), Rational(1, 2), alpha_bar[t - 1], N.x_prev, N.var_q])


def grown(smaller):
    pairs = st.tuples(smaller, smaller)
    return st.one_of(
        pairs.map(sum),
        pairs.map(lambda pair: pair[0] * pair[1]),
        pairs.map(lambda pair: pair[0] - pair[1]),
        pairs.map(lambda pair: pair[0] / (1 + pair[1] ** 2)),
        smaller.map(lambda e: e**2),
        smaller.map(lambda e: sqrt(1 + e**2)),
        smaller.map(lambda e: log(1 + e**2)),
        smaller.map(lambda e: exp(-e)),
        smaller.map(lambda e: e if e.has(Sum) else Sum(e * a**i, (i, 1, n))),
        smaller.map(lambda e: Integral(c**x * e, (x, 0, 1))),
        pairs.map(lambda pair: normal_pdf(x, *pair)),
    )


@settings(max_examples=100, deadline=None)
@given(st.recursive(atoms, grown, max_leaves=6))
def test_what_sympy_prints_of_any_expression_is_read_back(e):
    powers_of_functions = [
        f for f in e.atoms(sympy.Pow) if isinstance(f.base, (log, normal_pdf, Sum, Integral))
    ]
    if powers_of_functions:
        return
    latex = PRINTER.doprint(e)
    assert same(left(latex), e), latex


def test_only_reading_needs_the_parser():
    code = """
import sys
sys.modules["lark"] = None
import ddpm_lib.proof.book
from ddpm_lib.proof.latex import read
try:
    read("a = b", {"kind": "identity", "lhs_code": "Symbol('a')", "rhs_code": "Symbol('b')"})
except ImportError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "pip install lark" in done.stdout

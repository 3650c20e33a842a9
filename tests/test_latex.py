"""The reader of displayed equations: what it reads, what it refuses, and what it holds to be the same statement."""

from pathlib import Path

import pytest
import sympy
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

from ddpm_lib.proof import notation as N
from ddpm_lib.proof.codes import encode
from ddpm_lib.proof.distributions import bernoulli_pmf, expectation, kl_bernoulli, kl_integral, normal_pdf
from ddpm_lib.proof.latex import read
from ddpm_lib.proof.same import is_same, same

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
    given = Function("q_given")(N.x_0, N.x_t, N.x_T)
    assert left(r"q(x_0, x_t \mid x_T)", given) == given
    tail = Function("p_tail")
    assert left(r"p(x_{k-1}, x_k, \dots, x_T)", tail(k) + N.x[k]) == tail(k - 1)
    assert left(r"p(x_T) - p(x_0, \dots, x_T)", tail(k)) == tail(T) - tail(0)


@pytest.mark.parametrize(
    ("latex", "held"),
    [
        (r"q(x_t, x_0)", q(N.x_t, N.x_0)),
        (r"q(x_t, x_{t-1}, x_0)", q(N.x_t, N.x_prev, N.x_0)),
        (r"q(x_t, x_{t-1} \mid x_0)", q(N.x_t, N.x_prev, N.x_0)),
        (r"q(x_t \mid x_0)", Function("q_joint")(N.x_t, N.x_0)),
        (r"q(x_t, x_0)", Function("q_given")(N.x_t, N.x_0)),
        (r"\mathbb E[x_t, x_0]", Function("E")(N.x_t, N.x_0)),
    ],
)
def test_a_joint_law_is_not_a_conditional_one(latex, held):
    with pytest.raises(ValueError, match="the record has no"):
        left(latex, held)


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
    assert read(r"a \\ & \quad {} + c = b", held) == (a + c, b, "==")  # {} gives the sign its room
    with pytest.raises(ValueError, match="one kind of relation"):
        read(r"a \le b = c", held)
    with pytest.raises(ValueError, match="latex: "):
        read(r"a^{} c = b", held)

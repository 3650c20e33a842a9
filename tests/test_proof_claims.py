"""Claims true, false and meaningless: the first are proved, the others refused."""

import pytest
import sympy
from sympy import (
    Abs,
    Derivative,
    E,
    Function,
    IndexedBase,
    Integral,
    Limit,
    MatMul,
    Matrix,
    Max,
    Piecewise,
    Product,
    Rational,
    Sum,
    Symbol,
    cos,
    diag,
    exp,
    log,
    oo,
    pi,
    sin,
    sqrt,
)

from ddpm_lib.proof import ProofError, verify
from ddpm_lib.proof import notation as N
from ddpm_lib.proof.codes import decode
from ddpm_lib.proof.distributions import (
    bernoulli_pmf,
    expectation,
    kl_bernoulli,
    kl_integral,
    normal_pdf,
)
from ddpm_lib.proof.prover import prove
from tests.proof_cases import (
    BAR,
    HALF,
    PREV,
    marginal,
    marginal_prev,
    posterior,
    posterior_mean,
    step,
    toward_half,
)
from tests.true_claims import (
    TRUE,
    T,
    alpha,
    alpha_bar,
    beta,
    beta_tilde,
    f,
    k,
    n,
    rate,
    s,
    sigma,
    snr,
    t,
    x_0,
    x_prev,
    x_t,
)


def refused(lhs, rhs, by="algebra", **options) -> ProofError:
    with pytest.raises(ProofError) as caught:
        verify("eq-false", lhs, rhs, by=by, **options)
    return caught.value


@pytest.mark.parametrize("name", TRUE)
def test_a_true_claim_is_proved(name):
    lhs, rhs, by = TRUE[name]
    assert verify("eq-true", lhs, rhs, by=by).status == "proved"


def test_products_of_matrices_are_multiplied_out_but_kept_as_stated():
    jump = Matrix([[1 - rate / 2, rate / 2], [rate / 2, 1 - rate / 2]])
    turn = Matrix([[1, 1], [1, -1]])
    result = verify("eq-axes", jump, MatMul(Rational(1, 2), turn, diag(1, 1 - rate), turn), by="algebra")
    assert result.status == "proved"
    assert decode(result.rhs_code) == MatMul(Rational(1, 2), turn, diag(1, 1 - rate), turn)
    with pytest.raises(ProofError, match="part 1 of 4"):
        verify("eq-axes", jump, MatMul(Rational(1, 2), turn, diag(1, 1 + rate), turn), by="algebra")
    with pytest.raises(ValueError, match="says nothing"):
        verify("eq-axes", MatMul(jump, jump), MatMul(jump, jump), by="algebra")


@pytest.mark.parametrize(
    ("bound", "relation"), [(Rational(1, 10), ">="), (3, "<="), (1 / (2 * pi * E), ">="), (9, "<=")]
)
def test_a_false_inequality_is_found_near_the_ends_of_the_range(bound, relation):
    refused(N.var, sympy.sympify(bound), relation=relation)


def test_an_inequality_between_sums_with_positive_terms_is_proved():
    w, u, m = IndexedBase("w", positive=True), IndexedBase("u", positive=True), Symbol("m", positive=True)
    logs, lines = (Sum(w[k] * f, (k, 1, n)) for f in (log(u[k] / m), u[k] / m - 1))
    assert verify("eq-terms", logs, lines, relation="<=", by="convexity").status == "proved"
    with pytest.raises(ProofError):
        verify("eq-terms", logs, lines, relation=">=", by="convexity")


FALSE = {  # mistakes in print, in the notation of the book
    "alpha_bar for alpha in the posterior mean": (
        posterior_mean,
        posterior_mean.xreplace({sqrt(alpha[t]): sqrt(BAR)}),
    ),
    "one step's kernel for the marginal": (
        Integral(step * marginal_prev, (x_prev, -oo, oo)),
        normal_pdf(x_t, sqrt(alpha[t]) * x_0, beta[t]),
    ),
    "beta scales the noise, not its root": (step, normal_pdf(x_t, sqrt(alpha[t]) * x_prev, beta[t] ** 2)),
    "beta_tilde as a standard deviation": (
        step * marginal_prev / marginal,
        normal_pdf(x_prev, posterior_mean, beta_tilde[t] ** 2),
    ),
    "beta as the posterior's variance": (
        step * marginal_prev / marginal,
        posterior.xreplace({beta_tilde[t]: beta[t]}),
    ),
    "uniform noise leaves the mean at 0": (rate / 2 / (1 - sqrt(1 - rate)), 0),
    "any small beta takes alpha_bar to 0": (Limit((T + 2) / (2 * (T + 1)), T, oo), 0),
    "the cosine formula given for alpha": (
        Product(cos(pi * k / (2 * T + 2)) ** 2, (k, 1, t)),
        cos(pi * t / (2 * T + 2)) ** 2,
    ),
    "one step more in sampling than in training": (Product(1 - rate, (k, 1, t)), (1 - rate) ** (t + 1)),
    "the sign of the score": (Derivative(log(marginal), x_t), (x_t - sqrt(BAR) * x_0) / (1 - BAR)),
    "a lost square in the KL": (
        kl_integral(marginal, normal_pdf(x_t, 0, 1), x_t),
        (BAR * x_0 - BAR - log(1 - BAR)) / 2,
    ),
    "the KL the other way round": (
        kl_integral(normal_pdf(x_t, N.mean_p, N.var_p), normal_pdf(x_t, N.mean_q, N.var_q), x_t),
        kl_integral(normal_pdf(x_t, N.mean_q, N.var_q), normal_pdf(x_t, N.mean_p, N.var_p), x_t),
    ),
    "all variances are 1": (expectation((x_t - sqrt(BAR) * x_0) ** 2, marginal, x_t), 1),
    "no index on beta": (sqrt(1 - beta[t]), sqrt(1 - rate)),
    "Bernoulli(0.5) toward 1": (
        Sum(bernoulli_pmf(N.bit_t, toward_half(N.bit_prev, alpha[t])) / 2, (N.bit_prev, 0, 1)),
        bernoulli_pmf(N.bit_t, alpha[t]),
    ),
}


@pytest.mark.parametrize("name", FALSE)
def test_a_mistake_in_print_is_refused(name):
    error = refused(*FALSE[name])
    assert error.left != error.right
    assert "is false" in str(error)


MEANINGLESS = {
    "equal divergent integrals": (
        Integral(exp(x_t**2), (x_t, -oo, oo)) + sin(x_0) ** 2,
        Integral(exp(x_t**2), (x_t, -oo, oo)) + 1 - cos(x_0) ** 2,
    ),
    "a constant over the line": (Integral(1, (x_t, -oo, oo)), Integral(2, (x_t, -oo, oo))),
    "a slowly decaying integrand": (Integral(1 / (1 + x_t**2), (x_t, -oo, oo)), pi),
    "roots of numbers of unknown sign": (sqrt(x_0 * x_t), sqrt(x_0) * sqrt(x_t)),
    "logs of numbers of unknown sign": (log(x_0**2), 2 * log(x_0)),
    "a division by zero": (x_t / (1 - alpha_bar[0]), x_0 / (1 - alpha_bar[0])),
    "snr of clean data": (1 / snr[0], x_0 - x_0 + 1 / (1 + snr[0])),
    "a step before the first": (alpha_bar[-1] * x_0, x_0),
    "a variance below zero": (Integral(normal_pdf(x_t, 0, -N.var), (x_t, -oo, oo)), 1),
    "a probability above one": (bernoulli_pmf(N.bit_t, 1 + N.prob), 1 + N.prob * N.bit_t),
    "the end of a schedule that nobody gave": (Limit(alpha_bar[T], T, oo), 0),
    "an infinite sum": (Sum((1 - rate) ** k, (k, 0, oo)), 1 / rate),
    "a long sum": (Sum(1 / k, (k, 1, 10**6)), log(n)),
    "a sum that runs backwards": (Sum(snr[k], (k, t, t - 5)), 0),
    "half a step": (alpha_bar[t / 2], sqrt(BAR)),
    "a limit that jumps": (Limit(sin(1 / rate), rate, 0), 0),
    "a limit at an irrational place": (Limit(rate, rate, pi), pi),
    "a function without a value": (sympy.zeta(n + 1), n),
    "a mixed derivative": (Derivative(x_0 * x_t**2, x_0, x_t), 2 * x_t + 1),
    "no piece applies": (Piecewise((x_0, x_0 > 99)), x_0),
    "an integral without bounds": (Integral(x_t, x_t), x_t**2 / 2),
    "an inner integral with bounds": (
        Integral(x_t * N.y, (x_t, 0, 1), (N.y, 0, 1)),
        Rational(1, 4),
    ),
    "a complex number": (sympy.I * x_0, sympy.I * x_t),
}


@pytest.mark.parametrize("name", MEANINGLESS)
def test_a_claim_without_a_value_is_refused(name):
    with pytest.raises(ProofError, match="has no value"):
        verify("eq-nothing", *MEANINGLESS[name], by="algebra")


@pytest.mark.parametrize(
    ("lhs", "rhs"),
    [
        (Integral(exp(-(x_t**4)), (x_t, -oo, oo)), 2 * sympy.gamma(Rational(5, 4))),
        (Sum(sqrt(k), (k, 1, 80)), Sum(sqrt(k), (k, 1, 70)) + Sum(sqrt(k), (k, 71, 80))),
        (Limit(f(x_0 + rate), rate, 0), f(x_0)),
        (Limit(sqrt(1 - alpha_bar[s]) * f(k) / n, n, oo), 0 * n),
        (Integral(x_t * normal_pdf(x_t, 0, 1), (x_t, 0, 1)), (1 - exp(-HALF)) / sqrt(2 * pi)),
        (Piecewise((x_0, (x_0 > 0) & (x_t > 0)), (-x_0, x_0 < 0), (x_0, True)), Abs(x_0)),
        (Piecewise((x_0, sympy.Or(x_0 > 0, x_0 > 9)), (0, sympy.Ne(x_t, 9)), (1, True)), Max(0, x_0)),
    ],
)
def test_other_true_claims_are_at_least_checked(lhs, rhs):
    assert verify("eq-checked", lhs, rhs, by="algebra").status in ("proved", "checked")


INEQUALITIES = {
    "KL of normals": (
        kl_integral(normal_pdf(x_t, N.mean_p, N.var_p), normal_pdf(x_t, N.mean_q, N.var_q), x_t),
        ">=",
        0,
    ),
    "KL of Bernoullis": (kl_bernoulli(N.prob_p, N.prob_q), ">=", 0),
    "beta_tilde and beta": (beta_tilde[t], "<=", beta[t]),
    "the signal falls": (snr[t], "<=", snr[t - 1]),
    "a sum of logs": (Sum(-log(1 - beta[k]), (k, 1, T)), ">=", Sum(beta[k], (k, 1, T))),
    "a sum and a rest": (3 + Sum(beta[k], (k, 2, T)), ">=", 2 - Sum(alpha[k], (k, 2, T))),
    "earlier is cleaner": (alpha_bar[T], "<=", alpha_bar[s]),
}


@pytest.mark.parametrize("name", INEQUALITIES)
def test_an_inequality_is_proved(name):
    lhs, relation, rhs = INEQUALITIES[name]
    result = verify("eq-bound", lhs, rhs, by="Jensen", relation=relation)
    assert (result.status, result.kind) == ("proved", "inequality")


@pytest.mark.parametrize(
    ("larger", "smaller", "known"),
    [
        (alpha_bar[t - 1], alpha_bar[T], True),
        (alpha_bar[s], alpha_bar[t - 1], True),
        (alpha_bar[s], alpha_bar[T - 1], True),
        (1 - PREV, sigma[t] ** 2, True),
        (alpha_bar[t], alpha_bar[T - 1], False),
        (alpha_bar[s], alpha_bar[t - 2], False),
        (alpha_bar[t], alpha_bar[k], False),
        (beta_tilde[t], sigma[t] ** 2, False),
        (beta[t], alpha[t], False),
    ],
)
def test_the_order_of_steps_is_known_and_no_more(larger, smaller, known):
    assert (prove(larger, smaller, ">=") is not None) is known


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Derivative(f(x_t), x_t), Derivative(f(x_0), x_0)),
        (Derivative(f(x_t), x_t), Derivative(Function("g")(x_t), x_t)),
        (Derivative(f(x_t), x_t), Derivative(f(x_t), (x_t, 2))),
        (Derivative(f(x_t), x_t).subs(x_t, x_0 + x_t), Derivative(f(x_t), x_t).subs(x_t, 2 * x_t)),
    ],
)
def test_slopes_of_unknown_functions_are_told_apart(one, other):
    assert prove(one, other) is None

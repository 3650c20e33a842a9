"""Identities of the chapters on the forward and the reverse trajectory, as claims to prove and to break."""

from collections.abc import Callable
from dataclasses import dataclass

from sympy import Expr, Integral, Product, Rational, Sum, log, oo, sqrt

from ddpm_lib.proof import verify, verify_induction
from ddpm_lib.proof.notation import (
    T,
    alpha,
    alpha_bar,
    bernoulli_pmf,
    beta,
    beta_tilde,
    bit_0,
    bit_prev,
    bit_t,
    eps,
    k,
    kl_bernoulli,
    kl_integral,
    mean,
    mean_p,
    mean_q,
    n,
    normal_pdf,
    prob_p,
    prob_q,
    rate,
    s,
    snr,
    t,
    var,
    var_p,
    var_q,
    x_0,
    x_prev,
    x_s,
    x_t,
    y,
    y_prev,
)

HALF = Rational(1, 2)
BAR, PREV = alpha_bar[t], alpha_bar[t - 1]

step = normal_pdf(x_t, sqrt(1 - beta[t]) * x_prev, beta[t])
marginal = normal_pdf(x_t, sqrt(BAR) * x_0, 1 - BAR)
marginal_prev = normal_pdf(x_prev, sqrt(PREV) * x_0, 1 - PREV)
posterior_mean = sqrt(PREV) * beta[t] / (1 - BAR) * x_0 + sqrt(alpha[t]) * (1 - PREV) / (1 - BAR) * x_t
posterior = normal_pdf(x_prev, posterior_mean, beta_tilde[t])


def toward_half(x: Expr, kept: Expr) -> Expr:
    """The probability of a 1 after binomial steps that keep this share of x."""
    return x * kept + (1 - kept) / 2


bit_step = bernoulli_pmf(bit_t, toward_half(bit_prev, alpha[t]))
bit_marginal = bernoulli_pmf(bit_t, toward_half(bit_0, BAR))
bit_marginal_prev = bernoulli_pmf(bit_prev, toward_half(bit_0, PREV))


@dataclass(frozen=True)
class Case:
    """A right side, and how it is checked; ``check`` is given the right side or a mutant of it.

    lhs: the left side, where there is one; an induction has a step instead.
    """

    label: str
    rhs: Expr
    check: Callable
    lhs: Expr | None = None


def _equal(label: str, lhs: Expr, rhs: Expr, by: str, **options) -> Case:
    return Case(label, rhs, lambda r: verify(label, lhs, r, by=by, **options), lhs)


CASES = [
    _equal(
        "eq-stationary",
        Integral(normal_pdf(y, sqrt(1 - rate) * y_prev, rate) * normal_pdf(y_prev, 0, 1), (y_prev, -oo, oo)),
        normal_pdf(y, 0, 1),
        "integration",
    ),
    _equal("eq-normalised", Integral(step, (x_t, -oo, oo)), 1 + 0 * x_t, "normalisation"),
    _equal(
        "eq-detailed-balance",
        normal_pdf(x_t, sqrt(alpha[t]) * x_prev, beta[t]) * normal_pdf(x_prev, 0, 1),
        normal_pdf(x_prev, sqrt(alpha[t]) * x_t, beta[t]) * normal_pdf(x_t, 0, 1),
        "symmetry",
    ),
    _equal("eq-alpha-bar", Product(1 - beta[k], (k, 1, t)), alpha[t] * PREV, "definition"),
    _equal("eq-marginal-step", Integral(step * marginal_prev, (x_prev, -oo, oo)), marginal, "integration"),
    Case(
        "eq-marginal-mean",
        sqrt(BAR) * x_0,
        lambda r: verify_induction("eq-marginal-mean", r, base=x_0, step=lambda m: sqrt(1 - beta[t]) * m),
    ),
    Case(
        "eq-marginal-variance",
        1 - BAR,
        lambda r: verify_induction("eq-marginal-variance", r, base=0, step=lambda w: alpha[t] * w + beta[t]),
    ),
    Case(
        "eq-marginal",
        marginal,
        lambda r: verify_induction(
            "eq-marginal",
            r,
            start=1,
            base=normal_pdf(x_t, sqrt(1 - beta[1]) * x_0, beta[1]),
            step=lambda q: Integral(step * q, (x_prev, -oo, oo)),
        ),
    ),
    _equal("eq-variance-sum", Sum(beta[k] * BAR / alpha_bar[k], (k, 1, t)), 1 - BAR, "telescoping"),
    _equal("eq-snr", BAR / (1 - BAR), snr[t], "definition"),
    _equal("eq-snr-ratio", snr[t] / snr[t - 1], alpha[t] * (1 - PREV) / (1 - BAR), "algebra"),
    _equal(
        "eq-many-steps",
        Integral(
            normal_pdf(x_t, sqrt(BAR / alpha_bar[s]) * x_s, 1 - BAR / alpha_bar[s])
            * normal_pdf(x_s, sqrt(alpha_bar[s]) * x_0, 1 - alpha_bar[s]),
            (x_s, -oo, oo),
        ),
        marginal,
        "Chapman-Kolmogorov",
        where=[s >= 1],
    ),
    _equal(
        "eq-prior-kl",
        kl_integral(marginal, normal_pdf(x_t, 0, 1), x_t),
        (BAR * x_0**2 - BAR - log(1 - BAR)) / 2,
        "integration",
    ),
    _equal(
        "eq-kl-normals",
        kl_integral(normal_pdf(x_t, mean_p, var_p), normal_pdf(x_t, mean_q, var_q), x_t),
        (log(var_q / var_p) + (var_p + (mean_p - mean_q) ** 2) / var_q - 1) / 2,
        "integration",
    ),
    _equal("eq-bayes", step * marginal_prev / marginal, posterior, "Bayes"),
    _equal(
        "eq-completing-the-square",
        (x_t - sqrt(alpha[t]) * x_prev) ** 2 / beta[t]
        + (x_prev - sqrt(PREV) * x_0) ** 2 / (1 - PREV)
        - (x_t - sqrt(BAR) * x_0) ** 2 / (1 - BAR),
        (x_prev - posterior_mean) ** 2 / beta_tilde[t],
        "completing the square",
    ),
    _equal("eq-posterior-variance", 1 / (alpha[t] / beta[t] + 1 / (1 - PREV)), beta_tilde[t], "algebra"),
    _equal(
        "eq-posterior-mean",
        beta_tilde[t] * (sqrt(alpha[t]) / beta[t] * x_t + sqrt(PREV) / (1 - PREV) * x_0),
        posterior_mean,
        "algebra",
        where=[t >= 2],
    ),
    _equal(
        "eq-posterior-mean-eps",
        posterior_mean.subs(x_0, (x_t - sqrt(1 - BAR) * eps) / sqrt(BAR)),
        (x_t - beta[t] / sqrt(1 - BAR) * eps) / sqrt(alpha[t]),
        "substitution",
    ),
    _equal(
        "eq-gaussian-mass",
        Integral(normal_pdf(x_t, mean, var) * x_t**2, (x_t, -oo, oo)),
        mean**2 + var,
        "integration",
    ),
    _equal(
        "eq-bit-stationary",
        Sum(bernoulli_pmf(bit_t, toward_half(bit_prev, alpha[t])) / 2, (bit_prev, 0, 1)),
        bernoulli_pmf(bit_t, HALF),
        "summation",
    ),
    _equal(
        "eq-bit-marginal-step",
        Sum(bit_step * bit_marginal_prev, (bit_prev, 0, 1)),
        bernoulli_pmf(bit_t, toward_half(bit_0, BAR)),
        "summation",
    ),
    _equal("eq-bit-balance", bit_step, bernoulli_pmf(bit_prev, toward_half(bit_t, alpha[t])), "symmetry"),
    _equal(
        "eq-bit-posterior",
        bit_step * bit_marginal_prev / bit_marginal,
        bernoulli_pmf(
            bit_prev,
            bernoulli_pmf(bit_t, (1 + alpha[t]) / 2)
            * toward_half(bit_0, PREV)
            / bernoulli_pmf(bit_t, toward_half(bit_0, BAR)),
        ),
        "Bayes",
    ),
    _equal(
        "eq-kl-bernoulli",
        kl_integral(bernoulli_pmf(bit_t, prob_p), bernoulli_pmf(bit_t, prob_q), bit_t),
        kl_bernoulli(prob_p, prob_q),
        "summation",
    ),
    _equal("eq-geometric", Product(1 - rate, (k, 1, n)), (1 - rate) ** n, "algebra"),
    _equal("eq-telescope", Sum(snr[k] - snr[k - 1], (k, 2, T)), snr[T] - snr[1], "telescoping"),
]

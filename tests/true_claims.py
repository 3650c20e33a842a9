"""Claims that hold, each with its reason, for the engine to prove."""

import sympy
from sympy import (
    Abs,
    Derivative,
    Function,
    IndexedBase,
    Integral,
    Limit,
    Product,
    Rational,
    Sum,
    cos,
    exp,
    log,
    oo,
    sin,
    sqrt,
)

from ddpm_lib.proof import notation as N
from ddpm_lib.proof.distributions import (
    bernoulli_pmf,
    expectation,
    normal_pdf,
    unknown_density,
)
from tests.proof_cases import (
    BAR,
    PREV,
    marginal,
    marginal_prev,
    toward_half,
)

t, s, T, k, n, x, x_0, x_t, x_prev, x_T = N.t, N.s, N.T, N.k, N.n, N.x, N.x_0, N.x_t, N.x_prev, N.x_T
alpha, alpha_bar, beta, beta_tilde = N.alpha, N.alpha_bar, N.beta, N.beta_tilde
snr, sigma, rate = N.snr, N.sigma, N.rate
f, g, h = unknown_density("f"), unknown_density("g"), Function("h", real=True)
u = IndexedBase("u", real=True)


TRUE = {
    "an average of unknown densities is linear": (
        Integral(3 * f(x_t) + x_0 * g(x_t), (x_t, -oo, oo)),
        3 * Integral(f(x_t), (x_t, -oo, oo)) + x_0 * Integral(g(N.y), (N.y, -oo, oo)),
        "linearity",
    ),
    "a log of a product telescopes": (
        log(Product(f(x[k]) / f(x[k - 1]), (k, 1, T))),
        log(f(x_T)) - log(f(x_0)),
        "telescoping",
    ),
    "x_t runs with a sum over t": (
        Sum(log(f(x_t) / f(x_prev)), (t, 1, T)),
        log(f(x_T) / f(x_0)),
        "telescoping",
    ),
    "a bound x_prev is not the free one": (
        x_prev * Integral(marginal_prev, (x_prev, -oo, oo)),
        x_prev,
        "normalisation",
    ),
    "a bound bit is not the free one": (
        Sum(bernoulli_pmf(N.bit_prev, N.prob), (N.bit_prev, 0, 1)) * N.bit_prev,
        N.bit_prev,
        "normalisation",
    ),
    "a bound probability is not the free one": (
        Integral(N.prob**2, (N.prob, 0, 1)) * N.prob,
        N.prob / 3,
        "integration",
    ),
    "the trajectory's density has mass 1": (
        Integral(
            Product(normal_pdf(x[k], sqrt(alpha[k]) * x[k - 1], beta[k]), (k, 1, 3)),
            (x[3], -oo, oo),
            (x[2], -oo, oo),
            (x[1], -oo, oo),
        ),
        1,
        "normalisation",
    ),
    "one more factor": (
        Product(normal_pdf(x[k], sqrt(alpha[k]) * x[k - 1], beta[k]), (k, 1, t)),
        Product(normal_pdf(x[k], sqrt(alpha[k]) * x[k - 1], beta[k]), (k, 1, t - 1))
        * normal_pdf(x_t, sqrt(alpha[t]) * x_prev, beta[t]),
        "Markov property",
    ),
    "the score of the marginal": (
        Derivative(log(marginal), x_t),
        -(x_t - sqrt(BAR) * x_0) / (1 - BAR),
        "differentiation",
    ),
    "a derivative in a table's value": (
        Derivative(BAR / (1 - BAR), BAR),
        1 / (1 - BAR) ** 2,
        "differentiation",
    ),
    "a derivative of a density": (
        Derivative(normal_pdf(x_t, N.mean, N.var), N.var),
        normal_pdf(x_t, N.mean, N.var) * ((x_t - N.mean) ** 2 / N.var - 1) / (2 * N.var),
        "differentiation",
    ),
    "small steps: the posterior's variance becomes beta": (
        Limit(beta_tilde[t] / beta[t], beta[t], 0),
        1,
        "limit",
    ),
    "a limit in alpha_bar": (Limit(log(1 - BAR) / BAR, BAR, 0), -1, "limit"),
    "a limit in a rate": (Limit((1 - (1 - rate) ** 3) / rate, rate, 0), 3, "limit"),
    "many steps of one rate": (Limit((1 - rate) ** n, n, oo), 0, "limit"),
    "a geometric sum": (Sum((1 - rate) ** k, (k, 0, n - 1)), (1 - (1 - rate) ** n) / rate, "summation"),
    "an infinite product that does not vanish": (
        Product(1 - 1 / (k + 1) ** 2, (k, 1, T)),
        (T + 2) / (2 * (T + 1)),
        "induction",
    ),
    "the first steps by name": (alpha_bar[3], (1 - beta[1]) * alpha[2] * (1 - beta[3]), "definition"),
    "an odd average is 0": (expectation(x_t**3, normal_pdf(x_t, 0, N.var), x_t), 0, "symmetry"),
    "a DDIM step keeps the marginal's variance": (
        alpha_bar[s] / BAR * (1 - BAR) + (sqrt(1 - PREV - sigma[t] ** 2)) ** 2,
        alpha_bar[s] / BAR - alpha_bar[s] + 1 - PREV - sigma[t] ** 2,
        "algebra",
    ),
}


TRUE |= {
    "a log of a product, other factors and constant terms": (
        log(3 * Product(f(x[k]), (k, 1, T)) ** 2) + Sum(x_0 + f(x[k]), (k, 1, T)),
        log(3) + T * x_0 + Sum(2 * log(f(x[k])) + f(x[k]), (k, 1, T)),
        "linearity",
    ),
    "sums over shifted steps": (Sum(snr[k + 1], (k, 2, T)), Sum(snr[k], (k, 3, T + 1)), "summation"),
    "a product of constants": (Product(rate * alpha[k], (k, 1, T)), rate**T * alpha_bar[T], "algebra"),
    "a product from the second step": (Product(alpha[k], (k, 2, T)) * alpha[1], alpha_bar[T], "algebra"),
    "a closed product of roots": (Product(sqrt(alpha[k]), (k, 1, t)), sqrt(BAR), "algebra"),
    "an average of an average": (
        expectation(
            expectation(x_t**2, normal_pdf(x_t, sqrt(alpha[t]) * x_prev, beta[t]), x_t), marginal_prev, x_prev
        ),
        BAR * x_0**2 + 1 - BAR,
        "total probability",
    ),
    "a limit of a sum": (Limit(rate * Sum(alpha[k], (k, 1, 3)), rate, 0), 0, "limit"),
    "a schedule's step past its end": (
        alpha_bar[T + 1] / alpha_bar[T - 1],
        alpha[T] * alpha[T + 1],
        "algebra",
    ),
    "the score of two peaks": (
        Derivative(log(exp(-((x_t - 1) ** 2) / 2) + exp(-((x_t + 1) ** 2) / 2)), x_t),
        sympy.tanh(x_t) - x_t,
        "differentiation",
    ),
    "a derivative in a rate": (
        Derivative((1 - rate) ** n, rate),
        -n * (1 - rate) ** (n - 1),
        "differentiation",
    ),
    "bits of a trajectory": (
        Sum(bernoulli_pmf(N.bit[t], toward_half(N.bit[t - 1], alpha[t])), (N.bit_t, 0, 1)),
        1 + N.bit[t] - N.bit_t,
        "normalisation",
    ),
    "a scaled integral": (Integral(x_t**2, (x_t, 0, x_0)), x_0**3 / 3, "integration"),
    "two runs of a chain with one rate": (
        Integral(
            normal_pdf(N.y, (1 - rate) ** (k / 2) * N.y_prev, 1 - (1 - rate) ** k)
            * normal_pdf(N.y_prev, (1 - rate) ** (n / 2) * N.y_0, 1 - (1 - rate) ** n),
            (N.y_prev, -oo, oo),
        ),
        normal_pdf(N.y, (1 - rate) ** ((k + n) / 2) * N.y_0, 1 - (1 - rate) ** (k + n)),
        "Chapman-Kolmogorov",
    ),
    "an entry with two indices": (
        Sum(u[k, 1] * u[1, k], (k, 1, 2)),
        u[1, 1] ** 2 + u[2, 1] * u[1, 2],
        "summation",
    ),
    "sums over the same steps, term by term": (
        Sum(sin(s * u[k]) * sin(t * u[k]) + cos(s * u[k]) * cos(t * u[k]), (k, 1, n)),
        Sum(cos((t - s) * u[k]), (k, 1, n)),
        "expansion",
    ),
    "an unknown function and a constant under a known density": (
        expectation(N.var * (h(x_t) - x_t) ** 2 + x_0, normal_pdf(x_t, 0, 1), x_t),
        N.var * expectation((h(x_t) - x_t) ** 2, normal_pdf(x_t, 0, 1), x_t) + x_0,
        "linearity",
    ),
    "an absolute value of a power": (
        Sum(Abs((1 - rate) ** n * (N.y_bit - Rational(1, 2))), (N.y_bit, 0, 1)),
        (1 - rate) ** n,
        "enumeration",
    ),
    "a square of a root under a density": (
        expectation((sqrt(beta[t]) * x_t) ** 2, normal_pdf(x_t, 0, 1), x_t),
        beta[t],
        "integration",
    ),
    "slopes of unknown functions": (
        Derivative(log(f(x_t) * g(x_t) ** N.scale), x_t),
        Derivative(log(f(x_t)), x_t) + N.scale * Derivative(log(g(x_t)), x_t),
        "linearity",
    ),
    "a slope under an integral of an unknown density": (
        Derivative(log(expectation(marginal, f(x_0), x_0)), x_t),
        expectation((sqrt(BAR) * x_0 - x_t) / (1 - BAR) * marginal, f(x_0), x_0)
        / expectation(marginal, f(x_0), x_0),
        "differentiation",
    ),
    "powers one step apart": (
        sqrt(1 - (1 - rate) ** (n - 1)) * sqrt(1 - (1 - rate) ** n),
        sqrt((1 - (1 - rate) ** (n - 1)) * (1 - (1 - rate) * (1 - rate) ** (n - 1))),
        "algebra",
    ),
}

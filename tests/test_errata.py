"""The mistakes of the book's errata chapter: each claim as printed is refused, what is right is proved."""

import re
from pathlib import Path

import nbformat
import pytest
from sympy import (
    Derivative,
    E,
    Integral,
    Limit,
    Product,
    Rational,
    Sum,
    Symbol,
    cos,
    log,
    oo,
    pi,
    sqrt,
)

from ddpm_lib.proof import refusal, refused, verify
from ddpm_lib.proof.notation import (
    T,
    alpha,
    alpha_bar,
    beta,
    beta_tilde,
    eps,
    expectation,
    k,
    kl_integral,
    mean,
    mean_p,
    mean_q,
    n,
    normal_pdf,
    rate,
    s,
    sigma,
    snr,
    t,
    var,
    var_p,
    var_q,
    x_0,
    x_prev,
    x_t,
    y,
)

NOTEBOOK = Path(__file__).resolve().parents[1] / "book" / "errata.ipynb"

BAR, PREV = alpha_bar[t], alpha_bar[t - 1]
c, u, w, z = (Symbol(name, real=True) for name in ["c", "u", "w", "z"])
theta = Symbol("theta", positive=True)

step = normal_pdf(x_t, sqrt(alpha[t]) * x_prev, beta[t])
marginal = normal_pdf(x_t, sqrt(BAR) * x_0, 1 - BAR)
marginal_prev = normal_pdf(x_prev, sqrt(PREV) * x_0, 1 - PREV)
on_x0 = sqrt(PREV) * beta[t] / (1 - BAR)
keep = (1 - PREV) / (1 - BAR)
posterior = normal_pdf(x_prev, on_x0 * x_0 + sqrt(alpha[t]) * keep * x_t, beta_tilde[t])
of_p, of_q = normal_pdf(y, mean_p, var_p), normal_pdf(y, mean_q, var_q)
kl_normals = (log(var_q / var_p) + (var_p + (mean_p - mean_q) ** 2) / var_q - 1) / 2
ddim_mean = sqrt(PREV) * x_0 + sqrt(1 - PREV - sigma[t] ** 2) * (x_t - sqrt(BAR) * x_0) / sqrt(1 - BAR)
cosine = cos(pi * t / (2 * T)) ** 2
unit, scaled = normal_pdf(z, 0, 1), normal_pdf(u, 0, beta_tilde[t])


def each(value):
    """The value with k, the step that a sum or product runs over, for t."""
    return value.subs(t, k)


# By item: the claims as printed (left, right, and a relation where it is not "=="), then what is right.
ITEMS = {
    "guidance": (
        [(w * c + (w - 1) * u, u + w * (c - u))],
        [(w * c + (1 - w) * u, u + w * (c - u)), ((w * c + (w - 1) * u).subs(u, c), (2 * w - 1) * c)],
    ),
    "posterior-mean": (
        [(step * marginal_prev / marginal, posterior.xreplace({sqrt(alpha[t]): sqrt(BAR)}))],
        [(step * marginal_prev / marginal, posterior)],
    ),
    "step-and-jump": (
        [
            (step, normal_pdf(x_t, sqrt(BAR) * x_prev, 1 - BAR)),
            (Integral(step * marginal_prev, (x_prev, -oo, oo)), step.subs(x_prev, x_0)),
            (expectation((beta[t] * z) ** 2, unit, z), beta[t]),
        ],
        [(Integral(step * marginal_prev, (x_prev, -oo, oo)), marginal)],
    ),
    "uniform-noise": (
        [(Integral(u, (u, 0, 1)), 0), (Integral(u**2, (u, 0, 1)), 1)],
        [
            (Integral(u, (u, 0, 1)), Rational(1, 2)),
            (Integral((u - Rational(1, 2)) ** 2, (u, 0, 1)), Rational(1, 12)),
        ],
    ),
    "score-sign": (
        [(Derivative(log(marginal), x_t), (x_t - sqrt(BAR) * x_0) / (1 - BAR))],
        [(Derivative(log(marginal), x_t), -(x_t - sqrt(BAR) * x_0) / (1 - BAR))],
    ),
    "standard-deviation": (
        [
            (marginal, normal_pdf(x_t, sqrt(BAR) * x_0, sqrt(1 - BAR))),
            (beta_tilde[t] * scaled.subs(u, beta_tilde[t] * z), unit),
        ],
        [(sqrt(beta_tilde[t]) * scaled.subs(u, sqrt(beta_tilde[t]) * z), unit)],
    ),
    "bound": (
        [
            (Sum(snr[k - 1] - snr[k], (k, 2, T)), snr[T - 1] - snr[T]),
            (kl_integral(of_p, of_q, y), (mean_p - mean_q) ** 2 / (2 * var_q)),
        ],
        [
            (Sum(snr[k - 1] - snr[k], (k, 2, T)), snr[1] - snr[T]),
            (kl_integral(of_p, normal_pdf(y, mean_q, var_p), y), (mean_p - mean_q) ** 2 / (2 * var_p)),
        ],
    ),
    "cosine": (
        [
            (Product(each(cosine), (k, 1, t)), cosine),
            (Product(1 - each(cosine), (k, 1, t)), cosine),
            (sqrt(cosine), cosine),
        ],
        [(Product(alpha[k], (k, 1, t)), BAR)],
    ),
    "entropy": (
        [
            (expectation(-log(of_p), of_p, y), expectation(log(of_p), of_p, y)),
            (kl_integral(of_p, of_q, y), expectation(log(of_q / of_p), of_p, y)),
            (log(2 * pi * E * Rational(1, 10_000)) / 2, 0, ">="),  # of a step with the rate 1e-4
        ],
        [
            (kl_integral(of_p, of_q, y), expectation(-log(of_q), of_p, y) - expectation(-log(of_p), of_p, y)),
            (
                expectation(-log(normal_pdf(y, mean, var)), normal_pdf(y, mean, var), y),
                log(2 * pi * E * var) / 2,
            ),
        ],
    ),
    "kl-normals": (
        [
            (kl_integral(of_p, of_q, y), kl_normals.subs((mean_p - mean_q) ** 2, mean_p - mean_q)),
            (kl_integral(of_p, of_q, y), kl_normals - log(var_q / var_p)),
            (kl_integral(of_p, of_q, y), kl_normals + Rational(1, 2)),
            (
                kl_integral(normal_pdf(y, mean, var), normal_pdf(y, 0, 1), y),
                (var + mean**2 - 1 + log(sqrt(var)) ** 2) / 2,
            ),
        ],
        [(kl_integral(of_p, of_q, y), kl_normals)],
    ),
    "vanishing-signal": (
        [(Limit((T + 2) / (2 * (T + 1)), T, oo), 0)],
        [
            (Limit((1 - rate) ** n, n, oo), 0),
            (Product(1 - 1 / (k + 1) ** 2, (k, 1, T)), (T + 2) / (2 * (T + 1))),
        ],
    ),
    "ddim": (
        [
            (1 - BAR, beta_tilde[t]),
            (1 - alpha_bar[s] - (1 - BAR), 0, ">="),
            ((1 - alpha_bar[s]) / (1 - BAR) * (1 - alpha_bar[s] / BAR), 0, ">="),
            (sqrt(alpha_bar[1]) * x_0 + sqrt(1 - alpha_bar[1]) * eps, x_0),
            (1 - alpha_bar[0] - var, 0, ">="),
        ],
        [
            ((1 - PREV) / (1 - BAR) * (1 - BAR / PREV), beta_tilde[t]),
            (
                Integral(normal_pdf(x_prev, ddim_mean, sigma[t] ** 2) * marginal, (x_t, -oo, oo)),
                marginal_prev,
            ),
        ],
    ),
    "off-by-one": (
        [(Product(1 - rate, (k, 1, t)), (1 - rate) ** (t + 1)), (beta_tilde[1], beta[1])],
        [(Product(1 - rate, (k, 1, t)), (1 - rate) ** t), (beta_tilde[1], 0)],
    ),
    "langevin": (
        [(var / 2 * Derivative(log(normal_pdf(y, 0, var / theta)), y), -theta * y)],
        [(var / 2 * Derivative(log(normal_pdf(y, 0, var / (2 * theta))), y), -theta * y)],
    ),
    "expectation": (
        [(expectation((x_0 - c * x_t) ** 2, marginal, x_t), (x_0 - c * x_t) ** 2)],
        [
            (
                expectation((x_0 - c * x_t) ** 2, marginal, x_t),
                (1 - c * sqrt(BAR)) ** 2 * x_0**2 + c**2 * (1 - BAR),
            )
        ],
    ),
}

PRINTED = [(name, claim) for name, (printed, _) in ITEMS.items() for claim in printed]
RIGHT = [(name, claim) for name, (_, right) in ITEMS.items() for claim in right]


@pytest.mark.parametrize(("name", "claim"), PRINTED, ids=[name for name, _ in PRINTED])
def test_errata_the_claim_as_printed_is_refused(name, claim):
    lhs, rhs, relation = (*claim, "==")[:3]
    error = refusal(f"eq-printed-{name}", lhs, rhs, relation=relation)
    assert error.left != error.right
    assert "is false" in str(error)


@pytest.mark.parametrize(("name", "claim"), RIGHT, ids=[name for name, _ in RIGHT])
def test_errata_what_is_right_is_proved(name, claim):
    assert verify(f"eq-right-{name}", *claim, by="algebra").status == "proved"


def outputs():
    cells = nbformat.read(NOTEBOOK, as_version=4).cells
    found = (out for cell in cells if cell.cell_type == "code" for out in cell.outputs)
    return "\n".join(str(out.get("text", "")) + str(out.get("data", "")) for out in found)


def test_errata_the_chapter_refuses_a_claim_of_each_item_and_no_other():
    labels = re.findall(r"\beq-printed-([a-z-]+) is\s+false", outputs())
    assert len(labels) == len(set(labels))
    items = {
        label: [name for name in ITEMS if label == name or label.startswith(f"{name}-")] for label in labels
    }
    assert [label for label, names in items.items() if len(names) != 1] == []
    assert {names[0] for names in items.values()} == set(ITEMS)


def test_a_true_claim_is_not_refused():
    with pytest.raises(AssertionError, match="eq-true was not refused: proved"):
        refused("eq-true", alpha[t], 1 - beta[t])


def test_a_claim_without_a_value_is_no_refusal():
    with pytest.raises(AssertionError, match="eq-nothing was refused without a counterexample"):
        refused("eq-nothing", 1 / (1 - alpha_bar[0]), x_0 / (1 - alpha_bar[0]))


def test_a_refusal_has_its_counterexample_and_prints_it(capsys):
    error = refusal("eq-false", beta_tilde[t], beta[t], by="Bayes")
    assert set(error.point) == {"t", "beta[t]", "beta_tilde[t]"}
    assert capsys.readouterr().out == ""
    refused("eq-false", beta_tilde[t], beta[t], by="Bayes")
    assert capsys.readouterr().out.replace("\n", " ").strip() == str(error)

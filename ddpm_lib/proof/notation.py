"""The book's one notation table: each symbol's LaTeX, SymPy object, name in the code, shape, range and
meaning.

Chapters import their symbols from here and make none of their own for a thing in the table. What depends on
the step is *indexed*, so that moving an index is mathematics: ``alpha_bar[t]``, ``alpha_bar[t - 1]``,
``alpha_bar[s]``. ``verify`` knows how they hang together:

    alpha[t] = 1 - beta[t]                       alpha_bar[t] = alpha[t] alpha_bar[t - 1],  alpha_bar[0] = 1
    beta_tilde[t] = (1 - alpha_bar[t - 1]) / (1 - alpha_bar[t]) beta[t]
    snr[t] = alpha_bar[t] / (1 - alpha_bar[t])   0 <= s < t <= T

``x_0``, ``x_t``, ``x_prev`` are one coordinate (one pixel) of an image; ``x[k]`` is the same at any step of a
trajectory, and x[0], x[t], x[t - 1] mean x_0, x_t, x_prev. ``bit_0``, ``bit_t``, ``bit_prev`` are a
coordinate of a binary image, in {0, 1}, for the binomial kernel; ``bit[k]`` is one at any step.
"""

from __future__ import annotations

from dataclasses import dataclass

from sympy import Basic, IndexedBase, Symbol

from ddpm_lib.proof.distributions import bernoulli_pmf, expectation, kl_bernoulli, kl_integral, normal_pdf

__all__ = [  # the densities are part of the notation; every symbol of the table is exported beside them
    "bernoulli_pmf",
    "expectation",
    "kl_bernoulli",
    "kl_integral",
    "normal_pdf",
]


@dataclass(frozen=True)
class Row:
    """One symbol. ``latex`` shows it with its usual index; ``object`` is the SymPy symbol, or the base to
    be indexed.

    ``span`` is what random admissible points are drawn from: "real", "positive", "(0,1)", "bit", "step" (an
    index with its place in 0 <= s < t <= T), "count", or "table" for what a schedule fixes. ``code`` is the
    name in ddpm_lib, and the last four fields are the names in Sohl-Dickstein et al. 2015, DDPM, DDIM and
    score papers.
    """

    key: str
    latex: str
    object: Basic
    span: str
    range: str
    meaning: str
    code: str = ""
    shape: str = "scalar"
    sd: str = ""
    ddpm: str = ""
    ddim: str = ""
    score: str = ""


IMAGE = "(B, C, H, W)"
KINDS = {  # span: the assumptions that make a symbol of it
    "real": {"real": True},
    "positive": {"positive": True},
    "(0,1)": {"positive": True},
    "bit": {"integer": True, "nonnegative": True},
    "step": {"integer": True, "positive": True},
    "step0": {"integer": True, "nonnegative": True},
    "count": {"integer": True, "positive": True},
    "table": {"positive": True},
    "reals": {"real": True},
    "bits": {"integer": True, "nonnegative": True},
}


def _row(key: str, latex: str, span: str, range: str, meaning: str, **names: str) -> Row:
    base = IndexedBase if span in ("table", "reals", "bits") else Symbol
    return Row(key, latex, base(key, **KINDS[span]), span, range, meaning, **names)


TABLE: tuple[Row, ...] = (
    _row(
        "t",
        "t",
        "step",
        "1 … T",
        "a step of the chain; index 0 is clean data",
        code="t",
        shape="(B,) int64",
        sd="t",
        ddpm="t",
        ddim="t",
        score="i",
    ),
    _row(
        "T",
        "T",
        "step",
        "≥ 1",
        "the number of steps; tables have length T + 1",
        code="schedule.T",
        sd="T",
        ddpm="T",
        ddim="T",
        score="N",
    ),
    _row(
        "s",
        "s",
        "step0",
        "0 … t − 1",
        "an earlier step, s < t",
        code="t_prev",
        shape="(B,) int64",
        ddim=r"\tau_{i-1}",
    ),
    _row("k", "k", "step", "1 … T", "a step that a sum, a product or an induction runs over"),
    _row("n", "n", "count", "≥ 1", "a number of repetitions, such as steps with one and the same rate"),
    _row(
        "d",
        "d",
        "count",
        "≥ 1",
        "the number of coordinates of x; 784 for a 28×28 image",
        code="x0[0].numel()",
    ),
    _row(
        "x_0",
        "x_0",
        "real",
        "[−1, 1] for images",
        "a coordinate of a clean image",
        code="x0",
        shape=IMAGE,
        sd=r"\mathbf x^{(0)}",
        ddpm=r"\mathbf x_0",
        ddim=r"x_0",
        score=r"\mathbf x(0)",
    ),
    _row(
        "x_t",
        "x_t",
        "real",
        "ℝ",
        "the same coordinate after t steps",
        code="x_t",
        shape=IMAGE,
        sd=r"\mathbf x^{(t)}",
        ddpm=r"\mathbf x_t",
        ddim=r"x_t",
        score=r"\mathbf x_i",
    ),
    _row(
        "x_prev",
        "x_{t-1}",
        "real",
        "ℝ",
        "the same coordinate one step earlier",
        code="x_prev",
        shape=IMAGE,
        sd=r"\mathbf x^{(t-1)}",
        ddpm=r"\mathbf x_{t-1}",
        ddim=r"x_{t-1}",
        score=r"\mathbf x_{i-1}",
    ),
    _row(
        "x_s",
        "x_s",
        "real",
        "ℝ",
        "the same coordinate at the earlier step s",
        code="x_prev",
        shape=IMAGE,
        ddim=r"x_{\tau_{i-1}}",
    ),
    _row(
        "x_T",
        "x_T",
        "real",
        "ℝ",
        "the same coordinate at the last step",
        code="x_T",
        shape=IMAGE,
        sd=r"\mathbf x^{(T)}",
        ddpm=r"\mathbf x_T",
        ddim="x_T",
        score=r"\mathbf x(T)",
    ),
    _row("x", "x_{k}", "reals", "ℝ", "the same coordinate at any step k of a trajectory"),
    _row("y", "y", "real", "ℝ", "a state of a Markov chain", sd=r"\mathbf y"),
    _row("y_prev", "y'", "real", "ℝ", "the state before y", sd=r"\mathbf y'"),
    _row(
        "bit_0",
        "x_0",
        "bit",
        "{0, 1}",
        "a coordinate of a clean binary image",
        code="x0",
        shape=IMAGE,
        sd=r"\mathbf x^{(0)}",
    ),
    _row(
        "bit_t",
        "x_t",
        "bit",
        "{0, 1}",
        "the same after t steps",
        code="x_t",
        shape=IMAGE,
        sd=r"\mathbf x^{(t)}",
    ),
    _row(
        "bit_prev",
        "x_{t-1}",
        "bit",
        "{0, 1}",
        "the same one step earlier",
        code="x_prev",
        shape=IMAGE,
        sd=r"\mathbf x^{(t-1)}",
    ),
    _row("bit", "x_{k}", "bits", "{0, 1}", "the same at any step k of a trajectory"),
    _row("y_bit", "y", "bit", "{0, 1}", "a state of a two-state Markov chain", sd=r"\mathbf y"),
    _row("y_bit_prev", "y'", "bit", "{0, 1}", "the state before it", sd=r"\mathbf y'"),
    _row(
        "beta",
        r"\beta_{t}",
        "table",
        "0 < β_t < 1, β_0 = 0",
        "diffusion rate: the variance that step t adds",
        code="schedule.beta",
        shape="(T+1,)",
        sd=r"\beta_t",
        ddpm=r"\beta_t",
        ddim=r"1 - \alpha_t/\alpha_{t-1}",
        score=r"\beta_i",
    ),
    _row(
        "alpha",
        r"\alpha_{t}",
        "table",
        "0 < α_t < 1, α_0 = 1",
        "1 − β_t: what is left of the variance",
        code="schedule.alpha",
        shape="(T+1,)",
        sd=r"1 - \beta_t",
        ddpm=r"\alpha_t",
        ddim=r"\alpha_t/\alpha_{t-1}",
        score=r"1 - \beta_i",
    ),
    _row(
        "alpha_bar",
        r"\bar\alpha_{t}",
        "table",
        "0 < ᾱ_t < 1, ᾱ_0 = 1",
        "the product of α_1 … α_t",
        code="schedule.alpha_bar",
        shape="(T+1,)",
        ddpm=r"\bar\alpha_t",
        ddim=r"\alpha_t",
        score=r"\alpha_i",
    ),
    _row(
        "beta_tilde",
        r"\tilde\beta_{t}",
        "table",
        "0 ≤ β̃_t < β_t, β̃_1 = 0",
        "variance of $q(x_{t-1}|x_t, x_0)$",
        code="schedule.beta_tilde",
        shape="(T+1,)",
        ddpm=r"\tilde\beta_t",
        ddim=r"\sigma_t^2 \text{ at } \eta = 1",
    ),
    _row(
        "snr",
        r"\mathrm{SNR}_{t}",
        "table",
        "> 0, infinite at t = 0",
        "signal-to-noise ratio, ᾱ_t / (1 − ᾱ_t)",
        code="schedule.snr",
        shape="(T+1,)",
    ),
    _row(
        "sigma",
        r"\sigma_{t}",
        "table",
        "0 < σ_t² < 1 − ᾱ_{t−1}",
        "standard deviation of a DDIM step",
        code="sigma",
        shape="(B,)",
        ddpm=r"\sigma_t",
        ddim=r"\sigma_t",
    ),
    _row(
        "eta",
        r"\eta",
        "(0,1)",
        "[0, 1]",
        "how much of the DDPM noise a DDIM step keeps",
        code="eta",
        ddim=r"\eta",
    ),
    _row("rate", r"\beta", "(0,1)", "(0, 1)", "a rate that is the same at each step", sd=r"\beta"),
    _row(
        "eps",
        r"\varepsilon",
        "real",
        "standard normal",
        "the noise in x_t",
        code="eps",
        shape=IMAGE,
        ddpm=r"\boldsymbol\epsilon",
        ddim=r"\epsilon",
        score=r"\mathbf z",
    ),
    _row(
        "eps_hat",
        r"\varepsilon_\theta",
        "real",
        "ℝ",
        "the network's guess of the noise at (x_t, t)",
        code="prediction.eps",
        shape=IMAGE,
        ddpm=r"\boldsymbol\epsilon_\theta(\mathbf x_t, t)",
        ddim=r"\epsilon_\theta^{(t)}(x_t)",
        score=r"-\sqrt{1-\alpha_i}\, \mathbf s_\theta",
    ),
    _row(
        "x_0_hat",
        r"\hat x_0",
        "real",
        "ℝ",
        "the network's guess of the clean coordinate",
        code="prediction.x0",
        shape=IMAGE,
        ddpm=r"\hat{\mathbf x}_0",
        ddim=r"f_\theta^{(t)}(x_t)",
    ),
    _row("v", "v", "real", "ℝ", "the velocity √ᾱ_t ε − √(1−ᾱ_t) x_0", code="v", shape=IMAGE),
    _row(
        "score",
        "s_\\theta",
        "real",
        "ℝ",
        "the gradient of the log density at x_t",
        code="prediction.score",
        shape=IMAGE,
        score=r"\mathbf s_\theta(\mathbf x, t)",
    ),
    _row("mean", r"\mu", "real", "ℝ", "a mean", code="Normal.mean", shape=IMAGE),
    _row("mean_p", r"\mu_1", "real", "ℝ", "mean of the first of two normals", code="p.mean", shape=IMAGE),
    _row("mean_q", r"\mu_2", "real", "ℝ", "mean of the second", code="q.mean", shape=IMAGE),
    _row("var", r"\sigma^2", "positive", "> 0", "a variance", code="Normal.var", shape=IMAGE),
    _row(
        "var_p",
        r"\sigma_1^2",
        "positive",
        "> 0",
        "variance of the first of two normals",
        code="p.var",
        shape=IMAGE,
    ),
    _row("var_q", r"\sigma_2^2", "positive", "> 0", "variance of the second", code="q.var", shape=IMAGE),
    _row("prob", "p", "(0,1)", "(0, 1)", "probability of a 1", code="Bernoulli.probs", shape=IMAGE),
    _row(
        "prob_p",
        "p_1",
        "(0,1)",
        "(0, 1)",
        "probability of a 1 under the first of two laws",
        code="p.probs",
        shape=IMAGE,
    ),
    _row(
        "prob_q", "p_2", "(0,1)", "(0, 1)", "probability of a 1 under the second", code="q.probs", shape=IMAGE
    ),
)

BY_KEY = {row.key: row for row in TABLE}


def _symbols(keys: str) -> list[Basic]:
    return [BY_KEY[key].object for key in keys.split()]


t, T, s, k, n, d = _symbols("t T s k n d")
x_0, x_t, x_prev, x_s, x_T, x, y, y_prev = _symbols("x_0 x_t x_prev x_s x_T x y y_prev")
bit_0, bit_t, bit_prev, bit, y_bit, y_bit_prev = _symbols("bit_0 bit_t bit_prev bit y_bit y_bit_prev")
beta, alpha, alpha_bar, beta_tilde, snr, sigma = _symbols("beta alpha alpha_bar beta_tilde snr sigma")
eta, rate, eps, eps_hat, x_0_hat, v, score = _symbols("eta rate eps eps_hat x_0_hat v score")
mean, mean_p, mean_q, var, var_p, var_q = _symbols("mean mean_p mean_q var var_p var_q")
prob, prob_p, prob_q = _symbols("prob prob_p prob_q")

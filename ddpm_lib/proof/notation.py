"""The book's one notation table: each symbol's LaTeX, SymPy object, name in the code, shape, range and meaning.

Chapters import their symbols from here and make none of their own for a thing in the table. What depends on the
step is *indexed*, so that moving an index is mathematics: ``alpha_bar[t]``, ``alpha_bar[t - 1]``, ``alpha_bar[s]``.
``verify`` knows how they hang together:

    alpha[t] = 1 - beta[t]                       alpha_bar[t] = alpha[t] alpha_bar[t - 1],  alpha_bar[0] = 1
    beta_tilde[t] = (1 - alpha_bar[t - 1]) / (1 - alpha_bar[t]) beta[t]
    snr[t] = alpha_bar[t] / (1 - alpha_bar[t])   0 <= s < t <= T,  sigma[t]² < 1 - alpha_bar[t - 1]

``x_0``, ``x_t``, ``x_prev`` are one coordinate (one pixel) of an image; ``x[k]`` is the same at any step of a
trajectory, and x[0], x[t], x[t - 1] mean x_0, x_t, x_prev. ``bit_0``, ``bit_t``, ``bit_prev`` are a coordinate of a
binary image, in {0, 1}, for the binomial kernel; ``bit[k]`` is one at any step.
"""

from __future__ import annotations

from dataclasses import dataclass

from sympy import Basic, IndexedBase, Symbol

from ddpm_lib.proof.distributions import (
    bernoulli_pmf,
    expectation,
    kl_bernoulli,
    kl_integral,
    normal_pdf,
    unknown_density,
)


@dataclass(frozen=True)
class Row:
    """One symbol. ``latex`` shows it with its usual index; ``object`` is the SymPy symbol, or the base to index.

    ``span`` is what random admissible points are drawn from: "real", "positive", "(0,1)", "bit", "step" (1 or more)
    or "step0" (0 or more), "count"; for indexed ones "table" (what a schedule fixes), "reals" or "bits". ``code`` is
    the name in ddpm_lib. ``unit`` is empty for a pure number; a "grey" is half of the way from black to white,
    127.5 of 255 levels. The last four are the names in Sohl-Dickstein et al. 2015, DDPM, DDIM and score papers.
    """

    key: str
    latex: str
    object: Basic
    span: str
    range: str
    meaning: str
    code: str = ""
    shape: str = ""
    unit: str = ""
    sd: str = ""
    ddpm: str = ""
    ddim: str = ""
    score: str = ""

    @property
    def indexed(self) -> bool:
        """Whether the symbol takes the step as its index."""
        return isinstance(self.object, IndexedBase)


ASSUMPTIONS = {
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
IMAGE = "(B, C, H, W)"


def _row(key: str, latex: str, span: str, range: str, meaning: str, **names: str) -> Row:
    base = IndexedBase if span in ("table", "reals", "bits") else Symbol
    return Row(key, latex, base(key, **ASSUMPTIONS[span]), span, range, meaning, **names)


# fmt: off
TABLE: tuple[Row, ...] = (
    _row("t", "t", "step", "$1, …, T$", "a step of the chain; index 0 is clean data",
         code="t", shape="(B,)", sd="t", ddpm="t", ddim="t", score="i", unit="step"),
    _row("T", "T", "step", r"$\ge 1$", "the number of steps; a table has $T + 1$ entries",
         code="schedule.T", sd="T", ddpm="T", ddim="T", score="N", unit="step"),
    _row("s", "s", "step0", r"$0 \le s < t$", "an earlier step", code="t_prev", shape="(B,)", ddim=r"\tau_{i-1}",
         unit="step"),
    _row("k", "k", "step", "$1, …, T$; free $1, …, t$", "the step that a sum, a product or an induction runs over",
         unit="step"),
    _row("n", "n", "count", r"$\ge 1$", "a number of steps that all have one and the same rate", unit="step"),
    _row("d", "d", "count", r"$\ge 1$", "the number of coordinates of an image; 784 for 28×28"),
    _row("x_0", "x_0", "real", "$[-1, 1]$ for images", "a coordinate of a clean image",
         code="x0", shape=IMAGE, sd=r"\mathbf x^{(0)}", ddpm=r"\mathbf x_0", ddim="x_0", score=r"\mathbf x(0)",
         unit="grey"),
    _row("x_t", "x_t", "real", r"$\mathbb R$", "the same coordinate after $t$ steps",
         code="x_t", shape=IMAGE, sd=r"\mathbf x^{(t)}", ddpm=r"\mathbf x_t", ddim="x_t", score=r"\mathbf x_i",
         unit="grey"),
    _row("x_prev", "x_{t-1}", "real", r"$\mathbb R$", "the same coordinate one step earlier",
         code="x_prev", shape=IMAGE, sd=r"\mathbf x^{(t-1)}", ddpm=r"\mathbf x_{t-1}", ddim="x_{t-1}",
         score=r"\mathbf x_{i-1}", unit="grey"),
    _row("x_s", "x_s", "real", r"$\mathbb R$", "the same coordinate at the earlier step $s$",
         shape=IMAGE, ddim=r"x_{\tau_{i-1}}", unit="grey"),
    _row("x_T", "x_T", "real", r"$\mathbb R$", "the same coordinate at the last step",
         code="x_T", shape=IMAGE, sd=r"\mathbf x^{(T)}", ddpm=r"\mathbf x_T", ddim="x_T", score=r"\mathbf x(T)",
         unit="grey"),
    _row("x", "x_k", "reals", r"$\mathbb R$", "the same coordinate at any step $k$ of a trajectory", shape=IMAGE,
         unit="grey"),
    _row("y", "y", "real", r"$\mathbb R$", "a state of a Markov chain", sd=r"\mathbf y", unit="grey"),
    _row("y_prev", "y'", "real", r"$\mathbb R$", "the state before it", sd=r"\mathbf y'", unit="grey"),
    _row("y_0", "y_0", "real", r"$\mathbb R$", "the state that a chain starts from"),
    _row("bit_0", "x_0", "bit", r"$\{0, 1\}$", "a coordinate of a clean binary image",
         code="x0", shape=IMAGE, sd=r"\mathbf x^{(0)}"),
    _row("bit_t", "x_t", "bit", r"$\{0, 1\}$", "the same coordinate after $t$ steps",
         code="x_t", shape=IMAGE, sd=r"\mathbf x^{(t)}"),
    _row("bit_prev", "x_{t-1}", "bit", r"$\{0, 1\}$", "the same coordinate one step earlier",
         code="x_prev", shape=IMAGE, sd=r"\mathbf x^{(t-1)}"),
    _row("bit", "x_k", "bits", r"$\{0, 1\}$", "the same coordinate at any step $k$ of a trajectory", shape=IMAGE),
    _row("y_bit", "y", "bit", r"$\{0, 1\}$", "a state of a chain with two states", sd=r"\mathbf y"),
    _row("y_bit_prev", "y'", "bit", r"$\{0, 1\}$", "the state before it", sd=r"\mathbf y'"),
    _row("y_bit_0", "y_0", "bit", r"$\{0, 1\}$", "the state that such a chain starts from"),
    _row("beta", r"\beta_t", "table", r"$0 < \beta_t < 1$, $\beta_0 = 0$",
         "diffusion rate: the variance that step $t$ adds", code="schedule.beta",
         shape="(T+1,)", sd=r"\beta_t", ddpm=r"\beta_t", ddim=r"1 - \alpha_t/\alpha_{t-1}", score=r"\beta_i"),
    _row("alpha", r"\alpha_t", "table", r"$0 < \alpha_t < 1$, $\alpha_0 = 1$",
         r"$1 - \beta_t$, the variance that step $t$ keeps", code="schedule.alpha",
         shape="(T+1,)", sd=r"1 - \beta_t", ddpm=r"\alpha_t", ddim=r"\alpha_t/\alpha_{t-1}", score=r"1 - \beta_i"),
    _row("alpha_bar", r"\bar\alpha_t", "table", r"$0 < \bar\alpha_t < 1$, $\bar\alpha_0 = 1$",
         r"$\alpha_1 \alpha_2 \cdots \alpha_t$, what is left of the data's variance",
         code="schedule.alpha_bar", shape="(T+1,)", ddpm=r"\bar\alpha_t", ddim=r"\alpha_t", score=r"\alpha_i"),
    _row("beta_tilde", r"\tilde\beta_t", "table", r"$0 < \tilde\beta_t < \beta_t$, $\tilde\beta_1 = 0$",
         r"variance of $q(x_{t-1} \mid x_t, x_0)$", code="schedule.beta_tilde", shape="(T+1,)",
         ddpm=r"\tilde\beta_t", ddim=r"\sigma_t^2(\eta = 1)", unit="grey²"),
    _row("snr", r"\mathrm{SNR}_t", "table", r"$> 0$; infinite at $t = 0$",
         r"signal-to-noise ratio, $\bar\alpha_t / (1 - \bar\alpha_t)$", code="schedule.snr", shape="(T+1,)"),
    _row("sigma", r"\sigma_t", "table", r"$\ge 0$; in proofs $0 < \sigma_t^2 < 1 - \bar\alpha_{t-1}$",
         "standard deviation of the noise that a sampling step adds",
         shape="(B,)", ddpm=r"\sigma_t", ddim=r"\sigma_t", unit="grey"),
    _row("eta", r"\eta", "(0,1)", "$[0, 1]$", "how much of the full noise a DDIM step adds", code="eta", ddim=r"\eta"),
    _row("rate", r"\beta", "(0,1)", "$(0, 1)$", "a diffusion rate that is the same at each step", sd=r"\beta"),
    _row("eps", r"\varepsilon", "real", "standard normal", "the noise in $x_t$",
         code="eps", shape=IMAGE, ddpm=r"\boldsymbol\epsilon", ddim=r"\epsilon", score=r"\mathbf z",
         unit="grey"),
    _row("eps_hat", r"\varepsilon_\theta", "real", r"$\mathbb R$", "the network's guess of it, given $(x_t, t)$",
         code="prediction.eps", shape=IMAGE, ddpm=r"\boldsymbol\epsilon_\theta(\mathbf x_t, t)",
         ddim=r"\epsilon_\theta^{(t)}(x_t)", score=r"-\sqrt{1 - \alpha_i}\,\mathbf s_\theta(\mathbf x_i, i)",
         unit="grey"),
    _row("x_0_hat", r"\hat x_0", "real", r"$\mathbb R$", "the guess of the clean coordinate",
         code="prediction.x0", shape=IMAGE, ddpm=r"\hat{\mathbf x}_0", ddim=r"f_\theta^{(t)}(x_t)",
         unit="grey"),
    _row("v", "v", "real", r"$\mathbb R$",
         r"the velocity $\sqrt{\bar\alpha_t}\,\varepsilon - \sqrt{1 - \bar\alpha_t}\,x_0$", code="v", shape=IMAGE,
         unit="grey"),
    _row("score", r"s_\theta", "real", r"$\mathbb R$", "the guess of the gradient of the log density at $x_t$",
         code="prediction.score", shape=IMAGE, score=r"\mathbf s_\theta(\mathbf x_i, i)", unit="1/grey"),
    _row("mean", r"\mu", "real", r"$\mathbb R$", "a mean", code="Normal.mean", shape=IMAGE, unit="grey"),
    _row("mean_p", r"\mu_p", "real", r"$\mathbb R$", "the mean of $p$, the first of two normals",
         code="p.mean", shape=IMAGE, unit="grey"),
    _row("mean_q", r"\mu_q", "real", r"$\mathbb R$", "the mean of $q$, the second", code="q.mean", shape=IMAGE,
         unit="grey"),
    _row("var", r"\sigma^2", "positive", "$> 0$", "a variance (never a standard deviation)",
         code="Normal.var", shape=IMAGE, unit="grey²"),
    _row("var_p", r"\sigma_p^2", "positive", "$> 0$", "the variance of $p$", code="p.var", shape=IMAGE,
         unit="grey²"),
    _row("var_q", r"\sigma_q^2", "positive", "$> 0$", "the variance of $q$", code="q.var", shape=IMAGE,
         unit="grey²"),
    _row("prob", r"\rho", "(0,1)", "$(0, 1)$", "the probability of a 1", shape=IMAGE),
    _row("prob_p", r"\rho_p", "(0,1)", "$(0, 1)$", "the probability of a 1 under $p$", shape=IMAGE),
    _row("prob_q", r"\rho_q", "(0,1)", "$(0, 1)$", "the probability of a 1 under $q$", shape=IMAGE),
    _row("label", "y", "count", "a class", "the class of an image", code="y", shape="(B,)"),
    _row("scale", "s", "positive", r"$\ge 0$", "the scale of guidance; 1 is what Bayes says", code="scale"),
)
# fmt: on

BY_KEY = {row.key: row for row in TABLE}


def _objects(keys: str) -> list[Basic]:
    return [BY_KEY[key].object for key in keys.split()]


t, T, s, k, n, d = _objects("t T s k n d")
x_0, x_t, x_prev, x_s, x_T, x, y, y_prev, y_0 = _objects("x_0 x_t x_prev x_s x_T x y y_prev y_0")
bit_0, bit_t, bit_prev, bit = _objects("bit_0 bit_t bit_prev bit")
y_bit, y_bit_prev, y_bit_0 = _objects("y_bit y_bit_prev y_bit_0")
beta, alpha, alpha_bar, beta_tilde, snr, sigma = _objects("beta alpha alpha_bar beta_tilde snr sigma")
eta, rate, eps, eps_hat, x_0_hat, v, score = _objects("eta rate eps eps_hat x_0_hat v score")
mean, mean_p, mean_q, var, var_p, var_q = _objects("mean mean_p mean_q var var_p var_q")
prob, prob_p, prob_q = _objects("prob prob_p prob_q")
label, scale = _objects("label scale")


def table_markdown() -> str:
    """The table as Markdown: symbol, meaning, range, name for ``verify``, name, shape and unit in ``ddpm_lib``."""
    rows = [
        (
            f"${row.latex}$",
            row.meaning,
            row.range,
            f"`{row.key}[{'k' if row.latex.endswith('_k') else 't'}]`" if row.indexed else f"`{row.key}`",
            f"`{row.code}`" if row.code else "",
            row.shape,
            row.unit,
        )
        for row in TABLE
    ]
    return _markdown(("Symbol", "Meaning", "Range", "In `verify`", "In `ddpm_lib`", "Shape", "Unit"), rows)


def translation_markdown() -> str:
    """The symbols that papers name, as Markdown: ours beside each paper's."""
    papers = ("Sohl-Dickstein 2015", "DDPM 2020", "DDIM 2020", "Score SDE 2021")
    rows = [
        (f"${row.latex}$", *(f"${name}$" if name else "" for name in names))
        for row in TABLE
        if any(names := (row.sd, row.ddpm, row.ddim, row.score)) and row.span != "bit"
    ]
    return _markdown(("This book", *papers), rows)


def _markdown(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [header, ("---",) * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


__all__ = [
    *BY_KEY,
    "bernoulli_pmf",
    "expectation",
    "kl_bernoulli",
    "kl_integral",
    "normal_pdf",
    "unknown_density",
]

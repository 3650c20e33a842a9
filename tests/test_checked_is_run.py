"""Checked = run: what the library computes is what the book's equations say, to 1e-12, at 100 random points.

Each label that a docstring names ("Eq. (eq-label)") has a case here: what the library says at a point, beside the
record's expression, evaluated there with 50 digits.
"""

from dataclasses import dataclass
from functools import cached_property
from itertools import count, islice

import pytest
import torch
from sympy.core.function import AppliedUndef

from ddpm_lib import bound, denoiser, schedule
from ddpm_lib.binomial import Bernoulli, BinomialDiffusion
from ddpm_lib.denoiser import Prediction
from ddpm_lib.gaussian import GaussianDiffusion, Normal
from ddpm_lib.proof import book
from ddpm_lib.proof import notation as N
from ddpm_lib.proof.codes import decode
from ddpm_lib.proof.implementations import implementations
from ddpm_lib.proof.numeric import evaluate
from ddpm_lib.proof.points import Point, seed_of
from ddpm_lib.proof.statement import parts
from tests import bound_cases, chain_cases_07, chain_cases_11, chain_cases_12, chain_cases_13, network_cases
from tests.test_equations import CHAPTERS

POINTS = 100
MORE = (  # modules with CASES, READ and ADMISSIBLE of their own
    network_cases,
    bound_cases,
    chain_cases_07,
    chain_cases_11,
    chain_cases_12,
    chain_cases_13,
)
RECORDS = {record["label"]: record for path in CHAPTERS for record in book.records(path)}


@dataclass(frozen=True)
class World:
    """The library's objects at a point of the proof engine: its schedule, its step and its values, one image each."""

    point: Point

    @cached_property
    def schedule(self):
        return schedule.from_betas([float(self.point.beta(m)) for m in range(1, self.point.T + 1)])

    @cached_property
    def gaussian(self):
        return GaussianDiffusion(self.schedule)

    @cached_property
    def binomial(self):
        return BinomialDiffusion(self.schedule)

    @property
    def t(self):
        return torch.tensor([self.point.t])

    def __call__(self, symbol):
        return torch.tensor([[float(self.point.value(symbol))]], dtype=torch.float64)


def law(p: Normal | Bernoulli):
    return (p.prob,) if isinstance(p, Bernoulli) else (p.mean, p.var)


def reverse_step(w: World):
    guess = Prediction(w(N.x_0_hat), w(N.eps), torch.ones(1, 1))
    sigmas = [1.0, 1.0, *(float(w.point.schedule("sigma", m)) for m in range(2, w.point.T + 1))]
    variances = torch.tensor(sigmas, dtype=torch.float64) ** 2
    return law(bound.reverse_step(w.gaussian, w(N.x_t), guess, w.t, variances))


def log_odds(w: World):
    p = w.binomial.posterior(w(N.bit_t), w(N.bit_0), w.t)
    return (p.prob / p.rest).log()


def weight_of_the_mean(w: World):
    """From the weight in the bound, which is its square over twice the variance."""
    return (bound.loss_weight("x0", w.schedule, "beta") * 2 * w.schedule.beta).sqrt()[w.t]


def marginal_sample(w: World):
    a, sigma = denoiser.coefficients(w.schedule, w.t, w(N.x_0))
    return a * w(N.x_0) + sigma * w(N.eps)


CASES = {
    "eq-alpha-bar": lambda w: w.schedule.alpha_bar[w.t],
    "eq-snr": lambda w: w.schedule.snr[w.t],
    "eq-forward-step": lambda w: law(w.gaussian.step(w(N.x_prev), w.t)),
    "eq-marginal": lambda w: law(w.gaussian.marginal(w(N.x_0), w.t)),
    "eq-marginal-sample": marginal_sample,
    "eq-posterior-mean": lambda w: w.gaussian.posterior(w(N.x_t), w(N.x_0), w.t).mean,
    "eq-posterior-variance": lambda w: (
        w.gaussian.posterior(w(N.x_t), w(N.x_0), w.t).var,
        w.schedule.beta_tilde[w.t],
    ),
    "eq-prior": lambda w: law(w.gaussian.prior(w(N.x_T))),
    "eq-reverse-step": reverse_step,
    "eq-weight": weight_of_the_mean,
    "eq-constant-share": lambda w: schedule.constant_share(w.point.T).alpha_bar[w.t],
    "eq-coin-target": lambda w: law(w.binomial.prior(w(N.y_bit))),
    "eq-binomial-step": lambda w: law(w.binomial.step(w(N.bit_prev), w.t)),
    "eq-binomial-marginal": lambda w: law(w.binomial.marginal(w(N.bit_0), w.t)),
    "eq-binomial-odds": log_odds,
    "eq-kl-normals": lambda w: w.gaussian.kl(
        Normal(w(N.mean_p), w(N.var_p)), Normal(w(N.mean_q), w(N.var_q))
    ),
    "eq-kl-bernoulli": lambda w: w.binomial.kl(Bernoulli(w(N.prob_p)), Bernoulli(w(N.prob_q))),
    "eq-binomial-posterior": lambda w: law(w.binomial.posterior(w(N.bit_t), w(N.bit_0), w.t)),
}
READ, ADMISSIBLE = {}, {}
for module in MORE:
    CASES |= module.CASES
    READ |= module.READ
    ADMISSIBLE |= module.ADMISSIBLE
FUNCTIONS = {
    "mu_tilde": ("eq-posterior-mean", (N.t, N.x_t, N.x_0))
}  # those that another equation says what they are


def opened(e):
    """e with each function that the book has an equation for written out."""
    for f in e.atoms(AppliedUndef):
        if f.func.__name__ in FUNCTIONS:
            label, arguments = FUNCTIONS[f.func.__name__]
            said = decode(RECORDS[label]["rhs_code"])
            e = e.xreplace({f: said.xreplace(dict(zip(arguments, f.args, strict=True)))})
    return e


def expected(label, point, count):
    """The right side's values; for a law those of its parameters. One value may be there in several places."""
    record = RECORDS[label]
    read = READ.get(label, lambda records: parts(decode(records[label]["rhs_code"])))
    given = {premise.lhs: premise.rhs for premise in map(decode, record.get("given_code", []))}
    values = []
    for side in read(RECORDS):
        side = opened(side.xreplace(given))
        values += side.args[1:] if isinstance(side, (N.normal_pdf, N.bernoulli_pmf)) else [side]
    values = [float(evaluate(value, point)) for value in values]
    return values * count if len(values) == 1 else values


def points(label):
    """The first points of the label's own at which its equation is meant to hold."""
    conditions = ADMISSIBLE.get(label, ())
    every = (Point(seed_of(label), number) for number in count())
    return islice(
        (point for point in every if all(holds(condition, point) for condition in conditions)), POINTS
    )


def holds(condition, point):
    return bool(condition.xreplace({symbol: point.value(symbol) for symbol in condition.free_symbols}))


@pytest.mark.parametrize("label", CASES)
def test_the_library_computes_what_the_book_checked(label):
    for point in points(label):
        ran = CASES[label](World(point))
        ran = [value.item() for value in (ran if isinstance(ran, tuple) else (ran,))]
        assert ran == pytest.approx(expected(label, point, len(ran)), rel=1e-12, abs=0), (label, point.number)


def test_each_equation_that_a_docstring_names_is_compared():
    assert set(implementations()) == set(CASES)

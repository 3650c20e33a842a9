"""Checked = run, the cases of the chapter on scores and Langevin dynamics, for ``test_checked_is_run``.

CASES: what the library computes at a point. READ: what of the records that is compared with, where it is not the
right side as it stands; ADMISSIBLE: at which points, where not at all.
"""

import torch
from sympy import Function, Symbol, sqrt

from ddpm_lib.denoiser import Prediction, coefficients
from ddpm_lib.oracle import GaussianOracle
from ddpm_lib.proof import notation as N
from ddpm_lib.proof.codes import decode
from ddpm_lib.samplers import ancestral, langevin

a, c = Symbol("a", positive=True), Symbol("c", positive=True)
BAR = N.alpha_bar[N.t]
WIDTH = BAR * N.var + 1 - BAR  # of x_t, for normal data


def right_side(label, records):
    return decode(records[label]["rhs_code"])


class Answers:
    """A denoiser whose answer is known beforehand."""

    def __init__(self, w, x0):
        self.schedule, self.x0 = w.schedule, x0

    def __call__(self, x_t, t):
        keep, sigma = coefficients(self.schedule, t, x_t)
        return Prediction(self.x0, (x_t - keep * self.x0) / sigma, sigma)


def mean_and_deviation(first_step):
    """Of a step, from what two different standard normal numbers make of it. first_step: of a generator."""
    drawn = [torch.randn(1, 1, generator=_random(seed), dtype=torch.float64) for seed in (0, 1)]
    one, other = (first_step(_random(seed)).x for seed in (0, 1))
    deviation = (one - other) / (drawn[0] - drawn[1])
    return one - deviation * drawn[0], deviation


def _random(seed):
    return torch.Generator().manual_seed(seed)


def predicted_score(w):
    _, sigma = coefficients(w.schedule, w.t, w(N.x_t))
    return Prediction(w(N.x_0), w(N.eps_hat), sigma).score


def move(w):
    """Langevin's move from x_t towards the law of x_t, for normal data."""
    data = GaussianOracle(w.schedule, w(N.mean)[0], w(N.var)[0])
    size = w(c).item()
    return mean_and_deviation(lambda rng: next(langevin(data, w(N.x_t), w.point.t, 1, size, rng)))


def move_read(records):
    """The move from y' = x_t, with p the law of x_t and a = c (1 - ᾱ_t)."""
    p = Function("p", positive=True)(N.y_prev)
    of_x_t = N.normal_pdf(N.y_prev, sqrt(BAR) * N.mean, WIDTH)
    _, mean, var = right_side("eq-langevin-move", records).xreplace({p: of_x_t}).args
    here = {N.y_prev: N.x_t, a: c * (1 - BAR)}
    return [mean.xreplace(here), sqrt(var.xreplace(here))]


def denoised(w):
    """The same for a known answer of the denoiser."""
    answers, size = Answers(w, w(N.x_0_hat)), w(c).item()
    mean, _ = mean_and_deviation(lambda rng: next(langevin(answers, w(N.x_t), w.point.t, 1, size, rng)))
    return mean


def step_back(w):
    """The mean of the ancestral step, from a score by way of the image that belongs to it."""
    keep, sigma = coefficients(w.schedule, w.t, w(N.x_t))
    answers = Answers(w, (w(N.x_t) + sigma**2 * w(N.score)) / keep)
    visited = w.schedule.respace(range(1, w.point.t + 1))
    mean, _ = mean_and_deviation(lambda rng: next(ancestral(answers, w(N.x_t), visited, generators=rng)))
    return mean


CASES = {
    "eq-score-model": predicted_score,
    "eq-langevin-move": move,
    "eq-move-as-denoising": denoised,
    "eq-step-from-score": step_back,
}
READ = {"eq-langevin-move": move_read}
ADMISSIBLE: dict = {}

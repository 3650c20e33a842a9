"""Checked = run, the cases of the chapter on DDIM, for ``test_checked_is_run``.

CASES: what the library computes at a point. READ: what of the records that is compared with, where it is not the
right side as it stands; ADMISSIBLE: at which points, where not at all.
"""

import torch
from sympy import S, Symbol, sqrt

from ddpm_lib.denoiser import Prediction, prediction
from ddpm_lib.proof import notation as N
from ddpm_lib.proof.codes import decode
from ddpm_lib.samplers import ddim, slerp

z, z_1, z_2 = (Symbol(name, real=True) for name in ("z", "z_1", "z_2"))
phi, share = Symbol("phi", positive=True), Symbol("u", positive=True)


def right_side(label, records):
    return decode(records[label]["rhs_code"])


class Answers:
    """A denoiser whose answer is known beforehand."""

    def __init__(self, schedule, x0, eps):
        self.schedule, self.answer = schedule, Prediction(x0, eps, torch.ones_like(x0))

    def __call__(self, x_t, t):
        return self.answer


def first_step(denoiser, x_t, visited, eta, seed=0):
    """The state after the first of DDIM's steps, and the standard normal number that it was given."""
    generator = torch.Generator().manual_seed(seed)
    step = next(ddim(denoiser, x_t, denoiser.schedule.respace(visited), eta, generator))
    drawn = torch.randn(1, 1, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return step.x, drawn


def mean_and_deviation(w):
    """Of the step down from t, from what two different numbers make of it."""
    answers = Answers(w.schedule, w(N.x_0_hat), w(N.eps_hat))
    visited, eta = range(1, w.point.t + 1), w(N.eta).item()
    (one, drawn), (other, another) = (first_step(answers, w(N.x_t), visited, eta, seed) for seed in (0, 1))
    deviation = (one - other) / (drawn - another)
    return one - deviation * drawn, deviation


def update_read(records):
    """The mean and the deviation of the step, with the deviation that η stands for."""
    step = right_side("eq-ddim-update", records).xreplace({N.sigma[N.t]: N.eta * sqrt(N.beta_tilde[N.t])})
    at_zero = step.xreplace({z: S.Zero})
    return [at_zero, step.xreplace({z: S.One}) - at_zero]


def euler(w):
    """A step without noise from t to s, over √ᾱ_s."""

    def answer(x_t, t):
        return prediction("eps", w.schedule, x_t, w(N.eps_hat), t)

    answer.schedule = w.schedule
    visited = [step for step in (w.point.s, w.point.t) if step > 0]
    x, _ = first_step(answer, w(N.x_t), visited, 0.0)
    return x / w.schedule.alpha_bar[w.point.s].sqrt()


def on_the_circle(w):
    """The first coordinate of a blend of two plane vectors that begin with z_1 and z_2, at the angle φ."""
    first, second, angle = w(z_1), w(z_2), w(phi)
    one = torch.cat([first, torch.full_like(first, 100.0)], 1)
    across = torch.stack([one[:, 1], -one[:, 0]], 1)
    towards = [angle.cos() * one + sign * angle.sin() * across for sign in (1, -1)]
    other = next(v for v in towards if (v[0, 0] > 0) == (second.item() > 0))
    return slerp(one, other * second / other[0, 0], w(share).item())[:, 0]


CASES = {
    "eq-ddim-update": mean_and_deviation,
    "eq-ddim-eta": lambda w: mean_and_deviation(w)[1],
    "eq-ddim-euler": euler,
    "eq-slerp": on_the_circle,
}
READ = {"eq-ddim-update": update_read}
ADMISSIBLE = {"eq-ddim-update": [N.t >= 2], "eq-ddim-eta": [N.t >= 2]}

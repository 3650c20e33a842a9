"""Checked = run, the cases of the chapter on the ODE view, for ``test_checked_is_run``.

CASES: what the library computes at a point. READ: what of the records that is compared with, where it is not the
right side as it stands; ADMISSIBLE: at which points, where not at all.
"""

import torch
from sympy import S, Symbol

from ddpm_lib.denoiser import Prediction, prediction
from ddpm_lib.proof import notation as N
from ddpm_lib.proof.codes import decode
from ddpm_lib.samplers import dpm_solver, euler, heun
from ddpm_lib.samplers.likelihood import velocity

D, ahead, z = (Symbol(name, real=True) for name in ("D", "w", "z"))
omega = Symbol("omega", positive=True)


class Answers:
    """A denoiser whose answer is known beforehand: the clean image, or the noise, one for each question."""

    def __init__(self, schedule, eps=(), x0=None):
        self.schedule, self.eps, self.x0 = schedule, iter(eps), x0

    def __call__(self, x_t, t):
        if self.x0 is None:
            return prediction("eps", self.schedule, x_t, next(self.eps), t)
        return Prediction(self.x0, self.x0, self.x0)


def step_down(solver, w, **answer):
    """A solver's first step, from t to s."""
    visited = w.schedule.respace([w.point.s, w.point.t])
    return next(solver(Answers(w.schedule, **answer), w(N.x_t), visited)).x


def multistep_read(records):
    """The step's right side, with the guess for the value in the middle, as it is in a first step."""
    return [decode(records["eq-multistep-step"]["rhs_code"]).xreplace({D: N.x_0_hat})]


def noisy_step(w):
    """The mean and the deviation of a first step down, from what two different numbers make of it."""

    def down(seed):
        generator = torch.Generator().manual_seed(seed)
        answers, visited = Answers(w.schedule, x0=w(N.x_0_hat)), w.schedule.respace([w.point.s, w.point.t])
        step = next(dpm_solver(answers, w(N.x_t), visited, w(N.eta).item(), generator))
        return step.x, torch.randn(1, 1, generator=generator.manual_seed(seed), dtype=torch.float64)

    (one, drawn), (other, another) = down(0), down(1)
    deviation = (one - other) / (drawn - another)
    return one - deviation * drawn, deviation


def noisy_read(records):
    """The step's mean and its noise, with what is kept put in, and the guess for the value in the middle."""
    kept, step = (decode(records[f"eq-multistep-{name}"]["rhs_code"]) for name in ("kept", "noisy"))
    step = step.xreplace({D: N.x_0_hat, omega: kept})
    mean = step.xreplace({z: S.Zero})
    return [mean, step.xreplace({z: S.One}) - mean]


CASES = {
    "eq-flow-lambda": lambda w: velocity(w.schedule.alpha_bar[w.point.t].item(), w(N.x_t), w(N.x_0_hat)),
    "eq-euler-step": lambda w: step_down(euler, w, eps=[w(N.eps_hat)]),
    "eq-heun-step": lambda w: step_down(heun, w, eps=[w(N.eps_hat), w(ahead)]),
    "eq-multistep-step": lambda w: step_down(dpm_solver, w, x0=w(N.x_0_hat)),
    "eq-multistep-noisy": noisy_step,
}
READ = {"eq-multistep-step": multistep_read, "eq-multistep-noisy": noisy_read}
ADMISSIBLE = {label: [N.s >= 1] for label in CASES if label != "eq-flow-lambda"}

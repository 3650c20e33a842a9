"""Checked = run, the cases of the chapter on the network and its training, for ``test_checked_is_run``.

CASES: what the library computes at a point. READ: what of the records that is compared with, where it is not the
right side as it stands; ADMISSIBLE: at which points, where not at all.
"""

import math
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from sympy import Derivative, Integral, Symbol
from sympy.core.function import AppliedUndef
from torch import nn
from torch.optim.swa_utils import AveragedModel

from ddpm_lib import data, denoiser
from ddpm_lib.bound import simple_loss
from ddpm_lib.config import TrainConfig
from ddpm_lib.proof import notation as N
from ddpm_lib.proof.codes import decode
from ddpm_lib.proof.numeric import evaluate
from ddpm_lib.schedule import linear
from ddpm_lib.training import Trainer
from ddpm_lib.unet import wave
from tests.helpers import tiny_config

b, h, u, c, gamma, h_max, lr_max, norm_g = (
    Symbol(name, positive=True) for name in ["b", "h", "u", "c", "gamma", "h_max", "lr_max", "norm_g"]
)
g = Symbol("g", real=True)
images = {name: Symbol(name, integer=True, positive=True) for name in ["m", "m_w", "M", "b"]}
DIGITS = data.load("mnist5k")[:40]


def right_side(label, records):
    return decode(records[label]["rhs_code"])


def exact(value):
    return torch.tensor(value, dtype=torch.float64)


# what a network should answer, and what becomes of its answer


def with_values(label):
    """The right side where each quantity that is made of others, such as x_t(x_0, eps), has a value of its own."""

    def read(records):
        made = [decode(premise).lhs for premise in records[label]["given_code"]]
        return [right_side(label, records).xreplace({f: N.BY_KEY[f.func.__name__].object for f in made})]

    return read


def predicted(w, objective, answer):
    return denoiser.prediction(objective, w.schedule, w(N.x_t), w(answer), w.t)


def put_together(w):
    a, sigma = denoiser.coefficients(w.schedule, w.t, w(N.x_t))
    both = predicted(w, "v", N.v)
    return a * both.x0 + sigma * both.eps


def eps_from_x0(w):
    """As a network's x_0 is taken apart, and as it is after clipping, whatever ε was before that."""
    both = predicted(w, "x0", N.x_0)
    spoiled = denoiser.Prediction(both.x0, both.eps + 1, both.sigma)
    inner = type("Spoiled", (), {"schedule": w.schedule, "__call__": lambda self, x_t, t: spoiled})()
    return both.eps, denoiser.Clipped(inner)(w(N.x_t), w.t).eps


# the simple loss


def ask(w, x0, t, eps):
    """The loss of a network that answers t/8, which has few digits in any precision, and what it was asked."""
    asked = []

    def net(x_t, t, y):
        asked.append((x_t, t))
        return (t / 8).view(-1, 1)

    return simple_loss(net, w.schedule, "eps", x0, t, eps), *asked[0]


def one_loss_and_all(w):
    """x_t and t as the network is asked them, one image's loss, and its mean over all steps and over the noise.

    The mean of a square over standard normal noise is a sum over three nodes of Gauss and Hermite.
    """
    loss, x_t, t = ask(w, w(N.x_0), w.t, w(N.eps))
    nodes, weights = map(torch.from_numpy, np.polynomial.hermite_e.hermegauss(3))
    steps = torch.arange(1, w.schedule.T + 1).repeat_interleave(3)
    eps = nodes.repeat(w.schedule.T).view(-1, 1)
    every, _, _ = ask(w, w(N.x_0).expand(len(eps), 1), steps, eps)
    weights = (weights / weights.sum()).repeat(w.schedule.T) / w.schedule.T
    return x_t, t, loss, (weights * every).sum()


def simple_loss_read(records):
    return simple_loss_parts(right_side("eq-simple-loss", records))


@cache
def simple_loss_parts(whole):
    """What the network is asked, the square for its answer, and all of it for any law of x_0, here a normal one."""
    (asked,) = (f for f in whole.atoms(AppliedUndef) if f.func.__name__ == "epsilon_theta")
    (mean,) = whole.atoms(Integral)
    (law,) = (f for f in whole.atoms(AppliedUndef) if f.args == (N.x_0,))
    square = mean.function / (law * N.normal_pdf(N.eps, 0, 1))
    everything = whole.xreplace({asked: N.t / 8, law: N.normal_pdf(N.x_0, 0, 1)})
    return [*asked.args, square.xreplace({asked: N.t / 8}), everything.doit()]


# the embedding of the steps


def turned_in_one_step(w):
    """The angle of clock k at t = 1."""
    k, n = int(w(N.k)), int(w(N.n))
    at = wave(torch.ones(1, dtype=torch.float64), 2 * n)[0]
    return torch.atan2(at[k - 1], at[n + k - 1])


def inner_product(w):
    steps = torch.tensor([w.point.t, w.point.s], dtype=torch.float64)
    one, other = wave(steps, 2 * int(w(N.n)))
    return one @ other


def inner_read(records):
    omega = decode(records["eq-embedding-rate"]["lhs_code"])
    rate = right_side("eq-embedding-rate", records)
    return [right_side("eq-embedding-inner", records).xreplace({omega: rate})]


# the loop


def drawn_up_to(w):
    """The chance of a step t <= u T: that a normal z stays below the one where the drawn step leaves u T behind."""
    config, schedule, last = TrainConfig(times="middle"), linear(100), round(100 * w(u).item())
    low, high = -40.0, 40.0
    with pytest.MonkeyPatch.context() as patch:
        for _ in range(100):
            z = (low + high) / 2
            patch.setattr(torch, "randn", lambda n, z=z: torch.full((n,), z, dtype=torch.float64))
            low, high = (z, high) if config.draw_times(schedule, 1).item() <= last else (low, z)
    return exact(math.erfc(-low / math.sqrt(2)) / 2)


def chance_read(records):
    """The distribution function whose derivative the equation says is the density."""
    left = decode(records["eq-times-density"]["lhs_code"])
    assert isinstance(left, Derivative)
    return [left.expr]


def learning_rate(w, **changes):
    count = {name: int(w(symbol)) for name, symbol in images.items()}
    values = {"lr": w(lr_max).item(), "warmup": count["m_w"], "batch": count["b"], "images": count["M"]}
    return exact(TrainConfig(**values | changes).lr_at(count["m"]))


class Told(nn.Module):
    """A network of two weights whose gradient is told, whatever the loss."""

    def __init__(self, gradient):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(2, dtype=torch.float64))
        self.weight.register_hook(lambda _: gradient)

    def forward(self, x, t, y):
        return x + self.weight.sum()


@cache
def a_trainer():
    return Trainer(tiny_config(), images=DIGITS)


def clipped_gradient(w):
    """The first of two coordinates of a gradient of this length, after a training step."""
    first, length = w(g).item(), w(norm_g).item()
    gradient = exact([first, math.sqrt(length**2 - first**2)])
    trainer = a_trainer()
    trainer.config = replace(trainer.config, clip_gradient=w(c).item())
    trainer.net = Told(gradient)
    trainer.optimizer = torch.optim.SGD(trainer.net.parameters())
    trainer.average = AveragedModel(trainer.net)
    trainer.train_step()
    return trainer.net.weight.grad[0]


def decay(w):
    config = TrainConfig(batch=w(b).item(), ema_half_life=w(h).item(), ema_ramp=1e9)
    return exact(config.decay_at(1))


def half_life(w):
    config = TrainConfig(ema_half_life=w(h_max).item(), ema_ramp=w(gamma).item())
    return exact(config.half_life_at(int(w(images["m"]))))


def blended(w):
    """The average after an update of the trainer's own, from θ̄_{n-1} and θ_n of the point."""
    theta, theta_bar = (decode(f"IndexedBase('{name}', real=True)") for name in ("theta", "theta_bar"))
    before, now = (float(evaluate(e, w.point)) for e in (theta_bar[N.n - 1], theta[N.n]))
    config = TrainConfig(batch=w(b).item(), ema_half_life=w(h).item(), ema_ramp=1e9)
    trainer = type("Running", (), {"config": config, "images_seen": 1})
    average = [exact([before])]
    Trainer._blend(trainer, average, [exact([now])], None)
    return average[0]


def blend_read(records):
    rate = right_side("eq-ema-rate", records)
    return [right_side("eq-ema", records).xreplace({Symbol("r", positive=True): rate})]


CASES = {
    "eq-v": lambda w: denoiser.target("v", w.schedule, w(N.x_0), w(N.eps), w.t),
    "eq-x0-from-eps": lambda w: predicted(w, "eps", N.eps).x0,
    "eq-eps-from-x0": eps_from_x0,
    "eq-x0-from-v": lambda w: predicted(w, "v", N.v).x0,
    "eq-eps-from-v": lambda w: predicted(w, "v", N.v).eps,
    "eq-consistent": put_together,
    "eq-simple-loss": one_loss_and_all,
    "eq-embedding-rate": turned_in_one_step,
    "eq-embedding-inner": inner_product,
    "eq-times-density": drawn_up_to,
    "eq-warm-up": lambda w: learning_rate(w, images=100),
    "eq-learning-rate": learning_rate,
    "eq-clip": clipped_gradient,
    "eq-ema-rate": decay,
    "eq-ema-ramp": half_life,
    "eq-ema": blended,
}
READ = {
    **{
        label: with_values(label)
        for label in ("eq-x0-from-eps", "eq-eps-from-x0", "eq-x0-from-v", "eq-eps-from-v")
    },
    "eq-simple-loss": simple_loss_read,
    "eq-embedding-inner": inner_read,
    "eq-times-density": chance_read,
    "eq-ema": blend_read,
}
ADMISSIBLE = {
    "eq-eps-from-x0": [N.x_0 <= 1, N.x_0 >= -1],  # elsewhere clipping changes x_0
    "eq-embedding-rate": [N.n >= 2, N.k <= N.n],
    "eq-embedding-inner": [N.n >= 2],
    "eq-times-density": [u < 1],
    "eq-warm-up": [images["m"] < images["m_w"]],
    "eq-learning-rate": [
        images["m_w"] <= images["m"],
        images["m"] <= images["M"],
        images["m_w"] < images["M"],
    ],
    "eq-clip": [g <= norm_g, -g <= norm_g],
    "eq-ema-rate": [b >= 1, h >= 1],
    "eq-ema-ramp": [h_max >= 1],
    "eq-ema": [b >= 1, h >= 1],
}

"""Checked = run, the cases of the bound, its weights and the exact denoisers, for ``test_checked_is_run``.

CASES: what the library computes at a point. READ: what of the records that is compared with, where it is not the
right side as it stands; ADMISSIBLE: at which points, where not at all.
"""

import torch
from sympy import IndexedBase, Integer, Symbol, log, tanh

from ddpm_lib import bound
from ddpm_lib.gaussian import Normal
from ddpm_lib.oracle import EmpiricalOracle, GaussianOracle, MixtureOracle
from ddpm_lib.proof import notation as N
from ddpm_lib.proof.codes import decode
from ddpm_lib.proof.numeric import evaluate

LEVELS = (1, 100, 254)
L, u = IndexedBase("L", real=True), IndexedBase("u", real=True)
nats = Symbol("L", real=True)


def right_side(label, records):
    return decode(records[label]["rhs_code"])


def numbers(w, *expressions):
    """Their values at the point, a float64 tensor of as many."""
    return torch.tensor([float(evaluate(e, w.point)) for e in expressions], dtype=torch.float64)


# the bound and its terms


def summed(w):
    terms = numbers(w, *(L[k] for k in range(w.point.T + 1)))
    steps = torch.arange(2, w.point.T + 1)
    return bound.Bound(terms[-1:], terms[None, 1:-1], terms[:1], steps, w.point.T, 1).total


def variances(w):
    """The σ_t² of the point, with a 1 where it has none."""
    later = [float(w.point.schedule("sigma", m)) for m in range(2, w.point.T + 1)]
    return torch.tensor([1.0, 1.0, *later], dtype=torch.float64) ** 2


def weight(w, objective):
    return bound.loss_weight(objective, w.schedule, variances(w))[w.t]


def noise_term(w):
    return (
        weight(w, "eps") * (w(N.eps_hat) - w(N.eps)) ** 2 + bound.step_constant(w.schedule, variances(w))[w.t]
    )


def velocity_error(w):
    ratio = bound.error_ratio("eps", w.schedule) / bound.error_ratio("v", w.schedule)
    return ratio.sqrt()[w.t] * (w(N.eps_hat) - w(N.eps))


# the decoder


def masses(w, *levels):
    law = Normal(w(N.mean), w(N.var))
    return tuple(bound.log_bin_mass(torch.tensor(level), law).exp() for level in levels)


def at_levels(records):
    """The mass of the bin of x_0, for some x_0 that a byte stands for."""
    return [
        right_side("eq-decoder-bin", records).xreplace({N.x_0: Integer(2 * level - 255) / 255})
        for level in LEVELS
    ]


def below_the_lowest_edge(records):
    return [right_side("eq-normal-cdf", records).xreplace({Symbol("c", real=True): Integer(-254) / 255})]


# exact denoisers


def gaussians(w):
    """N(mean, var) as each of the two oracles that can hold it."""
    mean, var = w(N.mean), w(N.var)
    return GaussianOracle(w.schedule, mean[0], var[0]), MixtureOracle(w.schedule, mean, var[0])


def two_bells(w):
    return MixtureOracle(w.schedule, torch.cat([w(N.mean), -w(N.mean)]), w(N.var).flatten().expand(2))


def left_open(w):
    """The least mean square error in ε: that in x_0, times the signal-to-noise ratio."""
    return tuple(w.schedule.snr[w.t] * oracle.variance(w(N.x_t), w.t) for oracle in gaussians(w))


def black_and_white(w):
    both = torch.tensor([[1.0], [-1.0]], dtype=torch.float64)
    oracles = EmpiricalOracle(w.schedule, both), MixtureOracle(w.schedule, both, torch.zeros(2))
    return tuple(oracle(w(N.x_t), w.t).x0 for oracle in oracles)


def three_images(w):
    oracle = EmpiricalOracle(w.schedule, numbers(w, u[1], u[2], u[3]).unsqueeze(1))
    return oracle(w(N.x_t), w.t).x0


def weighed(records):
    """The mean of three images, each with the share that the equation gives it."""
    i, n = (Symbol(name, integer=True, positive=True) for name in "in")
    share = right_side("eq-softmax", records).xreplace({n: Integer(3)}).doit()
    return [sum(u[m] * share.xreplace({u[i]: u[m]}) for m in (1, 2, 3))]


def told_apart(records):
    """The noise in a mixture of two bells, with z, which one of them it is, from the equation of the white share."""
    (share,) = right_side("eq-white-share", records).atoms(tanh)
    return [right_side("eq-noise-mixture", records).xreplace({Symbol("z", real=True): share.args[0]})]


CASES = {
    "eq-bound": summed,
    "eq-prior-kl": lambda w: bound.prior_term(w.gaussian, w(N.x_0)),
    "eq-noise-term": noise_term,
    "eq-weight-x0": lambda w: weight(w, "x0"),
    "eq-weight-v": lambda w: weight(w, "v"),
    "eq-weight-x0-snr": lambda w: bound.snr_weight(w.schedule)[w.t],
    "eq-velocity-error": velocity_error,
    "eq-decoder-bin": lambda w: masses(w, *LEVELS),
    "eq-normal-cdf": lambda w: masses(w, 0),
    "eq-bits-per-dim": lambda w: bound.bits_per_dim(w(nats), int(w(N.d))),
    "eq-noise-normal": lambda w: tuple(oracle(w(N.x_t), w.t).eps for oracle in gaussians(w)),
    "eq-noised-normal": lambda w: tuple(oracle.log_prob(w(N.x_t), w.t) for oracle in gaussians(w)),
    "eq-floor-normal": left_open,
    "eq-white-share": lambda w: two_bells(w).responsibilities(w(N.x_t), w.t)[:, 0],
    "eq-noise-mixture": lambda w: two_bells(w)(w(N.x_t), w.t).eps,
    "eq-two-points": black_and_white,
    "eq-softmax": three_images,
}
READ = {
    "eq-decoder-bin": at_levels,
    "eq-normal-cdf": below_the_lowest_edge,
    "eq-noised-normal": lambda records: [log(right_side("eq-noised-normal", records))],
    "eq-noise-mixture": told_apart,
    "eq-softmax": weighed,
}
ADMISSIBLE = {
    label: [N.t >= 2] for label in ("eq-noise-term", "eq-weight-x0", "eq-weight-v", "eq-weight-x0-snr")
}

"""Problems paired with exact solutions: data whose best denoiser is known, and linear chains whose likelihood is."""

from itertools import product

import torch

from ddpm_lib.denoiser import Prediction
from ddpm_lib.gaussian import reverse_variances
from ddpm_lib.oracle import EmpiricalOracle, GaussianOracle, MixtureOracle
from ddpm_lib.samplers import (
    ancestral,
    annealed_langevin,
    ddim,
    dpm_solver,
    euler,
    heun,
    predictor_corrector,
)
from ddpm_lib.schedule import before, cosine, linear

F64 = torch.float64
SCHEDULE = linear()
STEPS = torch.tensor([1, 2, 10, 50, 200, 500, 900, 1000])

# Short chains, over which a joint law is small enough to be written out.
SHORT = {
    "linear": linear(8, 0.02, 0.6),
    "cosine": cosine(7),
    "respaced": linear().respace([3, 40, 200, 500, 900]),
}


def randn(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def covariance(*shape, seed=0):
    """Random positive definite matrices; the last of the shape is their size."""
    root = randn(*shape, shape[-1], seed=seed) / shape[-1] ** 0.5
    return root @ root.mT + 0.05 * torch.eye(shape[-1], dtype=F64)


def _singular(K, d):
    root = randn(K, d, 1, seed=9)
    return root @ root.mT


# Data on images of the shape behind the name, each with its exact denoiser.
ORACLES = {
    "gaussian": (GaussianOracle(SCHEDULE, randn(2, 2), randn(2, 2, seed=1) ** 2), (2, 2)),
    "mixture, isotropic": (MixtureOracle(SCHEDULE, randn(3, 2, 2), torch.tensor([0.01, 0.2, 1.0])), (2, 2)),
    "mixture, diagonal": (
        MixtureOracle(SCHEDULE, randn(3, 2, 2), randn(3, 2, 2, seed=1) ** 2, torch.tensor([0.2, 0.3, 0.5])),
        (2, 2),
    ),
    "mixture, full": (MixtureOracle(SCHEDULE, randn(3, 2, 2), covariance(3, 4)), (2, 2)),
    "mixture, singular": (MixtureOracle(SCHEDULE, randn(2, 4), _singular(2, 4)), (4,)),
    "mixture of points": (MixtureOracle(SCHEDULE, randn(4, 3), torch.zeros(4, dtype=F64)), (3,)),
    "mixture of numbers": (MixtureOracle(SCHEDULE, randn(3), torch.tensor([0.1, 0.2, 0.01])), ()),
    "gaussian, full": (MixtureOracle(SCHEDULE, randn(1, 1, 2, 2), covariance(1, 4)), (1, 2, 2)),
    "empirical": (EmpiricalOracle(SCHEDULE, randn(40, 2, 2), chunk=7), (2, 2)),
}

# Every sampler, with its options.
WAYS = {
    "ancestral": (ancestral, {}),
    "ancestral, beta": (ancestral, {"variance": "beta"}),
    "ddim": (ddim, {}),
    "ddim, eta 0.5": (ddim, {"eta": 0.5}),
    "ddim, eta 1": (ddim, {"eta": 1.0}),
    "euler": (euler, {}),
    "heun": (heun, {}),
    "dpm_solver": (dpm_solver, {}),
    "dpm_solver, eta 0.5": (dpm_solver, {"eta": 0.5}),
    "dpm_solver, eta 1": (dpm_solver, {"eta": 1.0}),
    "annealed_langevin": (annealed_langevin, {}),
    "predictor_corrector": (predictor_corrector, {}),
}


def signs(d):
    """All 2^d vectors of ±1, (2^d, d): their mean of a quadratic is its exact mean over N(0, I)."""
    return torch.tensor(list(product((-1.0, 1.0), repeat=d)), dtype=F64)


def table(schedule, *shape, seed=0):
    """Reverse variances at random, (T+1, *shape), of the size of β_t."""
    return schedule.beta.view(-1, *[1] * len(shape)) * (0.3 + randn(schedule.T + 1, *shape, seed=seed) ** 2)


def affine(denoiser, t, d):
    """The matrix (d, d) and the vector (d,) by which a denoiser that is affine in x_t makes x̂_0 at step t."""
    points = torch.cat([torch.zeros(1, d, dtype=F64), torch.eye(d, dtype=F64)])
    x0 = denoiser(points, torch.full((d + 1,), t)).x0
    return (x0[1:] - x0[0]).mT, x0[0]


class Affine:
    """A denoiser that is affine in x_t, and that knows nothing: a matrix and a vector at random for each step."""

    def __init__(self, schedule, d, seed=0):
        n = int(schedule.steps[-1]) + 1
        self.schedule = schedule
        self.gain, self.shift = 0.3 * randn(n, d, d, seed=seed), 0.3 * randn(n, d, seed=seed + 1)

    def __call__(self, x_t, t):
        x0 = torch.einsum("bij,bj->bi", self.gain[t], x_t) + self.shift[t]
        return Prediction(x0, x0, x0)  # the bound looks at x0 alone


def log_normal(x, mean, cov):
    """log N(x; mean, cov) of vectors (..., d)."""
    return torch.distributions.MultivariateNormal(mean, cov).log_prob(x)


def kl_normal(mean_p, cov_p, mean_q, cov_q):
    """KL of two normals over R^n by dense linear algebra."""
    inverse, off = torch.linalg.inv(cov_q), mean_q - mean_p
    quadratic = (inverse @ cov_p).trace() + off @ inverse @ off
    return 0.5 * (quadratic - len(off) + torch.logdet(cov_q) - torch.logdet(cov_p))


class LinearChain:
    """The reverse chain of an affine denoiser: p(x_{0..T}) is one normal over (T+1) d numbers, so all is known.

    p starts at N(0, I); each step is N(μ̃_t(x_t, x̂_0), σ_t²), with formulas written out afresh. ``mean``, (T+1, d), and
    ``cov``, (T+1, d, T+1, d), are those of (x_0, ..., x_T) under p.
    """

    def __init__(self, denoiser, d, schedule, variance="beta"):
        s, self.schedule, self.d, T = schedule, schedule, d, schedule.T
        on_x0 = before(s.alpha_bar).sqrt() * s.beta / (1 - s.alpha_bar)
        on_xt = s.alpha.sqrt() * (1 - before(s.alpha_bar)) / (1 - s.alpha_bar)
        variances = reverse_variances(s, variance)
        eye = torch.eye(d, dtype=F64)
        self.mean, self.cov = torch.zeros(T + 1, d, dtype=F64), torch.zeros(T + 1, d, T + 1, d, dtype=F64)
        self.cov[T, :, T, :] = eye
        for t in range(T, 0, -1):
            gain, shift = affine(denoiser, int(s.steps[t]), d)
            slope = on_x0[t] * gain + on_xt[t] * eye
            self.mean[t - 1] = slope @ self.mean[t] + on_x0[t] * shift
            across = torch.einsum("ij,jsk->isk", slope, self.cov[t])
            self.cov[t - 1] = across
            self.cov[:, :, t - 1, :] = across.permute(1, 2, 0)
            self.cov[t - 1, :, t - 1, :] = slope @ self.cov[t, :, t, :] @ slope.mT + variances[t] * eye

    def log_likelihood(self, x0):
        """log p(x_0) of vectors (B, d)."""
        return log_normal(x0, self.mean[0], self.cov[0, :, 0, :])

    def gap(self, x0):
        """KL(q(x_{1..T} | x_0) ‖ p(x_{1..T} | x_0)) of one vector x_0, (d,)."""
        T, d, s = self.schedule.T, self.d, self.schedule
        n = T * d
        cov = self.cov.reshape(n + d, n + d)
        pull = torch.linalg.solve(cov[:d, :d], cov[:d, d:]).mT
        p_mean = self.mean[1:].reshape(n) + pull @ (x0 - self.mean[0])
        p_cov = cov[d:, d:] - pull @ cov[:d, d:]
        bars = s.alpha_bar[1:]
        early, late = (
            torch.minimum(*(grid := torch.meshgrid(bars, bars, indexing="ij"))),
            torch.maximum(*grid),
        )
        q_cov = torch.kron((early / late).sqrt() * (1 - late), torch.eye(d, dtype=F64))
        q_mean = (bars.sqrt().unsqueeze(1) * x0).reshape(n)
        return kl_normal(q_mean, q_cov, p_mean, p_cov)

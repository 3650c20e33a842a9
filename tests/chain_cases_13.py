"""Checked = run, the cases of the chapter on guidance, for ``test_checked_is_run``.

CASES: what the library computes at a point. READ: what of the records that is compared with, where it is not the
right side as it stands; ADMISSIBLE: at which points, where not at all.
"""

from sympy import Derivative, Symbol

from ddpm_lib.denoiser import prediction
from ddpm_lib.gaussian import GaussianDiffusion
from ddpm_lib.guidance import ClassifierFree, ClassifierGuided, MeanShifted
from ddpm_lib.proof import notation as N
from ddpm_lib.proof.codes import decode

g, eps_y, w = Symbol("g", real=True), Symbol("epsilon_y", real=True), Symbol("w", positive=True)


class Answers:
    """A denoiser whose noise is known beforehand."""

    def __init__(self, schedule, eps):
        self.schedule, self.eps = schedule, eps

    def __call__(self, x_t, t):
        return prediction("eps", self.schedule, x_t, self.eps, t)


def straight(point):
    """A log-probability whose slope is g everywhere."""
    slope = point(g).item()
    return lambda x, t: slope * x.flatten(1).sum(1)


def classifier_guided(point):
    guided = ClassifierGuided(
        Answers(point.schedule, point(N.eps_hat)), straight(point), point(N.scale).item()
    )
    return guided(point(N.x_t), point.t).eps


def sharpened_slope(records):
    """The slope of the logarithm, whatever the classifier is, as one number."""
    side = decode(records["eq-classifier-guided"]["rhs_code"])
    return [side.replace(lambda e: isinstance(e, Derivative), lambda e: g)]


def mean_shifted(point):
    """The mean of the guided step, with σ_t² = β̃_t."""
    guided = MeanShifted(Answers(point.schedule, point(N.eps_hat)), straight(point), point(N.scale).item())
    seen = guided(point(N.x_t), point.t)
    return GaussianDiffusion(point.schedule).posterior(point(N.x_t), seen.x0, point.t).mean


def shifted_mean(records):
    """The mean that is shifted is the model's own, Eq. (eq-model-mean)."""
    side = decode(records["eq-mean-shifted"]["rhs_code"])
    own = decode(records["eq-model-mean"]["rhs_code"])
    return [side.xreplace({N.mean: own}).subs(N.sigma[N.t] ** 2, N.beta_tilde[N.t])]


def pair(point):
    return Answers(point.schedule, point(eps_y)), Answers(point.schedule, point(N.eps_hat))


def classifier_free(point):
    return ClassifierFree(*pair(point), point(N.scale).item())(point(N.x_t), point.t).eps


def by_the_papers_weight(point):
    return ClassifierFree.of_weight(*pair(point), point(w).item())(point(N.x_t), point.t).eps


CASES = {
    "eq-classifier-guided": classifier_guided,
    "eq-mean-shifted": mean_shifted,
    "eq-classifier-free": classifier_free,
    "eq-two-scales": by_the_papers_weight,
}
READ = {"eq-classifier-guided": sharpened_slope, "eq-mean-shifted": shifted_mean}
ADMISSIBLE = {"eq-mean-shifted": [N.t >= 2]}

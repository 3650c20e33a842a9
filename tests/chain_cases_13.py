"""Checked = run, the cases of the chapter on guidance, for ``test_checked_is_run``.

CASES: what the library computes at a point. READ: what of the records that is compared with, where it is not the
right side as it stands; ADMISSIBLE: at which points, where not at all.
"""

from sympy import Symbol, exp

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


def bent(x):
    """A log-probability that is no straight line, so that it is seen where its slope is taken: the slope is g - w x."""
    return g * x - w * x**2 / 2


def curved(point):
    """The same, as the library's classifier."""
    slope, curvature = point(g).item(), point(w).item()
    return lambda x, t: (slope * x - curvature * x**2 / 2).flatten(1).sum(1)


def classifier_guided(point):
    guided = ClassifierGuided(Answers(point.schedule, point(N.eps_hat)), curved(point), point(N.scale).item())
    return guided(point(N.x_t), point.t).eps


def sharpened_slope(records):
    """With the classifier p(y|x_t) put in: no other law, no other power of it and no other place give the same."""
    side = decode(records["eq-classifier-guided"]["rhs_code"])
    known = N.unknown_density("p")(N.label, N.x_t)
    return [side.xreplace({known: exp(bent(N.x_t))}).doit()]


def mean_shifted(point):
    """The mean of the guided step, with σ_t² = β̃_t."""
    guided = MeanShifted(Answers(point.schedule, point(N.eps_hat)), curved(point), point(N.scale).item())
    seen = guided(point(N.x_t), point.t)
    return GaussianDiffusion(point.schedule).posterior(point(N.x_t), seen.x0, point.t).mean


def shifted_mean(records):
    """The mean that is shifted is the model's own, Eq. (eq-model-mean), and g is the slope there."""
    side = decode(records["eq-mean-shifted"]["rhs_code"])
    own = decode(records["eq-model-mean"]["rhs_code"])
    known = {N.mean: own, g: bent(N.x_t).diff(N.x_t).subs(N.x_t, own)}
    return [side.xreplace(known).subs(N.sigma[N.t] ** 2, N.beta_tilde[N.t])]


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

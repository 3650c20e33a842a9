"""The bound of chains whose likelihood and gap are known: all normal, or of one bit. They agree to rounding."""

import math
from itertools import product

import pytest
import torch

from ddpm_lib.binomial import Bernoulli, BinomialDiffusion
from ddpm_lib.bound import (
    Bound,
    bound_terms,
    density_decoder,
    prior_term,
    reverse_step,
    seeded_draw,
    variational_bound,
)
from ddpm_lib.gaussian import GaussianDiffusion
from ddpm_lib.oracle import GaussianOracle, MixtureOracle
from ddpm_lib.schedule import before, from_betas, linear
from tests.oracles import (
    F64,
    SHORT,
    Affine,
    LinearChain,
    covariance,
    kl_normal,
    log_normal,
    randn,
    signs,
    table,
)

D = 2
SIGNS = signs(D)


def exact_bound(denoiser, x0, schedule, variance="beta"):
    """The bound's terms for one vector x_0, (d,), with exact expectations: the mean over all noise vectors of ±1.

    All terms are quadratic in the noise if the denoiser is affine, and the cross terms cancel.
    """
    rows = x0.expand(len(SIGNS), -1)
    diffusion = GaussianDiffusion(schedule)

    def reverse(x_t, t):
        return reverse_step(diffusion, x_t, denoiser(x_t, schedule.steps[t]), t, variance)

    b = bound_terms(rows, diffusion, reverse, density_decoder, lambda law, t: law.sample(SIGNS))
    return Bound(*(x.mean(0) for x in (b.prior, b.steps, b.decoder)), b.t, b.T, b.dims), b.total.mean()


@pytest.mark.parametrize("schedule", SHORT.values(), ids=SHORT)
class TestLinearGaussianChain:
    """Where all laws are normal, the bound, the likelihood and the gap between them are known to rounding."""

    @pytest.mark.parametrize("variance", ["beta", "posterior", "table", "table by pixel"])
    def test_the_bound_is_minus_the_log_likelihood_plus_the_gap(self, schedule, variance):
        """With any reverse steps whatever: the likelihood and the gap come from one normal over all T+1 states."""
        if variance == "table":
            variance = table(schedule)
        elif variance == "table by pixel":
            variance = table(schedule, D)
        denoiser = Affine(schedule, D)
        chain = LinearChain(denoiser, D, schedule, variance)
        for x0 in randn(4, D, seed=5):
            _, total = exact_bound(denoiser, x0, schedule, variance)
            gap = chain.gap(x0)
            assert gap > 0
            assert total.item() == pytest.approx(
                (gap - chain.log_likelihood(x0)).item(), rel=1e-10, abs=1e-10
            )

    @pytest.mark.parametrize("variance", ["beta", "posterior"])
    def test_so_it_is_with_correlated_data_and_their_best_denoiser(self, schedule, variance):
        data = MixtureOracle(schedule, randn(1, D), covariance(1, D))
        at_training_steps = MixtureOracle(linear(), randn(1, D), covariance(1, D))
        denoiser = at_training_steps if schedule is SHORT["respaced"] else data
        chain = LinearChain(denoiser, D, schedule, variance)
        for x0 in data.sample(4, torch.Generator().manual_seed(0)):
            _, total = exact_bound(denoiser, x0, schedule, variance)
            expected = chain.gap(x0) - chain.log_likelihood(x0)
            assert total.item() == pytest.approx(expected.item(), rel=1e-10, abs=1e-10)
            assert total > -chain.log_likelihood(x0)

    def test_it_is_tight_for_unit_normal_data(self, schedule):
        """There q starts at π, so π at the end is exact, and the exact reverse variance is β_t: nothing is lost."""
        denoiser = GaussianOracle(schedule, torch.zeros(D, dtype=F64), torch.ones(D, dtype=F64))
        if schedule is SHORT["respaced"]:
            denoiser = GaussianOracle(linear(), denoiser.mean, denoiser.var)
        for x0 in randn(4, D, seed=5):
            _, total = exact_bound(denoiser, x0, schedule, "beta")
            expected = -log_normal(x0, torch.zeros(D, dtype=F64), torch.eye(D, dtype=F64))
            assert total.item() == pytest.approx(expected.item(), rel=1e-12)

    def test_with_the_exact_reverse_only_the_end_is_lost(self, schedule):
        """Averaged over the data, bound - entropy = KL(q(x_T) ‖ π): the reverse starts at π instead of q(x_T)."""
        mean, var = randn(D), randn(D, seed=1) ** 2
        oracle = GaussianOracle(linear() if schedule is SHORT["respaced"] else schedule, mean, var)
        total = torch.stack(
            [
                exact_bound(oracle, mean + var.sqrt() * s, schedule, exact_variances(schedule, var))[1]
                for s in SIGNS
            ]
        ).mean()
        entropy = 0.5 * (2 * math.pi * math.e * var).log().sum()
        bar, eye = schedule.alpha_bar[-1], torch.eye(D, dtype=F64)
        end = kl_normal(bar.sqrt() * mean, torch.diag(bar * var + 1 - bar), torch.zeros(D, dtype=F64), eye)
        assert (total - entropy).item() == pytest.approx(end.item(), rel=1e-10, abs=1e-10)

    def test_any_other_reverse_loses_more(self, schedule):
        mean, var = randn(D), randn(D, seed=1) ** 2
        oracle = GaussianOracle(linear() if schedule is SHORT["respaced"] else schedule, mean, var)
        best = exact_variances(schedule, var)

        def average(denoiser, variance):
            totals = [exact_bound(denoiser, mean + var.sqrt() * s, schedule, variance)[1] for s in SIGNS]
            return torch.stack(totals).mean().item()

        least = average(oracle, best)
        off = GaussianOracle(oracle.schedule, mean + 0.01, var)
        for denoiser, variance in (
            (off, best),
            (oracle, 1.02 * best),
            (oracle, "beta"),
            (oracle, "posterior"),
        ):
            assert average(denoiser, variance) > least + 1e-7


def exact_variances(schedule, var):
    """Of the exact reverse step for independent normal pixels, (T+1, d): β̃_t + w_t² Var[x_0 | x_t]."""
    bar = schedule.alpha_bar.unsqueeze(1)
    left = var * (1 - bar) / (bar * var + 1 - bar)
    weight = (before(schedule.alpha_bar).sqrt() * schedule.beta / (1 - schedule.alpha_bar)).unsqueeze(1)
    return schedule.beta_tilde.unsqueeze(1) + weight**2 * left


def test_a_chain_of_one_step_has_prior_and_decoder_alone():
    schedule = linear(1, 0.5, 0.5)
    denoiser, x0 = Affine(schedule, D), randn(D)
    bound, total = exact_bound(denoiser, x0, schedule)
    assert bound.steps.shape == (0,)
    chain = LinearChain(denoiser, D, schedule)
    assert total.item() == pytest.approx((chain.gap(x0) - chain.log_likelihood(x0)).item(), rel=1e-12)


def test_one_draw_an_image_and_step_has_the_exact_bound_as_its_mean():
    """5 standard errors with n = 20,000 images."""
    schedule, n = SHORT["linear"], 20_000
    denoiser, x0 = Affine(schedule, D), randn(D)
    exact, total = exact_bound(denoiser, x0, schedule)
    drawn = variational_bound(denoiser, x0.expand(n, D), decoder=density_decoder)
    for values, wanted in ((drawn.total, total), (drawn.steps, exact.steps), (drawn.decoder, exact.decoder)):
        assert ((values.mean(0) - wanted).abs() < 5 * values.std(0) / math.sqrt(n)).all()
    again = variational_bound(denoiser, x0.expand(n, D), decoder=density_decoder, seed=1)
    assert not torch.equal(again.steps, drawn.steps)


class TestBinomialChain:
    """One pixel of one bit, three steps: likelihood and gap by enumeration of all paths."""

    schedule = from_betas([0.2, 0.4, 0.7])
    diffusion = BinomialDiffusion(schedule)
    ones = torch.tensor([[0.1, 0.8], [0.3, 0.9], [0.4, 0.7]], dtype=F64)  # p(x_{t-1} = 1 | x_t), row t - 1

    def reverse(self, x_t, t):
        return Bernoulli(self.ones[t - 1, x_t[:, 0].long()].unsqueeze(1))

    def path_log_p(self, path):
        steps = [self.ones[i, path[i + 1]] for i in range(3)]
        chances = [p if bit else 1 - p for p, bit in zip(steps, path, strict=False)]
        return math.log(0.5) + sum(math.log(c) for c in chances)

    @pytest.mark.parametrize("bit", [0, 1])
    def test_the_bound_is_minus_the_log_likelihood_plus_the_gap(self, bit):
        x0 = torch.full((2, 1), float(bit), dtype=F64)
        both = torch.tensor([[0.0], [1.0]], dtype=F64)
        bound = bound_terms(x0, self.diffusion, self.reverse, density_decoder, lambda law, t: both)
        at = [self.diffusion.marginal(x0[:1], torch.tensor([t])).prob.item() for t in range(4)]
        chance = torch.tensor([[1 - p, p] for p in at], dtype=F64)  # of x_t = 0 and 1
        total = bound.prior[0] + (chance[1] * bound.decoder).sum() + (chance[2:].T * bound.steps).sum()
        likelihood, gap = 0.0, 0.0
        for later in product((0, 1), repeat=3):
            path = (bit, *later)
            flips = zip(path, later, self.schedule.beta[1:].tolist(), strict=False)
            log_q = sum(math.log(b / 2 if one != other else 1 - b / 2) for one, other, b in flips)
            likelihood += math.exp(self.path_log_p(path))
            gap += math.exp(log_q) * (log_q - self.path_log_p(path))
        gap += math.log(likelihood)
        assert gap > 0
        assert total.item() == pytest.approx(gap - math.log(likelihood), rel=1e-12)

    def test_its_prior_term_is_the_divergence_from_a_coin(self):
        bar = self.schedule.alpha_bar[3].item()
        expected = 0.5 * (1 + bar) * math.log(1 + bar) + 0.5 * (1 - bar) * math.log(1 - bar)
        assert prior_term(self.diffusion, torch.zeros(1, 1)).item() == pytest.approx(expected, rel=1e-12)

    def test_it_draws_bits(self):
        x0 = (torch.rand(6, 1, 3, 3) < 0.5).float()
        posterior = self.diffusion.posterior
        bound = bound_terms(
            x0, self.diffusion, lambda x, t: posterior(x, x0 * 0.8 + 0.1, t), density_decoder, seeded_draw(0)
        )
        assert bound.total.isfinite().all()
        assert (bound.steps > 0).all()
        assert bound.total.dtype == F64

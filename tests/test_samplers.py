"""Denoisers and samplers against exact answers: Gaussian data, where the best denoiser is linear."""

import math
import weakref
from itertools import pairwise

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from ddpm_lib.denoiser import Clipped, NetworkDenoiser, coefficients, prediction, target
from ddpm_lib.kernel import standard_normal
from ddpm_lib.oracle import GaussianOracle
from ddpm_lib.samplers import ancestral, annealed_langevin, ddim, euler, sample, seeded
from ddpm_lib.schedule import cosine, from_betas, linear, spaced_steps
from tests.oracles import WAYS as ALL_WAYS

MEAN = torch.tensor([0.3, -0.5, 0.1], dtype=torch.float64)
VAR = torch.tensor([0.04, 0.3, 1.0], dtype=torch.float64)
SCHEDULE = linear()
ORACLE = GaussianOracle(SCHEDULE, MEAN, VAR)
WAYS = ALL_WAYS | {
    "annealed_langevin": (annealed_langevin, {"moves": 1})
}  # one move a step, so that steps chain


def noise(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def last(steps):
    *_, step = steps
    return step.x


def exact_law(oracle, schedule, variances, eps_weight=None):
    """Mean and variance that a sampler's linear-Gaussian recursion gives exactly for a Gaussian oracle.

    With Gaussian data each step is x' = a x + b + σ z with known a, b, σ; so the law of its samples is computed
    here by following mean and variance, with formulas written out afresh from DDIM's Eq. 12.
    """
    mean, var = torch.zeros_like(oracle.mean), torch.ones_like(oracle.var)
    bars = schedule.alpha_bar.tolist()
    for i in range(schedule.T, 0, -1):
        now, prev, noisy = bars[i], bars[i - 1], variances[i].item() if i > 1 else 0.0
        gain = math.sqrt(now) * oracle.var / (now * oracle.var + 1 - now)
        x0 = (oracle.mean - gain * math.sqrt(now) * oracle.mean, gain)  # x̂_0 = x0[0] + x0[1] x
        eps = (
            -math.sqrt(now) * x0[0] / math.sqrt(1 - now),
            (1 - math.sqrt(now) * x0[1]) / math.sqrt(1 - now),
        )
        weight = (
            math.sqrt(max(1 - prev - schedule.beta_tilde[i].item(), 0.0))
            if eps_weight is None
            else eps_weight(i)
        )
        shift = math.sqrt(prev) * x0[0] + weight * eps[0]
        slope = math.sqrt(prev) * x0[1] + weight * eps[1]
        mean, var = slope * mean + shift, slope**2 * var + noisy
    return mean, var


@pytest.mark.parametrize("schedule", [linear(), cosine(400), linear(50, 1e-3, 0.3)])
@pytest.mark.parametrize("variance", ["posterior", "beta"])
def test_ancestral_returns_the_law_that_follows_from_the_oracle(schedule, variance):
    oracle, n = GaussianOracle(schedule, MEAN, VAR), 20_000
    x = last(ancestral(oracle, noise(n, 3), variance=variance, generators=torch.Generator().manual_seed(1)))
    mean, var = exact_law(oracle, schedule, schedule.beta_tilde if variance == "posterior" else schedule.beta)
    assert ((x.mean(0) - mean).abs() < 5 * (var / n).sqrt()).all()
    assert ((x.var(0) / var - 1).abs() < 5 * math.sqrt(2 / n)).all()


def test_ancestral_law_is_the_datas_law():
    for variances in (SCHEDULE.beta_tilde, SCHEDULE.beta):
        mean, var = exact_law(ORACLE, SCHEDULE, variances)
        torch.testing.assert_close(mean, MEAN, rtol=0.01, atol=0.001)
        torch.testing.assert_close(var, VAR, rtol=0.06, atol=0)


def test_beta_variance_is_exact_for_unit_data_and_beta_tilde_for_a_point():
    """DDPM section 3.2: the two extremes, each exact for its data (here with ᾱ_T near 0 and all of the chain)."""
    unit = GaussianOracle(SCHEDULE, torch.zeros(1).double(), torch.ones(1).double())
    _, var = exact_law(unit, SCHEDULE, SCHEDULE.beta)
    assert abs(var.item() - (1 - SCHEDULE.beta[1].item())) < 1e-9, (
        "all but the noise that the last step leaves out"
    )
    point = GaussianOracle(SCHEDULE, torch.full((1,), 0.7, dtype=torch.float64), torch.zeros(1).double())
    mean, var = exact_law(point, SCHEDULE, SCHEDULE.beta_tilde)
    assert mean.item() == pytest.approx(0.7, abs=1e-12)
    assert var.item() == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("S", [5, 20, 100])
@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_ddim_returns_the_law_that_follows_from_the_oracle(S, eta):
    schedule, n = SCHEDULE.respace(spaced_steps(1000, S)), 20_000
    x = last(ddim(ORACLE, noise(n, 3), schedule, eta=eta, generators=torch.Generator().manual_seed(1)))
    variances = eta**2 * schedule.beta_tilde
    bars = schedule.alpha_bar

    def weight(i):
        return math.sqrt(max(1 - bars[i - 1].item() - variances[i].item(), 0.0))

    mean, var = exact_law(ORACLE, schedule, variances, weight)
    assert ((x.mean(0) - mean).abs() < 5 * (var / n).sqrt()).all()
    assert ((x.var(0) / var - 1).abs() < 5 * math.sqrt(2 / n)).all()


def test_ddim_converges_with_order_one():
    """Deterministic DDIM against the exact flow map of Gaussian data, which keeps (x - √ᾱ m)/√(ᾱ v + 1 - ᾱ)."""
    x_T, errors, counts = noise(64, 3), [], [25, 50, 100, 200, 400]
    bar = SCHEDULE.alpha_bar[-1]
    exact = MEAN + VAR.sqrt() * (x_T - bar.sqrt() * MEAN) / (bar * VAR + 1 - bar).sqrt()
    for S in counts:
        # respaced at steps even in σ/√ᾱ's angle, so that every step shrinks as 1/S
        angles = SCHEDULE.alpha_bar.sqrt().acos()
        wanted = torch.linspace(angles[1], angles[-1], S, dtype=torch.float64)
        taus = torch.searchsorted(angles, wanted).clamp(1, 1000).unique()
        errors.append((last(ddim(ORACLE, x_T, SCHEDULE.respace(taus))) - exact).abs().mean().item())
    slopes = [math.log(a / b, 2) for a, b in pairwise(errors[:4])]
    assert all(0.8 < slope < 1.3 for slope in slopes), (slopes, errors)


@pytest.mark.parametrize("full", [SCHEDULE, cosine()])
@pytest.mark.parametrize("S", [13, 1000])
def test_trap_8_ddim_at_eta_one_is_ancestral_step_by_step(full, S):
    x_T, oracle, schedule = noise(8, 3), GaussianOracle(full, MEAN, VAR), full.respace(spaced_steps(1000, S))
    pairs = zip(
        ancestral(oracle, x_T, schedule, generators=seeded(3, 8)),
        ddim(oracle, x_T, schedule, eta=1.0, generators=seeded(3, 8)),
        strict=True,
    )
    for one, other in pairs:
        assert (one.t, one.t_prev) == (other.t, other.t_prev)
        torch.testing.assert_close(one.x, other.x, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("way", WAYS)
class TestContract:
    """What every sampler promises."""

    def test_visits_the_schedules_own_steps(self, way):
        """Trap 1: the previous step comes from the schedule's list, for step numbers that do not divide 1000."""
        sampler, options = WAYS[way]
        for S in (1, 7, 13, 300):
            for spacing in ("uniform", "leading", "trailing", "quadratic"):
                taus = spaced_steps(1000, S, spacing).tolist()
                walked = list(sampler(ORACLE, noise(2, 3), SCHEDULE.respace(taus), **options))
                assert [step.t for step in walked] == taus[::-1]
                assert [step.t_prev for step in walked] == [*taus[-2::-1], 0]

    def test_all_steps_in_a_respaced_chain_are_the_full_chain(self, way):
        sampler, options = WAYS[way]
        full = sample(ORACLE, (4, 3), sampler, **options)
        respaced = sample(ORACLE, (4, 3), sampler, steps=1000, spacing="quadratic", **options)
        torch.testing.assert_close(full, respaced, rtol=0, atol=0)

    def test_a_sample_does_not_depend_on_its_neighbours(self, way):
        sampler, options = WAYS[way]
        many = sample(ORACLE, (5, 3), sampler, steps=20, seed=7, **options)
        few = sample(ORACLE, (2, 3), sampler, steps=20, seed=7, **options)
        torch.testing.assert_close(many[:2], few, rtol=0, atol=0)

    def test_trap_5_no_noise_in_the_last_step(self, way):
        sampler, options = WAYS[way]
        *_, step = sampler(
            ORACLE, noise(4, 3), SCHEDULE, generators=torch.Generator().manual_seed(0), **options
        )
        if sampler is euler:  # in log ᾱ even the last step keeps some of x_t's noise, but adds none
            again = next(iter(euler(ORACLE, step.x_t, SCHEDULE.respace([1]))))
            torch.testing.assert_close(step.x, again.x, rtol=0, atol=0)
        else:
            torch.testing.assert_close(step.x, step.x0, rtol=1e-9, atol=1e-9)

    def test_steps_chain(self, way):
        sampler, options = WAYS[way]
        walked = list(sampler(ORACLE, noise(2, 3), SCHEDULE.respace([5, 50, 500]), **options))
        for one, following in pairwise(walked):
            assert one.x is following.x_t

    def test_makes_no_graph(self, way):
        net = torch.nn.Linear(3, 3)
        denoiser = NetworkDenoiser(lambda x, t, y: net(x), SCHEDULE, "v")
        sampler, options = WAYS[way]
        for step in sampler(denoiser, torch.zeros(2, 3), SCHEDULE.respace([5, 50]), **options):
            assert not step.x.requires_grad
            assert torch.is_grad_enabled()

    def test_runs_on_the_meta_device(self, way):
        """A tensor made on the wrong device would fail here on any machine."""
        sampler, options = WAYS[way]
        step = list(sampler(ORACLE, torch.empty(2, 3, device="meta"), SCHEDULE.respace([5, 50]), **options))[
            -1
        ]
        assert step.x.device.type == "meta"

    @pytest.mark.cuda
    def test_cuda_gives_what_the_cpu_gives(self, way):
        sampler, options = WAYS[way]
        cpu = sample(ORACLE, (4, 3), sampler, steps=50, **options)
        cuda = sample(ORACLE, (4, 3), sampler, steps=50, device="cuda", **options)
        torch.testing.assert_close(cuda.cpu(), cpu, rtol=1e-4, atol=1e-4)


class Counted(TorchDispatchMode):
    """Counts the tensor operations inside it."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        self.count += 1
        return operation(*args, **(kwargs or {}))


@pytest.mark.parametrize(("way", "most"), [(ddim, 13), (ancestral, 17)])
def test_a_step_takes_few_operations_beyond_the_network(way, most):
    """What sampling costs beyond the network is mostly the number of operations; one an image is its own noise."""
    denoiser, images = NetworkDenoiser(lambda x, t, y: x, SCHEDULE, "eps"), 4
    counts = []
    for steps in (5, 15):
        with Counted() as counted:
            sample(denoiser, (images, 1, 28, 28), way, steps)
        counts.append(counted.count)
    each = (counts[1] - counts[0]) / 10
    assert 5 < each <= most + images * (way is ancestral)


def test_trap_6_x0_is_clipped_before_the_mean_is_formed():
    x_t, t = torch.full((1, 3), 4.0, dtype=torch.float64), torch.tensor([200])
    free, clipped = ORACLE(x_t, t), Clipped(ORACLE)(x_t, t)
    assert free.x0.max() > 1
    assert clipped.x0.max() == 1
    one = next(iter(ancestral(Clipped(ORACLE), x_t, SCHEDULE.respace([100, 200]), generators=seeded(0, 1))))
    other = next(iter(ancestral(ORACLE, x_t, SCHEDULE.respace([100, 200]), generators=seeded(0, 1))))
    assert (one.x - other.x).abs().max() > 0.05


def test_trap_7_eps_is_derived_again_from_the_clipped_x0():
    x_t, t = noise(6, 3) * 3, torch.full((6,), 700)
    seen = Clipped(ORACLE)(x_t, t)
    a, sigma = coefficients(SCHEDULE, t, x_t)
    torch.testing.assert_close(a * seen.x0 + sigma * seen.eps, x_t)


@pytest.mark.parametrize("objective", ["eps", "x0", "v"])
def test_every_objective_gives_back_x0_and_eps(objective):
    x0, eps = noise(5, 1, 4, 4, seed=1), noise(5, 1, 4, 4, seed=2)
    t = torch.tensor([1, 10, 300, 900, 1000])
    a, sigma = coefficients(SCHEDULE, t, x0)
    seen = prediction(objective, SCHEDULE, a * x0 + sigma * eps, target(objective, SCHEDULE, x0, eps, t), t)
    torch.testing.assert_close(seen.x0, x0, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(seen.eps, eps, rtol=1e-9, atol=1e-9)


def test_oracle_score_is_the_gradient_of_the_log_density():
    x_t, t = noise(6, 3).requires_grad_(), torch.tensor([1, 5, 50, 300, 700, 1000])
    bar = SCHEDULE.alpha_bar[t].view(-1, 1)
    log_density = -0.5 * (x_t - bar.sqrt() * MEAN) ** 2 / (bar * VAR + 1 - bar)
    (gradient,) = torch.autograd.grad(log_density.sum(), x_t)
    torch.testing.assert_close(ORACLE(x_t, t).score, gradient)


def test_trap_10_x0_cannot_come_from_eps_where_alpha_bar_is_0():
    schedule = from_betas([0.1, 0.5, 1.0])
    x, t = torch.zeros(2, 3), torch.tensor([2, 3])
    with pytest.raises(
        ValueError, match=r"'eps' says nothing about x_0 where alpha_bar\[T\] = 0; use 'x0' or 'v'"
    ):
        prediction("eps", schedule, x, x, t)
    for objective in ("x0", "v"):
        assert prediction(objective, schedule, x, x, t).x0.isfinite().all()
    assert prediction("eps", schedule, x, x, torch.tensor([1, 2])).x0.isfinite().all()


def test_one_generator_an_image_is_asked_for():
    with pytest.raises(ValueError, match="generators: expected one an image, 3, got 2"):
        standard_normal(torch.zeros(3, 2), seeded(0, 2))


def test_seeds_give_different_images():
    draws = [standard_normal(torch.zeros(3, 50), seeded(seed, 3)) for seed in (0, 1)]
    rows = torch.cat(draws)
    assert torch.corrcoef(rows).fill_diagonal_(0).abs().max() < 0.7


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: ddim(ORACLE, noise(1, 3), eta=1.5), r"eta: expected a number in \[0, 1\], got 1.5"),
        (lambda: ancestral(ORACLE, noise(1, 3), variance="small"), "variance: expected .* got 'small'"),
        (lambda: ORACLE(noise(1, 3), torch.tensor([0])), r"t: expected steps in 1\.\.1000, got 0"),
        (lambda: ORACLE(noise(2, 3), torch.tensor([4])), "t: expected one step a sample"),
        (lambda: NetworkDenoiser(torch.nn.Identity(), SCHEDULE, "noise"), "objective: .* got 'noise'"),
        (
            lambda: NetworkDenoiser(lambda x, t, y: x[:1], SCHEDULE)(noise(2, 3), torch.tensor([1, 2])),
            "net.*shape of x_t",
        ),
        (
            lambda: GaussianOracle(SCHEDULE, MEAN, -VAR),
            "var: expected variances >= 0, got a least value of -1.0",
        ),
        (lambda: sample(ORACLE, (1, 3), steps=2000), "S: expected a number of steps in 1..1000, got 2000"),
    ],
)
def test_bad_input_is_named(call, words):
    with pytest.raises(ValueError, match=words):
        call()


@pytest.mark.parametrize("way", WAYS)
def test_what_is_kept_does_not_grow_with_the_number_of_steps(way):
    sampler, options = WAYS[way]

    def most_alive(steps):
        seen, alive = [], []

        class Watched(GaussianOracle):
            def __call__(self, x_t, t):
                answer = super().__call__(x_t, t)
                seen.extend(map(weakref.ref, (x_t, answer.x0, answer.eps)))
                alive.append(sum(tensor() is not None for tensor in seen))
                return answer

        sample(Watched(SCHEDULE, MEAN, VAR), (7, 3), sampler, steps=steps, **options)
        return max(alive)

    assert 3 <= most_alive(50) <= most_alive(10) <= 10

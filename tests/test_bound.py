"""The bound's terms and their sum on real and other images, the traps on its way, and what it refuses."""

import math

import pytest
import torch

from ddpm_lib import data
from ddpm_lib.bound import (
    bits_per_dim,
    density_decoder,
    discretised_decoder,
    log_bin_mass,
    loss_weight,
    prior_term,
    reverse_step,
    reverse_variances,
    seeded_draw,
    step_constant,
    step_term,
    variational_bound,
)
from ddpm_lib.denoiser import NetworkDenoiser, prediction
from ddpm_lib.gaussian import GaussianDiffusion, Normal
from ddpm_lib.oracle import GaussianOracle
from ddpm_lib.schedule import linear
from tests.oracles import F64, SHORT, Affine, randn, table

D = 2


@pytest.mark.parametrize("variance", ["beta", "posterior"])
@pytest.mark.parametrize("decoder", [density_decoder, discretised_decoder])
@pytest.mark.parametrize("name", SHORT)
def test_trap_13_the_bound_is_the_sum_of_all_its_terms(name, decoder, variance):
    """Every path is executed, and each term is what its own function gives for the same draw."""
    schedule = SHORT[name]
    x0 = torch.randint(0, 256, (3, 1, 2, 2)).double() / 127.5 - 1
    oracle = GaussianOracle(linear() if name == "respaced" else schedule, randn(1, 2, 2), randn(1, 2, 2) ** 2)
    bound = variational_bound(oracle, x0, schedule, variance, decoder, seed=3)
    diffusion, draw, T = GaussianDiffusion(schedule), seeded_draw(3), schedule.T
    terms = [prior_term(diffusion, x0)]
    for i in range(1, T + 1):
        t = torch.full((3,), i)
        x_t = draw(diffusion.marginal(x0, t), i)
        p = reverse_step(diffusion, x_t, oracle(x_t, schedule.steps[t]), t, variance)
        terms.append(step_term(diffusion, x0, x_t, t, p) if i > 1 else decoder(x0, p))
    assert bound.t.tolist() == list(range(2, T + 1))
    assert torch.equal(bound.prior, terms[0])
    assert torch.equal(bound.decoder, terms[1])
    assert torch.equal(bound.steps, torch.stack(terms[2:], 1))
    torch.testing.assert_close(bound.total, torch.stack(terms).sum(0), rtol=1e-14, atol=0)
    torch.testing.assert_close(bound.bits_per_dim, bound.total / 4 / math.log(2), rtol=1e-14, atol=0)


def test_trap_13_some_of_the_steps_have_no_total():
    schedule, x0 = SHORT["linear"], torch.zeros(2, D, dtype=F64)
    whole = variational_bound(Affine(schedule, D), x0, decoder=density_decoder)
    some = variational_bound(Affine(schedule, D), x0, decoder=density_decoder, steps=[7, 3])
    assert torch.equal(some.steps, whole.steps[:, [5, 1]])
    assert torch.equal(some.decoder, whole.decoder)
    for field in ("total", "bits_per_dim"):
        with pytest.raises(ValueError, match=r"t: the bound is the sum over all 7 steps 2\.\.8, got 2"):
            getattr(some, field)


def test_each_step_and_each_seed_has_noise_of_its_own():
    law = Normal(torch.zeros(3, 50, dtype=F64), torch.ones(3, 50, dtype=F64))
    draws = torch.stack([seeded_draw(seed)(law, t).flatten() for seed in (0, 1) for t in (1, 2, 1000)])
    assert torch.corrcoef(draws).fill_diagonal_(0).abs().max() < 5 / 150**0.5
    assert torch.equal(seeded_draw(1)(law, 2), seeded_draw(1)(law, 2))


def test_a_respaced_chain_asks_its_denoiser_at_the_steps_of_training():
    asked, schedule = [], linear()
    oracle = GaussianOracle(schedule, torch.zeros(D), torch.ones(D))

    class Heard:
        def __init__(self):
            self.schedule = schedule

        def __call__(self, x_t, t):
            asked.append(t.tolist())
            return oracle(x_t, t)

    variational_bound(Heard(), torch.zeros(2, D), schedule.respace([3, 40, 900]), decoder=density_decoder)
    assert asked == [[3, 3], [40, 40], [900, 900]]


def test_trap_12_beta_tilde_1_is_never_a_variance():
    """With β̃_t the decoder's variance is β_1; so L_0 is that of β_t, and no logarithm of a clamped zero spoils it."""
    schedule = linear()
    assert schedule.beta_tilde[1] == 0
    assert reverse_variances(schedule, "posterior")[1] == schedule.beta[1]
    assert torch.equal(reverse_variances(schedule, "posterior")[2:], schedule.beta_tilde[2:])
    x0 = data.to_unit(data.mnist5k("test").pixels[::100])
    oracle = GaussianOracle(schedule, x0.mean(), torch.tensor(0.3))
    one, other = (variational_bound(oracle, x0, variance=v, steps=[2]) for v in ("beta", "posterior"))
    assert torch.equal(one.decoder, other.decoder)
    assert one.decoder.isfinite().all()
    assert other.steps.isfinite().all()
    with pytest.raises(ValueError, match=r"t: expected steps in 2\.\.1000, got 1"):
        step_term(GaussianDiffusion(schedule), x0, x0, torch.ones(len(x0), dtype=torch.int64), None)
    for objective in ("eps", "x0", "v"):
        assert loss_weight(objective, schedule, "posterior")[1:].isfinite().all()
    assert step_constant(schedule, "posterior").isfinite().all()


def test_trap_15_the_prior_term_keeps_its_digits_from_float32_images():
    """½ (ᾱ_T x_0² - ᾱ_T - log(1 - ᾱ_T)) a pixel: about 2e-5 nats for x_0² = 1, and ᾱ_T² / 4 of it from the variance."""
    schedule = linear()
    bar = math.exp(schedule.log_alpha_bar[-1].item())
    assert math.sqrt(bar) == pytest.approx(0.0064, abs=5e-5)
    x0 = torch.tensor([[1.0, -1.0, 0.5, 0.0]])
    expected = sum(0.5 * (bar * x * x - bar - math.log1p(-bar)) for x in x0[0].tolist())
    for dtype in (torch.float32, F64):
        assert prior_term(GaussianDiffusion(schedule), x0.to(dtype)).item() == pytest.approx(
            expected, rel=1e-9
        )
    grey = prior_term(GaussianDiffusion(schedule), torch.full((1, 3072), 0.5))  # mean square 1/4
    assert bits_per_dim(grey, 3072).item() == pytest.approx(7e-6, rel=0.06)
    zero = prior_term(GaussianDiffusion(schedule), torch.zeros(1, 1))
    assert zero.item() == pytest.approx(bar**2 / 4, rel=1e-4)


DIGITS = data.to_unit(data.mnist5k("test").pixels[::50])
ON_DIGITS = {
    "network": (
        NetworkDenoiser(lambda x, t, y: torch.nn.Conv2d(1, 1, 3, padding=1)(x), linear(), "v"),
        DIGITS,
    ),
    "oracle": (GaussianOracle(linear(), DIGITS.mean(0), DIGITS.var(0) + 1e-3), DIGITS),
    "oracle in float64": (GaussianOracle(linear(), DIGITS.mean(0), DIGITS.var(0) + 1e-3), DIGITS.double()),
}


@pytest.mark.parametrize("name", ON_DIGITS)
def test_the_terms_of_digits_are_float64_and_keep_no_graph(name):
    denoiser, x0 = ON_DIGITS[name]
    bound = variational_bound(denoiser, x0, linear().respace([1, 10, 100, 400, 1000]))
    for part in (bound.prior, bound.steps, bound.decoder, bound.total):
        assert part.dtype == F64
        assert part.isfinite().all()
        assert not part.requires_grad
    assert (bound.steps > 0).all()
    assert bound.dims == 784
    assert torch.is_grad_enabled()


def test_the_terms_can_be_trained_on():
    """A loss made of them has the gradient of what it says: here that of ‖x_0 - x̂_0‖² w_t."""
    schedule, t = SHORT["linear"], torch.tensor([1, 4])
    diffusion, x0, x_t = GaussianDiffusion(schedule), randn(2, 3), randn(2, 3, seed=1)
    guess = randn(2, 3, seed=2).requires_grad_()
    p = reverse_step(diffusion, x_t, prediction("x0", schedule, x_t, guess, t), t)
    (
        step_term(diffusion, x0[1:], x_t[1:], t[1:], Normal(p.mean[1:], p.var[1:])).sum()
        + density_decoder(x0, p)[0]
    ).backward()
    expected = 2 * loss_weight("x0", schedule)[t].unsqueeze(1) * (guess - x0).detach()
    torch.testing.assert_close(guess.grad, expected)


def test_it_runs_on_the_meta_device():
    """A tensor made on the wrong device would fail here on any machine."""
    x0 = torch.empty(3, 1, 4, 4, device="meta")
    oracle = GaussianOracle(linear(), torch.zeros(1, 4, 4), torch.ones(1, 4, 4))
    for decoder in (discretised_decoder, density_decoder):
        bound = variational_bound(
            oracle, x0, linear().respace([1, 50, 900]), table(linear(3), 1, 4, 4), decoder
        )
        assert (bound.total.device.type, bound.total.shape, bound.total.dtype) == ("meta", (3,), F64)


@pytest.mark.cuda
def test_cuda_gives_what_the_cpu_gives():
    x0 = data.to_unit(data.mnist5k("test").pixels[::100])
    oracle, schedule = GaussianOracle(linear(), x0.mean(), torch.tensor(0.3)), linear().respace([1, 50, 900])
    cpu, cuda = (variational_bound(oracle, x, schedule) for x in (x0, x0.cuda()))
    torch.testing.assert_close(cuda.total.cpu(), cpu.total, rtol=1e-4, atol=1e-4)


def test_progress_is_shown_when_it_is_asked_for(capsys):
    x0 = torch.zeros(1, D)
    variational_bound(Affine(SHORT["linear"], D), x0.double(), decoder=density_decoder)
    assert capsys.readouterr().err == ""
    variational_bound(Affine(SHORT["linear"], D), x0.double(), decoder=density_decoder, progress=True)
    assert "bound:" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda s, x: reverse_variances(s, "small"), "variance: expected 'beta', 'posterior' .* got 'small'"),
        (
            lambda s, x: reverse_variances(s, s.beta[1:]),
            r"variance: expected a table of 9 entries, got \(8,\)",
        ),
        (lambda s, x: reverse_variances(s, torch.tensor(1.0)), r"variance: expected a table .* got \(\)"),
        (lambda s, x: reverse_variances(s, s.beta_tilde), "variance: expected positive and finite values"),
        (lambda s, x: reverse_variances(s, s.beta / 0), "variance: expected positive and finite values"),
        (lambda s, x: loss_weight("noise", s), "objective: expected one of eps, x0, v, got 'noise'"),
        (lambda s, x: loss_weight("eps", s, table(s, D)), r"variance: expected one number a step .*\(9, 2\)"),
        (lambda s, x: bits_per_dim(x, 0), "dims: expected a number of coordinates >= 1, got 0"),
        (
            lambda s, x: variational_bound(Affine(s, D), x, steps=[1, 2]),
            r"steps: expected steps in 2\.\.8, got 1",
        ),
        (
            lambda s, x: variational_bound(Affine(s, D), x, steps=[2, 2]),
            r"steps: expected each step once, got",
        ),
        (lambda s, x: variational_bound(Affine(s, D), x), "x0: expected 8-bit images"),
        (lambda s, x: discretised_decoder(x, Normal(x[:1], x[:1])), r"p\.mean: expected the shape of x0"),
        (lambda s, x: density_decoder(x[:1], Normal(x, x)), "p: expected the shape of x0"),
        (
            lambda s, x: log_bin_mass(torch.arange(2), Normal(x, 0 * x)),
            r"p\.var: expected variances > 0, got .* 0\.0",
        ),
        (
            lambda s, x: log_bin_mass(torch.arange(2), Normal(x, math.nan * x)),
            r"p\.var: expected variances > 0, got .* nan",
        ),
    ],
)
def test_bad_input_is_named(call, words):
    with pytest.raises(ValueError, match=words):
        call(SHORT["linear"], torch.full((2, D), 0.1, dtype=F64))

"""The discretised decoder against fifty digits: its bins, their tails, its gradients, and what it refuses."""

import math

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from ddpm_lib import data
from ddpm_lib.bound import discretised_decoder, log_bin_mass, to_levels
from ddpm_lib.gaussian import Normal
from tests.oracles import F64

MEANS = (-30.0, -3.0, -1.0039, -1.0, -0.9961, -0.5, 0.0, 0.3, 0.99, 1.0, 1.5, 30.0)
VARIANCES = (1e-6, 1e-4, 1e-2, 0.1, 1.0)
LEVELS = torch.arange(256)


def normal(mean, var):
    return Normal(torch.tensor(mean, dtype=F64), torch.tensor(var, dtype=F64))


def exact_mass(level, mean, var):
    """log of N(mean, var)'s mass in a level's bin to 50 digits, for exactly these float64 mean and variance."""
    with mpmath.workdps(60):
        scale = mpmath.sqrt(mpmath.mpf(var))
        low = -mpmath.inf if level == 0 else (mpmath.mpf(2 * level - 256) / 255 - mpmath.mpf(mean)) / scale
        high = mpmath.inf if level == 255 else (mpmath.mpf(2 * level - 254) / 255 - mpmath.mpf(mean)) / scale
        low, high = low / mpmath.sqrt(2), high / mpmath.sqrt(2)
        if low + high > 0:
            low, high = -high, -low
        if high > 0:
            return mpmath.log1p(-(mpmath.erfc(-low) + mpmath.erfc(high)) / 2)
        return mpmath.log((mpmath.erfc(-high) - mpmath.erfc(-low)) / 2)


@pytest.mark.parametrize("var", VARIANCES)
@pytest.mark.parametrize("mean", MEANS)
class TestDecoder:
    def test_trap_11_the_256_bins_sum_to_one(self, mean, var):
        assert log_bin_mass(LEVELS, normal(mean, var)).exp().sum().item() == pytest.approx(1, abs=1e-12)

    def test_it_is_the_difference_of_normal_cdfs(self, mean, var):
        """Where scipy's difference has digits: taken on the side on which both are small."""
        edges = np.concatenate([[-np.inf], (2 * np.arange(1, 256) - 256) / 255, [np.inf]])
        law = stats.norm(mean, var**0.5)
        left = edges[1:] + edges[:-1] < 2 * mean
        mass = np.where(left, np.diff(law.cdf(edges)), -np.diff(law.sf(edges)))
        ours = log_bin_mass(LEVELS, normal(mean, var)).exp().numpy()
        np.testing.assert_allclose(ours, mass, rtol=1e-9, atol=1e-14)

    def test_it_has_float64s_digits_even_where_the_mass_underflows(self, mean, var):
        levels = [0, 1, 2, 127, 128, 166, 253, 254, 255]
        ours = log_bin_mass(torch.tensor(levels), normal(mean, var))
        for level, value in zip(levels, ours.tolist(), strict=True):
            exact = exact_mass(level, mean, var)
            # The edges' own rounding, 1e-16, moves the mass by a share of 1e-16 · distance / variance.
            rounding = 2e-15 * (1 + (abs(mean) + 1) ** 2 / var)
            assert abs(value - exact) <= 1e-12 * abs(exact) + rounding * min(1, abs(exact)) + 1e-300


def test_a_mass_next_to_one_keeps_the_digits_of_its_logarithm():
    """Level 128 and all its neighbours' mass: -log is about 1e-9, which 1 - 1e-9 alone could not give."""
    value = log_bin_mass(torch.tensor(128), normal(1 / 255, 4e-7)).item()
    exact = exact_mass(128, 1 / 255, 4e-7)
    assert 1e-12 < -value < 1e-8
    assert abs(value / exact - 1) < 1e-11


@given(
    level=st.integers(0, 255),
    mean=st.floats(-50, 50),
    log_var=st.floats(-14, 5),
)
def test_the_decoder_agrees_with_fifty_digits(level, mean, log_var):
    var = math.exp(log_var)
    value, exact = log_bin_mass(torch.tensor(level), normal(mean, var)).item(), exact_mass(level, mean, var)
    rounding = 2e-15 * (1 + (abs(mean) + 1) ** 2 / var)
    assert abs(value - exact) <= 1e-11 * abs(exact) + rounding


def test_trap_11_the_tanh_approximation_would_be_another_number():
    """Of the normal CDF, as used elsewhere: off by 2e-4 near its middle, by 3 nats at -18, and soon by infinity."""

    def approximate(x):
        return 0.5 * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))

    edges, scale = (2 * torch.arange(257, dtype=F64) - 256) / 255, 0.02
    mass = approximate((edges[1:] - 0.1) / scale) - approximate((edges[:-1] - 0.1) / scale)
    ours = log_bin_mass(LEVELS, normal(0.1, scale**2))
    assert 1e-4 < (mass - ours.exp()).abs().max() < 3e-4
    assert ours[155].item() == pytest.approx(float(exact_mass(155, 0.1, scale**2)), rel=1e-12)
    assert mass[155].log() / ours[155] > 1.1
    assert mass[165] == 0
    assert ours[165] > -50


@pytest.mark.parametrize("level", [0, 1, 127, 128, 254, 255])
@pytest.mark.parametrize(
    ("mean", "var"), [(0.0, 0.3), (-0.99, 1e-4), (1.2, 0.01), (0.4, 1e-4), (-40.0, 1e-4), (1 / 255, 1e-8)]
)
def test_the_decoder_has_a_gradient_everywhere(level, mean, var):
    """In both branches, in the open bins, where a float would underflow, and where all of the mass is in the bin."""
    m, v = (torch.tensor(x, dtype=F64, requires_grad=True) for x in (mean, var))
    log_bin_mass(torch.tensor(level), Normal(m, v)).backward()
    with mpmath.workdps(40):
        for x, slope in (
            (m, mpmath.diff(lambda u: exact_mass(level, u, var), mean)),
            (v, mpmath.diff(lambda u: exact_mass(level, mean, u), var)),
        ):
            assert abs(x.grad.item() - slope) <= 1e-7 * abs(slope) + 1e-9


def test_every_byte_is_read_back():
    x = data.to_unit(torch.arange(256, dtype=torch.uint8))
    assert torch.equal(to_levels(x), LEVELS)
    assert torch.equal(to_levels(x.double()), LEVELS)


@pytest.mark.parametrize(
    "x",
    [
        torch.tensor([0.0]),
        torch.tensor([-1.0, 0.3]),
        torch.tensor([1.0 + 2 / 255]),
        torch.tensor([-1.01]),
        torch.tensor([float("nan")]),
        torch.arange(65536) / 32767.5 - 1,
        (torch.arange(256) + torch.rand(256)) / 127.5 - 1,
        data.to_unit(torch.arange(256, dtype=torch.uint8)).bfloat16(),
        torch.arange(256) / 255,
    ],
    ids=["between", "one of two", "256", "below", "nan", "16 bit", "dequantised", "bfloat16", "[0, 1]"],
)
def test_trap_14_data_that_are_not_8_bit_are_refused(x):
    with pytest.raises(ValueError, match=r"x0: expected 8-bit images, byte / 127\.5 - 1 in \[-1, 1\], got"):
        discretised_decoder(x.unsqueeze(0), Normal(torch.zeros(1, len(x)), torch.ones(1, 1)))

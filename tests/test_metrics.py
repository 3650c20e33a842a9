"""Distances between sets of images, against closed forms, against scipy and against two other libraries."""

import math

import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import given
from hypothesis import strategies as st

from ddpm_lib import metrics


def normal(n, d, seed=0, mean=0.0, scale=1.0):
    """n features of d correlated dimensions, float64."""
    generator = torch.Generator().manual_seed(seed)
    mix = torch.randn(d, d, generator=torch.Generator().manual_seed(d), dtype=torch.float64) / math.sqrt(d)
    return torch.randn(n, d, generator=generator, dtype=torch.float64) @ mix * scale + mean


def by_sqrtm(a, b):
    """The distance as its formula reads, with scipy's root of the product."""
    a, b = a.double().numpy(), b.double().numpy()
    root = scipy.linalg.sqrtm(np.cov(a.T) @ np.cov(b.T))
    gap = a.mean(0) - b.mean(0)
    return gap @ gap + np.trace(np.cov(a.T) + np.cov(b.T) - 2 * root.real)


@pytest.mark.parametrize("d", [2, 9, 64])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_frechet_equals_scipys_matrix_root(d, dtype):
    a, b = normal(200, d, 1).to(dtype), normal(150, d, 2, mean=0.3, scale=1.5).to(dtype)
    assert metrics.frechet_distance(a, b) == pytest.approx(by_sqrtm(a, b), rel=1e-9)


@given(
    *[st.floats(-5, 5) for _ in range(2)],
    *[st.floats(0.01, 5) for _ in range(2)],
)
def test_frechet_of_two_normal_laws_of_numbers(m_a, m_b, s_a, s_b):
    law = [torch.tensor([v], dtype=torch.float64) for v in (m_a, s_a**2, m_b, s_b**2)]
    law[1], law[3] = law[1].view(1, 1), law[3].view(1, 1)
    assert metrics.frechet_between(*law) == pytest.approx((m_a - m_b) ** 2 + (s_a - s_b) ** 2, abs=1e-9)


def test_frechet_of_laws_with_common_axes():
    axes = torch.linalg.qr(normal(5, 5))[0]
    s_a, s_b = torch.arange(1.0, 6).double(), torch.tensor([2.0, 2, 0, 7, 1]).double()
    means = torch.zeros(5).double(), torch.ones(5).double()
    covs = [axes @ torch.diag(s**2) @ axes.T for s in (s_a, s_b)]
    found = metrics.frechet_between(means[0], covs[0], means[1], covs[1])
    assert found == pytest.approx(5 + (s_a - s_b).square().sum().item(), rel=1e-7)


def test_frechet_does_not_see_rotation_shift_or_order_and_scales_with_the_square():
    a, b = normal(100, 8, 1), normal(120, 8, 2, mean=0.5)
    plain = metrics.frechet_distance(a, b)
    turn, shift = torch.linalg.qr(normal(8, 8, 3))[0], normal(1, 8, 4) * 10
    assert metrics.frechet_distance(a @ turn + shift, b @ turn + shift) == pytest.approx(plain, rel=1e-9)
    assert metrics.frechet_distance(a.flip(0), b) == pytest.approx(plain, rel=1e-9)
    assert metrics.frechet_distance(b, a) == pytest.approx(plain, rel=1e-9)
    assert metrics.frechet_distance(3 * a, 3 * b) == pytest.approx(9 * plain, rel=1e-9)
    assert metrics.frechet_distance(a, a) == pytest.approx(0, abs=1e-6)


def test_27_frechet_is_computed_in_float64():
    """Features far from zero: in float32 the covariance alone would be off by percents."""
    a, b = normal(500, 4, 1) + 3e3, normal(500, 4, 2, scale=1.1) + 3e3
    a, b = a.float(), b.float()
    exact = metrics.frechet_distance(a.double() - 3e3, b.double() - 3e3)
    assert metrics.frechet_distance(a, b) == pytest.approx(exact, rel=1e-9)


@pytest.mark.parametrize("rank", [1, 3, 7])
def test_27_singular_covariances_give_no_imaginary_part(rank):
    """Features that fill only some dimensions have eigenvalues of zero, which rounding makes negative."""
    a, b = normal(60, rank, 1), normal(60, rank, 2, mean=0.2)
    spread = torch.linalg.qr(normal(20, 20, 3))[0][:rank]
    found = metrics.frechet_distance(a @ spread, b @ spread)
    assert found == pytest.approx(metrics.frechet_distance(a, b), abs=1e-6)
    assert metrics.frechet_distance(a @ spread, a @ spread) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(("n", "m", "name"), [(8, 100, "a"), (100, 8, "b"), (0, 100, "a")])
def test_27_too_few_images_are_refused(n, m, name):
    with pytest.raises(
        ValueError, match=f"{name}: expected at least 9 images for 8 features, got {min(n, m)}"
    ):
        metrics.frechet_distance(normal(n, 8), normal(m, 8))


def test_27_the_bias_of_frechet_falls_like_one_over_n():
    """Two samples of one law have a distance above zero, half of it with twice the images."""
    means = []
    for n in (100, 200, 400):
        found = [metrics.frechet_distance(normal(n, 8, 2 * k), normal(n, 8, 2 * k + 1)) for k in range(60)]
        assert min(found) > 0
        means.append(sum(found) / len(found))
    assert means[0] / means[1] == pytest.approx(2, rel=0.15)
    assert means[1] / means[2] == pytest.approx(2, rel=0.15)


def by_loops(a, b):
    def k(x, y):
        return (x @ y / len(x) + 1) ** 3

    n, m = len(a), len(b)
    within = [
        sum(k(x[i], x[j]) for i in range(len(x)) for j in range(len(x)) if i != j) / (len(x) * (len(x) - 1))
        for x in (a, b)
    ]
    return within[0] + within[1] - 2 * sum(k(x, y) for x in a for y in b) / (n * m)


@pytest.mark.parametrize(("n", "m", "d"), [(2, 3, 1), (7, 5, 3), (12, 4, 6)])
def test_kernel_distance_equals_its_double_sums(n, m, d):
    a, b = normal(n, d, 1), normal(m, d, 2, mean=0.5)
    assert metrics.kernel_distance(a, b) == pytest.approx(by_loops(a.numpy(), b.numpy()), rel=1e-9)


def test_kernel_distance_has_no_bias_in_n():
    """For numbers, (xy + 1)³ gives 3 (Δm_1)² + 3 (Δm_2)² + (Δm_3)² of the raw moments, whatever n is."""
    generator = torch.Generator().manual_seed(0)
    for gap, expected in ((0.0, 0.0), (0.5, 3 * 0.5**2 + 3 * 0.25**2 + 1.625**2)):
        found = []
        for _ in range(500):
            a, b = torch.randn(2, 6, 1, generator=generator, dtype=torch.float64)
            found.append(metrics.kernel_distance(a, b + gap))
        mean, low, high = metrics.mean_interval(torch.tensor(found))
        assert low < expected < high
        assert abs(mean - expected) < 1
    assert min(found) < 0


def test_classes_in_equal_numbers_make_the_kernel_distance_lower():
    """Classes at 1 and -1: k is 8 inside a class and 0 across, 4 on average, but 8 · 9/19 over pairs of ten and ten."""
    turns = torch.tensor([1.0, -1.0]).repeat(10).view(-1, 1)
    assert metrics.kernel_distance(turns, turns) == pytest.approx(2 * 8 * 9 / 19 - 2 * 4)


def test_kernel_subsets_are_drawn_from_the_seed_and_all_of_them_is_the_distance():
    a, b = normal(50, 3, 1), normal(50, 3, 2, mean=0.3)
    first = metrics.kernel_subsets(a, b, size=20, subsets=5)
    assert first.shape == (5,)
    assert torch.equal(first, metrics.kernel_subsets(a, b, size=20, subsets=5))
    assert not torch.equal(first, metrics.kernel_subsets(a, b, size=20, subsets=5, seed=1))
    assert first.unique().numel() == 5
    whole = metrics.kernel_subsets(a, b, size=50, subsets=2)
    assert whole.tolist() == pytest.approx([metrics.kernel_distance(a, b)] * 2, rel=1e-9)


def test_the_distances_are_those_of_torch_fidelity():
    reason = "compares with torch-fidelity, which is not installed"
    fid = pytest.importorskip("torch_fidelity.metric_fid", reason=reason)
    kid = pytest.importorskip("torch_fidelity.metric_kid", reason=reason)
    a, b = normal(120, 16, 1).relu(), normal(120, 16, 2, mean=0.2).relu()
    statistics = [fid.fid_features_to_statistics(x) for x in (a, b)]
    theirs = fid.fid_statistics_to_metric(*statistics, verbose=False)[fid.KEY_METRIC_FID]
    assert metrics.frechet_distance(a, b) == pytest.approx(theirs, rel=1e-8)
    theirs = kid.kernel_mmd(a.numpy(), b.numpy())
    assert metrics.kernel_distance(a, b) == pytest.approx(theirs, rel=1e-8)


class Pooled(torch.nn.Module):
    """Twelve numbers of an image, for those who want a network."""

    num_features = 12

    def forward(self, pixels):
        return torch.nn.functional.adaptive_avg_pool2d(pixels.double(), 2).flatten(1)


@pytest.mark.filterwarnings("ignore")
def test_the_distances_are_those_of_torchmetrics_from_pixels_on():
    reason = "compares with torchmetrics, which is not installed"
    fid = pytest.importorskip("torchmetrics.image.fid", reason=reason)
    kid = pytest.importorskip("torchmetrics.image.kid", reason=reason)
    generator = torch.Generator().manual_seed(0)
    real, fake = (torch.randint(0, high, (40, 3, 8, 8), generator=generator).byte() for high in (256, 200))
    ours = [metrics.features(Pooled(), x, batch=7) for x in (real, fake)]
    theirs = fid.FrechetInceptionDistance(feature=Pooled(), input_img_size=(3, 8, 8)).set_dtype(torch.float64)
    kernel = kid.KernelInceptionDistance(feature=Pooled(), subset_size=40, subsets=1).set_dtype(torch.float64)
    for metric in (theirs, kernel):
        metric.update(real, real=True)
        metric.update(fake, real=False)
    assert metrics.frechet_distance(*ours) == pytest.approx(theirs.compute().item(), rel=1e-6)
    assert metrics.kernel_distance(*ours) == pytest.approx(kernel.compute()[0].item(), rel=1e-6)


def pixels(n, seed=0, side=4):
    return torch.randint(0, 256, (n, 1, side, side), generator=torch.Generator().manual_seed(seed)).byte()


def test_nearest_is_the_least_of_all_distances():
    samples, images = pixels(70, 1, side=2), pixels(4500, 2, side=2)  # more than one block of each
    distances, index = metrics.nearest(samples, images)
    gaps = samples.flatten(1).long()[:, None] - images.flatten(1).long()[None]
    exact = gaps.square().sum(2)
    assert torch.equal(index, exact.argmin(1))
    assert torch.allclose(distances.double(), exact.min(1).values.double().sqrt() / 255, rtol=1e-6, atol=0)
    assert (index > 4096).any()


def test_nearest_sees_a_copy_and_a_copy_with_one_pixel_off_by_one():
    images = pixels(300, side=28)
    samples = images[[7, 250]].clone()
    samples[1, 0, 0, 0] ^= 1
    distances, index = metrics.nearest(samples, images)
    assert index.tolist() == [7, 250]
    assert distances[0] == 0
    assert distances[1].item() == pytest.approx(1 / 255, rel=1e-5)


def test_nearest_takes_the_first_of_equals():
    images = pixels(5).repeat(1000, 1, 1, 1)
    assert metrics.nearest(images[:5], images)[1].tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: metrics.frechet_distance(torch.zeros(9), torch.zeros(9)), r"a: expected \(N, 9\) features"),
        (
            lambda: metrics.frechet_distance(normal(9, 3), normal(9, 4)),
            r"b: expected \(N, 3\) features, got \(9, 4\)",
        ),
        (lambda: metrics.frechet_distance(normal(9, 3).long(), normal(9, 3)), "a: .* got .* torch.int64"),
        (lambda: metrics.frechet_distance(normal(9, 3) / 0, normal(9, 3)), "a: expected finite features"),
        (lambda: metrics.kernel_distance(normal(1, 3), normal(9, 3)), "a: expected at least 2 images"),
        (
            lambda: metrics.kernel_subsets(normal(9, 3), normal(9, 3), size=10),
            "a: expected at least 10 images",
        ),
        (
            lambda: metrics.nearest(pixels(3), pixels(3, side=5)),
            r"images: expected some of the samples' \(1, 4, 4\)",
        ),
        (lambda: metrics.nearest(pixels(3).float(), pixels(3)), "samples: expected images .* uint8"),
        (lambda: metrics.nearest(pixels(3), pixels(3)[:0]), r"images: expected images .*got \(0, 1, 4, 4\)"),
    ],
)
def test_bad_input_is_named(call, words):
    with pytest.raises(ValueError, match=words):
        call()


@pytest.mark.cuda
def test_cuda_finds_the_nearest_images_that_the_cpu_finds():
    samples, images = pixels(70, 1), pixels(4500, 2)
    ours, theirs = metrics.nearest(samples.cuda(), images), metrics.nearest(samples, images)
    assert torch.equal(ours[1].cpu(), theirs[1])
    assert torch.allclose(ours[0].cpu(), theirs[0])

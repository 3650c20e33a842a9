"""Intervals hold what they should in about 95 of 100 trials, and reports show them."""

import json
from math import comb

import pytest
import torch

from ddpm_lib import metrics


def coverage(trials, interval, truth):
    """In how many trials the interval of that trial's generator holds the truth."""
    hits = 0
    for trial in range(trials):
        _, low, high = interval(torch.Generator().manual_seed(trial))
        hits += low <= truth <= high
    return hits / trials


@pytest.mark.parametrize("p", [0.03, 0.5, 0.9, 0.99])
def test_a_shares_interval_holds_it_in_95_of_100_by_the_binomial_law(p):
    n = 200
    inside = [metrics.share_interval(k, n)[0] <= p <= metrics.share_interval(k, n)[1] for k in range(n + 1)]
    share = sum(comb(n, k) * p**k * (1 - p) ** (n - k) for k in range(n + 1) if inside[k])
    assert 0.92 < share < 0.985


@pytest.mark.parametrize("hits", [0, 7, 20])
def test_a_shares_interval_stays_inside_0_and_1_and_holds_what_was_seen(hits):
    low, high = metrics.share_interval(hits, 20)
    assert -1e-9 <= low <= hits / 20 <= high <= 1 + 1e-9
    assert high - low > 0.1


def test_a_means_interval_holds_it_in_95_of_100():
    share = coverage(1000, lambda g: metrics.mean_interval(torch.rand(60, generator=g)), 0.5)
    assert 0.93 < share < 0.97
    _, low, high = metrics.mean_interval(torch.rand(60), extra_variance=1.0)
    assert high - low > 2 * 1.96


@pytest.mark.parametrize("n", [9, 60, 61])
def test_a_medians_interval_holds_it_in_95_of_100_for_a_skewed_law(n):
    truth = torch.tensor(2.0).log().item()
    draw = lambda g: metrics.median_interval(-torch.rand(n, generator=g).log())  # noqa: E731
    assert 0.93 < coverage(1000, draw, truth) < 0.99


def test_the_share_of_smaller_ones_is_that_of_all_pairs_ties_by_half():
    a, b = torch.tensor([1.0, 2, 2, 5]), torch.tensor([2.0, 3, 0, 5, 6])
    pairs = [(x < y) + (x == y) / 2 for x in a for y in b]
    assert metrics.smaller_interval(a, b)[0] == pytest.approx(float(sum(pairs)) / len(pairs))
    assert metrics.smaller_interval(a, a + 10) == (1, 1, 1)


def test_the_interval_of_the_share_of_smaller_ones_holds_it_in_95_of_100():
    def interval(g):
        return metrics.smaller_interval(torch.randn(80, generator=g) - 0.5, torch.randn(50, generator=g))

    truth = (1 + torch.erf(torch.tensor(0.5) / 2).item()) / 2  # P(N(-1/2, 2) < 0)
    assert 0.92 < coverage(800, interval, truth) < 0.975


def test_leaving_out_a_twentieth_gives_the_error_of_a_mean():
    x = torch.randn(400, generator=torch.Generator().manual_seed(0)).double()
    value, low, high = metrics.jackknife_interval(400, lambda rows: x[rows].mean().item(), x.mean().item())
    blocks = x.view(20, 20).mean(1)
    assert value == x.mean().item()
    assert high - value == pytest.approx(2.093024 * blocks.std().item() / 20**0.5)
    assert value - low == pytest.approx(high - value)


def test_the_interval_of_a_frechet_distance_holds_it_in_95_of_100():
    """Its truth is what this many images have on average; here the distance to what b itself is."""
    d, n = 3, 200
    b = torch.randn(400, d, generator=torch.Generator().manual_seed(99)).double() + 0.7

    def draw(g):
        return torch.randn(n, d, generator=g).double() * torch.tensor([1.0, 2, 0.5])

    found = [metrics.frechet_distance(draw(torch.Generator().manual_seed(-k - 1)), b) for k in range(400)]
    share = coverage(120, lambda g: metrics.frechet_interval(draw(g), b), sum(found) / len(found))
    assert 0.9 < share < 0.985


def test_the_interval_of_a_kernel_distance_is_that_of_leaving_out():
    a, b = torch.rand(60, 3).double(), torch.rand(50, 3).double()
    value = metrics.kernel_distance(a, b)
    slow = metrics.jackknife_interval(60, lambda rows: metrics.kernel_distance(a[rows], b), value)
    assert metrics.kernel_interval(a, b) == pytest.approx(slow, rel=1e-9)


def test_too_few_rows_for_an_interval_are_refused():
    with pytest.raises(ValueError, match="n: expected at least 20 rows, got 19"):
        metrics.jackknife_interval(19, lambda rows: 0.0, 0.0)


def test_a_report_reads_as_a_table_and_as_json():
    rows = (
        metrics.Row.of("a", "a share", 100, (0.5, 0.4, 0.6), "how"),
        metrics.Row.of("b", "a tiny one", 2000, (2e-5, 1e-5, 3e-5), "why"),
        metrics.Row.of("c", "a sure one", 7, (1.0, 1.0, 1.0), ""),
        metrics.Row.of("d", "none", 7, (0.0, 0.0, 0.0), ""),
        metrics.Row.of("e", "a large one", 7, (12345.0, 11000.0, 14000.0), ""),
    )
    report = metrics.Report(rows, {"seed": 3})
    assert report["b"] is rows[1]
    with pytest.raises(KeyError):
        report["f"]
    lines = report.as_text().splitlines()
    assert lines[0] == "seed: 3"
    assert lines[3].split() == ["a", "share", "0.500", "100", "0.400", "..", "0.600", "(how)"]
    assert "0.0000200" in lines[4]
    assert "2,000" in lines[4]
    assert "12345 " in lines[7]
    assert json.loads(json.dumps(report.to_dict()))["rows"][0]["high"] == 0.6

"""The benchmark of sampling steps: its rows start alike, it goes on where it stopped, and its intervals are paired."""

import json

import pytest
import torch
from torch import nn

from benchmarks import quality, steps
from ddpm_lib import data
from ddpm_lib.denoiser import NetworkDenoiser
from ddpm_lib.schedule import linear

OPTIONS = steps.Options(n=40, batch=20)
WAYS = [steps.Way("ddim", 2, 0.0), steps.Way("ddim", 2, 1.0), steps.Way("heun", 2)]


class Grey(nn.Module):
    """A network whose velocity is a hundredth of what it sees, and which counts how often it is asked."""

    def __init__(self):
        super().__init__()
        self.weight, self.asked = nn.Parameter(torch.tensor(0.01)), 0

    def forward(self, x, t, y):
        self.asked += len(x)
        return self.weight * x


@pytest.fixture
def denoiser():
    return NetworkDenoiser(Grey().eval().requires_grad_(False), linear())


@pytest.fixture(scope="module")
def scorer():
    real = data.load("mnist5k", "all")[::50]
    return quality.Scorer(lambda pixels: torch.nn.functional.avg_pool2d(pixels.float(), 14).flatten(1), real)


def measured(denoiser, scorer, path, chosen=WAYS, resume=False):
    options = steps.Options(n=40, batch=20, out=path, resume=resume)
    return steps.measured(denoiser, chosen, options, scorer)


def test_the_rows_are_those_that_the_chapter_asks_for():
    names = [way.name for way in steps.ways()]
    assert len(set(names)) == len(names)
    assert {f"ddim, eta {eta:g}, {count} steps" for eta in steps.ETAS for count in steps.COUNTS} <= set(names)
    assert steps.CHAIN in steps.WISHED
    assert set(steps.WISHED) <= set(names)


def test_a_row_counts_how_often_the_network_is_asked(denoiser, scorer):
    for way in WAYS:
        denoiser.net.asked = 0
        row = steps.measure(denoiser, way, OPTIONS, steps.left_out(scorer))
        assert denoiser.net.asked == 40 * row["calls"]
        assert len(row["left_out"]) == 20
        assert row["distance"] > 0


def test_every_row_starts_from_the_same_noise_whatever_the_batch(denoiser):
    labels = torch.arange(4)
    one, other = (steps.Way("ddim", 1, eta).draw(denoiser, labels, seed=3) for eta in (0.0, 1.0))
    assert torch.equal(one, other)  # one step, in which there is no new noise
    assert torch.equal(one[:2], steps.Way("ddim", 1, 0.0).draw(denoiser, labels[:2], seed=3))


def test_other_digits_come_from_noise_further_on(denoiser):
    kept = []

    def keep(pixels):
        kept.append(pixels)
        return [1.0]

    for n, first in ((40, 0), (20, 20)):
        steps.measure(denoiser, WAYS[1], steps.Options(n=n, batch=20, first=first), keep)
    assert torch.equal(kept[0][20:], kept[1])
    assert not torch.equal(kept[0][:20], kept[1])


def test_it_goes_on_where_it_was_interrupted(denoiser, scorer, tmp_path):
    path = tmp_path / "folder" / "steps.json"
    measured(denoiser, scorer, path, WAYS[:2])
    kept = json.loads(path.read_text())["runs"]
    results = measured(denoiser, scorer, path, resume=True)
    assert results["runs"][:2] == kept
    assert [row["name"] for row in results["runs"]] == [way.name for way in WAYS]
    with pytest.raises(ValueError, match=r"resume: .* was measured with"):
        steps.measured(denoiser, WAYS, steps.Options(n=20, out=path, resume=True), scorer)


def test_the_table_has_each_row_and_the_floor(denoiser, scorer, tmp_path):
    text = steps.as_text(measured(denoiser, scorer, tmp_path / "steps.json"))
    assert all(way.name in text for way in WAYS)
    assert "Floor, 40 real digits" in text


def test_the_ratio_of_a_row_to_itself_is_one_without_doubt():
    row = {"distance": 2.0, "left_out": [1.9, 2.1] * 10}
    assert steps.ratio(row, row, 1000) == (1.0, 1.0, 1.0)
    value, low, high = steps.interval(row, 1000)
    assert value == 2.0
    assert high - value == pytest.approx(value - low)
    assert high - low == pytest.approx(2 * 2.093024 * (19 * 0.01) ** 0.5)


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--n", "50"], "n: expected at least 100 digits for a covariance of 64 features, got 50"),
        (["--first", "50"], "first: expected a multiple of batch = 100, got 50"),
        (["--threads", "0"], "threads: expected a number above 0, got 0"),
        (["--only", "nothing"], "only: none has 'nothing' in its name"),
    ],
)
def test_what_cannot_be_measured_is_named(argv, words):
    with pytest.raises(ValueError, match=words):
        steps.main(argv)

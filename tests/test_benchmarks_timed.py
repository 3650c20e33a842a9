"""The benchmarks of arithmetic and scaling: they count what theory counts, and refuse what can't be measured."""

import json

import pytest
import torch
from torch import nn

from benchmarks import arithmetic, loops, overhead, scaling, step


def test_operations_of_a_convolution_are_counted_as_theory_counts_them():
    net, x = nn.Conv2d(3, 5, 3, padding=1, bias=False), torch.randn(2, 3, 8, 8)
    forward = 2 * 2 * 5 * 3 * 9 * 64  # a product and a sum, images, channels out and in, weights, places
    with torch.no_grad():
        assert arithmetic.operations_of(lambda: net(x)) == forward
    # backwards once for the weights; x asks for no gradient
    assert arithmetic.operations_of(lambda: net(x).sum().backward()) == 2 * forward


def test_arithmetic_tells_the_share_of_the_peak_and_the_parts_of_the_time(tmp_path, capsys):
    path = tmp_path / "a.json"
    found = arithmetic.main(["--quick", "--repeats", "2", "--batch", "2", "--json", str(path)])
    assert json.loads(path.read_text())["rows"][0]["operations"] == found["rows"][0]["operations"]
    for row in found["rows"]:
        assert 0 < row["share"] < 1
        assert sum(row["parts"].values()) == pytest.approx(1)
        assert row["parts"]["convolutions"] > 0.02
    assert "as arithmetic and not measured" in capsys.readouterr().out


def test_a_step_is_timed_beside_one_of_diffusers_network_and_of_its_script(capsys):
    found = step.main(["--quick", "--loop", "--repeats", "1", "--memory", "False"])
    modes = [(row["precision"], row["mode"]) for row in found["rows"]]
    assert modes == [("fp32", "eager"), ("fp32", "loop"), ("bf16", "eager"), ("bf16", "loop")]
    for row in found["rows"]:
        assert row["difference"] < 1e-5
        assert row["ratio"]["value"] > 0
    assert "ratio [95 %]" in capsys.readouterr().out


def test_the_loops_step_learns_from_both_networks_alike():
    peer, ours = step.pair(step.TINY)
    before = {name: value.clone() for name, value in ours.state_dict().items()}
    both = loops.steps(peer, ours, step.TINY, 2, "fp32", "cpu")
    losses = {name: [float(one()) for _ in range(3)] for name, one in both.items()}
    assert all(0 < value < 10 for values in losses.values() for value in values)
    assert all(torch.equal(value, before[name]) for name, value in ours.state_dict().items())  # a copy learns


def test_the_overhead_of_sampling_is_told(capsys):
    found = overhead.main(["--quick", "--repeats", "1"])
    assert found["rows"]
    assert "%" in capsys.readouterr().out


def test_the_cost_of_the_cifar10_preset_is_a_product():
    options = arithmetic.Options(quick=True, peak=1e12, share=0.5)
    found = arithmetic.cost_of_cifar10(options, {})
    assert found["seconds"] == pytest.approx(found["operations"] * 102_400_000 / 5e11)


def test_an_exponent_is_that_of_a_power_law():
    found = scaling.exponent((1, 2, 4, 8), [3.0 * size**1.5 for size in (1, 2, 4, 8)])
    assert found["low"] <= found["value"] <= found["high"]
    assert found["value"] == pytest.approx(1.5)


def test_operations_scale_as_theory_says():
    sizes = (16, 32, 64)
    counts = {
        name: scaling.exponent(sizes, [count(name, size) for size in sizes])["value"]
        for name in ("width", "steps", "batch")
    }
    assert counts["batch"] == pytest.approx(1, abs=0.01)
    assert counts["steps"] == pytest.approx(1, abs=0.01)
    assert 1.7 < counts["width"] < 2  # the first and the last layer grow with the width alone


def count(name, size):
    return arithmetic.operations_of(scaling.call_for(name, size, "cpu", quick=True))


def test_scaling_prints_a_row_each(capsys):
    found = scaling.main(["--quick", "--repeats", "1", "--only", "batch"])
    assert [row["grows"] for row in found["rows"]] == ["batch"]
    assert "exponent in time" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: arithmetic.Options(share=0), r"share: expected a number in \(0, 1\], got 0"),
        (lambda: arithmetic.Options(batch=0), "batch: expected at least 1, got 0"),
        (lambda: arithmetic.Options(peak=-1), "peak: expected operations a second"),
        (lambda: scaling.main(["--only", "depth"]), "only: no row has 'depth' in its name"),
    ],
)
def test_bad_input_is_named(call, words):
    with pytest.raises(ValueError, match=words):
        call()

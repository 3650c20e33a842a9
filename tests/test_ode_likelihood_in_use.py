"""Likelihood by the probability-flow ODE with the shipped model, and what it refuses: bad input, a wrong gradient."""

import math
from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch

from ddpm_lib import bound, data
from ddpm_lib._loading import load_pretrained
from ddpm_lib.denoiser import Clipped, Prediction
from ddpm_lib.samplers import flow, flow_likelihood, likelihood
from ddpm_lib.schedule import constant_share
from tests.oracles import SCHEDULE, randn
from tests.test_ode_likelihood import APART, GAUSSIAN, Through, Told, noised


class AnyLevel(Told):
    """One that is asked at any level, where nobody would tell it the class."""

    def at_level(self, log_alpha_bar):
        raise AssertionError("asked without its class")


class TestTheShippedModel:
    def test_a_held_out_digit_has_a_likelihood_and_comes_back(self):
        model, _ = load_pretrained("mnist5k")
        digit = data.load("mnist5k", "test")
        denoiser, y = Clipped(model), digit.labels[:1]
        x = data.to_unit(digit.pixels[:1])
        x_1 = SCHEDULE.alpha_bar[1].sqrt().float() * x + 0.01 * randn(*x.shape).float()
        found = flow_likelihood(denoiser, x_1, y=y, tolerance=1e-3, probes=2)
        bits = bound.bits_per_dim(-found.log_prob, 784).item()
        assert -8 < bits < 8
        assert math.isfinite(found.error.item())
        back = flow(denoiser, found.x_T, 1000, 1, y, tolerance=1e-3)
        assert (back - x_1).square().mean().sqrt() < 0.05

    @pytest.mark.cuda
    def test_cuda_gives_what_the_cpu_gives(self):
        x = randn(2, 1, 28, 28).float()
        found = []
        for device in ("cpu", "cuda"):
            model, _ = load_pretrained("mnist5k", device)
            y = torch.tensor([3, 4], device=device)
            found.append(flow_likelihood(model, x.to(device), 900, y, probes=2, tolerance=1e-3))
        assert found[1].x_T.device.type == "cuda"
        torch.testing.assert_close(found[1].x_T.cpu(), found[0].x_T, rtol=1e-2, atol=1e-2)
        torch.testing.assert_close(found[1].log_prob.cpu(), found[0].log_prob, rtol=1e-2, atol=1.0)

    def test_it_is_asked_in_whole_single_precision(self, monkeypatch):
        """On CUDA, TF32 would leave noise in the field; convolutions take it unless told not to."""
        model, _ = load_pretrained("mnist5k")
        now, asked = [], []

        @contextmanager
        def noted(device, wanted):
            now.append(wanted)
            yield
            now.pop()

        monkeypatch.setattr(likelihood, "tf32", noted)
        model.net.register_forward_pre_hook(lambda *_: asked.append(list(now)))
        flow_likelihood(model, randn(1, 1, 28, 28).float(), 990, probes=1, tolerance=1e-2)
        assert len(asked) > 5
        assert all(switches == [False] for switches in asked)

    def test_autocast_around_it_changes_nothing(self):
        model, _ = load_pretrained("mnist5k")
        x = randn(1, 1, 28, 28).float()
        plain = flow(model, x, 1000, 900, tolerance=1e-3)
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(flow(model, x, 1000, 900, tolerance=1e-3), plain)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (torch.zeros(2, 2, dtype=torch.int64), "x: expected a batch"),
        (torch.zeros(2, 2, dtype=torch.bfloat16), "x: expected a batch .*bfloat16"),
        (torch.zeros(()), "x: expected a batch"),
        (torch.zeros(0, 2), "x: expected a batch"),
        ([0.0], "x: expected a batch .* list"),
    ],
)
def test_images(x, message):
    for call in (flow_likelihood, lambda oracle, x: flow(oracle, x, 1, 1000)):
        with pytest.raises(ValueError, match=message):
            call(GAUSSIAN, x)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_images_that_are_no_numbers(bad):
    with pytest.raises(ValueError, match="x: expected finite numbers"):
        flow(GAUSSIAN, torch.tensor([[0.0, bad]]), 1, 1000)


@pytest.mark.parametrize("t", [0, 1001, -1, 1.5, True, torch.tensor(3)])
def test_steps(t):
    x = randn(1, 2)
    with pytest.raises(ValueError, match=r"t: expected a step in 1\.\.1000"):
        flow_likelihood(GAUSSIAN, x, t)
    with pytest.raises(ValueError, match=r"start: expected a step in 1\.\.1000"):
        flow(GAUSSIAN, x, t, 1000)
    with pytest.raises(ValueError, match=r"end: expected a step in 1\.\.1000"):
        flow(GAUSSIAN, x, 1, t)


@pytest.mark.parametrize("probes", [-1, 1.5, True, "all"])
def test_probes(probes):
    with pytest.raises(ValueError, match="probes: expected a number >= 1, or 0"):
        flow_likelihood(GAUSSIAN, randn(1, 2), probes=probes)


@pytest.mark.parametrize("tolerance", [0, -1.0, 0.05, math.nan])
def test_tolerances(tolerance):
    with pytest.raises(ValueError, match="tolerance: expected a number in"):
        flow_likelihood(GAUSSIAN, randn(1, 2), tolerance=tolerance)


def test_labels():
    model, _ = load_pretrained("mnist5k")
    x = randn(2, 1, 28, 28).float()
    for denoiser, y in (
        (model, torch.tensor([3])),
        (model, [3, 4]),
        (model, torch.tensor([3.0, 4.7])),
        (GAUSSIAN, torch.tensor([3, 4])),
        (AnyLevel(), torch.tensor([3, 4])),
        (Clipped(GAUSSIAN), torch.tensor([3, 4])),
        (Clipped(AnyLevel()), torch.tensor([3, 4])),
    ):
        with pytest.raises(ValueError, match="y: expected None, or one label an image"):
            flow(denoiser, x, 1000, 999, y)


def test_a_schedule_without_a_signal_at_its_end():
    with pytest.raises(ValueError, match=r"schedule: expected alpha_bar\[T\] > 0"):
        flow_likelihood(replace(GAUSSIAN, schedule=constant_share(10)), randn(1, 2))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x0, x_t: x0.detach(), "answers with a gradient in x_t"),
        (
            lambda x0, x_t: x0.detach() + 0 * x_t,
            r"its gradient in x to be that of its answers, .* got 0 ",
        ),
        (lambda x0, x_t: 0.5 * x0 + 0.5 * x0.detach(), "its gradient in x to be that of its answers"),
        (lambda x0, x_t: x0 + 0.3 * x_t.mean(0), "its gradient in x to be that of its answers"),
    ],
)
@pytest.mark.parametrize("probes", [0, 2])
def test_a_gradient_that_is_not_that_of_the_answers(change, message, probes):
    with pytest.raises(ValueError, match="denoiser: expected " + message):
        flow_likelihood(Through(APART, change), noised(APART, 1, 1), probes=probes)


def test_a_network_in_training_mode():
    model, _ = load_pretrained("mnist5k")
    x = randn(1, 1, 28, 28).float()
    for layer in model.net.modules():
        if isinstance(layer, torch.nn.Dropout):
            layer.p = 0.1
    model.net.train()
    with pytest.raises(ValueError, match="denoiser: expected one answer to one question, got two"):
        flow_likelihood(model, x, probes=1)


def test_a_field_that_is_no_number():
    class Broken:
        schedule = SCHEDULE

        def __call__(self, x_t, t):
            return Prediction(x_t * math.nan, x_t, x_t)

    with pytest.raises(RuntimeError, match="answer to image 0 is not finite"):
        flow(Broken(), randn(1, 2), 1, 1000)

"""What a step draws and how its loss is weighted: by (seed, step) alone, whoever computes which part of the batch."""

from collections import Counter

import pytest
import torch

from ddpm_lib import bound, data
from ddpm_lib._distributed import World
from ddpm_lib.config import TrainConfig
from ddpm_lib.schedule import linear
from ddpm_lib.training import Trainer, draw_key
from tests.helpers import tiny_config

DIGITS = data.load("mnist5k")
ALL_DRAWN = {"augment": "affine", "label_dropout": 0.5, "times": "stratified"}


def joined(parts):
    """Micro-batches one after the other."""
    return [torch.cat(whole) for whole in zip(*parts, strict=True)]


@pytest.mark.parametrize("step", [0, 3])
def test_what_is_drawn_for_an_image_does_not_depend_on_who_shares_the_batch(step):
    trainer = Trainer(
        tiny_config(batch=12, **ALL_DRAWN), images=DIGITS[:31]
    )  # 3 steps and 4 go over an epoch's end
    trainer.step = step
    torch.manual_seed(draw_key(0, step + 1))
    (whole,) = trainer._draw()
    trainer.config = tiny_config(batch=12, accumulate=2, **ALL_DRAWN)
    shares = []
    for rank in range(3):
        trainer.world = World(rank, 3)
        torch.manual_seed(draw_key(0, step + 1))
        parts = trainer._draw()
        assert [len(part[0]) for part in parts] == [2, 2]
        shares += parts
    assert all(torch.equal(one, other) for one, other in zip(joined(shares), whole, strict=True))


def test_dropout_differs_between_micro_batches_and_comes_back_with_the_step():
    keys = {
        draw_key(seed, step, 1 + rank, 1 + part)
        for seed in (0, 1)
        for step in (1, 2)
        for rank in (0, 1)
        for part in (0, 1)
    }
    keys |= {draw_key(seed, step) for seed in (0, 1) for step in (1, 2)}
    assert len(keys) == 16 + 4
    assert draw_key(3, 4, 1, 2) == draw_key(3, 4, 1, 2)


def test_trap_24_a_run_with_everything_random_resumes_to_the_bit(tmp_path):
    model = tiny_config().model.__class__(width=16, multipliers=(1,), dropout=0.5)
    config = tiny_config(model=model, batch=12, images=96, accumulate=2, weighting="bound", **ALL_DRAWN)
    whole = Trainer(config, images=DIGITS)
    whole.fit(progress=False)
    part = Trainer(config, images=DIGITS)
    for _ in range(3):
        part.train_step()
    part.save(tmp_path)
    resumed = Trainer(config, images=DIGITS)
    resumed.restore(tmp_path)
    resumed.fit(progress=False)
    for one, other in zip(whole.net.parameters(), resumed.net.parameters(), strict=True):
        assert torch.equal(one, other)


def test_a_step_with_everything_runs_on_the_meta_device():
    config = tiny_config(batch=12, accumulate=3, weighting="min-snr", channels_last=True, **ALL_DRAWN)
    trainer = Trainer(config, "meta", images=DIGITS[:50])
    assert trainer.train_step().device.type == "meta"


@pytest.mark.parametrize("n", [8, 25])
def test_stratified_steps_are_one_in_each_equal_part_and_each_alone_is_uniform(n):
    config, schedule, counts = TrainConfig(times="stratified"), linear(200), Counter()
    for seed in range(400):
        torch.manual_seed(seed)
        t = config.draw_times(schedule, n)
        parts = (t - 1) * n // 200
        assert sorted(parts.tolist()) == list(range(n))
        counts.update(t.tolist())
    assert set(counts) == set(range(1, 201))
    assert max(counts.values()) < 2 * n * 400 / 200


def test_stratified_steps_reach_both_ends_when_they_are_fewer_than_the_batch():
    torch.manual_seed(0)
    assert Counter(TrainConfig(times="stratified").draw_times(linear(4), 12).tolist()) == {
        1: 3,
        2: 3,
        3: 3,
        4: 3,
    }


@pytest.mark.parametrize("gamma", [0.5, 5.0])
def test_min_snr_has_the_papers_form_for_each_objective(gamma):
    """Hang et al. 2023: min(SNR, γ) for x_0, over SNR for ε, over SNR + 1 for v."""
    s = linear()
    capped, snr = s.snr.clamp(max=gamma)[1:], s.snr[1:]
    for objective, wanted in (("x0", capped), ("eps", capped / snr), ("v", capped / (snr + 1))):
        found = bound.training_weight("min-snr", objective, s, gamma)[1:]
        torch.testing.assert_close(found, wanted, rtol=1e-12, atol=0)


@pytest.mark.parametrize("objective", ["eps", "x0", "v"])
def test_the_bounds_weights_are_those_of_the_bound_with_mean_one(objective):
    s = linear()
    found, wanted = bound.training_weight("bound", objective, s)[1:], bound.loss_weight(objective, s)[1:]
    torch.testing.assert_close(found / found[0], wanted / wanted[0], rtol=1e-12, atol=0)
    assert found.mean().item() == pytest.approx(1)
    assert bound.training_weight("simple", objective, s).eq(1).all()


def test_another_weighting_is_refused():
    with pytest.raises(ValueError, match="weighting: expected one of simple, bound, min-snr, got 'snr'"):
        bound.training_weight("snr", "v", linear())


@pytest.mark.parametrize("weighting", ["simple", "bound", "min-snr"])
def test_a_step_minimises_the_weighted_mean(weighting):
    config = tiny_config(weighting=weighting, gamma=2.0, objective="eps", precision="fp32")
    trainer = Trainer(config, images=DIGITS)
    torch.manual_seed(draw_key(0, 1))
    ((x0, t, eps, y),) = trainer._draw()
    each = bound.simple_loss(trainer.net, trainer.schedule, "eps", x0, t, eps, y)
    weight = bound.training_weight(weighting, "eps", trainer.schedule, 2.0)[t]
    assert trainer.train_step().item() == pytest.approx((weight * each).mean().item(), rel=1e-6)


def test_a_learning_rate_without_decay_stays_at_its_peak():
    config = TrainConfig(images=1000, warmup=200, batch=20, lr=0.1, lr_decay="none")
    assert config.lr_at(100) < 0.1
    assert [config.lr_at(n) for n in (200, 500, 1000, 10**6)] == [0.1] * 4


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"accumulate": 3}, "accumulate: expected a divisor of batch = 32, got 3"),
        ({"accumulate": 0}, "accumulate: expected at least 1, got 0"),
        ({"weighting": "snr"}, "weighting: expected one of simple, bound, min-snr, got 'snr'"),
        ({"times": "even"}, "times: expected one of uniform, middle, stratified, got 'even'"),
        ({"augment": "mirror"}, "augment: expected one of none, flip, affine, got 'mirror'"),
        ({"lr_decay": "linear"}, "lr_decay: expected one of cosine, none, got 'linear'"),
        ({"gamma": 0.0}, "gamma: expected a number above 0, got 0.0"),
        ({"sample_every": -1}, "sample_every: expected at least 0, got -1"),
    ],
)
def test_a_setting_that_cannot_be_is_named(change, words):
    with pytest.raises(ValueError, match=words):
        TrainConfig(**change)

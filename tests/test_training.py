"""The training loop: exact resume, its clock, its averages, and what stops it."""

import dataclasses
import os
import signal
import threading

import pytest
import torch

from ddpm_lib import checkpoint, data, training
from ddpm_lib.bound import simple_loss
from ddpm_lib.config import TrainConfig
from ddpm_lib.denoiser import NetworkDenoiser
from ddpm_lib.oracle import GaussianOracle
from ddpm_lib.samplers import ddim, sample
from ddpm_lib.schedule import linear
from ddpm_lib.training import Trainer, load_denoiser
from ddpm_lib.unet import UNet
from tests.helpers import tiny_config

DIGITS = data.load("mnist5k")


def weights(trainer):
    return {
        **trainer.net.state_dict(),
        **{f"average.{k}": v for k, v in trainer.average.state_dict().items()},
    }


def assert_same_bits(one, other):
    for name, value in weights(one).items():
        assert torch.equal(value, weights(other)[name]), name


def run(config, folder=None):
    trainer = Trainer(config, images=DIGITS)
    trainer.fit(folder, progress=False)
    return trainer


def test_trap_24_stopping_and_resuming_gives_the_bits_of_the_whole_run(tmp_path):
    config = tiny_config(images=240)
    whole = run(config)
    part = Trainer(config, images=DIGITS)
    for _ in range(3):
        part.train_step()
    part.save(tmp_path)
    resumed = Trainer(config, images=DIGITS)
    resumed.restore(tmp_path)
    assert resumed.images_seen == 3 * config.batch
    resumed.fit(progress=False)
    assert_same_bits(whole, resumed)


def test_ctrl_c_finishes_the_step_saves_and_the_resumed_run_has_the_same_bits(tmp_path, monkeypatch):
    config = tiny_config(images=320)
    whole = run(config)
    part, real = Trainer(config, images=DIGITS), Trainer.train_step

    def interrupted(self):
        if self.step == 4:
            os.kill(os.getpid(), signal.SIGINT)
        return real(self)

    monkeypatch.setattr(Trainer, "train_step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        part.fit(tmp_path, progress=False)
    monkeypatch.undo()
    assert part.step == 5
    resumed = Trainer(config, images=DIGITS)
    resumed.restore(tmp_path)
    resumed.fit(progress=False)
    assert_same_bits(whole, resumed)


def test_training_works_outside_the_main_thread():
    trainer = Trainer(tiny_config(images=40), images=DIGITS)
    thread = threading.Thread(target=trainer.fit, kwargs={"progress": False})
    thread.start()
    thread.join()
    assert trainer.images_seen >= 40


def test_another_seed_gives_another_run():
    one, other = run(tiny_config(images=40)), run(tiny_config(images=40, seed=1))
    assert not torch.equal(one.net.state_dict()["out.weight"], other.net.state_dict()["out.weight"])


def test_the_callers_random_state_is_left_alone():
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    run(tiny_config(images=40))
    assert torch.equal(torch.rand(4), expected)


def test_an_epoch_shows_every_image_once():
    trainer = Trainer(tiny_config(batch=7), images=DIGITS[:21])
    seen = []
    for trainer.step in range(6):
        seen.append(trainer._draw()[0][0])
    first, second = torch.cat(seen[:3]).flatten(1), torch.cat(seen[3:]).flatten(1)
    for epoch in (first, second):
        assert {tuple(row) for row in epoch.tolist()} == {
            tuple(row) for row in data.to_unit(DIGITS[:21].pixels).flatten(1).tolist()
        }
    assert not torch.equal(first, second)


def test_labels_follow_their_images_and_are_dropped_at_the_given_rate():
    trainer = Trainer(tiny_config(batch=3000, label_dropout=0.2), images=DIGITS)
    torch.manual_seed(0)
    ((x, _, _, y),) = trainer._draw()
    by_pixels = {
        tuple(p.flatten().tolist()): label
        for p, label in zip(DIGITS.pixels, DIGITS.labels.tolist(), strict=True)
    }
    truth = torch.tensor([by_pixels[tuple(p.flatten().tolist())] for p in data.to_bytes(x)])
    dropped = y == 10
    assert torch.equal(y[~dropped], truth[~dropped])
    assert dropped.float().mean().item() == pytest.approx(0.2, abs=5 * (0.16 / 3000) ** 0.5)


def test_trap_17_labels_are_dropped_image_by_image():
    trainer = Trainer(tiny_config(batch=200, label_dropout=0.5), images=DIGITS)
    torch.manual_seed(0)
    dropped = trainer._draw()[0][3] == 10
    assert 0 < dropped.sum() < 200


@pytest.mark.parametrize("times", ["uniform", "middle"])
def test_trap_9_training_draws_exactly_the_steps_that_sampling_visits(times):
    config, schedule = tiny_config(times=times), linear(10)
    torch.manual_seed(0)
    drawn = config.draw_times(schedule, 20_000)
    visited = [step.t for step in ddim(_still(schedule), torch.zeros(1, 2))]
    assert sorted(drawn.unique().tolist()) == sorted(visited)
    if times == "uniform":
        assert (drawn.bincount()[1:] / 2000 - 1).abs().max() < 5 / 2000**0.5


def _still(schedule):
    return GaussianOracle(schedule, torch.zeros(2), torch.ones(2))


def test_trap_20_the_averages_half_life_is_counted_in_images():
    """Constant weights 0, then 1 for one half-life of images: the average must have come half the way."""
    for batch in (10, 40):
        config = tiny_config(batch=batch, ema_half_life=400, ema_ramp=1000.0)
        trainer = Trainer(config, images=DIGITS)
        for p in (*trainer.net.parameters(), *trainer.average.parameters()):
            p.data.zero_()
        trainer.step = 1
        trainer.average.update_parameters(trainer.net)
        for p in trainer.net.parameters():
            p.data.fill_(1)
        for _ in range(400 // batch):
            trainer.average.update_parameters(trainer.net)
        assert next(trainer.average.parameters()).flatten()[0].item() == pytest.approx(0.5, abs=1e-5)


def test_trap_19_sampling_from_the_average_leaves_the_training_weights():
    trainer = run(tiny_config(images=80))
    before = {k: v.clone() for k, v in trainer.net.state_dict().items()}
    sample(trainer.denoiser.given(torch.zeros(2, dtype=torch.int64)), (2, 1, 28, 28), steps=2)
    assert all(torch.equal(v, before[k]) for k, v in trainer.net.state_dict().items())
    assert trainer.denoiser.net is not trainer.net


def test_learning_rate_rises_and_falls_to_zero():
    config = TrainConfig(images=1000, warmup=200, batch=20, lr=0.1)
    rates = [config.lr_at(n) for n in range(0, 1001, 20)]
    assert max(rates) == pytest.approx(0.1)
    assert 0 < rates[0] < 0.02
    assert rates[-1] == pytest.approx(0, abs=1e-9)
    peak = rates.index(max(rates))
    assert rates[: peak + 1] == sorted(rates[: peak + 1])
    assert rates[peak:] == sorted(rates[peak:], reverse=True)


def test_training_lowers_the_loss_on_digits():
    config = tiny_config(images=6000, batch=32, lr=3e-3, warmup=200)
    trainer = Trainer(config, images=DIGITS)
    curve = trainer.fit(progress=False)
    assert sum(loss for _, loss in curve[-5:]) < 0.6 * sum(loss for _, loss in curve[:3]) / 3 * 5


def test_the_simple_loss_of_the_oracle_is_its_closed_form():
    """For Gaussian data the best ε leaves the error ᾱ v / (ᾱ v + 1 - ᾱ), and no answer does better."""
    schedule, v = linear(), 0.3
    oracle = GaussianOracle(schedule, torch.zeros(1).double(), torch.full((1,), v).double())
    generator = torch.Generator().manual_seed(0)
    n = 100_000
    x0, eps = torch.randn(2, n, 1, generator=generator, dtype=torch.float64)
    x0 = x0 * v**0.5
    for step in (1, 100, 500, 1000):
        t = torch.full((n,), step)
        bar = schedule.alpha_bar[step].item()
        expected = bar * v / (bar * v + 1 - bar)
        loss = simple_loss(lambda x, t, y: oracle(x, t.cpu()).eps, schedule, "eps", x0, t, eps)
        assert loss.mean().item() == pytest.approx(expected, rel=5 * (2 / n) ** 0.5)
        worse = simple_loss(lambda x, t, y: 0.9 * oracle(x, t.cpu()).eps, schedule, "eps", x0, t, eps)
        assert worse.mean() > loss.mean()


def test_a_train_step_runs_on_the_meta_device():
    """A tensor made on the wrong device would fail here on any machine."""
    trainer = Trainer(tiny_config(), "meta", images=DIGITS)
    for _ in range(2):
        assert trainer.train_step().device.type == "meta"


@pytest.mark.cuda
def test_a_train_step_on_cuda_lowers_the_loss():
    trainer = Trainer(tiny_config(images=4000, batch=64), "cuda")
    curve = trainer.fit(progress=False)
    assert curve[-1][1] < curve[0][1]


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_last_checkpoint(tmp_path, monkeypatch):
    trainer, real = (
        Trainer(tiny_config(images=400, checkpoint_every=40, log_every=1), images=DIGITS),
        Trainer.train_step,
    )
    monkeypatch.setattr(
        Trainer, "train_step", lambda self: real(self) * (float("nan") if self.step == 5 else 1)
    )
    with pytest.raises(FloatingPointError, match=r"the loss is nan at step 5, learning rate \d"):
        trainer.fit(tmp_path, progress=False)
    assert checkpoint.load_newest(tmp_path)[1]["images_seen"] <= 160


def test_load_denoiser_gives_the_trainers_own(tmp_path):
    trainer = run(tiny_config(images=80), tmp_path)
    loaded, config = load_denoiser(tmp_path)
    assert config == trainer.config
    y = torch.tensor([3, 7])
    ours = sample(trainer.denoiser.given(y), (2, 1, 28, 28), steps=3)
    assert torch.equal(sample(loaded.given(y), (2, 1, 28, 28), steps=3), ours)
    assert not loaded.net.training


def test_another_configs_run_is_not_resumed(tmp_path):
    run(tiny_config(images=40), tmp_path)
    with pytest.raises(ValueError, match=r"belongs to another run: lr: 0\.001, not 0\.5"):
        Trainer(tiny_config(images=40, lr=0.5), images=DIGITS).restore(tmp_path)


def test_other_images_are_not_gone_on_with(tmp_path):
    run(tiny_config(images=40), tmp_path)
    with pytest.raises(ValueError, match="the run began with other images than 'mnist5k' has now"):
        Trainer(tiny_config(images=40), images=DIGITS[:4400]).restore(tmp_path)


def test_a_new_run_leaves_another_ones_folder_alone(tmp_path):
    run(tiny_config(images=40), tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(ValueError, match=r"out: .* already holds a run"):
        run(tiny_config(images=16), tmp_path)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_config_that_does_not_fit_is_named(tmp_path):
    tensors, meta, _ = checkpoint.load_newest(_saved(tmp_path))
    meta["config"]["colour"] = "blue"
    checkpoint.save(tmp_path, 900, tensors, meta)
    with pytest.raises(ValueError, match=r"00000900.json: its config does not fit this version: .*colour"):
        load_denoiser(tmp_path)


def test_tensors_that_do_not_fit_the_config_are_named(tmp_path):
    tensors, meta, _ = checkpoint.load_newest(_saved(tmp_path))
    checkpoint.save(tmp_path, 900, {k: v[..., :1] if v.ndim else v for k, v in tensors.items()}, meta)
    with pytest.raises(ValueError, match=r"00000900.json does not fit its own config"):
        load_denoiser(tmp_path)


def _saved(folder):
    run(tiny_config(images=40), folder)
    return folder


@pytest.mark.parametrize("objective", ["eps", "x0", "v"])
def test_every_objective_trains_and_samples(objective):
    trainer = run(tiny_config(images=40, objective=objective))
    x = sample(trainer.denoiser, (1, 1, 28, 28), steps=3)
    assert x.isfinite().all()


def test_a_network_without_classes_trains_and_samples():
    config = tiny_config(images=40)
    config = dataclasses.replace(config, model=dataclasses.replace(config.model, num_classes=None))
    assert sample(run(config).denoiser, (1, 1, 28, 28), steps=2).isfinite().all()


def test_trainer_and_network_denoiser_share_the_network():
    trainer = Trainer(tiny_config(), images=DIGITS)
    assert isinstance(trainer.net, UNet)
    assert isinstance(trainer.denoiser, NetworkDenoiser)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"images": 0}, "images: expected at least 1, got 0"),
        ({"batch": -3}, "batch: expected at least 1, got -3"),
        ({"lr": 0.0}, "lr: expected a number above 0, got 0.0"),
        ({"lr": float("nan")}, "lr: expected a number above 0, got nan"),
        ({"label_dropout": 1.5}, "label_dropout: expected a share in .* got 1.5"),
        ({"objective": "noise"}, "objective: expected one of eps, x0, v, class, got 'noise'"),
        ({"schedule": "square"}, "schedule: expected one of linear, cosine, got 'square'"),
        ({"precision": "fp8"}, "precision: .* got 'fp8'"),
    ],
)
def test_bad_config_is_named(change, words):
    with pytest.raises(ValueError, match=words):
        TrainConfig(**change)


def test_data_that_does_not_fit_the_network_is_named():
    colour = data.Images(
        torch.zeros(4, 3, 32, 32, dtype=torch.uint8), torch.zeros(4, dtype=torch.int64), tuple("0123456789")
    )
    with pytest.raises(
        ValueError, match="model: expected a network for the data's 3×32×32 images, got one for 1×28×28"
    ):
        Trainer(tiny_config(), images=colour)
    two = data.Images(DIGITS.pixels[:4], DIGITS.labels[:4], ("a", "b"))
    with pytest.raises(ValueError, match="num_classes: expected None or the data's 2, got 10"):
        Trainer(tiny_config(), images=two)


def test_a_device_that_is_not_there_is_named():
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="device: 'cuda' is not to be had here"):
            training.pick_device("cuda")
    with pytest.raises(ValueError, match="device: 'abacus' is not to be had here"):
        training.pick_device("abacus")

"""Presets are runs that start, and the README's ten lines are a program that works."""

import re
from pathlib import Path

import pytest
import torch

from ddpm_lib import config, data
from ddpm_lib.training import Trainer
from ddpm_lib.unet import UNet
from tests.helpers import tiny_config

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def blank(run: config.TrainConfig) -> data.Images:
    """Images of the shape that the run's data has, which may have to be downloaded."""
    side, classes = run.model.image_size, run.model.num_classes or 10
    pixels = torch.zeros(300, run.model.in_channels, side, side, dtype=torch.uint8)
    return data.Images(pixels, torch.arange(300) % classes, tuple(map(str, range(classes))))


@pytest.mark.parametrize("name", config.PRESETS)
def test_a_preset_trains(name):
    """On the meta device: shapes and devices without the arithmetic."""
    run = config.PRESETS[name]()
    trainer = Trainer(run, "meta", images=blank(run))
    trainer.train_step()
    assert trainer.images_seen == run.batch


def test_a_preset_on_embedded_data_fits_it():
    images = data.load("mnist5k")
    assert {tuple(images.pixels.shape[1:])} == {tuple(blank(config.mnist5k()).pixels.shape[1:])}


def test_the_profile_is_the_full_one_on_cuda_alone():
    assert config.profile("cuda") == config.mnist5k_gpu()
    for device in ("cpu", "mps", torch.device("cpu")):
        assert config.profile(device) == config.mnist5k()


def test_the_cifar10_preset_is_ddpms_run():
    """Ho et al. 2020, appendix B: 35.7 M weights, 800 k steps of 128, 2e-4 after 5,000 steps, decay 0.9999 a step."""
    run = config.cifar10()
    with torch.device("meta"):
        assert sum(p.numel() for p in UNet(run.model).parameters()) == 35_746_307
    assert run.images == 800_000 * 128
    assert [run.lr_at(step * 128) for step in (5_000, 400_000, 799_999)] == [2e-4] * 3
    assert run.lr_at(2_500 * 128) == pytest.approx(1e-4, rel=1e-3)
    assert run.decay_at(run.images) == pytest.approx(0.9999, abs=1e-9)
    assert (run.objective, run.times, run.weighting, run.schedule, run.T) == (
        "eps",
        "uniform",
        "simple",
        "linear",
        1000,
    )
    assert (run.model.dropout, run.augment, run.clip_gradient, run.model.num_classes) == (
        0.1,
        "flip",
        1.0,
        None,
    )


def test_the_readmes_ten_lines_run(tmp_path, monkeypatch):
    section = README.split("## The library in ten lines")[1]
    program = re.search(r"((?:^    .*\n|^\n)+)", section, re.MULTILINE)[1]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(config, "profile", lambda device: tiny_config(images=40))
    exec(re.sub(r"^    ", "", program, flags=re.MULTILINE), {})
    assert (tmp_path / "grid.png").stat().st_size > 1000
    assert list((tmp_path / "runs" / "b").glob("step-*.json"))

"""Presets are runs that start, and the README's ten lines are a program that works."""

import re
from pathlib import Path

import pytest
import torch

from ddpm_lib import data, presets
from ddpm_lib.training import Trainer
from tests.helpers import tiny_config

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", presets.PRESETS)
def test_a_preset_trains(name):
    """On the meta device: shapes and devices without the arithmetic."""
    config = presets.PRESETS[name]()
    trainer = Trainer(config, "meta", images=data.load(config.data))
    trainer.train_step()
    assert trainer.images_seen == config.batch


def test_the_profile_is_the_full_one_on_cuda_alone():
    assert presets.profile("cuda") == presets.mnist5k_gpu()
    for device in ("cpu", "mps", torch.device("cpu")):
        assert presets.profile(device) == presets.mnist5k()


def test_the_readmes_ten_lines_run(tmp_path, monkeypatch):
    section = README.split("## The library in ten lines")[1]
    program = re.search(r"((?:^    .*\n|^\n)+)", section, re.MULTILINE)[1]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(presets, "profile", lambda device: tiny_config(images=40))
    exec(re.sub(r"^    ", "", program, flags=re.MULTILINE), {})
    assert (tmp_path / "grid.png").stat().st_size > 1000
    assert list((tmp_path / "runs" / "b").glob("step-*.json"))

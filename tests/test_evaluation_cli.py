"""``python -m ddpm_lib evaluate`` as a user calls it."""

import json
import sys

import pytest
import torch

from ddpm_lib import cli, data, evaluation
from ddpm_lib.training import Trainer
from tests.helpers import tiny_config

QUICK = ["--n", "70", "--steps", "2", "--bound-images", "2", "--bound-steps", "2", "--device", "cpu"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "a"
    Trainer(tiny_config()).fit(out, progress=False)
    return out


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """A seventh of the digits, and few draws of them."""
    parts = {split: data.load("mnist5k", split)[::7] for split in ("train", "test")}
    monkeypatch.setattr(evaluation.data, "load", lambda name, split: parts[split])
    monkeypatch.setattr(evaluation, "FLOOR_DRAWS", 3)


def test_evaluate_prints_a_table_and_writes_it(run, capsys):
    assert cli.main(["evaluate", str(run), *QUICK, "--sampler", "ddim", "--eta", "0.5"]) == 0
    printed = capsys.readouterr()
    written = json.loads((run / "evaluation.json").read_text())
    assert written["about"]["run"] == str(run)
    assert "70 by ddim in 2 steps, uniform, eta 0.5" in printed.out
    assert f"wrote {run / 'evaluation.json'}" in printed.out
    for row in written["rows"]:
        assert row["title"] in printed.out
        assert row["low"] <= row["value"] <= row["high"]
    for sign in ("sampling", "encoding", "features", "floor of frechet"):
        assert sign in printed.err
    assert not list(run.glob(".evaluation*"))


def test_the_table_can_go_elsewhere(run, tmp_path, capsys):
    out = tmp_path / "new" / "table.json"
    assert cli.main(["evaluate", str(run), *QUICK, "--bound-images", "0", "--out", str(out)]) == 0
    assert json.loads(out.read_text())["about"]["samples"] == "70 by ancestral in 2 steps, uniform"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere"], "run: no folder nowhere"),
        (["RUN", "--n", "10"], "n: expected at least 65 samples for 64 features, got 10"),
        (["RUN", "--steps", "1001"], "S: expected a number of steps in 1..1000, got 1001"),
        (["RUN", "--eta", "1"], "eta: expected only with ddim or dpm_solver"),
        (["RUN", "--extractor", "vgg"], "extractor: expected digits or inception:PATH, got 'vgg'"),
        (["RUN", "--device", "abacus"], "device: 'abacus'"),
        (["RUN", "--out", "FILE/table.json"], "cannot write to"),
        (["pretrained:none"], "'none'"),
    ],
)
def test_bad_input_ends_with_one_line_and_code_2(run, tmp_path, capsys, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "FILE").write_text("in the way")
    arguments = [str(run) if a == "RUN" else a for a in arguments]
    assert cli.main(["evaluate", *arguments]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("error: ")
    assert words in lines[0]


def test_without_torch_fidelity_the_message_names_the_extra(run, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch_fidelity.feature_extractor_inceptionv3", None)
    assert cli.main(["evaluate", str(run), "--extractor", "inception:weights.pth"]) == 2
    assert "ddpm-lib[inception]" in capsys.readouterr().err


def test_a_table_that_is_interrupted_leaves_the_old_one(run, tmp_path, monkeypatch, capsys):
    out = tmp_path / "table.json"
    out.write_text("old")

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(torch.Tensor, "round", interrupted)
    assert cli.main(["evaluate", str(run), *QUICK, "--out", str(out)]) == 130
    assert out.read_text() == "old"

"""Classifiers and guidance on the command line, as a user calls it."""

import json

import matplotlib.image
import numpy as np
import pytest
from safetensors.torch import load_file

from ddpm_lib import cli
from tests.test_cli import SMALL, call, fails_with, newest


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A small classifier and a small model, trained by the command line."""
    folder = tmp_path_factory.mktemp("runs")
    done = call("train-classifier", "mnist5k", "--out", folder / "c", "--images", 200, *SMALL)
    assert done.returncode == 0, done.stderr
    assert call("train", "mnist5k", "--out", folder / "a", "--images", 100, *SMALL).returncode == 0
    return folder, done


def test_train_classifier_says_what_it_does_and_shows_progress(runs):
    folder, done = runs
    assert "4,500 images, on" in done.stdout
    assert f"saved {folder / 'c'} at 200 images" in done.stdout
    for sign in ("training", "200/200", "loss=2.3", "img/s"):
        assert sign in done.stderr
    assert json.loads(newest(folder / "c").read_text())["meta"]["config"]["objective"] == "class"


def test_a_classifiers_run_that_is_resumed_equals_the_uninterrupted_run(runs, tmp_path):
    out, options = tmp_path / "r", ["--checkpoint-every", 100, "--keep", 9, *SMALL]
    assert call("train-classifier", "mnist5k", "--out", out, "--images", 200, *options).returncode == 0
    for path in out.glob("step-00000010.*"):  # as if it had been killed after 100 images
        path.unlink()
    assert newest(out).stem == "step-00000005"
    done = call("train-classifier", "mnist5k", "--out", out, "--resume", "--images", 200, *options)
    assert done.returncode == 0, done.stderr
    one, other = (load_file(newest(folder).with_suffix(".safetensors")) for folder in (out, runs[0] / "c"))
    assert one.keys() == other.keys()
    assert all(one[name].equal(other[name]) for name in one)


def picture(tmp_path, *arguments, name="g"):
    out = tmp_path / f"{name}.png"
    assert cli.main(["sample", *map(str, arguments), "--steps", "3", "--n", "4", "--out", str(out)]) == 0
    return matplotlib.image.imread(out)


def test_sample_is_guided_by_a_classifier_and_without_one(runs, tmp_path, capsys):
    a, c = runs[0] / "a", runs[0] / "c"
    plain = picture(tmp_path, a)
    assert np.array_equal(picture(tmp_path, a, "--guidance", 1), plain)
    assert not np.array_equal(picture(tmp_path, a, "--guidance", 4), plain)
    free = picture(tmp_path, a, "--unconditional")
    assert np.array_equal(picture(tmp_path, a, "--guidance", 0), free)
    assert np.array_equal(picture(tmp_path, a, "--classifier", c, "--guidance", 0), free)
    three = picture(tmp_path, a, "--classifier", c, "--guidance", 200, "--classes", 3)
    assert not np.array_equal(three, free)
    assert not np.array_equal(
        picture(tmp_path, a, "--classifier", c, "--guidance", 200, "--classes", 4), three
    )


def test_the_pretrained_ones_are_guided(tmp_path):
    options = ["pretrained:mnist5k", "--classifier", "pretrained:noisy_classifier", "--guidance", 2]
    assert picture(tmp_path, *options, "--sampler", "ddim", "--classes", 7).shape[:2] == (28, 298)


def test_a_classifier_is_measured(runs, tmp_path, capsys):
    out = tmp_path / "told.json"
    assert (
        cli.main(["evaluate-classifier", str(runs[0] / "c"), "--steps", "1", "900", "--out", str(out)]) == 0
    )
    assert "held-out images right at step 900" in capsys.readouterr().out
    rows = json.loads(out.read_text())["rows"]
    assert [row["key"] for row in rows] == ["accuracy_1", "nats_1", "accuracy_900", "nats_900"]
    assert all(row["n"] == 500 and row["low"] <= row["value"] <= row["high"] for row in rows)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ["sample", "C", "--steps", "2"],
            "run: expected the run of a denoiser, of train, got that of a classifier",
        ),
        (["sample", "A", "--classifier", "A"], "classifier: expected the run of a classifier"),
        (["sample", "A", "--classifier", "nowhere"], "classifier: no folder nowhere"),
        (["sample", "A", "--classifier", "pretrained:x"], "name: expected one of noisy_classifier, got 'x'"),
        (["sample", "A", "--guidance", "-1"], "scale: expected a finite number >= 0, got -1"),
        (["sample", "A", "--guidance", "nan"], "scale: expected a finite number >= 0, got nan"),
        (["sample", "A", "--guidance", "2", "--unconditional"], "guidance: expected classes to guide to"),
        (["sample", "A", "--classifier", "C", "--unconditional"], "unconditional: expected classes"),
        (
            ["sample", "A", "--classifier", "C", "--classes", "10"],
            "classes: expected classes in 0..9, got [10]",
        ),
        (["evaluate-classifier", "A"], "classifier: expected the run of a classifier"),
        (["evaluate-classifier", "C", "--steps", "0"], "steps: expected steps in 1..1000, got 0..0"),
        (["evaluate", "C"], "run: expected the run of a denoiser"),
        (["train-classifier", "mnist5k", "--out", "C"], "already holds a run; add --resume"),
        (["train-classifier", "mnist5k", "--out", "X", "--objective", "v"], "objective: expected 'class'"),
        (
            [
                "train",
                "mnist5k",
                "--out",
                "X",
                "--label-dropout",
                "0",
                "--sample-every",
                "0",
                "--objective",
                "class",
            ],
            "train-classifier",
        ),
        (["train-classifier", "mnist5k", "--out", "A", "--resume"], "belongs to another run"),
    ],
)
def test_bad_input_ends_with_one_line_and_code_2(runs, arguments, words, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    paths = {"A": runs[0] / "a", "C": runs[0] / "c", "X": tmp_path / "x"}
    assert cli.main([str(paths.get(a, a)) for a in arguments]) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    assert words in lines[0]


def test_a_classifier_of_another_schedule_is_refused(runs, tmp_path):
    options = ["--images", 20, *SMALL, "--schedule", "cosine"]
    assert call("train-classifier", "mnist5k", "--out", tmp_path / "s", *options).returncode == 0
    done = call("sample", runs[0] / "a", "--classifier", tmp_path / "s", "--out", tmp_path / "g.png")
    fails_with(done, "classifier: expected one of the run's schedule, linear with T = 1000, got cosine")


def test_no_class_is_not_asked_for_where_none_was_trained(runs, tmp_path):
    options = ["--images", 20, *SMALL, "--label-dropout", 0]
    assert call("train", "mnist5k", "--out", tmp_path / "s", *options).returncode == 0
    plain = picture(tmp_path, tmp_path / "s", "--classes", 3)
    assert np.array_equal(picture(tmp_path, tmp_path / "s", "--classes", 3, "--guidance", 1), plain)
    for name, asked in (
        ("guidance", ["--guidance", 2]),
        ("unconditional", ["--unconditional"]),
        ("classifier", ["--classifier", runs[0] / "c"]),
    ):
        done = call("sample", tmp_path / "s", *asked, "--out", tmp_path / "g.png")
        fails_with(done, f"{name}: expected a run that was trained to answer without a class too")


def test_help_tells():
    for arguments, words in (
        (["train-classifier", "mnist5k"], ["usage: python -m ddpm_lib train-classifier", "--images"]),
        (["sample"], ["--guidance", "--classifier"]),
    ):
        done = call(*arguments, "--help")
        assert done.returncode == 0
        assert all(word in done.stdout for word in words)

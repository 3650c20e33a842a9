"""The command line as a user calls it."""

import json
import os
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import get_args

import matplotlib.image
import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file

from ddpm_lib import _jobs, cli, evaluation, training
from ddpm_lib.checkpoint import replacing
from ddpm_lib.schedule import SPACINGS

SMALL = ["--width", "16", "--multipliers", "1", "--batch", "20", "--device", "cpu"]


def call(*arguments, timeout=120):
    return subprocess.run(
        [sys.executable, "-m", "ddpm_lib", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=timeout,
    )


def start_training(out, images):
    command = [
        sys.executable,
        "-m",
        "ddpm_lib",
        "train",
        "mnist5k",
        "--out",
        str(out),
        "--images",
        str(images),
    ]
    return subprocess.Popen(
        [*command, *SMALL, "--checkpoint-every", "100"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for_checkpoint(out, seconds=90):
    end = time.monotonic() + seconds
    while not list(Path(out).glob("step-*.json")):
        assert time.monotonic() < end, "no checkpoint was written"
        time.sleep(0.02)


def newest(out):
    return max(Path(out).glob("step-*.json"))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "a"
    done = call("train", "mnist5k", "--out", out, "--images", 200, *SMALL)
    assert done.returncode == 0, done.stderr
    return out, done


def fails_with(done, *words):
    """Exit code 2 and one line that says these words."""
    assert done.returncode == 2, (done.stdout, done.stderr)
    lines = [
        line
        for line in done.stderr.splitlines()
        if not line.startswith(("warning:", "training:", "sampling:"))
    ]
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("error: ")
    for word in words:
        assert word in lines[0], done.stderr


def test_train_says_what_it_does_and_shows_progress(run):
    out, done = run
    assert "4,500 images, on" in done.stdout
    assert f"saved {out} at 200 images" in done.stdout
    assert "images/s" in done.stdout
    for sign in ("training", "200/200", "loss=", "img/s"):
        assert sign in done.stderr


def test_sample_writes_a_grid(run, tmp_path):
    out, _ = run
    done = call("sample", out, "--steps", 5, "--n", 20, "--out", tmp_path / "grid.png", "--device", "cpu")
    assert done.returncode == 0, done.stderr
    assert "20 images by ancestral in 5 steps" in done.stdout
    pixels = matplotlib.image.imread(tmp_path / "grid.png")
    assert pixels.shape[:2] == (2 * 30 - 2, 10 * 30 - 2)
    assert [p.name for p in tmp_path.iterdir()] == ["grid.png"]


def test_the_same_seed_gives_the_same_picture_and_another_seed_another(run, tmp_path):
    out, _ = run
    pictures = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        call("sample", out, "--steps", 3, "--n", 4, "--seed", seed, "--out", tmp_path / f"{name}.png")
        pictures.append(matplotlib.image.imread(tmp_path / f"{name}.png"))
    assert np.array_equal(pictures[0], pictures[1])
    assert not np.array_equal(pictures[0], pictures[2])


@pytest.mark.parametrize(
    "options",
    [
        ["--sampler", "ddim"],
        ["--sampler", "ddim", "--eta", "0.5"],
        ["--sampler", "dpm_solver", "--spacing", "log-snr", "--eta", "0.5"],
        ["--classes", "3", "7"],
    ],
)
def test_sample_takes_its_options(run, tmp_path, options):
    done = call("sample", run[0], "--steps", 3, "--n", 2, "--out", tmp_path / "g.png", *options)
    assert done.returncode == 0, done.stderr


def test_samplers_and_spacings_on_offer_are_those_of_the_library():
    assert get_args(_jobs.Sampler) == tuple(evaluation.SAMPLERS)
    assert get_args(_jobs.Spacing) == SPACINGS


@pytest.mark.skipif(os.name == "nt", reason="Windows sends no such signals")
@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGKILL", -9)])
def test_a_run_that_was_stopped_and_resumed_equals_the_uninterrupted_run(tmp_path, name, code):
    images = 1200
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    process = start_training(stopped, images)
    wait_for_checkpoint(stopped)
    process.send_signal(getattr(signal, name))
    _, errors = process.communicate(timeout=60)
    assert process.returncode == code, errors
    if name == "SIGINT":
        assert "stopped and saved at" in errors
        assert "--resume" in errors
        assert "Traceback" not in errors
    assert json.loads(newest(stopped).read_text())["meta"]["images_seen"] < images
    options = ["--images", images, "--checkpoint-every", 100, *SMALL]
    assert call("train", "mnist5k", "--out", stopped, "--resume", *options).returncode == 0
    assert call("train", "mnist5k", "--out", whole, *options).returncode == 0
    one, other = (load_file(newest(folder).with_suffix(".safetensors")) for folder in (stopped, whole))
    assert one.keys() == other.keys()
    for name in one:
        assert one[name].equal(other[name]), name


@pytest.mark.parametrize(
    ("checkpoints", "words"), [(False, "no checkpoint yet"), (True, "go on from the last")]
)
def test_a_run_that_was_stopped_at_once_does_not_claim_to_be_saved(
    tmp_path, monkeypatch, capsys, checkpoints, words
):
    def second_ctrl_c(self, out):
        raise KeyboardInterrupt

    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)  # which main replaces
    arguments = ["train", "mnist5k", "--out", str(tmp_path / "run"), "--images", "80", *SMALL]
    if checkpoints:
        assert cli.main(arguments) == 0
        arguments.append("--resume")
    monkeypatch.setattr(training.Trainer, "fit", second_ctrl_c)
    assert cli.main(arguments) == 130
    told = capsys.readouterr().err
    assert "images without saving; " + words in told
    assert "stopped and saved" not in told


@pytest.mark.parametrize("ending", [".tif", ".jpg", ".webp"])
def test_a_grid_takes_its_format_from_its_name(run, tmp_path, ending):
    path = tmp_path / f"grid{ending}"
    done = call("sample", run[0], "--steps", 2, "--n", 4, "--out", path)
    assert done.returncode == 0, done.stderr
    with Image.open(path) as picture:
        assert picture.size == (298, 28)


def test_an_output_that_lacks_a_sign_ends_no_command(root):
    done = subprocess.run(
        [sys.executable, "-m", "ddpm_lib", "ledger"],
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": "cp1252"},
        cwd=root,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert rb"\u2713" in done.stdout


def test_an_existing_run_is_not_overwritten(run):
    out, _ = run
    before = {p: p.read_bytes() for p in out.iterdir()}
    fails_with(call("train", "mnist5k", "--out", out, *SMALL), "already holds a run", "--resume")
    assert {p: p.read_bytes() for p in out.iterdir()} == before


def test_resuming_another_run_is_refused(run):
    done = call("train", "mnist5k", "--out", run[0], "--resume", "--images", 400, *SMALL)
    fails_with(done, "belongs to another run", "images: 200, not 400")


def test_resuming_nothing_is_refused(tmp_path):
    fails_with(
        call("train", "mnist5k", "--out", tmp_path / "new", "--resume", *SMALL), "new", "no checkpoint here"
    )


@pytest.mark.parametrize("damage", ["truncated", "flipped", "gone"])
def test_a_damaged_checkpoint_is_named(run, tmp_path, damage):
    for path in run[0].iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    tensors = newest(tmp_path).with_suffix(".safetensors")
    content = bytearray(tensors.read_bytes())
    content[len(content) // 2] ^= 1
    if damage == "gone":
        tensors.unlink()
    else:
        tensors.write_bytes(content[:1000] if damage == "truncated" else content)
    for path in sorted(tmp_path.glob("*.json"))[:-1]:
        path.unlink()
    done = call("sample", tmp_path, "--steps", 2, "--n", 1, "--out", tmp_path / "g.png")
    fails_with(done, str(tensors), "damaged")
    assert not (tmp_path / "g.png").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["sample", "nowhere"], ["run: no folder nowhere"]),
        (["sample", "RUN", "--steps", "0"], ["S: expected a number of steps in 1..1000, got 0"]),
        (["sample", "RUN", "--steps", "1001"], ["got 1001"]),
        (
            ["sample", "RUN", "--sampler", "ddim", "--eta", "2", "--steps", "2"],
            ["eta: expected a number in [0, 1], got 2.0"],
        ),
        (
            ["sample", "RUN", "--eta", "1"],
            ["eta: expected only with ddim or dpm_solver, got it with ancestral"],
        ),
        (["sample", "RUN", "--classes", "10"], ["classes: expected classes in 0..9, got [10]"]),
        (["sample", "RUN", "--n", "0"], ["n, columns: expected at least 1, got 0"]),
        (["sample", "RUN", "--out", "FILE/grid.png"], ["cannot write to", "FILE"]),
        (
            ["sample", "RUN", "--out", "grid"],
            ["out: expected the name of a picture, ending in .png", "got grid"],
        ),
        (["sample", "RUN", "--out", "grid.doc"], ["out: expected the name of a picture", "got grid.doc"]),
        (["sample", "RUN", "--device", "abacus"], ["device: 'abacus'"]),
        (["train", "mnist5k", "--out", "FILE/run"], ["cannot write to", "FILE"]),
        (["train", "mnist5k", "--out", "new", "--data", "mnist6k"], ["data: expected one of", "'mnist6k'"]),
    ],
)
def test_bad_input_ends_with_one_line_and_code_2(run, tmp_path, arguments, words, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).resolve().parents[1]))
    (tmp_path / "FILE").write_text("in the way")
    arguments = [str(run[0]) if a == "RUN" else a for a in arguments]
    fails_with(call(*arguments), *words)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["dream"], "dream train sample"),
        (["train", "mnist6k", "--out", "x"], "mnist6k mnist5k"),
        (["train", "mnist5k"], "--out"),
        (["train", "mnist5k", "--out", "new", "--batch", "0"], "batch: at least 1, got 0"),
        (["train", "mnist5k", "--out", "new", "--batch", "many"], "--batch many"),
        (["train", "mnist5k", "--out", "new", "--image-size", "30"], "image_size: multiple got 30"),
        (["sample", "new", "--sampler", "euler"], "--sampler euler ddim ancestral"),
    ],
)
def test_arguments_that_cannot_be_end_with_code_2_before_anything_is_written(arguments, words):
    done = call(*arguments)
    assert done.returncode == 2
    for word in words.split():
        assert word in done.stderr
    assert not Path("new").exists()


@pytest.mark.parametrize("arguments", [[], ["train"], ["train", "mnist5k"], ["sample"]])
def test_help_tells(arguments):
    done = call(*arguments, "--help")
    assert done.returncode == 0
    assert "usage: python -m ddpm_lib" in done.stdout


def test_an_interrupted_write_of_a_picture_leaves_the_old_one(tmp_path):
    path = tmp_path / "grid.png"
    path.write_bytes(b"old")

    def interrupted():
        with replacing(path) as temporary:
            temporary.write_bytes(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["grid.png"]


def test_the_ledger_lists_the_books_equations(root):
    text = call("ledger")
    assert text.returncode == 0, text.stderr
    totals = json.loads(call("ledger", "--json").stdout)["totals"]
    assert f"{totals['proved']:5d}  proved" in text.stdout
    assert "eq-posterior-mean" in text.stdout
    fails_with(call("ledger", "--book", root / "tests"), "book:", "labelled equations", "tests")


def test_a_reader_who_has_read_enough_gets_no_error(root):
    listing = subprocess.Popen(
        [sys.executable, "-m", "ddpm_lib", "ledger"],
        cwd=root,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    listing.stdout.close()  # as head does, here before the first line
    assert listing.stderr.read() == ""
    assert listing.wait(timeout=60) == 141

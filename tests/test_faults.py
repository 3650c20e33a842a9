"""What ends a run against its will: SIGKILL at any moment, damaged files, a full disk, numbers that are none."""

import json
import os
import random
import re
import shutil

import pytest
import torch

from ddpm_lib import checkpoint, data
from ddpm_lib._journal import read
from ddpm_lib.training import Trainer
from ddpm_lib.unet import UNetConfig
from tests.helpers import tiny_config
from tests.prepared import Pool

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")

SMALL = ["--width", "8", "--multipliers", "1", "--batch", "8", "--precision", "fp32", "--log-every", "2"]
RUN = [
    *SMALL,
    "--images",
    "128",
    "--checkpoint-every",
    "32",
    "--sample-every",
    "0",
]  # 16 steps, 4 checkpoints
LAST = 16


@pytest.fixture(scope="module")
def pool():
    pool = Pool()
    yield pool
    pool.close()


@pytest.fixture(scope="module")
def whole(pool, tmp_path_factory):
    """The run that nothing happened to: its folder and what it counted."""
    folder = tmp_path_factory.mktemp("whole")
    pid = pool.train(folder / "run", *RUN, log=folder / "log", plan={"die_in_save": 10**9})
    assert pool.wait(pid) == 0, (folder / "log").read_text()
    calls, writes = re.search(
        r"survived: {'calls': (\d+), 'writes': (\d+)", (folder / "log").read_text()
    ).groups()
    return folder / "run", int(calls), int(writes)


def bits(run):
    """Every file of the checkpoints, byte for byte."""
    return {path.name: path.read_bytes() for path in run.glob("step-*")}


def points(run):
    """The curve without the times."""
    return [
        {k: v for k, v in line.items() if k != "images_per_second"} for line in read(run / "metrics.jsonl")
    ]


def resumed(pool, run, *options):
    """Resume to the end, or start anew where no checkpoint had been written; returns what it said."""
    log = run.parent / f"{run.name}.log"
    if checkpoint.exists(run):
        options = ("--resume", *options)
    assert pool.wait(pool.train(run, *RUN, *options, log=log)) == 0, log.read_text()
    return log.read_text()


def killed_and_resumed(pool, whole, run, plan=None, seconds=None):
    """Whether the plan or the clock killed the run; if so it was resumed, and nothing tells it from the whole one."""
    pid = pool.train(run, *RUN, log=run.parent / "killed.log", plan=plan)
    code = pool.wait(pid, 120 if seconds is None else seconds)
    if code is None:
        pool.start("os:kill", pid, 9, log=run.parent / "kill.log")
        code = pool.wait(pid)
    if code == 0:
        return False
    assert code == -9, (run.parent / "killed.log").read_text()
    resumed(pool, run)
    assert bits(run) == bits(whole)
    assert points(run) == points(whole)
    assert not [path.name for path in run.iterdir() if path.name.startswith(".")]
    return True


@pytest.mark.slow
def test_sigkill_while_a_checkpoint_is_written_changes_no_bit(pool, whole, tmp_path):
    """At 8 moments within ``checkpoint.save``, and in the middle of 4 files."""
    run, calls, writes = whole
    draw = random.Random(0)
    plans = [{"die_in_save": n} for n in draw.sample(range(1, calls), 8)]
    plans += [{"half_write": n} for n in draw.sample(range(1, writes + 1), 4)]
    for number, plan in enumerate(plans):
        assert killed_and_resumed(pool, run, tmp_path / str(number), plan), plan


@pytest.mark.slow
def test_sigkill_at_any_time_changes_no_bit(pool, whole, tmp_path):
    """At 8 times drawn from the length of a run, as the clock has it."""
    draw, kills, latest = random.Random(1), 0, 4.0
    for number in range(100):
        if killed_and_resumed(pool, whole[0], tmp_path / str(number), seconds=draw.uniform(0.05, latest)):
            kills += 1
        else:
            latest *= 0.8  # the run was faster than that
        if kills == 8:
            return
    pytest.fail(f"only {kills} of 100 runs were killed before they ended")


@pytest.fixture(scope="module")
def three(tmp_path_factory):
    """A run with three checkpoints, of steps 4, 8 and 12, and its trainer's tensors at each."""
    folder = tmp_path_factory.mktemp("three")
    config = tiny_config(
        model=UNetConfig(width=8, multipliers=(1,)), images=96, batch=8, checkpoint_every=32, keep=3
    )
    Trainer(config, images=data.load("mnist5k")).fit(folder, progress=False)
    paths = sorted(folder.glob("*.json"))
    return folder, config, {path.stem: checkpoint.load(path)[0] for path in paths}


def flip(path, draw, other):
    content = bytearray(path.read_bytes())
    for _ in range(draw.choice([1, 1, 1, 8])):
        content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    path.write_bytes(content)


def truncate(path, draw, other):
    path.write_bytes(path.read_bytes()[: draw.randrange(path.stat().st_size)])


def blank(path, draw, other):
    """A block of zeros, as a crashed file system leaves it."""
    content = bytearray(path.read_bytes())
    start = draw.randrange(len(content))
    stop = min(len(content), start + 512)
    content[start:stop] = bytes(stop - start)
    path.write_bytes(content)


def lengthen(path, draw, other):
    path.write_bytes(path.read_bytes() + draw.randbytes(draw.randrange(1, 100)))


def lose(path, draw, other):
    path.unlink()


def swap(path, draw, other):
    path.write_bytes(other.read_bytes())


def swap_both(path, draw, other):
    """A whole checkpoint under the name of another step."""
    for kind in (".json", ".safetensors"):
        path.with_suffix(kind).write_bytes(other.with_suffix(kind).read_bytes())


DAMAGES = [(flip, 80), (truncate, 40), (blank, 20), (lengthen, 20), (lose, 20), (swap, 10), (swap_both, 10)]


def test_of_200_damaged_checkpoints_none_is_loaded_in_silence(three, tmp_path, recwarn):
    """Half of the time the newest is damaged and the one before stands in for it; else all three are."""
    folder, _, tensors = three
    draw, refused, replaced = random.Random(0), 0, 0
    for damage, times in DAMAGES:
        for time in range(times):
            copy = tmp_path / f"{damage.__name__}-{time}"
            shutil.copytree(folder, copy)
            stems = sorted(tensors, reverse=True)
            hurt = stems if time % 2 else stems[:1]
            before = {path.name: path.read_bytes() for path in copy.iterdir()}
            for stem in hurt:
                suffix = draw.choice([".json", ".safetensors"])
                other = folder / draw.choice([s for s in stems if s != stem])
                damage(copy / (stem + suffix), draw, other.with_suffix(suffix))
            same = {p.name: p.read_bytes() for p in copy.iterdir()} == before
            assert not same, "the damage did nothing"
            recwarn.clear()
            if hurt == stems:
                with pytest.raises(ValueError, match="no whole checkpoint here") as error:
                    checkpoint.load_newest(copy)
                assert all(stem in str(error.value) for stem in stems)
                refused += 1
            else:
                loaded, meta, path = checkpoint.load_newest(copy)
                assert (path.stem, meta["images_seen"]) == (stems[1], 64)
                assert all(torch.equal(loaded[name], value) for name, value in tensors[stems[1]].items())
                replaced += 1
            told = [str(w.message) for w in recwarn]
            assert len(told) == len(hurt)
            assert all(stem in words for stem, words in zip(hurt, told, strict=True)), told
            shutil.rmtree(copy)
    assert (refused, replaced) == (100, 100)


def test_a_run_whose_newest_checkpoint_is_damaged_goes_on_from_the_one_before(pool, whole, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(whole[0], run)
    flip(run / f"step-{LAST:08d}.safetensors", random.Random(0), None)
    said = resumed(pool, run)
    assert f"warning: checkpoint {run}/step-{LAST:08d}.safetensors is damaged" in said
    assert bits(run) == bits(whole[0])
    assert points(run) == points(whole[0])


def test_a_full_disk_ends_the_run_in_words_and_the_last_checkpoint_stays(pool, whole, tmp_path):
    run, log = tmp_path / "run", tmp_path / "log"
    assert pool.wait(pool.train(run, *RUN, log=log, plan={"full_at_save": 3})) == 2
    (line,) = (line for line in log.read_text().splitlines() if line.startswith("error"))
    assert f"checkpoint {run}/step-00000012.json not saved" in line
    assert "too large" in line  # as the system says it: the limit here is one on files
    assert "the one before it stays" in line
    assert checkpoint.load_newest(run)[2].name == "step-00000008.json"
    assert not list(run.glob(".*"))
    resumed(pool, run)
    assert bits(run) == bits(whole[0])


def test_a_loss_that_is_no_number_ends_the_run_and_the_last_checkpoint_stays(pool, whole, tmp_path):
    run, log = tmp_path / "run", tmp_path / "log"
    assert pool.wait(pool.train(run, *RUN, log=log, plan={"nan_at_step": 10})) == 2
    (line,) = (line for line in log.read_text().splitlines() if line.startswith("error"))
    assert re.fullmatch(r"error: the loss is nan at step 10, learning rate \d\.\d\de-\d\d", line)
    assert checkpoint.load_newest(run)[2].name == "step-00000008.json"
    resumed(pool, run)
    assert bits(run) == bits(whole[0])


def test_a_learning_rate_that_blows_the_weights_up_leaves_no_checkpoint_of_them(pool, tmp_path):
    run, log = tmp_path / "run", tmp_path / "log"
    options = [*RUN, "--lr", "1e30", "--checkpoint-every", "8", "--log-every", "50"]
    assert pool.wait(pool.train(run, *options, log=log)) == 2
    assert re.search(r"error: .* step \d+, learning rate \d\.\d\de\+\d\d", log.read_text())
    for path in run.glob("step-*.json"):
        assert all(value.isfinite().all() for value in checkpoint.load(path)[0].values())


def test_the_records_of_a_run_are_whole_lines_in_order(whole):
    lines = [json.loads(line) for line in (whole[0] / "metrics.jsonl").read_text().splitlines()]
    assert [line["images"] for line in lines] == list(range(16, 129, 16))
    assert [line["step"] for line in lines] == list(range(2, 17, 2))
    for line in lines:
        assert {"loss", "gradient_norm", "lr", "images_per_second"} <= line.keys()

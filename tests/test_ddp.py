"""Several processes share a run: what they compute, how they stop, and what happens when one of them is killed."""

import os
import signal
import socket
import subprocess
import sys
import time
from datetime import timedelta

import pytest
import torch

from ddpm_lib import _distributed, checkpoint, data
from ddpm_lib._distributed import World, local_device
from ddpm_lib._journal import read
from ddpm_lib.training import Trainer, joined
from tests.helpers import tiny_config
from tests.prepared import Pool

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")

SMALL = ["--width", "8", "--multipliers", "1", "--batch", "8", "--precision", "fp32", "--sample-every", "0"]
LONG = [*SMALL, "--images", "4000000", "--checkpoint-every", "80"]


@pytest.fixture(scope="module")
def pool():
    pool = Pool()
    yield pool
    pool.close()


def places(size=2):
    """The environment of each of the processes, as ``torchrun`` sets it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    both = {"WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    return [{"RANK": str(rank), "LOCAL_RANK": str(rank), **both} for rank in range(size)]


def train_together(pool, run, *options, plans=(None, None)):
    """Both processes' pids and logs."""
    logs = [run.parent / f"{run.name}.{rank}.log" for rank in (0, 1)]
    return [
        pool.train(run, *options, log=log, plan=plan, **place)
        for log, plan, place in zip(logs, plans, places(), strict=True)
    ], logs


def wait_for(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def measure(path, accumulate, kind="cpu"):
    """Four steps of a run in which all is random but dropout; losses, first gradients, last weights to path."""
    config = tiny_config(
        batch=16,
        accumulate=accumulate,
        augment="affine",
        times="stratified",
        weighting="min-snr",
        label_dropout=0.3,
        clip_gradient=1e9,
        precision="fp32",
    )
    device = torch.device(local_device(kind))
    with joined(device) as world:
        trainer = Trainer(config, device, data.load("mnist5k"), world)
        losses, gradients = [trainer.train_step()], [p.grad.clone() for p in trainer.net.parameters()]
        losses += [trainer.train_step() for _ in range(3)]
        state = [p.detach() for module in (trainer.net, trainer.average) for p in module.parameters()]
        result = {"losses": losses, "norm": trainer.gradient_norm, "gradients": gradients, "state": state}
        torch.save(result, f"{path}.{world.rank}")


def measured(pool, folder, size, accumulate, kind="cpu"):
    """What ``measure`` finds in each of the processes."""
    name = str(folder / f"{size}-{accumulate}-{kind}")
    pids = [
        pool.start(
            "tests.test_ddp:measure", name, accumulate, kind, log=folder / f"log.{place['RANK']}", **place
        )
        for place in places(size)
    ]
    for rank, pid in enumerate(pids):
        assert pool.wait(pid) == 0, (folder / f"log.{rank}").read_text()
    return [torch.load(f"{name}.{rank}", "cpu", weights_only=True) for rank in range(size)]


@pytest.fixture(scope="module")
def shared(pool, tmp_path_factory):
    """What was found by (number of processes, micro-batches)."""
    folder = tmp_path_factory.mktemp("shared")
    return {how: measured(pool, folder, *how) for how in ((1, 1), (1, 4), (2, 1), (2, 2))}


@pytest.mark.parametrize("how", [(1, 4), (2, 1), (2, 2)])
@pytest.mark.parametrize("what", ["losses", "norm", "gradients", "state"])
def test_processes_and_micro_batches_change_the_run_by_rounding_alone(shared, how, what):
    (alone,) = shared[1, 1]
    for found in shared[how]:
        torch.testing.assert_close(found[what], alone[what], rtol=2e-5, atol=2e-6)


@pytest.mark.cuda
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="fewer than two GPUs")
def test_two_gpus_compute_what_one_does(pool, tmp_path):
    (alone,), both = (measured(pool, tmp_path, size, 1, "cuda") for size in (1, 2))
    for what, value in alone.items():
        for found in both:
            torch.testing.assert_close(found[what], value, rtol=1e-2, atol=1e-3)
        torch.testing.assert_close(both[0][what], both[1][what], rtol=0, atol=0)


def test_all_processes_hold_the_same_bits(shared):
    one, other = shared[2, 2]
    for what in one:
        torch.testing.assert_close(one[what], other[what], rtol=0, atol=0)


def test_shares_make_up_the_batch():
    shares = [list(range(12))[World(rank, 3).part(12)] for rank in range(3)]
    assert [place for share in shares for place in share] == list(range(12))


def test_a_batch_that_cannot_be_shared_is_refused():
    words = "batch: expected a multiple of 6, 3 processes with 2 micro-batches each, got 20"
    with pytest.raises(ValueError, match=words):
        Trainer(tiny_config(batch=20, accumulate=2), images=data.load("mnist5k"), world=World(0, 3))


def test_processes_that_would_share_one_gpu_are_refused(monkeypatch):
    for name, value in places()[0].items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    words = "device: expected cuda, of which each process takes one of its own, got cuda:1"
    with pytest.raises(ValueError, match=words), joined(torch.device("cuda:1")):
        pass


def test_one_of_two_killed_ends_the_other_within_a_minute_and_one_alone_goes_on(pool, tmp_path):
    run, options = tmp_path / "run", [*SMALL, "--images", "320", "--checkpoint-every", "80"]
    pids, logs = train_together(pool, run, *options, plans=(None, {"die_at_step": 25}))
    assert pool.wait(pids[1]) == -signal.SIGKILL
    assert pool.wait(pids[0], 60) == 2
    errors = [line for line in logs[0].read_text().splitlines() if line.startswith("error")]
    assert len(errors) == 1
    assert errors[0].startswith(
        "error: one of the 2 processes of this run is gone or does not answer; "
        "go on from the last checkpoint, if there is one, with --resume ("
    )
    assert "onnection" in errors[0], "what the connection said"
    assert checkpoint.load_newest(run)[1]["images_seen"] == 160
    alone, log = tmp_path / "alone", tmp_path / "log"
    assert pool.wait(pool.train(run, *options, "--resume", log=log)) == 0, log.read_text()
    assert pool.wait(pool.train(alone, *options, log=log)) == 0, log.read_text()
    one, other = (checkpoint.load_newest(folder)[0] for folder in (run, alone))
    for name in one:
        torch.testing.assert_close(one[name], other[name], rtol=1e-3, atol=1e-4, msg=name)
    assert [line["images"] for line in read(run / "metrics.jsonl")] == [80, 160, 240, 320]


def test_a_signal_to_one_stops_both_after_the_same_step_and_two_go_on_from_there(pool, tmp_path):
    run = tmp_path / "run"
    pids, logs = train_together(pool, run, *LONG)
    wait_for(lambda: list(run.glob("step-*.json")))
    os.kill(pids[1], signal.SIGTERM)
    assert [pool.wait(pid) for pid in pids] == [128 + signal.SIGTERM] * 2
    assert "stopped and saved at" in logs[0].read_text()
    assert logs[1].read_text() == "", "only the first process prints"
    _, meta, _ = checkpoint.load_newest(run)
    seen = meta["images_seen"]
    pids, logs = train_together(
        pool, run, *SMALL, "--images", "4000000", "--resume", "--checkpoint-every", "8"
    )
    wait_for(lambda: int(max(run.glob("step-*.json")).stem[5:]) * 8 > seen)
    for pid in pids:  # as torchrun does on Ctrl-C, and more than once
        os.kill(pid, signal.SIGINT)
        os.kill(pid, signal.SIGINT)
    assert [pool.wait(pid) for pid in pids] == [128 + signal.SIGINT] * 2
    assert checkpoint.load_newest(run)[1]["images_seen"] > seen


def linger(seconds, late):
    """Four meetings after a write, before which the process of this rank takes so long; patience is two seconds."""
    _distributed.PATIENCE = timedelta(seconds=2)
    try:
        with joined(torch.device("cpu")) as world:
            for meeting in range(4):
                if meeting == 2 and world.rank == late:
                    time.sleep(seconds)
                world.follow()
    except ConnectionError as error:
        print(error, flush=True)
        return 2
    return 0


@pytest.mark.parametrize("late", [0, 1])
def test_the_first_process_may_take_its_time_and_the_others_may_not(pool, tmp_path, late):
    logs = [tmp_path / f"{rank}.log" for rank in (0, 1)]
    pids = [
        pool.start("tests.test_ddp:linger", 5, late, log=log, **place)
        for log, place in zip(logs, places(), strict=True)
    ]
    codes = [pool.wait(pid, 30) for pid in pids]
    if late == 0:
        assert codes == [0, 0], [log.read_text() for log in logs]
    else:
        assert codes[0] == 2
        assert "one of the 2 processes of this run is gone or does not answer" in logs[0].read_text()


@pytest.mark.slow
def test_one_of_two_that_hangs_ends_the_other_within_a_minute(pool, tmp_path):
    run = tmp_path / "run"
    pids, logs = train_together(pool, run, *LONG)
    wait_for(lambda: list(run.glob("step-*.json")))
    os.kill(pids[1], signal.SIGSTOP)
    assert pool.wait(pids[0], 60) == 2
    assert "error: one of the 2 processes of this run is gone" in logs[0].read_text()
    os.kill(pids[1], signal.SIGKILL)


@pytest.mark.slow
def test_torchrun_trains_in_two_processes_and_ends_when_one_is_killed(tmp_path):
    run = tmp_path / "run"
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += ["-m", "ddpm_lib", "train", "mnist5k", "--out", str(run), "--device", "cpu", *LONG]
    with open(tmp_path / "log", "w") as log:
        agent = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, "OMP_NUM_THREADS": "1"})
    try:
        wait_for(lambda: list(run.glob("step-*.json")), 300)
        workers = subprocess.run(
            ["pgrep", "-P", str(agent.pid)], capture_output=True, text=True
        ).stdout.split()
        assert len(workers) == 2
        os.kill(int(workers[1]), signal.SIGKILL)
        assert agent.wait(60) != 0
    finally:
        agent.terminate()
        agent.wait(60)
    assert "2 processes, each on" in (tmp_path / "log").read_text()
    assert checkpoint.load_newest(run)[1]["images_seen"] > 0

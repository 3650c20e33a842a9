"""How a run is computed and recorded: precision, layout, compilation, what it writes beside its checkpoints."""

import json
import sys
import types
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import replace

import matplotlib.image
import pytest
import torch
from torch.optim.swa_utils import AveragedModel

from ddpm_lib import _device, _loading, checkpoint, data, training
from ddpm_lib._journal import Journal, read
from ddpm_lib.bound import simple_loss
from ddpm_lib.config import TrainConfig
from ddpm_lib.samplers import sample
from ddpm_lib.training import Trainer, draw_key, load_denoiser, load_pretrained, save_pretrained
from tests.helpers import tiny_config

DIGITS = data.load("mnist5k")


def assert_same_bits(one, other):
    for module in ("net", "average"):
        ours, theirs = getattr(one, module).state_dict(), getattr(other, module).state_dict()
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def gradient(trainer):
    """The gradient of a step of a network whose layers are awake, and the same in double precision."""
    torch.manual_seed(0)
    for p in trainer.net.parameters():
        torch.nn.init.normal_(p, std=0.1 if p.ndim < 2 else p[0].numel() ** -0.5)
    exact = deepcopy(trainer.net).double().to(memory_format=torch.contiguous_format)
    torch.manual_seed(draw_key(0, 1))
    ((x0, t, eps, y),) = trainer._draw()
    x0, eps = (x.double().contiguous() for x in (x0, eps))
    simple_loss(exact, trainer.schedule, trainer.config.objective, x0, t, eps, y).mean().backward()
    trainer.train_step()
    return [torch.cat([p.grad.double().flatten() for p in net.parameters()]) for net in (trainer.net, exact)]


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-5), ("bf16", 2e-2)])
def test_trap_22_gradients_are_those_of_double_precision(precision, tolerance, channels_last):
    config = tiny_config(precision=precision, channels_last=channels_last, clip_gradient=1e9)
    found, exact = gradient(Trainer(config, images=DIGITS))
    assert (found - exact).norm() < tolerance * exact.norm()


def test_trap_22_compiled_gradients_in_bf16_and_channels_last_too(monkeypatch):
    """Traced, differentiated and laid out as for the default compiler, whose code takes a minute of g++ on a CPU."""
    real = torch.compile
    monkeypatch.setattr(torch, "compile", lambda net: real(net, backend="aot_eager"))
    config = tiny_config(precision="bf16", channels_last=True, compile=True, clip_gradient=1e9)
    found, exact = gradient(Trainer(config, images=DIGITS))
    assert (found - exact).norm() < 2e-2 * exact.norm()


def test_trap_21_compiling_leaves_no_trace_in_average_and_checkpoint(tmp_path, monkeypatch):
    """A checkpoint of a compiled run is that of a plain one, to the bit, here for a compiler that does nothing."""
    real = torch.compile
    monkeypatch.setattr(torch, "compile", lambda net: real(net, backend="eager"))
    plain, compiled = (Trainer(tiny_config(images=80, compile=c), images=DIGITS) for c in (False, True))
    plain.fit(progress=False)
    compiled.fit(tmp_path, progress=False)
    assert_same_bits(plain, compiled)
    assert not any("_orig_mod" in name for name in checkpoint.load_newest(tmp_path)[0])
    resumed = Trainer(tiny_config(images=80), images=DIGITS)
    resumed.restore(tmp_path)
    assert_same_bits(resumed, compiled)


def test_a_channels_last_run_resumes_to_the_bit(tmp_path):
    config = tiny_config(images=160, channels_last=True)
    whole, part, resumed = (Trainer(config, images=DIGITS) for _ in range(3))
    assert whole.net.conv_in.weight.is_contiguous(memory_format=torch.channels_last)
    whole.fit(progress=False)
    for _ in range(3):
        part.train_step()
    part.save(tmp_path)
    resumed.restore(tmp_path)
    resumed.fit(progress=False)
    assert_same_bits(whole, resumed)


@pytest.mark.parametrize("tf32", [False, True])
def test_a_step_and_its_pictures_are_computed_as_the_config_says(tf32, monkeypatch, tmp_path):
    asked = []

    @contextmanager
    def noted(device, wanted):
        asked.append((str(device), wanted))
        yield

    monkeypatch.setattr(training, "tf32", noted)
    trainer = Trainer(tiny_config(tf32=tf32, T=10), images=DIGITS)
    trainer.train_step()
    assert asked == [("cpu", tf32)]
    trainer.save_samples(tmp_path, n=10)
    assert asked == [("cpu", tf32)] * 2


@pytest.mark.parametrize("tf32", [False, True])
def test_cudas_switches_are_set_for_a_step_and_put_back(tf32):
    switches = torch.backends.cuda.matmul, torch.backends.cudnn
    before = [switch.allow_tf32 for switch in switches]
    with _device.tf32(torch.device("cuda"), tf32):  # it is not asked for anything but its name
        assert [switch.allow_tf32 for switch in switches] == [tf32, tf32]
    with _device.tf32(torch.device("cpu"), not tf32):
        assert [switch.allow_tf32 for switch in switches] == before
    assert [switch.allow_tf32 for switch in switches] == before


def test_the_average_is_torchs_to_the_bit():
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Linear(4, 2))

    def blend(kept, new, _):
        torch._foreach_lerp_(kept, new, 0.3)

    ours, torchs = training.Average(net, multi_avg_fn=blend), AveragedModel(net, multi_avg_fn=blend)
    for _ in range(3):
        for p in net.parameters():
            torch.nn.init.normal_(p)
        for average in (ours, torchs):
            average.update_parameters(net)
        states = ours.state_dict(), torchs.state_dict()
        assert states[0].keys() == states[1].keys()
        assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert not any(torch.equal(p, q) for p, q in zip(ours.module.parameters(), net.parameters(), strict=True))


@pytest.mark.cuda
@pytest.mark.parametrize(
    "change", [{"channels_last": True}, {"compile": True}, {"precision": "bf16"}, {"tf32": False}]
)
def test_each_option_trains_on_cuda(change):
    curve = Trainer(tiny_config(images=4000, batch=64, **change), "cuda").fit(progress=False)
    assert curve[-1][1] < curve[0][1]


@pytest.mark.cuda
def test_the_cpu_waits_for_no_step_on_cuda():
    """From the third on: the first ones fill caches. Loss and gradient are asked for where the curve is written."""
    trainer = Trainer(tiny_config(batch=64, precision="bf16"), "cuda")
    trainer.net.train()
    for _ in range(2):
        trainer.train_step()
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(2):
            trainer.train_step()
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.cuda
def test_a_run_on_cuda_goes_on_from_its_checkpoint(tmp_path):
    whole, part, resumed = (
        Trainer(tiny_config(images=120, sample_every=40), "cuda", DIGITS) for _ in range(3)
    )
    whole.fit(tmp_path / "whole", progress=False)
    for _ in range(3):
        part.train_step()
    part.save(tmp_path / "part")
    resumed.restore(tmp_path / "part")
    resumed.fit(progress=False)
    assert resumed.images_seen == whole.images_seen
    for one, other in zip(resumed.net.parameters(), whole.net.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-2, atol=1e-3)


@pytest.mark.cuda
def test_trap_22_gradients_on_cuda_are_those_of_double_precision():
    for change in ({}, {"channels_last": True}, {"channels_last": True, "compile": True}):
        found, exact = gradient(
            Trainer(tiny_config(precision="bf16", clip_gradient=1e9, **change), "cuda", DIGITS)
        )
        assert (found - exact).norm() < 2e-2 * exact.norm()


def test_how_a_run_is_computed_and_recorded_may_change_on_resume(tmp_path):
    Trainer(tiny_config(images=40), images=DIGITS).fit(tmp_path, progress=False)
    changed = tiny_config(images=40, accumulate=2, precision="fp32", tf32=False, keep=5, sample_every=7)
    Trainer(changed, images=DIGITS).restore(tmp_path)


def test_a_config_from_before_a_setting_existed_is_read_with_a_warning():
    values = tiny_config().to_dict()
    del values["weighting"], values["model"]["eps"]
    with pytest.warns(
        UserWarning, match=r"run\.json: written by an earlier version; taken as model.eps = 1e-06, weight"
    ):
        assert TrainConfig.from_dict(values, "run.json") == tiny_config()


def test_records_after_the_checkpoint_are_dropped_and_a_torn_line_with_them(tmp_path):
    with (tmp_path / "metrics.jsonl").open("w") as file:
        file.write(
            "".join(json.dumps({"images": n, "loss": n / 10}) + "\n" for n in (10, 20, 30)) + '{"images": 4'
        )
    (tmp_path / ".metrics.77.jsonl").write_text("half")
    journal = Journal(tmp_path, 20)
    journal.write(images=30, loss=0.5)
    journal.close()
    assert read(tmp_path / "metrics.jsonl") == [
        {"images": 10, "loss": 1.0},
        {"images": 20, "loss": 2.0},
        {"images": 30, "loss": 0.5},
    ]
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 3
    assert not list(tmp_path.glob(".*"))


def test_a_run_writes_its_curve(tmp_path):
    config = tiny_config(images=160, log_every=3)
    curve = Trainer(config, images=DIGITS).fit(tmp_path, progress=False)
    records = read(tmp_path / "metrics.jsonl")
    assert [(r["images"], r["loss"]) for r in records] == curve
    assert [r["images"] for r in records] == [60, 80, 120, 160]  # every third step, and at each checkpoint
    assert all(r["lr"] == config.lr_at(r["images"] - config.batch) for r in records)
    assert all(
        r["images"] == r["step"] * config.batch and r["gradient_norm"] > 0 < r["images_per_second"]
        for r in records
    )


def test_tensorboard_is_told_where_it_is_installed(tmp_path):
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    curve = Trainer(tiny_config(images=160), images=DIGITS).fit(tmp_path, progress=False)
    board = events.EventAccumulator(str(tmp_path)).Reload()
    told = [(e.step, e.value) for e in board.Scalars("loss")]
    assert told == [(n, pytest.approx(loss)) for n, loss in curve]


def test_without_tensorboard_a_run_is_recorded_all_the_same(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    Trainer(tiny_config(images=40), images=DIGITS).fit(tmp_path, progress=False)
    assert read(tmp_path / "metrics.jsonl")
    assert not list(tmp_path.glob("events*"))


def test_a_tensorboard_that_does_not_work_is_told_of_and_stops_nothing(tmp_path, monkeypatch):
    broken = types.ModuleType("torch.utils.tensorboard")

    def writer(*_, **__):
        raise TypeError("Descriptors cannot be created directly")

    broken.SummaryWriter = writer
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", broken)
    with pytest.warns(UserWarning, match="no TensorBoard records: TypeError: Descriptors"):
        Trainer(tiny_config(images=40), images=DIGITS).fit(tmp_path, progress=False)
    assert read(tmp_path / "metrics.jsonl")


def test_pictures_of_samples_come_at_intervals_from_the_average_and_change_nothing(tmp_path):
    plain, drawing = (Trainer(tiny_config(images=160, T=10, sample_every=n), images=DIGITS) for n in (0, 80))
    plain.fit(progress=False)
    drawing.fit(tmp_path, progress=False)
    assert_same_bits(plain, drawing)
    assert sorted(p.name for p in tmp_path.glob("samples*")) == [
        "samples-000000080.png",
        "samples-000000160.png",
    ]
    assert matplotlib.image.imread(tmp_path / "samples-000000160.png").shape[:2] == (298, 298)


def test_a_gradient_that_is_not_finite_is_named_with_its_step(tmp_path, monkeypatch):
    real = torch.nn.utils.clip_grad_norm_
    trainer = Trainer(tiny_config(images=400, log_every=10), images=DIGITS)
    monkeypatch.setattr(
        torch.nn.utils, "clip_grad_norm_", lambda *a: real(*a) / (0 if trainer.step == 6 else 1)
    )
    with pytest.raises(
        FloatingPointError, match=r"the gradient's norm is inf at step 7, learning rate \d\.\d\de-04"
    ):
        trainer.fit(tmp_path, progress=False)
    assert checkpoint.load_newest(tmp_path)[1]["images_seen"] == 80


def test_weights_that_are_not_finite_are_never_saved(tmp_path):
    trainer = Trainer(tiny_config(), images=DIGITS)
    trainer.train_step()
    trainer.save(tmp_path)
    trainer.train_step()
    next(trainer.average.parameters()).view(-1)[0] = float("inf")
    with pytest.raises(FloatingPointError, match=r"not saved at step 2, learning rate .*: average\.module\."):
        trainer.save(tmp_path)
    assert checkpoint.load_newest(tmp_path)[1]["images_seen"] == 20


@pytest.fixture
def packaged(tmp_path, monkeypatch):
    """A folder of weights with one network, and the trainer it is of."""
    trainer = Trainer(tiny_config(images=40), images=DIGITS)
    trainer.fit(progress=False)
    monkeypatch.setattr(_loading, "PRETRAINED", tmp_path)
    save_pretrained(trainer.denoiser, trainer.config, tmp_path / "mine", {"command": "as told"})
    return tmp_path / "mine", trainer


def test_a_pretrained_network_is_the_one_that_was_saved(packaged):
    folder, trainer = packaged
    loaded, config = load_pretrained("mine")
    assert config == trainer.config
    y = torch.tensor([1, 2])
    ours = sample(trainer.denoiser.given(y), (2, 1, 28, 28), steps=2)
    assert torch.equal(sample(loaded.given(y), (2, 1, 28, 28), steps=2), ours)
    assert not loaded.net.training
    assert not any(p.requires_grad for p in loaded.net.parameters())
    assert json.loads((folder / "card.json").read_text())["command"] == "as told"


def test_a_pretrained_network_may_be_stored_in_half_the_size(packaged):
    folder, trainer = packaged
    half = replace(trainer.denoiser, net=deepcopy(trainer.denoiser.net).half())
    save_pretrained(half, trainer.config, folder, {})
    loaded, _ = load_pretrained("mine")
    assert {p.dtype for p in loaded.net.parameters()} == {torch.float32}


def test_a_pretrained_network_that_is_damaged_or_not_there_is_named(packaged):
    folder, _ = packaged
    (folder.parent / "classifier").mkdir()
    (folder.parent / "classifier" / "card.json").write_text('{"sha256": ""}')
    for name in ("other", "classifier"):
        with pytest.raises(ValueError, match=f"name: expected one of mine, got '{name}'"):
            load_pretrained(name)
    body = bytearray((folder / "model.safetensors").read_bytes())
    body[-1] ^= 1
    (folder / "model.safetensors").write_bytes(body)
    with pytest.raises(ValueError, match=r"model\.safetensors is damaged: it does not match the checksum"):
        load_pretrained("mine")


def test_a_run_may_be_loaded_as_a_path_or_a_string(tmp_path):
    Trainer(tiny_config(images=40), images=DIGITS).fit(tmp_path, progress=False)
    assert load_denoiser(str(tmp_path))[1] == load_denoiser(tmp_path)[1]
    assert training.load_denoiser is load_denoiser

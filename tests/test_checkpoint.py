"""Checkpoints under what happens to files: cut short, bits flipped, swapped, killed while writing, a full disk."""

import random

import pytest
import torch

from ddpm_lib import checkpoint

TENSORS = {"net.weight": torch.arange(60.0).view(3, 20), "optimizer.0.step": torch.tensor(7.0)}


def saved(folder, *steps, keep=3):
    for step in steps:
        checkpoint.save(
            folder, step, {k: v + step for k, v in TENSORS.items()}, {"images_seen": step * 10}, keep
        )
    return folder


def test_what_was_saved_is_what_is_loaded(tmp_path):
    tensors, meta, path = checkpoint.load_newest(saved(tmp_path, 5))
    assert meta == {"images_seen": 50}
    assert path.name == "step-00000005.json"
    for name, value in TENSORS.items():
        assert torch.equal(tensors[name], value + 5)


def test_the_newest_is_found_and_the_last_keep_stay(tmp_path):
    saved(tmp_path, 1, 9, 10, 200, keep=2)
    assert checkpoint.load_newest(tmp_path)[1] == {"images_seen": 2000}
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == [f"step-{n:08d}.{kind}" for n in (10, 200) for kind in ("json", "safetensors")]


def test_a_checkpoint_is_not_swept_because_later_ones_are_there(tmp_path):
    saved(tmp_path, 100, 200)
    saved(tmp_path, 50, 60, 70, keep=2)
    assert sorted(path.stem[-3:] for path in tmp_path.glob("*.json")) == ["060", "070", "100", "200"]
    assert checkpoint.load_newest(tmp_path)[1] == {"images_seen": 2000}


@pytest.mark.parametrize("kind", ["json", "safetensors"])
@pytest.mark.parametrize("seed", range(25))
def test_a_flipped_bit_is_noticed_and_the_one_before_is_used(tmp_path, kind, seed):
    saved(tmp_path, 1, 2)
    path = tmp_path / f"step-00000002.{kind}"
    content, draw = bytearray(path.read_bytes()), random.Random(seed)
    content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    path.write_bytes(content)
    with pytest.warns(UserWarning, match=f"{path.name} is damaged"):
        tensors, meta, _ = checkpoint.load_newest(tmp_path)
    assert meta == {"images_seen": 10}
    assert torch.equal(tensors["net.weight"], TENSORS["net.weight"] + 1)


@pytest.mark.parametrize("kind", ["json", "safetensors"])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
def test_a_truncated_file_is_noticed(tmp_path, kind, share):
    saved(tmp_path, 1, 2)
    path = tmp_path / f"step-00000002.{kind}"
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(ValueError, match=f"{path.name} is damaged"):
        checkpoint.load(path.with_suffix(".json"))
    with pytest.warns(UserWarning, match="trying the one before"):
        assert checkpoint.load_newest(tmp_path)[1] == {"images_seen": 10}


def test_tensors_of_another_checkpoint_are_noticed(tmp_path):
    saved(tmp_path, 1, 2)
    (tmp_path / "step-00000001.safetensors").replace(tmp_path / "step-00000002.safetensors")
    with pytest.raises(ValueError, match=r"step-00000002\.safetensors is damaged"):
        checkpoint.load(tmp_path / "step-00000002.json")


def test_a_whole_checkpoint_under_another_name_is_noticed(tmp_path):
    saved(tmp_path, 1, 2)
    for kind in ("json", "safetensors"):
        (tmp_path / f"step-00000001.{kind}").replace(tmp_path / f"step-00000002.{kind}")
    with pytest.raises(ValueError, match=r"step-00000002\.json is damaged: it is the one of step 1"):
        checkpoint.load(tmp_path / "step-00000002.json")


def test_tensors_whose_json_is_lost_are_named(tmp_path):
    saved(tmp_path, 1, 2)
    (tmp_path / "step-00000002.json").unlink()
    with pytest.warns(UserWarning, match=r"step-00000002\.json is incomplete: there is no such file"):
        assert checkpoint.load_newest(tmp_path)[1] == {"images_seen": 10}
    saved(tmp_path, 3)
    assert not list(tmp_path.glob("step-00000002*")), "and go when there is a newer checkpoint"


def test_no_whole_checkpoint_names_each_damaged_one(tmp_path):
    saved(tmp_path, 1, 2)
    for path in tmp_path.glob("*.safetensors"):
        path.unlink()
    with (
        pytest.warns(UserWarning, match="damaged"),
        pytest.raises(ValueError, match=r"00000002.*damaged.*00000001.*damaged"),
    ):
        checkpoint.load_newest(tmp_path)


def test_an_empty_folder_is_named(tmp_path):
    with pytest.raises(ValueError, match=f"{tmp_path.name}: no checkpoint here"):
        checkpoint.load_newest(tmp_path)


@pytest.mark.parametrize("fails_on", ["safetensors", "json"])
def test_a_write_that_fails_leaves_the_last_checkpoint_and_no_litter(tmp_path, fails_on, monkeypatch):
    saved(tmp_path, 1)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    real = checkpoint._flush

    def full(path):
        if path.suffix == f".{fails_on}":
            raise OSError(28, "No space left on device")
        real(path)

    monkeypatch.setattr(checkpoint, "_flush", full)
    with pytest.raises(OSError, match="No space left"):
        saved(tmp_path, 2)
    monkeypatch.undo()
    checkpoint.load(tmp_path / "step-00000001.json")
    litter = {path.name for path in tmp_path.iterdir()} - set(before)
    assert litter <= {"step-00000002.safetensors"}, "tensors without their JSON are no checkpoint"
    saved(tmp_path, 2)
    assert checkpoint.load_newest(tmp_path)[1] == {"images_seen": 20}


def test_what_a_killed_writer_left_is_swept(tmp_path):
    (tmp_path / ".step-00000001.123.safetensors").write_bytes(b"half")
    saved(tmp_path, 1)
    assert not list(tmp_path.glob(".step*"))


def test_a_pickle_is_never_loaded(tmp_path):
    saved(tmp_path, 1)
    torch.save(TENSORS, tmp_path / "step-00000001.safetensors")
    with pytest.raises(ValueError, match="damaged"):
        checkpoint.load(tmp_path / "step-00000001.json")


def test_keep_must_be_positive(tmp_path):
    with pytest.raises(ValueError, match="keep: expected at least 1 checkpoint, got 0"):
        saved(tmp_path, 1, keep=0)

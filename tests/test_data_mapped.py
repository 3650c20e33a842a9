"""A user's own images: decoded once, whole or not at all, and read from disk in parts."""

import os
import sys
import threading
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from ddpm_lib import _folder, data
from tests.folder_cases import decoded, grey, load, noise, put


@pytest.fixture
def pics(tmp_path):
    """An empty folder for images; decoded ones go beside it."""
    folder = tmp_path / "pics"
    folder.mkdir()
    return folder


def test_an_unchanged_folder_is_decoded_once_and_a_changed_one_anew(pics, monkeypatch):
    calls, decode = [], _folder._decode
    monkeypatch.setattr(_folder, "_decode", lambda *arguments: calls.append(1) or decode(*arguments))
    for i in range(3):
        put(pics / f"{i}.png", grey(i))
    for split in ("train", "all", "train"):
        load(pics, split)
    assert len(calls) == 3
    put(pics / "3.png", grey(3))
    assert len(load(pics)) == 4
    put(pics / "1.png", noise(4, 4))
    assert (load(pics).pixels[1, 0].numpy() == noise(4, 4)).all()
    times = (pics / "0.png").stat().st_mtime_ns + 10**9
    os.utime(pics / "0.png", ns=(times, times))
    load(pics)
    (pics / "0.png").unlink()
    assert load(pics).pixels[0, 0, 0, 0] == noise(4, 4)[0, 0]
    assert len(calls) == 3 + 4 + 4 + 4 + 3
    assert len(decoded(pics)) == 1  # what is out of date is gone


def test_many_at_once_decode_once(pics, monkeypatch):
    calls, write = [], _folder._write
    monkeypatch.setattr(_folder, "_write", lambda *arguments: (calls.append(1), write(*arguments)))
    put(pics / "0.png", grey(0))
    threads = [threading.Thread(target=load, args=(pics,)) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(calls) == 1


def test_a_decoding_that_was_killed_leaves_nothing_that_counts(pics, monkeypatch):
    put(pics / "0.png", grey(8))
    load(pics)
    (whole,) = decoded(pics)
    leftover = whole.with_name(f".{whole.stem}.1234.npy")
    whole.rename(leftover)
    leftover.write_bytes(leftover.read_bytes()[:-3])
    assert load(pics).pixels.flatten().unique().tolist() == [8]
    assert decoded(pics) == [whole]
    assert not leftover.exists()


def test_a_disk_too_small_is_said_before_the_work(pics, monkeypatch):
    put(pics / "0.png", grey(0))
    full = SimpleNamespace(free=3)
    monkeypatch.setattr(_folder.shutil, "disk_usage", lambda path: full)
    with pytest.raises(
        OSError, match=r"decoding into .*folders needs 0\.0 GB of which 0\.0 are free; .*DDPM_DATA"
    ):
        load(pics)
    assert decoded(pics) == []


def test_pixels_are_read_from_the_file_when_they_are_asked_for(pics):
    for i in range(10):
        put(pics / f"{i}.png", grey(i))
    train = load(pics, "train")
    (file,) = decoded(pics)
    content = file.read_bytes()
    with file.open("r+b") as stored:
        stored.seek(len(content) - 10 * 16)
        stored.write(bytes([99] * 16))
    assert train.pixels[:, 0, 0, 0].tolist() == [99, *range(1, 9)]
    assert train[2:5].batch(torch.tensor([2, 0]), "cpu")[0][:, 0, 0, 0].tolist() == [4, 2]


def test_a_mapped_set_warns_of_nothing(pics):
    put(pics / "0.png", grey(0))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load(pics)


@pytest.mark.skipif(sys.platform != "linux", reason="wants sparse files and the size of the memory")
def test_a_set_larger_than_the_memory_is_mapped_and_read_in_parts(pics, monkeypatch):
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    n = 4 * memory // (3 * 256 * 256)

    def write_sparse(path, names, size, channels, target):
        with target.open("wb") as file:
            header = {"descr": "|u1", "fortran_order": False, "shape": (n, 3, 256, 256)}
            np.lib.format.write_array_header_1_0(file, header)
            file.truncate(file.tell() + n * 3 * 256 * 256)
            file.seek(-1, os.SEEK_END)
            file.write(bytes([77]))

    monkeypatch.setattr(_folder, "_write", write_sparse)
    put(pics / "0.png", grey(0))
    mapped = _folder.decoded(pics, ["0.png"], None, None, pics.parent / "root")
    images = data.Images(torch.from_numpy(mapped), torch.zeros(n, dtype=torch.int64), ("pics",))
    pixels, labels = images[n // 2 :].batch(torch.tensor([0, n - n // 2 - 1]), "cpu")
    assert pixels[:, -1, -1, -1].tolist() == [0, 77]
    assert labels.tolist() == [0, 0]

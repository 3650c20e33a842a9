"""MNIST, Fashion-MNIST and CIFAR-10: files in the official formats, fetched from a server on this machine."""

import copyreg
import functools
import gzip
import hashlib
import http.server
import io
import pickle
import tarfile
import threading

import numpy as np
import pytest
import torch
from torchvision import datasets

from ddpm_lib import data

SIZES = {"train": 12, "t10k": 7}


@pytest.fixture
def server(tmp_path):
    """Serves the folder ``tmp_path / "served"``; returns that folder and its address."""
    folder = tmp_path / "served"
    folder.mkdir()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *arguments):
            pass

    with http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Handler, directory=folder)
    ) as one:
        thread = threading.Thread(target=one.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield folder, f"http://127.0.0.1:{one.server_port}/"
        one.shutdown()
        thread.join()


@pytest.fixture
def mnist(server, monkeypatch):
    """Small MNIST and Fashion-MNIST files on the server; returns images and labels by part."""
    folder, address = server
    parts = {part: digits(n, seed) for seed, (part, n) in enumerate(SIZES.items())}
    resources = []
    for part, (images, labels) in parts.items():
        for kind, array in (("images-idx3", images), ("labels-idx1", labels)):
            name = f"{part}-{kind}-ubyte.gz"
            (folder / name).write_bytes(gzip.compress(idx(array)))
            resources.append((name, md5(folder / name)))
    for make in (datasets.MNIST, datasets.FashionMNIST):
        monkeypatch.setattr(make, "mirrors", [address])
        monkeypatch.setattr(make, "resources", resources)
    return parts


@pytest.fixture
def cifar(server, tmp_path, monkeypatch):
    """A small CIFAR-10 archive on the server; returns images and labels by part."""
    folder, address = server
    make = datasets.CIFAR10
    batches = tmp_path / "cifar-10-batches-py"
    batches.mkdir()
    stored = {}
    for seed, (name, _) in enumerate([*make.train_list, *make.test_list]):
        rng = np.random.default_rng(seed)
        stored[name] = (
            rng.integers(0, 256, (4, 3072), dtype=np.uint8),
            rng.integers(0, 10, 4).tolist(),
        )
        content = {"data": stored[name][0], "labels": stored[name][1], "batch_label": name}
        (batches / name).write_bytes(old_pickle(content))
    names = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
    (batches / "batches.meta").write_bytes(old_pickle({"label_names": names, "num_vis": 3072}))
    with tarfile.open(folder / make.filename, "w:gz") as archive:
        archive.add(batches, batches.name)
    monkeypatch.setattr(make, "url", address + make.filename)
    monkeypatch.setattr(make, "tgz_md5", md5(folder / make.filename))
    for listed in ("train_list", "test_list"):
        sums = [[name, md5(batches / name)] for name, _ in getattr(make, listed)]
        monkeypatch.setattr(make, listed, sums)
    monkeypatch.setattr(make, "meta", {**make.meta, "md5": md5(batches / "batches.meta")})
    return stored


def digits(n, seed):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (n, 28, 28), dtype=np.uint8), rng.integers(0, 10, n, dtype=np.uint8)


def idx(array):
    """The IDX format: two zeros, type 8 (bytes), number of axes, each axis in four bytes, the bytes."""
    return bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">i4").tobytes() + array.tobytes()


def md5(path):
    return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()


def old_pickle(value):
    """Pickled as Python 2 did for the official batches: protocol 2, 0 and 1 for the flags of NumPy's types."""
    buffer = io.BytesIO()
    pickler = pickle.Pickler(buffer, protocol=2)
    pickler.dispatch_table = copyreg.dispatch_table | {
        np.dtypes.UInt8DType: lambda dtype: (np.dtype, ("u1", 0, 1), (3, "|", None, None, None, -1, -1, 0))
    }
    pickler.dump(value)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("name", "first", "last"), [("mnist", "0", "9"), ("fashion-mnist", "T-shirt/top", "Ankle boot")]
)
def test_grey_sets_are_what_their_files_hold(mnist, tmp_path, name, first, last):
    train, test, whole = (data.load(name, split, tmp_path / "root") for split in ("train", "test", "all"))
    for images, part in ((train, "train"), (test, "t10k")):
        assert np.array_equal(images.pixels[:, 0].numpy(), mnist[part][0])
        assert images.labels.tolist() == mnist[part][1].tolist()
        assert images.labels.dtype == torch.int64
    assert torch.equal(whole.pixels, torch.cat([train.pixels, test.pixels]))
    assert torch.equal(whole.labels, torch.cat([train.labels, test.labels]))
    assert (train.classes[0], train.classes[-1], len(train.classes)) == (first, last, 10)


def test_cifar10_is_what_its_batches_hold(cifar, tmp_path):
    train, test, whole = (
        data.load("cifar10", split, tmp_path / "root") for split in ("train", "test", "all")
    )
    for images, names in ((train, [f"data_batch_{i}" for i in range(1, 6)]), (test, ["test_batch"])):
        planes = np.concatenate([cifar[name][0] for name in names]).reshape(-1, 3, 32, 32)
        assert np.array_equal(images.pixels.numpy(), planes)
        assert images.pixels.is_contiguous()
        assert images.labels.tolist() == [label for name in names for label in cifar[name][1]]
    assert len(whole) == 24
    assert whole.classes[3] == "cat"


@pytest.mark.parametrize("name", ["mnist", "cifar10"])
def test_what_is_there_is_not_fetched_again(request, server, tmp_path, name):
    request.getfixturevalue("mnist" if name == "mnist" else "cifar")
    first = data.load(name, "test", tmp_path / "root")
    for file in server[0].iterdir():
        file.unlink()
    assert torch.equal(data.load(name, "test", tmp_path / "root").pixels, first.pixels)


def test_files_copied_by_hand_are_taken(mnist, server, tmp_path):
    raw = tmp_path / "root" / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for file in server[0].iterdir():
        file.rename(raw / file.name)
    assert len(data.load("mnist", "train", tmp_path / "root")) == SIZES["train"]


@pytest.mark.parametrize("name", ["mnist", "cifar10"])
def test_a_download_cut_short_is_an_error_and_the_next_one_is_whole(request, server, tmp_path, name):
    request.getfixturevalue("mnist" if name == "mnist" else "cifar")
    for file in server[0].iterdir():
        whole, root = file.read_bytes(), tmp_path / file.stem
        file.write_bytes(whole[:-10])
        with pytest.raises(OSError, match=f"data: could not get {name}: .*corrupted"):
            data.load(name, "train", root)
        file.write_bytes(whole)
        assert len(data.load(name, "train", root)) > 0


@pytest.mark.parametrize("size", [0, 3, 16, 2000])
@pytest.mark.parametrize("kind", ["images-idx3", "labels-idx1"])
@pytest.mark.parametrize("split", ["train", "test"])
def test_a_file_unpacked_in_part_is_unpacked_anew(mnist, tmp_path, size, kind, split):
    first = data.load("mnist", split, tmp_path / "root")
    part = tmp_path / "root" / "MNIST" / "raw" / f"{ {'train': 'train', 'test': 't10k'}[split] }-{kind}-ubyte"
    part.write_bytes(part.read_bytes()[: min(size, part.stat().st_size - 1)])
    again = data.load("mnist", split, tmp_path / "root")
    assert torch.equal(first.pixels, again.pixels)
    assert torch.equal(first.labels, again.labels)


def test_a_damaged_batch_is_unpacked_anew_and_never_unpickled(cifar, tmp_path):
    first = data.load("cifar10", "train", tmp_path / "root")
    batch = tmp_path / "root" / "cifar-10-batches-py" / "data_batch_3"
    batch.write_bytes(b"not a pickle")
    assert torch.equal(data.load("cifar10", "train", tmp_path / "root").pixels, first.pixels)


@pytest.mark.parametrize(
    ("name", "files"),
    [
        ("mnist", "MNIST/raw/{train,t10k}-*-ubyte.gz"),
        ("fashion-mnist", "FashionMNIST/raw/"),
        ("cifar10", "cifar-10-python.tar.gz"),
    ],
)
def test_without_a_connection_one_line_says_what_to_do(tmp_path, monkeypatch, name, files):
    nowhere = "http://127.0.0.1:9/"  # the discard port, on which nothing listens
    for make in (datasets.MNIST, datasets.FashionMNIST):
        monkeypatch.setattr(make, "mirrors", [nowhere])
    monkeypatch.setattr(datasets.CIFAR10, "url", nowhere + "x.tar.gz")
    with pytest.raises(OSError, match=f"data: could not get {name}: ") as caught:
        data.load(name, root=tmp_path)
    message = str(caught.value)
    assert "\n" not in message
    assert files in message
    assert str(tmp_path) in message
    assert "by hand" in message


def test_many_at_once_fetch_once(mnist, server, tmp_path, monkeypatch):
    calls, fetch = [], datasets.MNIST.download
    monkeypatch.setattr(datasets.MNIST, "download", lambda self: (calls.append(1), fetch(self)))
    threads = [
        threading.Thread(target=data.load, args=("mnist", "train", tmp_path / "root")) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(calls) == 1


def test_the_folder_is_the_arguments_else_the_environments_else_the_cache(mnist, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "home"))
    monkeypatch.delenv("DDPM_DATA", raising=False)
    data.load("mnist")
    assert (tmp_path / "home" / ".cache" / "ddpm_lib" / "MNIST").is_dir()
    monkeypatch.setenv("DDPM_DATA", "~/sets")
    data.load("mnist")
    assert (tmp_path / "home" / "sets" / "MNIST").is_dir()
    data.load("mnist", root=tmp_path / "here")
    assert (tmp_path / "here" / "MNIST").is_dir()

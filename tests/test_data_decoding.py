"""A user's own images: each kind of file becomes the pixels it shows, or is refused by name."""

from collections import Counter

import numpy as np
import pytest
import torch
from PIL import Image

from tests.folder_cases import decoded, grey, load, noise, put


@pytest.fixture
def pics(tmp_path):
    """An empty folder for images; decoded ones go beside it."""
    folder = tmp_path / "pics"
    folder.mkdir()
    return folder


def test_pixels_are_the_files_pixels(pics):
    stored = {
        f"{i}.{kind}": noise(6, 5, 3, seed=i) for i, kind in enumerate(["png", "bmp", "ppm", "tif", "PNG"])
    }
    for name, pixels in stored.items():
        put(pics / name, pixels)
    images = load(pics)
    assert images.pixels.shape == (5, 3, 6, 5)
    found = Counter(image.numpy().transpose(1, 2, 0).tobytes() for image in images.pixels)
    assert found == Counter(pixels.tobytes() for pixels in stored.values())


def test_jpeg_and_webp_come_close(pics):
    smooth = np.linspace(20, 230, 16 * 16 * 3).reshape(16, 16, 3).astype(np.uint8)
    for name in ("0.jpg", "1.jpeg", "2.webp"):
        put(pics / name, smooth, quality=95)
    difference = load(pics).pixels.float() - torch.from_numpy(smooth).permute(2, 0, 1)
    assert difference.abs().mean() < 2


def test_grey_stays_grey_and_one_colour_image_makes_all_rgb(pics):
    put(pics / "0.png", grey(9))
    put(pics / "1.png", grey(1) > 0)
    assert load(pics).pixels.shape == (2, 1, 4, 4)
    assert load(pics).pixels[:, 0, 0, 0].tolist() == [9, 255]
    put(pics / "2.png", noise(4, 4, 3))
    assert load(pics).pixels.shape == (3, 3, 4, 4)
    assert load(pics, options="?channels=1").pixels.shape == (3, 1, 4, 4)


def test_grey_can_be_asked_for_as_rgb(pics):
    put(pics / "0.png", grey(9))
    assert load(pics, options="?channels=3").pixels.flatten().tolist() == [9] * 48


def test_sixteen_bits_are_rounded_to_eight(pics):
    values = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    put(pics / "0.png", values)
    put(pics / "1.tif", values)
    expected = np.round(values / 257).astype(np.uint8)
    assert (load(pics).pixels.numpy() == expected).all()


def test_a_palette_is_looked_up(pics):
    colours = np.array([[[200, 10, 20], [0, 255, 7]]], np.uint8)
    Image.fromarray(colours).quantize(2).save(pics / "0.png")
    assert Image.open(pics / "0.png").mode == "P"
    assert (load(pics).pixels[0].permute(1, 2, 0).numpy() == colours).all()


def test_transparency_is_laid_on_white(pics):
    pixels = np.array([[[100, 50, 0, 255], [100, 50, 0, 0], [100, 50, 0, 51]]], np.uint8)
    put(pics / "0.png", pixels)
    expected = [[100, 50, 0], [255, 255, 255], [224, 214, 204]]  # 255 - (255 - v) / 5
    assert load(pics).pixels[0].permute(1, 2, 0).tolist() == [expected]


def test_grey_with_transparency_stays_grey(pics):
    put(pics / "0.png", np.array([[[40, 255], [40, 0]]], np.uint8))
    assert Image.open(pics / "0.png").mode == "LA"
    Image.fromarray(np.array([[7, 8]], np.uint8)).save(pics / "1.png", transparency=8)
    assert load(pics).pixels.flatten(1).tolist() == [[40, 255], [7, 255]]


def test_a_palette_with_a_transparent_colour_is_laid_on_white(pics):
    image = Image.fromarray(np.array([[0, 1]], np.uint8), mode="P")
    image.putpalette([200, 10, 20, 0, 255, 7])
    image.save(pics / "0.png", transparency=1)
    assert load(pics).pixels[0].permute(1, 2, 0).tolist() == [[[200, 10, 20], [255, 255, 255]]]


def test_a_photograph_is_turned_upright(pics):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: a quarter clockwise shows it upright
    put(pics / "0.png", noise(3, 5, 3), exif=exif)
    assert (load(pics).pixels[0].permute(1, 2, 0).numpy() == np.rot90(noise(3, 5, 3), -1)).all()


@pytest.mark.parametrize("name", ["0.tif", "0.gif"])
def test_of_several_frames_the_first_is_taken(pics, name):
    frames = [Image.fromarray(grey(v)) for v in (3, 200)]
    frames[0].save(pics / name, save_all=True, append_images=frames[1:])
    assert load(pics).pixels.flatten().unique().tolist() == [3]


def test_different_sizes_are_refused_and_the_way_out_is_named(pics):
    put(pics / "a.png", grey(0, 4, 6))
    put(pics / "b.png", grey(0, 4, 6))
    put(pics / "c.png", grey(0, 5, 6))
    with pytest.raises(
        ValueError, match=r"differ in size: a\.png is 6×4 and c\.png is 6×5 \(width×height\); add \?size=N"
    ):
        load(pics)
    assert decoded(pics) == []
    assert load(pics, options="?size=3").pixels.shape == (3, 1, 3, 3)


def test_size_scales_the_shorter_side_and_crops_the_middle(pics):
    stripes = np.repeat(np.array([0, 100, 200, 50], np.uint8), 8)  # four of 8 pixels, 16 high
    put(pics / "0.png", np.tile(stripes, (16, 1)))
    half = load(pics, options="?size=8").pixels[0, 0]
    assert half[:, [1, 2]].flatten().tolist() == pytest.approx([100] * 16, abs=6)
    assert half[:, [5, 6]].flatten().tolist() == pytest.approx([200] * 16, abs=12)


def test_size_averages_what_it_scales_down(pics):
    """Without antialiasing the checkerboard would come out black or white."""
    board = (np.indices((64, 64)).sum(0) % 2 * 255).astype(np.uint8)
    put(pics / "0.png", board)
    put(pics / "1.jpg", board, quality=100)
    middle = load(pics, options="?size=8").pixels[:, :, 1:-1, 1:-1].float()
    assert (middle - 127.5).abs().max() < 8


def test_size_and_channels_go_together_and_differ_from_either(pics):
    put(pics / "0.png", noise(8, 8, 3))
    shapes = [
        load(pics, options=o).pixels.shape for o in ("", "?size=4", "?channels=1", "?size=4&channels=1")
    ]
    assert shapes == [(1, 3, 8, 8), (1, 3, 4, 4), (1, 1, 8, 8), (1, 1, 4, 4)]
    assert len(decoded(pics)) == 4


def test_broken_images_are_named_all_of_them(pics):
    for i in range(4):
        put(pics / f"{i}.png", noise(16, 16, 3))
    put(pics / "4.jpg", noise(16, 16, 3))
    for name in ("1.png", "4.jpg"):
        (pics / name).write_bytes((pics / name).read_bytes()[:-100])
    with pytest.raises(
        ValueError, match=r"data: 2 of 5 images in .*pics can't be read: 1\.png \(.*, 4\.jpg \("
    ):
        load(pics)
    (pics / "2.png").write_text("no image")
    (pics / "3.png").write_bytes(b"")
    with pytest.raises(ValueError, match=r"data: 2 of 5 images in .*: 2\.png \(.*, 3\.png \(") as caught:
        load(pics)
    assert "\n" not in str(caught.value)
    assert decoded(pics) == []


def test_of_many_broken_images_the_first_five_are_named(pics):
    for i in range(8):
        (pics / f"{i}.png").write_text("no image")
    with pytest.raises(ValueError, match=r"8 of 8 .*4\.png \(.*\) and 3 more$"):
        load(pics)


def test_pixels_of_unknown_range_are_refused(pics):
    put(pics / "0.tif", np.zeros((4, 4), np.float32))
    put(pics / "1.tif", np.full((4, 4), 70_000, np.int32))
    with pytest.raises(
        ValueError, match=r"0\.tif \(floating-point .*1\.tif \(pixels in 70000\.\.70000; expected 8"
    ):
        load(pics)

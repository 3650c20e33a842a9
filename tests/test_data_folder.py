"""A user's own images: found, sorted into classes and parts, decoded once, mapped from disk, refused by name."""

import os
import sys
import tempfile
import threading
import warnings
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from ddpm_lib import _folder, data


@pytest.fixture
def pics(tmp_path):
    """An empty folder for images; decoded ones go beside it."""
    folder = tmp_path / "pics"
    folder.mkdir()
    return folder


def put(path, pixels, **options):
    """Write (H, W) or (H, W, C) bytes as an image of the kind that the name's ending says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(pixels)).save(path, **options)


def grey(value, height=4, width=4):
    return np.full((height, width), value, np.uint8)


def load(folder, split="all", options=""):
    return data.load(f"folder:{folder}{options}", split, folder.parent / "root")


def decoded(folder):
    return sorted((folder.parent / "root" / "folders").glob("*.npy"))


def noise(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


# Found, sorted, held out


def test_sub_folders_are_the_classes_and_their_last_tenth_is_held_out(pics):
    for kind, n in (("dog", 20), ("cat", 10), ("ant", 4)):
        for i in range(n):
            put(pics / kind / "deep" / f"{i:02}.png", grey(i))
    train, test, whole = (load(pics, split) for split in ("train", "test", "all"))
    assert whole.classes == ("ant", "cat", "dog")
    assert test.labels.tolist() == [1, 2, 2]
    assert test.pixels[:, 0, 0, 0].tolist() == [9, 18, 19]
    assert train.labels.bincount().tolist() == [4, 9, 18]
    assert torch.equal(whole.pixels, torch.cat([train.pixels, test.pixels]))
    assert torch.equal(whole.labels, torch.cat([train.labels, test.labels]))


def test_without_sub_folders_there_is_one_class_named_after_the_folder(pics):
    for i in range(10):
        put(pics / f"{i}.png", grey(i))
    assert load(pics).classes == ("pics",)
    assert load(pics).labels.tolist() == [0] * 10
    assert load(pics, "test").pixels[:, 0, 0, 0].tolist() == [9]


@pytest.mark.parametrize("below", ["cat/", ""])
def test_sub_folders_train_and_test_are_the_parts(pics, below):
    for part, values in (("test", [7]), ("train", [3, 4, 5])):
        for value in values:
            put(pics / part / f"{below}{value}.png", grey(value))
    assert load(pics, "train").pixels[:, 0, 0, 0].tolist() == [3, 4, 5]
    assert load(pics, "test").pixels[:, 0, 0, 0].tolist() == [7]
    assert load(pics).classes == ("cat" if below else "pics",)


def test_train_may_be_a_class_among_others(pics):
    for kind in ("train", "plane"):
        put(pics / kind / "0.png", grey(0))
    assert load(pics).classes == ("plane", "train")


@pytest.mark.parametrize("names", [["train", "val"], ["train"], ["test", "train", "valid"]])
def test_parts_that_could_be_taken_for_classes_are_refused(pics, names):
    for name in names:
        put(pics / name / "cat" / "0.png", grey(0))
    with pytest.raises(ValueError, match=f"pics holds {', '.join(names)}: expected train and test alone"):
        load(pics)


def test_images_beside_sub_folders_are_refused(pics):
    put(pics / "cat" / "0.png", grey(0))
    put(pics / "cover.png", grey(0))
    with pytest.raises(ValueError, match=r"which are classes, and beside them: cover\.png"):
        load(pics)


def test_text_is_left_out_with_a_warning_and_hidden_files_without(pics):
    put(pics / "0.png", grey(0))
    for name in ("notes.txt", "photo.heic"):
        (pics / name).write_text("no image")
    for name in (".DS_Store", "._0.png", ".thumbs/1.png"):
        (pics / name).parent.mkdir(exist_ok=True)
        (pics / name).write_text("no image")
    with pytest.warns(UserWarning, match=r"left out, .*: notes\.txt, photo\.heic$"):
        assert len(load(pics)) == 1


def test_links_are_followed_but_not_in_a_circle(pics, tmp_path):
    put(tmp_path / "elsewhere" / "0.png", grey(5))
    try:
        (pics / "cat").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
        (tmp_path / "elsewhere" / "up").symlink_to(pics, target_is_directory=True)
    except OSError:
        pytest.skip("links can't be made here")
    assert load(pics).pixels.flatten().unique().tolist() == [5]
    assert len(load(pics)) == 1


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda pics: None, "data: no images in .*pics; expected files named .png, "),
        (lambda pics: (pics / "a.txt").write_text("a"), "data: no images in .*pics"),
    ],
)
def test_a_folder_without_images_is_refused(pics, make, words):
    make(pics)
    with pytest.raises(ValueError, match=words):
        load(pics)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("", "data: expected folder:PATH with the path of a folder, got ''"),
        ("/no/such", "data: expected folder:PATH with the path of a folder, got '/no/such'"),
        (".?size=0", r"data: expected folder:PATH\?size=N .*, got \?size=0"),
        (".?size=6x", r"got \?size=6x"),
        (".?size=-3", r"got \?size=-3"),
        (".?size", r"got \?size"),
        (".?channels=2", r"got \?channels=2"),
        (".?width=8", r"got \?width=8"),
        (".?size=8,channels=1", r"got \?size=8,channels=1"),
    ],
)
def test_a_bad_name_is_refused(spec, words, tmp_path):
    with pytest.raises(ValueError, match=words):
        data.load(f"folder:{spec}", "all", tmp_path)


def test_a_path_with_a_question_mark_is_written_with_another(tmp_path):
    if os.name == "nt":
        pytest.skip("no question marks in names")
    put(tmp_path / "what?" / "0.png", grey(1))
    assert len(load(tmp_path / "what?", options="?")) == 1


def test_a_part_without_images_is_refused(pics):
    put(pics / "0.png", grey(0))
    with pytest.raises(
        ValueError, match=r"split: no 'test' part in .*pics, which holds 1 images in 1 classes"
    ):
        load(pics, "test")


@settings(max_examples=15)
@given(st.dictionaries(st.sampled_from(["a", "b", "c d", "Ä"]), st.integers(1, 23), min_size=1))
def test_parts_are_disjoint_together_all_and_keep_the_proportions(counts):
    with tempfile.TemporaryDirectory() as place:
        pics, value = Path(place) / "pics", 0
        for kind, n in counts.items():
            for i in range(n):
                put(pics / kind / f"{i:02}.bmp", grey(value, 1, 1))
                value += 1
        whole = load(pics)
        train = load(pics, "train")
        test = load(pics, "test") if len(train) < len(whole) else whole[:0]
        values = [part.pixels.flatten().tolist() for part in (train, test, whole)]
        assert sorted(values[0] + values[1]) == sorted(values[2]) == list(range(value))
        assert whole.classes == tuple(sorted(counts))
        for label, kind in enumerate(whole.classes):
            assert abs((test.labels == label).sum() - counts[kind] / 10) <= 0.5
            assert (whole.labels == label).sum() == counts[kind]
        del whole, train, test  # an open map can't be deleted on Windows


# Decoded


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


# Refused, decoded anew


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


# Mapped


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

"""A user's own images: found, and sorted into classes and parts."""

import os
import tempfile
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ddpm_lib import data
from tests.folder_cases import grey, load, put


@pytest.fixture
def pics(tmp_path):
    """An empty folder for images; decoded ones go beside it."""
    folder = tmp_path / "pics"
    folder.mkdir()
    return folder


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


def test_a_link_to_a_folder_beside_it_takes_nothing_from_that_folder(pics):
    put(pics / "zebra" / "0.png", grey(5))
    try:
        (pics / "alias").symlink_to(pics / "zebra", target_is_directory=True)
    except OSError:
        pytest.skip("links can't be made here")
    assert load(pics).classes == ("alias", "zebra")
    assert len(load(pics)) == 2


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

"""A folder of images as one file of bytes: found, decoded once, then mapped into memory."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from multiprocessing.pool import ThreadPool
from pathlib import Path
from urllib.parse import parse_qsl

import numpy as np
from PIL import Image, ImageOps
from tqdm import tqdm

from ddpm_lib.checkpoint import replacing

ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm")
GREY = ("1", "L", "LA", "La", "F")  # Pillow's modes; and I, I;16, ... of more than 8 bits
SPLITS = {"train", "test", "val", "valid", "validation"}
FORMAT = 1  # of the decoded file; to be raised when decoding changes


def parse(spec: str) -> tuple[Path, int | None, int | None]:
    """Path, size and channels of "PATH?size=64&channels=1"; None for what is not given. The folder must be there."""
    path, _, options = spec.rpartition("?") if "?" in spec else (spec, "", "")
    try:
        given = dict(parse_qsl(options, keep_blank_values=True, strict_parsing=bool(options)))
        size, channels = given.pop("size", None), given.pop("channels", None)
        if (
            given
            or (size is not None and not size.isdecimal())
            or channels not in (None, "1", "3")
            or size == "0"
        ):
            raise ValueError
    except ValueError:
        raise ValueError(
            f"data: expected folder:PATH?size=N with N at least 1, channels=1 or channels=3, got ?{options}"
        ) from None
    if not path or not Path(path).expanduser().is_dir():
        raise ValueError(f"data: expected folder:PATH with the path of a folder, got {path!r}")
    return Path(path).expanduser().resolve(), size and int(size), channels and int(channels)


def survey(path: Path) -> tuple[list[str], np.ndarray, tuple[str, ...], np.ndarray | None]:
    """The images below path: names relative to it, labels (N,) int64, classes, and which are held out, (N,) bool.

    The last is None where the folder does not say. Raises ValueError where it holds no images or where sub-folders
    could be classes or parts.
    """
    names = _image_names(path)
    parts = [name.split("/") for name in names]
    tops = {part[0] for part in parts if len(part) > 1}
    test = None
    if tops <= SPLITS and tops:
        if tops != {"train", "test"} or any(len(part) == 1 for part in parts):
            raise ValueError(
                f"data: {path} holds {', '.join(sorted(tops))}: expected train and test alone, or one of them as PATH"
            )
        test = np.array([part[0] == "test" for part in parts])
        parts = [part[1:] for part in parts]
    tops = {part[0] if len(part) > 1 else "" for part in parts}
    if len(tops) > 1 and "" in tops:
        loose = next(name for name, part in zip(names, parts, strict=True) if len(part) == 1)
        raise ValueError(
            f"data: {path} holds images in sub-folders, which are classes, and beside them: {loose}"
        )
    number = {top: i for i, top in enumerate(sorted(tops))}
    labels = np.array([number[part[0]] if len(part) > 1 else 0 for part in parts], dtype=np.int64)
    return names, labels, (path.name,) if tops == {""} else tuple(number), test


def decoded(path: Path, names: list[str], size: int | None, channels: int | None, root: Path) -> np.ndarray:
    """The images as a read-only map of a file in root, (N, C, H, W) uint8, decoded first if it is not there.

    The file's name holds a digest of the images' names, sizes and times, so that a file there is of these very images.
    One process decodes, others wait for it.
    """
    from filelock import FileLock

    stats = [(path / name).stat() for name in names]
    sources = [[name, stat.st_size, stat.st_mtime_ns] for name, stat in zip(names, stats, strict=True)]
    stem = f"{re.sub('[^0-9A-Za-z]+', '_', path.name)}-{_digest([str(path), size, channels])}"
    target = root / "folders" / f"{stem}-{_digest([FORMAT, sources])}.npy"
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(target.with_name(f".{stem}.lock")):
            if not target.exists():
                _discard(target.parent.glob(f".{stem}*.npy"))  # of a process that was killed while it wrote
                _write(path, names, size, channels, target)
                _discard(old for old in target.parent.glob(f"{stem}-*.npy") if old != target)
    return np.load(target, mmap_mode="r")


def _image_names(path: Path) -> list[str]:
    """The images below path by their names' endings, sorted, links followed, hidden files and folders left out."""

    def refuse(error: OSError):
        raise error

    images, others, way = [], [], {}
    for here, folders, files in os.walk(path, onerror=refuse, followlinks=True):
        above, real = way.get(os.path.dirname(here), ()), os.path.realpath(here)
        if real in above:  # a link that leads upwards
            folders.clear()
            continue
        way[here] = (*above, real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in files:
            if not name.startswith("."):
                relative = (Path(here) / name).relative_to(path).as_posix()
                (images if name.lower().endswith(ENDINGS) else others).append(relative)
    if not images:
        raise ValueError(f"data: no images in {path}; expected files named {', '.join(ENDINGS)}")
    if others:
        warnings.warn(f"{path}: left out, as no images by their names: {_some(sorted(others))}", stacklevel=5)
    return sorted(images)


def _write(path: Path, names: list[str], size: int | None, channels: int | None, target: Path) -> None:
    """Decode the images, in this order, into target, an .npy file that is there whole or not at all."""
    Image.init()
    if channels is None:
        grey = [result for _, result in _each(_is_grey, path, names, "looking at")]
        channels = 1 if all(grey) else 3
    first = None
    with replacing(target) as temporary, open(temporary, "wb") as file:
        for name, pixels in _each(lambda file: _decode(file, size, channels), path, names, "decoding"):
            if first is None:
                first = name, pixels.shape
                _check_space(target, len(names) * pixels.nbytes)
                header = {"descr": "|u1", "fortran_order": False, "shape": (len(names), *pixels.shape)}
                np.lib.format.write_array_header_1_0(file, header)
            if pixels.shape != first[1]:
                sizes = [f"{n} is {shape[2]}×{shape[1]}" for n, shape in (first, (name, pixels.shape))]
                raise ValueError(
                    f"data: the images in {path} differ in size: {' and '.join(sizes)} (width×height); "
                    "add ?size=N to the path to scale and crop all to N×N"
                )
            file.write(pixels.tobytes())


def _each(work: Callable, path: Path, names: list[str], doing: str, chunk: int = 64) -> Iterator[tuple]:
    """Yield (name, work(file)) in order, a chunk at a time in parallel; at the end ValueError names what failed."""

    def attempt(name):
        try:
            return work(path / name)
        except Exception as error:  # decoders raise many kinds for broken files
            return error

    broken = []
    bar = tqdm(total=len(names), desc=f"{doing} {path.name}", unit="img", delay=1)
    with ThreadPool(os.cpu_count()) as pool, bar:
        for start in range(0, len(names), chunk):
            part = names[start : start + chunk]
            for name, result in zip(part, pool.map(attempt, part), strict=True):
                if isinstance(result, Exception):
                    broken.append(f"{name} ({' '.join(str(result).split())})")
                elif not broken:
                    yield name, result
            bar.update(len(part))
    if broken:
        raise ValueError(
            f"data: {len(broken)} of {len(names)} images in {path} can't be read: {_some(broken)}"
        )


def _is_grey(file: Path) -> bool:
    with Image.open(file) as image:
        return image.mode in GREY or image.mode.startswith("I")


def _decode(file: Path, size: int | None, channels: int) -> np.ndarray:
    """One image as (C, H, W) uint8: the right way up, on white where transparent, scaled and cropped if so asked."""
    with Image.open(file) as opened:
        if size is not None:
            opened.draft(
                None, (2 * size, 2 * size)
            )  # a JPEG file is decoded no finer than that, which saves time
        image = _eight_bit(ImageOps.exif_transpose(opened))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    image = image.convert("L" if channels == 1 else "RGB")
    if size is not None:
        image = ImageOps.fit(image, (size, size), Image.Resampling.LANCZOS)
    return np.asarray(image).reshape(image.height, image.width, channels).transpose(2, 0, 1)


def _eight_bit(image: Image.Image) -> Image.Image:
    """Grey of 16 bits, 0..65535, brought to 0..255 with rounding; Pillow's own conversions cut off bits."""
    if image.mode == "F":
        raise ValueError("floating-point pixels, whose range is not known; expected 8 or 16 bits")
    if not image.mode.startswith("I"):
        return image
    values = np.asarray(image).astype(np.int64)
    if values.min() < 0 or values.max() > 65535:
        raise ValueError(f"pixels in {values.min()}..{values.max()}; expected 8 or 16 bits")
    return Image.fromarray(((values * 255 + 32767) // 65535).astype(np.uint8))


def _check_space(target: Path, needed: int) -> None:
    free = shutil.disk_usage(target.parent).free
    if needed > free:
        raise OSError(
            f"data: decoding into {target.parent} needs {needed / 1e9:.1f} GB of which {free / 1e9:.1f} are free; "
            "the environment's DDPM_DATA names another place"
        )


def _discard(files) -> None:
    for file in files:
        with suppress(OSError):  # in use, on Windows
            file.unlink()


def _digest(value) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:12]


def _some(names: list[str], most: int = 5) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")

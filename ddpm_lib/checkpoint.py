"""Checkpoints that survive what happens to files: safetensors for tensors, JSON for the rest, nothing unpickled.

A checkpoint is two files, ``step-00001234.safetensors`` and ``step-00001234.json``. The JSON is written last, names
its step and holds the SHA-256 of both, so a checkpoint is either whole or not one. Writing is atomic (a temporary file
in the same folder, flushed, then renamed); the older files go only after the new ones are safe.
"""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors.torch import load as load_tensors
from safetensors.torch import save as dump_tensors
from torch import Tensor


def save(folder: Path | str, step: int, tensors: dict[str, Tensor], meta: dict, keep: int = 2) -> Path:
    """Write checkpoint number step into the folder, then delete the earlier ones but keep - 1; returns the JSON's path.

    Those with higher numbers, if there are any, are not this run's to delete. tensors: any device; stored from the
    CPU. meta: what JSON can hold. Raises OSError, naming the file, when the disk refuses; what was saved before stays.
    """
    if keep < 1:
        raise ValueError(f"keep: expected at least 1 checkpoint, got {keep}")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for leftover in folder.glob(".step-*"):  # of a run that was killed while it wrote
        leftover.unlink()
    body = dump_tensors({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()})
    path = folder / f"step-{step:08d}.json"
    head = {"step": step, "meta": meta, "tensors_sha256": hashlib.sha256(body).hexdigest()}
    try:
        write_atomic(path.with_suffix(".safetensors"), body)
        write_atomic(path, _text(head))
    except OSError as error:
        raise OSError(
            error.errno, f"checkpoint {path} not saved: {error.strerror}; the one before it stays"
        ) from None
    earlier = [other for other in _newest_first(folder) if other.name < path.name]
    for old in earlier[keep - 1 :]:
        old.unlink()  # the JSON first: without it the tensors are no checkpoint
    for tensors_path in folder.glob("step-????????.safetensors"):
        if not tensors_path.with_suffix(".json").exists():
            tensors_path.unlink()
    return path


def load(path: Path | str) -> tuple[dict[str, Tensor], dict]:
    """Tensors (on the CPU) and meta of the checkpoint with this JSON; ValueError, naming the file, if damaged."""
    path = Path(path)
    if not path.exists():
        raise ValueError(f"checkpoint {path} is incomplete: there is no such file")
    try:
        content = path.read_bytes()
        stored = json.loads(content)
        del stored["sha256"]
        if content != _text(stored):
            raise ValueError("its contents do not match its checksum")
        if path.stem != f"step-{stored['step']:08d}":
            raise ValueError(f"it is the one of step {stored['step']}")
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"checkpoint {path} is damaged: {error}") from None
    tensors_path = path.with_suffix(".safetensors")
    try:
        body = tensors_path.read_bytes()
    except OSError as error:
        raise ValueError(f"checkpoint {tensors_path} is damaged: {error}") from None
    if hashlib.sha256(body).hexdigest() != stored["tensors_sha256"]:
        raise ValueError(
            f"checkpoint {tensors_path} is damaged: {len(body)} bytes that do not match their checksum"
        )
    return load_tensors(body), stored["meta"]


def load_newest(folder: Path | str) -> tuple[dict[str, Tensor], dict, Path]:
    """The newest whole checkpoint of the folder: tensors, meta, path. Each damaged one on the way is warned of.

    Raises ValueError when the folder holds no whole checkpoint.
    """
    folder = Path(folder)
    candidates = sorted({path.with_suffix(".json") for path in folder.glob("step-????????.*")}, reverse=True)
    if not candidates:
        raise ValueError(f"{folder}: no checkpoint here")
    reasons = []
    for path in candidates:
        try:
            return *load(path), path
        except ValueError as error:
            reasons.append(str(error))
            warnings.warn(f"{error}; trying the one before", stacklevel=2)
    raise ValueError(f"{folder}: no whole checkpoint here: " + "; ".join(reasons))


def exists(folder: Path | str) -> bool:
    """Whether the folder holds any checkpoint, whole or not."""
    return bool(_newest_first(Path(folder)))


def write_atomic(path: Path, content: bytes) -> None:
    """Write a file so that a reader finds the old content or the new, never a part, whenever the power goes."""
    with replacing(path) as temporary:
        temporary.write_bytes(content)


@contextmanager
def replacing(path: Path | str) -> Iterator[Path]:
    """A temporary path beside path (same suffix) to write to; renamed to path on success, removed on failure."""
    path = Path(path)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        yield temporary
        _flush(temporary)
        os.replace(temporary, path)
        _flush(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def _flush(path: Path) -> None:
    """fsync a file, or a folder where the system lets one open folders (not on Windows)."""
    if path.is_dir() and os.name == "nt":
        return
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _newest_first(folder: Path) -> list[Path]:
    return sorted(folder.glob("step-????????.json"), reverse=True)


def _text(head: dict) -> bytes:
    """The JSON file's content, with the checksum of what it says."""
    digest = hashlib.sha256(json.dumps(head, sort_keys=True).encode()).hexdigest()
    return json.dumps(head | {"sha256": digest}, indent=1).encode()

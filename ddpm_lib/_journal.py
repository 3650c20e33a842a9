"""What is told of a run as it goes: a progress bar, one JSON object a line, and TensorBoard where installed."""

from __future__ import annotations

import json
import time
import warnings
from math import isfinite
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from ddpm_lib.checkpoint import write_atomic

NAME = "metrics.jsonl"


class Records:
    """The curve of a run of so many images, which begins at images_seen, and who is told of it.

    out: the folder for ``metrics.jsonl``, or None. progress: whether a bar is shown.
    """

    def __init__(self, images: int, images_seen: int, out: Path | str | None, progress: bool):
        self.curve: list[tuple[int, float]] = []
        self.journal = None if out is None else Journal(out, images_seen)
        start = {"total": images, "initial": images_seen, "mininterval": 1}
        self.bar = tqdm(**start, unit="img", desc="training", disable=not progress)
        self.images_seen, self.begun = images_seen, time.perf_counter()
        self.steps: list[tuple[int, float, Tensor, Tensor]] = []

    def add(self, step: int, lr: float, loss: Tensor, gradient_norm: Tensor) -> None:
        """Keep what a step gave; nothing is asked of the device yet, which may still be at work on it."""
        self.steps.append((step, lr, loss, gradient_norm))

    def point(self, images_seen: int) -> None:
        """Add a point, the mean of the steps since the last. Raises FloatingPointError, naming the first bad one."""
        losses, norms = (torch.stack(values).tolist() for values in list(zip(*self.steps, strict=True))[2:])
        for (step, lr, *_), loss, norm in zip(self.steps, losses, norms, strict=True):
            for name, value in (("loss", loss), ("gradient's norm", norm)):
                if not isfinite(value):
                    raise FloatingPointError(f"the {name} is {value} at step {step}, learning rate {lr:.2e}")
        loss, norm, now = sum(losses) / len(losses), sum(norms) / len(norms), time.perf_counter()
        self.curve.append((images_seen, loss))
        self.bar.update(min(images_seen, self.bar.total) - self.bar.n)
        self.bar.set_postfix(loss=f"{loss:.4f}")
        if self.journal:
            step, lr, *_ = self.steps[-1]
            rate = round((images_seen - self.images_seen) / (now - self.begun), 1)
            values = {"loss": loss, "gradient_norm": norm, "lr": lr, "images_per_second": rate}
            self.journal.write(images=images_seen, step=step, **values)
        self.steps, self.images_seen, self.begun = [], images_seen, now

    def __enter__(self) -> Records:
        return self

    def __exit__(self, *_) -> None:
        self.bar.close()
        if self.journal:
            self.journal.close()


class Journal:
    """The records of the run in this folder, which go on after so many images: later ones are of a lost future.

    The run was stopped after it wrote them and before its next checkpoint, and will write them again.
    """

    def __init__(self, folder: Path | str, images_seen: int):
        self.path = Path(folder) / NAME
        self.path.parent.mkdir(parents=True, exist_ok=True)
        for leftover in (*self.path.parent.glob(".metrics.*"), *self.path.parent.glob(".samples-*")):
            leftover.unlink()  # of a run that was killed while it wrote
        known = [record for record in read(self.path) if record["images"] <= images_seen]
        write_atomic(self.path, "".join(map(_line, known)).encode())
        self.file = self.path.open("a", encoding="utf-8")
        self.board = _tensorboard(self.path.parent, images_seen)

    def write(self, **record: float) -> None:
        """Add a record; images is the run's clock, the rest are values at that time."""
        self.file.write(_line(record))
        self.file.flush()
        for name, value in record.items() if self.board else ():
            self.board.add_scalar(name, value, record["images"])

    def close(self) -> None:
        self.file.close()
        if self.board:
            self.board.close()


def read(path: Path | str) -> list[dict]:
    """The records of a ``metrics.jsonl``, oldest first; none if there is no such file.

    What is no record, such as a last line of which a killed run wrote only a part, is left out.
    """
    path, records = Path(path), []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else ():
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict) and "images" in record:
            records.append(record)
    return records


def _line(record: dict) -> str:
    return json.dumps(record) + "\n"


def _tensorboard(folder: Path, images_seen: int):
    """A writer into the folder, or None where TensorBoard is not installed or, with a warning, does not work."""
    try:
        from torch.utils.tensorboard import SummaryWriter

        return SummaryWriter(str(folder), purge_step=images_seen + 1)
    except ImportError:
        return None
    except Exception as error:
        # of a protobuf or numpy that it does not go with: many kinds, and none of the run's
        warnings.warn(f"no TensorBoard records: {type(error).__name__}: {error}", stacklevel=3)
        return None

"""The figures' one look: sizes, a palette that colour-blind readers can tell apart, and grids of images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from ddpm_lib._folder import ENDINGS
from ddpm_lib.checkpoint import replacing
from ddpm_lib.data import to_bytes

BLUE, ORANGE, GREEN, PURPLE, SKY, VERMILION = "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00"
PALETTE = (BLUE, VERMILION, GREEN, ORANGE, PURPLE, SKY)


def use_style() -> None:
    """Set the book's look for all figures that follow: an opaque white ground, so that dark pages keep its colours."""
    mpl.rcParams.update(
        {
            "figure.figsize": (7.0, 3.2),
            "figure.dpi": 110,
            "figure.facecolor": "white",
            "figure.constrained_layout.use": True,
            "savefig.facecolor": "white",
            "axes.prop_cycle": mpl.cycler(color=PALETTE),
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.titlesize": 11,
            "axes.labelsize": 10,
            "legend.frameon": False,
            "lines.linewidth": 1.8,
            "font.size": 10,
            "image.cmap": "gray",
        }
    )


def tile(x: Tensor, columns: int, gap: int = 2) -> np.ndarray:
    """Images (B, C, H, W) in [-1, 1] laid out row by row as one uint8 picture, (rows, cols) grey or (rows, cols, 3)."""
    if x.ndim != 4 or x.shape[1] not in (1, 3):
        raise ValueError(f"x: expected images (B, 1 or 3, H, W), got {tuple(x.shape)}")
    if columns < 1:
        raise ValueError(f"columns: expected at least 1, got {columns}")
    pixels = to_bytes(x.detach().cpu()).permute(0, 2, 3, 1).numpy()
    n, height, width, channels = pixels.shape
    rows = -(-n // columns)
    sheet = np.full((rows * (height + gap) - gap, columns * (width + gap) - gap, channels), 255, np.uint8)
    for i, image in enumerate(pixels):
        top, left = (i // columns) * (height + gap), (i % columns) * (width + gap)
        sheet[top : top + height, left : left + width] = image
    return sheet.squeeze(2) if channels == 1 else sheet


def image_grid(
    x: Tensor,
    columns: int = 10,
    row_labels: Sequence[str] = (),
    column_labels: Sequence[str] = (),
    title: str = "",
    zoom: float = 1.0,
) -> Figure:
    """A figure of images (B, C, H, W) in [-1, 1], row by row, with optional labels on rows and columns."""
    sheet, gap = tile(x, columns), 2
    height, width = x.shape[2] + gap, x.shape[3] + gap
    rows = -(-len(x) // columns)
    figure, ax = plt.subplots(
        figsize=(zoom * 0.62 * columns + 0.4, zoom * 0.62 * rows * height / width + 0.3)
    )
    ax.imshow(sheet, vmin=0, vmax=255, interpolation="nearest")
    ax.set_xticks([(i + 0.5) * width - gap for i in range(len(column_labels))], column_labels)
    ax.set_yticks([(i + 0.5) * height - gap for i in range(len(row_labels))], row_labels)
    ax.xaxis.tick_top()
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    if title:
        ax.set_title(title)
    return figure


def loss_curve(ax: Axes, curve: Sequence[tuple[int, float]], window: int = 20) -> None:
    """A training curve of (images seen, loss): the points faint, their mean over window points strong.

    Each mean stands in the middle of its points, so that it does not trail behind them.
    """
    seen, loss = np.array(curve).T
    ax.plot(seen / 1000, loss, alpha=0.25, color=BLUE)
    if len(loss) >= window:
        smooth = np.convolve(loss, np.ones(window) / window, mode="valid")
        first = (window - 1) // 2
        ax.plot(
            seen[first : first + len(smooth)] / 1000, smooth, color=BLUE, label=f"mean of {window} points"
        )
        ax.legend()
    ax.set(xlabel="images seen (thousands)", ylabel="loss", yscale="log")


def save_grid(x: Tensor, path: Path | str, columns: int = 10) -> None:
    """Write images (B, C, H, W) in [-1, 1] as one picture file, pixel for pixel, atomically.

    Raises ValueError, as ``check_picture``, where the path is no picture's.
    """
    check_picture(path)
    with replacing(path) as temporary:
        Image.fromarray(tile(x, columns)).save(temporary)


def check_picture(path: Path | str) -> None:
    """Raise ValueError where no picture can be written under this name."""
    if Path(path).suffix.lower() not in ENDINGS or Path(path).is_dir():
        raise ValueError(f"out: expected the name of a picture, ending in {', '.join(ENDINGS)}, got {path}")

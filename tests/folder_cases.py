"""Small images in a folder, for the tests of ``folder:PATH``."""

import numpy as np
from PIL import Image

from ddpm_lib import data


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

"""The small digit classifier that ships with the package, and how it was trained."""

from __future__ import annotations

import hashlib
import json
import platform
import subprocess
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load as load_tensors
from safetensors.torch import save as dump_tensors
from torch import Tensor, nn
from tqdm import tqdm

from ddpm_lib import checkpoint, data
from ddpm_lib.metrics.extractors import Extractor
from ddpm_lib.metrics.intervals import share_interval

CLASSIFIER = Path(__file__).parents[1] / "weights" / "digit_classifier"


class DigitClassifier(nn.Module):
    """A small convolutional network for 28×28 grey digits; its 64 features are what the distances look at.

    Four convolutions with batch normalisation, halved three times on the way, then two linear layers; 70,586 weights.
    forward: digits (B, 1, 28, 28) in [-1, 1] -> logits (B, 10). Training drops half of the features each time: without
    that (and with less jitter) training digits lie closer together than new ones, and copies of them would look better.
    """

    DIMS = 64

    def __init__(self):
        super().__init__()

        def convolution(c_in: int, c_out: int, side: int) -> list[nn.Module]:
            layer = nn.Conv2d(c_in, c_out, side, padding=side // 2, bias=False)
            return [layer, nn.BatchNorm2d(c_out), nn.ReLU()]

        self.body = nn.Sequential(
            *convolution(1, 16, 5),
            nn.MaxPool2d(2),
            *convolution(16, 32, 3),
            *convolution(32, 32, 3),
            nn.MaxPool2d(2),
            *convolution(32, 64, 3),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(64 * 9, self.DIMS, bias=False),
            nn.BatchNorm1d(self.DIMS),  # without it a third of the features never fires
            nn.ReLU(),
        )
        self.head = nn.Linear(self.DIMS, 10)

    def features(self, x: Tensor) -> Tensor:
        """The penultimate layer, (B, 64), at least 0."""
        return self.body(x)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.dropout(self.features(x), 0.5, self.training))


def load_classifier(folder: Path | str = CLASSIFIER, device: torch.device | str = "cpu") -> DigitClassifier:
    """The digit classifier of this folder, the embedded one by default, in evaluation mode.

    Raises ValueError, naming the file, where its bytes are not those that the card beside them tells of.
    """
    path = Path(folder) / "model.safetensors"
    try:
        body, card = path.read_bytes(), json.loads(path.with_name("card.json").read_text())
        if hashlib.sha256(body).hexdigest() != card["sha256"]:
            raise ValueError("it does not match the checksum on its card")
        net = DigitClassifier()
        net.load_state_dict(load_tensors(body))
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise ValueError(f"classifier {path} is missing or damaged: {error}") from None
    return net.eval().requires_grad_(False).to(device)


def digit_features(device: torch.device | str = "cpu") -> Extractor:
    """The embedded classifier's 64 features. It takes 28×28 grey digits as they are and never resizes."""
    net = load_classifier(device=device)

    def function(pixels: Tensor) -> Tensor:
        if pixels.shape[1:] != (1, 28, 28):
            raise ValueError(
                f"pixels: the digit classifier looks at 1×28×28 images, got {tuple(pixels.shape)}"
            )
        return net.features(data.to_unit(pixels))

    return Extractor("digits", net.DIMS, function, torch.device(device))


def train_digit_classifier(
    seed: int = 0, epochs: int = 20, digits: data.Images | None = None, progress: bool = True
) -> DigitClassifier:
    """Train the classifier on digits, each time turned, sheared, stretched and moved a little.

    digits: at least 100, the training digits of ``mnist5k`` by default. Every draw comes from the seed, so that a
    second run on one thread gives the same weights to the bit.
    """
    digits, batch = digits or data.load("mnist5k", "train"), 100
    steps = epochs * (len(digits) // batch)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = DigitClassifier()
        optimizer = torch.optim.AdamW(net.parameters(), weight_decay=1e-2)
        rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=4e-3, total_steps=steps)
        bar = tqdm(total=steps * batch, desc="classifier", unit="img", disable=not progress)
        for _ in range(epochs):
            for index in torch.randperm(len(digits))[: len(digits) // batch * batch].split(batch):
                drawn = data.draw_augmentation("affine", batch)
                drawn[:, :, :2] *= (0.4 * torch.rand(batch, 1, 2) - 0.2).exp()  # each side by up to a fifth
                drawn[:, :, 2] = (torch.rand(batch, 2) - 0.5) / 3.5  # by up to 2 of 28 pixels
                x = data.augment(data.to_unit(digits.pixels[index]), "affine", drawn)
                loss = F.cross_entropy(net(x), digits.labels[index])
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
                rate.step()
                bar.update(batch)
            bar.set_postfix(loss=f"{loss.item():.4f}")
        bar.close()
    return net.eval().requires_grad_(False)


@torch.no_grad()
def correct(net: nn.Module, images: data.Images) -> Tensor:
    """Whether the classifier finds each image's label, (N,) bool."""
    device = next(net.parameters()).device
    found = [net(data.to_unit(part.to(device))).argmax(1) for part in images.pixels.split(256)]
    return torch.cat(found).cpu() == images.labels.cpu()


def write_classifier(out: Path, seed: int = 0, epochs: int = 20) -> None:
    """Train the digit classifier and write it with its card: how it was made, and its accuracy on held-out digits.

    out: folder for model.safetensors and card.json. seed: decides every draw. epochs: passes over the 4,500 digits.
    """
    begun, commit = time.perf_counter(), _commit()
    net = train_digit_classifier(seed, epochs)
    seconds, held_out = time.perf_counter() - begun, data.load("mnist5k", "test")
    hits = int(correct(net, held_out).sum())
    body = dump_tensors(net.state_dict())
    low, high = share_interval(hits, len(held_out))
    card = {
        "what": "digit classifier; its penultimate layer is the feature space of the Fréchet and kernel distances",
        "command": f"python -m ddpm_lib.metrics --out {out} --seed {seed} --epochs {epochs}",
        "commit": commit,
        "data": "mnist5k, split train: 4,500 digits, each time turned, sheared, stretched and moved a little",
        "seed": seed,
        "images_seen": epochs * len(data.load("mnist5k", "train")),
        "seconds": round(seconds),
        "threads": torch.get_num_threads(),
        "held_out": {
            "data": "mnist5k, split test",
            "n": len(held_out),
            "right": hits,
            "accuracy": hits / len(held_out),
            "interval_95": [round(low, 4), round(high, 4)],
        },
        "parameters": sum(p.numel() for p in net.parameters()),
        "features": net.DIMS,
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
        "sha256": hashlib.sha256(body).hexdigest(),
    }
    out.mkdir(parents=True, exist_ok=True)
    checkpoint.write_atomic(out / "model.safetensors", body)
    text = json.dumps(card, indent=1, ensure_ascii=False)
    checkpoint.write_atomic(out / "card.json", (text + "\n").encode())
    print(f"{hits} of {len(held_out)} held-out digits right, {seconds:.0f} s; wrote {out}")


def _commit() -> str:
    """The commit of the code that runs, marked where it was changed since; "unknown" outside a repository."""
    git = ["git", "-C", str(Path(__file__).parent)]
    try:
        head = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout
        files = ["digits.py", "../data.py"]
        changed = subprocess.run([*git, "diff", "--quiet", "HEAD", "--", *files]).returncode
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return head.strip() + (" (changed)" if changed else "")

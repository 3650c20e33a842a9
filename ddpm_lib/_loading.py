"""Trained networks from disk: of a run's checkpoints, and those that come with the package."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path

import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save as dump_tensors
from torch import Tensor, nn

from ddpm_lib import checkpoint
from ddpm_lib.config import TrainConfig
from ddpm_lib.denoiser import NetworkDenoiser
from ddpm_lib.guidance import NoisyClassifier

PRETRAINED = Path(__file__).parent / "weights"


def fill(module: nn.Module, tensors: dict[str, Tensor], prefix: str, path: Path) -> None:
    """Load the tensors whose names start with prefix into the module; ValueError, naming path, if they do not fit."""
    chosen = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
    try:
        module.load_state_dict(chosen)
    except RuntimeError as error:
        raise ValueError(f"checkpoint {path} does not fit its own config: {error}") from None


def load_denoiser(run: Path | str, device: torch.device | str = "cpu") -> tuple[NetworkDenoiser, TrainConfig]:
    """The averaged network of a run's newest whole checkpoint, ready to sample, and the run's config."""
    return _denoiser(*_of_run(run, device, "run", classifier=False))


def load_noisy_classifier(
    run: Path | str, device: torch.device | str = "cpu"
) -> tuple[NoisyClassifier, TrainConfig]:
    """The averaged network of a ``train-classifier`` run's newest whole checkpoint, and the run's config."""
    return _of_run(run, device, "classifier", classifier=True)


def save_pretrained(
    trained: NetworkDenoiser | NoisyClassifier, config: TrainConfig, folder: Path | str, card: dict
) -> None:
    """Write a network for ``load_pretrained``: ``model.safetensors`` and ``card.json``, which holds the config too.

    card: what else is to be known of it, such as command, seed and scores, as JSON can hold it.
    """
    net = trained if isinstance(trained, nn.Module) else trained.net
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    body = dump_tensors({name: value.detach().cpu().contiguous() for name, value in net.state_dict().items()})
    whole = {**card, "config": config.to_dict(), "sha256": sha256(body).hexdigest()}
    checkpoint.write_atomic(folder / "model.safetensors", body)
    checkpoint.write_atomic(folder / "card.json", json.dumps(whole, indent=1, ensure_ascii=False).encode())


def load_pretrained(
    name: str = "mnist5k", device: torch.device | str = "cpu"
) -> tuple[NetworkDenoiser, TrainConfig]:
    """A network that comes with the package, ready to sample, and the config it was trained with.

    name: a folder of ``ddpm_lib/weights`` with ``model.safetensors`` and ``card.json``. Raises ValueError for another
    name, and, naming the file, for files that are damaged.
    """
    return _denoiser(*_pretrained(name, device, classifier=False))


def load_pretrained_classifier(
    name: str = "noisy_classifier", device: torch.device | str = "cpu"
) -> tuple[NoisyClassifier, TrainConfig]:
    """A classifier of noisy images that comes with the package, and the config it was trained with.

    name and errors as for ``load_pretrained``. (``metrics.load_classifier`` is another one, of clean digits.)
    """
    return _pretrained(name, device, classifier=True)


def _pretrained(name: str, device: torch.device | str, classifier: bool) -> tuple[nn.Module, TrainConfig]:
    cards = {path.parent.name: path.read_bytes() for path in sorted(PRETRAINED.glob("*/card.json"))}
    known = [
        folder
        for folder, card in cards.items()
        if b'"config"' in card and (b'"objective": "class"' in card) == classifier
    ]
    if name not in known:
        raise ValueError(
            f"name: expected one of {', '.join(known) or 'none, as none is installed'}, got {name!r}"
        )
    path = PRETRAINED / name / "model.safetensors"
    try:
        card, body = json.loads(cards[name]), path.read_bytes()
        if sha256(body).hexdigest() != card["sha256"]:
            raise ValueError("it does not match the checksum in its card")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is damaged: {error}") from None
    return _ready(TrainConfig.from_dict(card.get("config"), path), load_tensors(body), "", path, device)


def _of_run(
    run: Path | str, device: torch.device | str, name: str, classifier: bool
) -> tuple[nn.Module, TrainConfig]:
    if not Path(run).is_dir():
        raise ValueError(f"{name}: no folder {run}")
    tensors, meta, path = checkpoint.load_newest(run)
    config = TrainConfig.from_dict(meta.get("config"), path)
    if (config.objective == "class") != classifier:
        kinds = ("a denoiser, of train", "a classifier, of train-classifier")
        raise ValueError(
            f"{name}: expected the run of {kinds[classifier]}, got that of {kinds[not classifier]}, in {run}"
        )
    return _ready(config, tensors, "average.module.", path, device)


def _ready(
    config: TrainConfig, tensors: dict[str, Tensor], prefix: str, path: Path, device: torch.device | str
) -> tuple[nn.Module, TrainConfig]:
    net = config.make_network().to(device)
    fill(net, tensors, prefix, path)
    return net.eval().requires_grad_(False), config


def _denoiser(net: nn.Module, config: TrainConfig) -> tuple[NetworkDenoiser, TrainConfig]:
    return NetworkDenoiser(net, config.make_schedule(), config.objective), config

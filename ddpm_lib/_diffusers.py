"""What a published diffusers ``UNet2DModel`` is, in this library's words: its configuration and its weights.

Only the layout of its files is used, not the package: ``config.json`` and ``diffusion_pytorch_model.safetensors``.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

CONFIG, WEIGHTS = "config.json", "diffusion_pytorch_model.safetensors"

# What diffusers takes for a field that the file does not hold, as old files do not.
DEFAULTS = {
    "sample_size": None,
    "in_channels": 3,
    "out_channels": 3,
    "center_input_sample": False,
    "time_embedding_type": "positional",
    "time_embedding_dim": None,
    "freq_shift": 0,
    "flip_sin_to_cos": True,
    "down_block_types": ["DownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"],
    "mid_block_type": "UNetMidBlock2D",
    "up_block_types": ["AttnUpBlock2D", "AttnUpBlock2D", "AttnUpBlock2D", "UpBlock2D"],
    "block_out_channels": [224, 448, 672, 896],
    "layers_per_block": 2,
    "mid_block_scale_factor": 1,
    "downsample_padding": 1,
    "downsample_type": "conv",
    "upsample_type": "conv",
    "dropout": 0.0,
    "act_fn": "silu",
    "attention_head_dim": 8,
    "norm_num_groups": 32,
    "attn_norm_num_groups": None,
    "norm_eps": 1e-5,
    "resnet_time_scale_shift": "default",
    "add_attention": True,
    "class_embed_type": None,
    "num_class_embeds": None,
}
WITHOUT_EFFECT = {"num_train_timesteps"}  # of learned step embeddings, which are refused

_OUTSIDE = {
    "conv_in": "conv_in",
    "conv_norm_out": "norm",
    "conv_out": "out",
    "time_embedding.linear_1": "time.0",
    "time_embedding.linear_2": "time.2",
    "class_embedding": "label",
}
_INSIDE = {
    "time_emb_proj": "tell",
    "conv_shortcut": "skip",
    "group_norm": "norm",
    "to_out.0": "out",
    "proj_attn": "out",  # this and the next three: names of before diffusers 0.15
    "query": "to_q",
    "key": "to_k",
    "value": "to_v",
}
_PART = re.compile(r"(down|mid|up)_blocks?\.(?:(\d+)\.)?(\w+)\.(\d+)\.(.+)")


def read(folder: Path | str) -> tuple[dict, dict[str, Tensor]]:
    """The fields of a ``UNetConfig`` and the weights under a ``UNet``'s names, from a folder of a model or pipeline.

    Raises ValueError, naming the file, where one is missing or damaged, and the field, where this library's network
    cannot be the one described.
    """
    folder = _find(Path(folder))
    path = folder / CONFIG
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(values, dict):
            raise ValueError(f"expected named fields, got a {type(values).__name__}")
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} can't be read: {error}") from None
    try:
        fields = translate(values)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    return fields, rename(_read_weights(folder / WEIGHTS), fields["blocks"])


def translate(values: dict) -> dict:
    """The fields of the ``UNetConfig`` that means the same; ValueError, naming the field, where there is none."""
    if (name := values.get("_class_name", "UNet2DModel")) != "UNet2DModel":
        raise ValueError(f"_class_name: expected UNet2DModel, got {name}")
    for name in values.keys() - DEFAULTS.keys() - WITHOUT_EFFECT:
        if not name.startswith("_") and values[name] is not None:
            raise ValueError(f"{name}: a field that is not known here, got {values[name]!r}")
    given = {name: list(v) if isinstance(v, tuple) else v for name, v in (DEFAULTS | values).items()}
    for name in ("in_channels", "layers_per_block", "norm_num_groups"):
        if not isinstance(given[name], int) or given[name] < 1:
            raise ValueError(f"{name}: expected a whole number >= 1, got {given[name]!r}")
    side, widths, attends = _side(given), _widths(given), _attends(given)
    for name, choices in _wanted(given, attends).items():
        if given[name] not in choices:
            raise ValueError(f"{name}: expected {' or '.join(map(repr, choices))}, got {given[name]!r}")
    return {
        "image_size": side,
        "in_channels": given["in_channels"],
        "num_classes": given["num_class_embeds"],
        "patch": 1,
        "width": widths[0],
        "multipliers": [width // widths[0] for width in widths],
        "blocks": given["layers_per_block"],
        "attention": [side // 2**level for level, attend in enumerate(attends) if attend],
        "scale_shift": given["resnet_time_scale_shift"] == "scale_shift",
        "dropout": given["dropout"],
        "groups": given["norm_num_groups"],
        "eps": given["norm_eps"],
    }


def _side(given: dict) -> int:
    """The images' one side; sizes come as a number or as a pair."""
    size = given["sample_size"]
    sides = size if isinstance(size, list) else [size]
    if not sides or any(not isinstance(side, int) or side != sides[0] for side in sides):
        raise ValueError(f"sample_size: expected the one side of square images, got {size!r}")
    return sides[0]


def _widths(given: dict) -> list[int]:
    """The channels of each level."""
    widths = given["block_out_channels"]
    if not isinstance(widths, list) or not widths or any(not isinstance(w, int) or w < 1 for w in widths):
        raise ValueError(f"block_out_channels: expected a whole number for each level, got {widths!r}")
    if any(width % widths[0] for width in widths):
        raise ValueError(f"block_out_channels: expected multiples of the first, got {widths!r}")
    return widths


def _attends(given: dict) -> list[bool]:
    """Whether the blocks of each level are followed by attention."""
    kinds, names = {"DownBlock2D": False, "AttnDownBlock2D": True}, given["down_block_types"]
    levels = len(given["block_out_channels"])
    if not isinstance(names, list) or len(names) != levels or any(name not in list(kinds) for name in names):
        raise ValueError(
            f"down_block_types: expected {' or '.join(kinds)} for each of {levels} levels, got {names!r}"
        )
    return [kinds[name] for name in names]


def _wanted(given: dict, attends: list[bool]) -> dict[str, tuple]:
    """For each field that this network has no choice in, the values that mean what it does."""
    widths, groups = given["block_out_channels"], given["norm_num_groups"]
    attending = {width for width, attend in zip(widths, attends, strict=True) if attend} | {widths[-1]}
    scale_shift = given["resnet_time_scale_shift"] == "scale_shift"
    return {
        "out_channels": (given["in_channels"],),
        "center_input_sample": (False,),
        "time_embedding_type": ("positional",),
        "time_embedding_dim": (None, 4 * widths[0]),
        "freq_shift": (1,),
        "flip_sin_to_cos": (False,),
        "up_block_types": (["AttnUpBlock2D" if attend else "UpBlock2D" for attend in reversed(attends)],),
        "mid_block_type": ("UNetMidBlock2D",),
        "mid_block_scale_factor": (1,),
        "downsample_padding": (0,),
        "downsample_type": ("conv",),
        "upsample_type": ("conv",),
        "act_fn": ("silu", "swish"),
        # One head: as many channels a head as there are channels, at each level that attends and in the middle.
        "attention_head_dim": (None, *attending) if len(attending) == 1 else (None,),
        "attn_norm_num_groups": (groups,) if scale_shift else (None, groups),
        "resnet_time_scale_shift": ("default", "scale_shift"),
        "add_attention": (True,),
        "class_embed_type": (None,),
    }


def rename(weights: dict[str, Tensor], blocks: int) -> dict[str, Tensor]:
    """The same weights under a ``UNet``'s names, of which a level has blocks on its way down.

    q, k and v become one layer; a class embedding gets a last row of zeros, the null label: "any class" adds nothing.
    """
    ours = {}
    for name, value in weights.items():
        module, _, kind = name.rpartition(".")
        name = f"{_module(module, blocks)}.{kind}"
        ours[name] = value[:, :, None, None] if ".attention." in name and value.ndim == 2 else value
    for query in [name for name in ours if ".to_q." in name]:
        names = [query.replace(".to_q.", f".to_{part}.") for part in "qkv"]
        if len({ours[name].shape if name in ours else None for name in names}) == 1:
            ours[query.replace(".to_q.", ".qkv.")] = torch.cat([ours.pop(name) for name in names])
    if (label := ours.get("label.weight")) is not None and label.ndim == 2:
        ours["label.weight"] = torch.cat([label, torch.zeros_like(label[:1])])
    return ours


def _module(name: str, blocks: int) -> str:
    """What a module of diffusers' is called here; a name that is not known stays as it is."""
    if name in _OUTSIDE:
        return _OUTSIDE[name]
    if not (found := _PART.fullmatch(name)):
        return name
    way, level, kind, place, inner = found.groups()
    inner = _INSIDE.get(inner, inner)
    if kind == "attentions":
        inner = f"attention.{inner}"
    if way == "mid":
        return f"middle.{place}.{inner}"
    parts = blocks + (1 if way == "down" else 2)  # of a level: its blocks, then Halve or Double
    place = parts - 1 if kind in ("downsamplers", "upsamplers") else int(place)
    return f"{way}.{int(level) * parts + place}.{inner}"


def _find(folder: Path) -> Path:
    for place in (folder, folder / "unet"):  # a model's own folder, or that of a pipeline
        if (place / CONFIG).is_file():
            return place
    raise ValueError(f"folder: expected {CONFIG} in {folder} or in {folder / 'unet'}, found it in neither")


def _read_weights(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise ValueError(
            f"{path}: no such file; weights are read from safetensors only, nothing is unpickled"
        )
    try:
        weights = load_file(path)
    except (OSError, SafetensorError) as error:
        raise ValueError(f"{path} is damaged: {error}") from None
    for name, value in weights.items():
        if not value.is_floating_point() or not value.isfinite().all():
            raise ValueError(f"{path}: expected finite floating-point numbers in {name}")
    return weights

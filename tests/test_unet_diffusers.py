"""An independent party: the network of diffusers with the same weights gives the same numbers."""

import pytest
import torch
from diffusers import UNet2DModel

from ddpm_lib import unet
from ddpm_lib.unet import UNet
from tests.helpers import batch


def theirs_to_ours(theirs: dict[str, torch.Tensor], net: UNet, blocks: int) -> dict[str, torch.Tensor]:
    """The weights of a diffusers UNet2DModel under this network's names."""
    levels = len(net.config.multipliers)
    names = {"conv_in": "conv_in", "norm": "conv_norm_out", "out": "conv_out"}
    names |= {"time.0": "time_embedding.linear_1", "time.2": "time_embedding.linear_2"}

    def block(ours: str, resnet: str, attention: str):
        inner = {
            "norm1": "norm1",
            "conv1": "conv1",
            "tell": "time_emb_proj",
            "norm2": "norm2",
            "conv2": "conv2",
        }
        names.update({f"{ours}.{k}": f"{resnet}.{v}" for k, v in (inner | {"skip": "conv_shortcut"}).items()})
        names.update(
            {
                f"{ours}.attention.norm": f"{attention}.group_norm",
                f"{ours}.attention.out": f"{attention}.to_out.0",
            }
        )
        names[f"{ours}.attention.qkv"] = f"{attention}.to_"

    place = 0
    for level in range(levels):
        for i in range(blocks):
            block(f"down.{place}", f"down_blocks.{level}.resnets.{i}", f"down_blocks.{level}.attentions.{i}")
            place += 1
        names[f"down.{place}.conv"] = f"down_blocks.{level}.downsamplers.0.conv"
        place += level < levels - 1
    for i in range(2):
        block(f"middle.{i}", f"mid_block.resnets.{i}", "mid_block.attentions.0")
    place = 0
    for level in range(levels):
        for i in range(blocks + 1):
            block(f"up.{place}", f"up_blocks.{level}.resnets.{i}", f"up_blocks.{level}.attentions.{i}")
            place += 1
        names[f"up.{place}.conv"] = f"up_blocks.{level}.upsamplers.0.conv"
        place += level < levels - 1

    ours = {}
    for name, value in net.state_dict().items():
        module, kind = name.rsplit(".", 1)
        if module.endswith("qkv"):
            found = torch.cat([theirs[f"{names[module]}{part}.{kind}"] for part in "qkv"])
        else:
            found = theirs[f"{names[module]}.{kind}"]
        ours[name] = found.view_as(value)
    assert sum(v.numel() for v in ours.values()) == sum(v.numel() for v in theirs.values())
    return ours


@pytest.mark.slow
def test_diffusers_network_of_the_papers_shape_gives_the_same_numbers():
    torch.manual_seed(0)
    peer = UNet2DModel(
        block_out_channels=(128, 256, 256, 256),
        down_block_types=("DownBlock2D", "AttnDownBlock2D", "DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=None,
        norm_eps=1e-6,
        downsample_padding=0,
        flip_sin_to_cos=False,
        freq_shift=1,
    ).eval()
    net = UNet(unet.paper()).eval()
    net.load_state_dict(theirs_to_ours(peer.state_dict(), net, net.config.blocks))
    x, t, _ = batch(net.config, 2)
    with torch.no_grad():
        torch.testing.assert_close(net(x, t), peer(x, t).sample, rtol=1e-5, atol=1e-5)

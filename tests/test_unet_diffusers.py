"""An independent party: a network saved by diffusers, read from its folder, gives the same numbers."""

import inspect
import json
import shutil

import pytest
import torch
from diffusers import UNet2DModel
from safetensors.torch import load_file, save_file

from ddpm_lib import _diffusers, unet
from tests.helpers import batch

WEIGHTS = "diffusion_pytorch_model.safetensors"
# The fields of the published CIFAR-10 model's file; it was written before there were more.
PUBLISHED = {
    "_class_name": "UNet2DModel",
    "act_fn": "silu",
    "attention_head_dim": None,
    "block_out_channels": [128, 256, 256, 256],
    "center_input_sample": False,
    "down_block_types": ["DownBlock2D", "AttnDownBlock2D", "DownBlock2D", "DownBlock2D"],
    "downsample_padding": 0,
    "flip_sin_to_cos": False,
    "freq_shift": 1,
    "in_channels": 3,
    "layers_per_block": 2,
    "mid_block_scale_factor": 1,
    "norm_eps": 1e-06,
    "norm_num_groups": 32,
    "out_channels": 3,
    "sample_size": 32,
    "time_embedding_type": "positional",
    "up_block_types": ["UpBlock2D", "UpBlock2D", "AttnUpBlock2D", "UpBlock2D"],
}
SMALL = PUBLISHED | {
    "block_out_channels": [16, 32],
    "down_block_types": ["DownBlock2D", "AttnDownBlock2D"],
    "up_block_types": ["AttnUpBlock2D", "UpBlock2D"],
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "in_channels": 1,
    "out_channels": 1,
    "sample_size": 8,
}
SCALE_SHIFT = {"resnet_time_scale_shift": "scale_shift", "attn_norm_num_groups": 4}


def peer(values: dict) -> UNet2DModel:
    """Diffusers' network with random weights, biases and norms among them."""
    torch.manual_seed(0)
    net = UNet2DModel(**{name: value for name, value in values.items() if name[0] != "_"}).eval()
    for p in net.parameters():
        if p.ndim == 1:
            torch.nn.init.normal_(p, std=0.3)
    return net


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A small network of theirs, and the folder it was saved in. Tests that change files copy the folder."""
    net, folder = peer(SMALL), tmp_path_factory.mktemp("small")
    net.save_pretrained(folder)
    return net, folder


@pytest.fixture
def copy(small, tmp_path):
    return shutil.copytree(small[1], tmp_path / "copy")


def change(folder, **values):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def assert_same(theirs: UNet2DModel, ours: unet.UNet):
    x, t, y = batch(ours.config, 2)
    with torch.no_grad():
        if ours.label is None:
            torch.testing.assert_close(ours(x, t), theirs(x, t).sample, rtol=1e-5, atol=1e-5)
        else:
            torch.testing.assert_close(ours(x, t, y), theirs(x, t, y).sample, rtol=1e-5, atol=1e-5)


def test_the_published_cifar_10_model_is_the_papers_network(tmp_path):
    theirs = peer(PUBLISHED)
    theirs.save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(PUBLISHED))
    ours = unet.load_diffusers(tmp_path)
    fields = {"dropout": 0.0}  # the file names none
    assert ours.config == unet.UNetConfig(**(vars(unet.paper()) | fields))
    assert not ours.training
    assert_same(theirs, ours)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"layers_per_block": 2, "dropout": 0.3, "norm_eps": 1e-3},
        SCALE_SHIFT | {"num_class_embeds": 5, "attention_head_dim": 32},
        {"down_block_types": ["AttnDownBlock2D", "DownBlock2D"], "up_block_types": ["UpBlock2D", "AttnUpBlock2D"]},
        {
            "block_out_channels": [16, 48, 16],
            "down_block_types": ["DownBlock2D"] * 3,
            "up_block_types": ["UpBlock2D"] * 3,
        },
        {"sample_size": [12, 12], "time_embedding_dim": 64, "act_fn": "swish"},
    ],
)  # fmt: skip
def test_a_network_of_another_shape_gives_the_same_numbers(tmp_path, changes):
    theirs = peer(SMALL | changes)
    theirs.save_pretrained(tmp_path)
    assert_same(theirs, unet.load_diffusers(tmp_path))


def test_gradients_are_the_same_too(small):
    theirs, ours = small[0], unet.load_diffusers(small[1])
    x, t, _ = batch(ours.config, 2)
    (x_ours, x_theirs) = (x.clone().requires_grad_() for _ in range(2))
    weights = [theirs.conv_in.weight, ours.conv_in.weight]
    mine = torch.autograd.grad(ours(x_ours, t).square().sum(), [x_ours, weights[1]])
    for got, expected in zip(
        mine,
        torch.autograd.grad(theirs(x_theirs, t).sample.square().sum(), [x_theirs, weights[0]]),
        strict=True,
    ):
        assert (got - expected).norm() / expected.norm() < 1e-5


def test_a_pipelines_folder_is_read_too(small, tmp_path):
    shutil.copytree(small[1], tmp_path / "unet")
    (tmp_path / "model_index.json").write_text('{"_class_name": "DDPMPipeline"}')
    assert_same(small[0], unet.load_diffusers(tmp_path))


@pytest.mark.parametrize("as_convolutions", [False, True])
def test_the_older_names_of_attention_are_read_too(small, copy, as_convolutions):
    older = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    weights = {}
    for name, value in load_file(copy / WEIGHTS).items():
        for new, old in older.items():
            if f".{new}." in name:
                name = name.replace(new, old)
                value = value[:, :, None, None] if as_convolutions and value.ndim == 2 else value
        weights[name] = value.contiguous()
    assert sum("proj_attn" in name for name in weights) == 8
    save_file(weights, copy / WEIGHTS)
    assert_same(small[0], unet.load_diffusers(copy))


def test_weights_in_half_precision_become_a_network_in_single(small, copy):
    save_file({name: value.half() for name, value in load_file(copy / WEIGHTS).items()}, copy / WEIGHTS)
    net = unet.load_diffusers(copy)
    assert {p.dtype for p in net.parameters()} == {torch.float32}
    assert all(p.requires_grad for p in net.parameters())


def test_the_null_label_adds_nothing(tmp_path):
    peer(SMALL | {"num_class_embeds": 5}).save_pretrained(tmp_path)
    net = unet.load_diffusers(tmp_path)
    assert net.config.num_classes == 5
    assert not net.label.weight[5].any()
    assert net.label.weight[:5].any(dim=1).all()


def test_a_field_that_a_file_lacks_has_diffusers_own_default():
    theirs = {
        name: list(p.default) if isinstance(p.default, tuple) else p.default
        for name, p in inspect.signature(UNet2DModel.__init__).parameters.items()
        if p.default is not p.empty
    }
    assert theirs | _diffusers.DEFAULTS == theirs
    assert theirs.keys() <= _diffusers.DEFAULTS.keys() | _diffusers.WITHOUT_EFFECT


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"_class_name": "UNet2DConditionModel"}, "_class_name: expected UNet2DModel, got UNet2DConditionModel"),
        ({"gates": 3}, "gates: a field that is not known here, got 3"),
        ({"sample_size": None}, "sample_size: expected the one side of square images, got None"),
        ({"sample_size": [8, 16]}, r"sample_size: expected the one side of square images, got \[8, 16\]"),
        ({"block_out_channels": [16, 24]}, r"block_out_channels: expected multiples of the first, got \[16, 24\]"),
        ({"block_out_channels": [0, 0]}, r"block_out_channels: expected a whole number for each level, got \[0, 0\]"),
        ({"block_out_channels": 16}, "block_out_channels: expected a whole number for each level, got 16"),
        ({"block_out_channels": [16, 32, 32]}, "down_block_types: expected .* for each of 3 levels"),
        ({"down_block_types": ["DownBlock2D", "SkipDownBlock2D"]}, "down_block_types: expected DownBlock2D or Attn"),
        ({"up_block_types": ["UpBlock2D", "UpBlock2D"]}, r"up_block_types: expected \['AttnUpBlock2D', 'UpBlock2D'\]"),
        ({"down_block_types": [["DownBlock2D"], 2]}, "down_block_types: expected DownBlock2D or Attn"),
        ({"layers_per_block": None}, "layers_per_block: expected a whole number >= 1, got None"),
        ({"in_channels": 0}, "in_channels: expected a whole number >= 1, got 0"),
        ({"out_channels": 2}, "out_channels: expected 1, got 2"),
        ({"center_input_sample": True}, "center_input_sample: expected False, got True"),
        ({"time_embedding_type": "fourier"}, "time_embedding_type: expected 'positional', got 'fourier'"),
        ({"time_embedding_dim": 32}, "time_embedding_dim: expected None or 64, got 32"),
        ({"freq_shift": 0}, "freq_shift: expected 1, got 0"),
        ({"flip_sin_to_cos": True}, "flip_sin_to_cos: expected False, got True"),
        ({"mid_block_type": None}, "mid_block_type: expected 'UNetMidBlock2D', got None"),
        ({"mid_block_scale_factor": 2.0}, "mid_block_scale_factor: expected 1, got 2.0"),
        ({"downsample_padding": 1}, "downsample_padding: expected 0, got 1"),
        ({"downsample_type": "resnet"}, "downsample_type: expected 'conv', got 'resnet'"),
        ({"upsample_type": "resnet"}, "upsample_type: expected 'conv', got 'resnet'"),
        ({"act_fn": "gelu"}, "act_fn: expected 'silu' or 'swish', got 'gelu'"),
        ({"attention_head_dim": 8}, "attention_head_dim: expected None or 32, got 8"),
        ({"attn_norm_num_groups": 2}, "attn_norm_num_groups: expected None or 4, got 2"),
        (SCALE_SHIFT | {"attn_norm_num_groups": None}, "attn_norm_num_groups: expected 4, got None"),
        ({"resnet_time_scale_shift": "spatial"}, "resnet_time_scale_shift: expected 'default' or 'scale_shift'"),
        ({"add_attention": False}, "add_attention: expected True, got False"),
        ({"class_embed_type": "timestep"}, "class_embed_type: expected None, got 'timestep'"),
        ({"norm_num_groups": 5}, "groups: expected a divisor of width = 16, got 5"),
        ({"sample_size": 9}, "image_size: expected a multiple of 2"),
        ({"dropout": None}, "not supported between"),
    ],
)  # fmt: skip
def test_a_configuration_that_this_network_cannot_be_is_refused_by_field(copy, changes, message):
    change(copy, **changes)
    with pytest.raises(ValueError, match=message) as error:
        unet.load_diffusers(copy)
    assert str(copy) in str(error.value)


def test_several_attending_widths_allow_no_fixed_head_size(copy):
    change(
        copy,
        down_block_types=["AttnDownBlock2D"] * 2,
        up_block_types=["AttnUpBlock2D"] * 2,
        attention_head_dim=32,
    )
    with pytest.raises(ValueError, match="attention_head_dim: expected None, got 32"):
        unet.load_diffusers(copy)


class TestFiles:
    def refused(self, folder, message):
        with pytest.raises(ValueError, match=message):
            unet.load_diffusers(folder)

    def test_no_configuration(self, tmp_path):
        self.refused(tmp_path, rf"folder: expected config.json in .*{tmp_path.name}")
        self.refused(tmp_path / "nowhere", "folder: expected config.json")

    @pytest.mark.parametrize("text", ["", "{", "[1]", "\xff"])
    def test_a_damaged_configuration(self, copy, text):
        (copy / "config.json").write_bytes(text.encode("latin-1"))
        self.refused(copy, "config.json can't be read: ")

    def test_no_weights_but_a_pickled_file(self, copy):
        (copy / WEIGHTS).rename(copy / "diffusion_pytorch_model.bin")
        self.refused(copy, f"{WEIGHTS}: no such file; .* nothing is unpickled")

    def test_truncated_anywhere(self, copy):
        whole = (copy / WEIGHTS).read_bytes()
        for end in (0, 7, 100, len(whole) // 2, len(whole) - 1):
            (copy / WEIGHTS).write_bytes(whole[:end])
            self.refused(copy, f"{WEIGHTS} is damaged: ")

    def test_one_name_changed_in_the_files_head(self, copy):
        whole = (copy / WEIGHTS).read_bytes()
        assert whole.count(b'"conv_in.bias"') == 1
        (copy / WEIGHTS).write_bytes(whole.replace(b'"conv_in.bias"', b'"conv_in.biaz"'))
        self.refused(copy, r'Missing key.*"conv_in.bias"[\s\S]*Unexpected key.*"conv_in.biaz"')

    def test_a_value_that_is_no_number(self, copy):
        weights = load_file(copy / WEIGHTS)
        weights["conv_in.bias"][3] = float("nan")
        save_file(weights, copy / WEIGHTS)
        self.refused(copy, f"{WEIGHTS}: expected finite floating-point numbers in conv_in.bias")

    def test_whole_numbers(self, copy):
        weights = load_file(copy / WEIGHTS)
        weights["conv_in.bias"] = weights["conv_in.bias"].long()
        save_file(weights, copy / WEIGHTS)
        self.refused(copy, f"{WEIGHTS}: expected finite floating-point numbers in conv_in.bias")

    @pytest.mark.parametrize(
        "name", ["conv_out.weight", "mid_block.attentions.0.to_k.weight", "mid_block.attentions.0.to_q.bias"]
    )
    def test_a_weight_that_is_missing_or_of_another_shape(self, copy, name):
        weights = load_file(copy / WEIGHTS)
        shorter = weights | {name: weights[name][:-1].contiguous()}
        for changed in ({k: v for k, v in weights.items() if k != name}, shorter):
            save_file(changed, copy / WEIGHTS)
            self.refused(copy, r"Missing key|size mismatch")

    def test_another_networks_weights(self, copy):
        change(copy, layers_per_block=2)
        self.refused(copy, "Missing key")
        change(copy, layers_per_block=1, norm_num_groups=2, in_channels=3, out_channels=3)
        self.refused(copy, "size mismatch for conv_in.weight")

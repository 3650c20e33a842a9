"""The network: its sizes, its start, and what it may depend on."""

import dataclasses
import json

import pytest
import torch
from torch import nn

from ddpm_lib import unet
from ddpm_lib.unet import UNet, UNetConfig, wave
from tests.helpers import awake, batch

TINY = {"width": 16, "multipliers": (1, 2), "blocks": 1, "groups": 4}


def count(config: UNetConfig) -> int:
    with torch.device("meta"):
        return sum(p.numel() for p in UNet(config).parameters())


def test_the_papers_network_has_its_35_7_million_parameters():
    assert count(unet.paper()) == 35_746_307


def test_the_small_network_is_the_default():
    assert unet.small() == UNetConfig()
    assert UNet(unet.small())(*batch(unet.small())).shape == (3, 1, 28, 28)


@pytest.mark.parametrize("config", [unet.small(), unet.paper(), UNetConfig(**TINY, attention=(14, 7))])
def test_json_holds_a_configuration(config):
    assert UNetConfig(**json.loads(json.dumps(dataclasses.asdict(config)))) == config


@pytest.mark.parametrize("patch", [1, 2])
@pytest.mark.parametrize("multipliers", [(1,), (1, 2), (2, 1, 3)])
@pytest.mark.parametrize("blocks", [1, 2])
def test_the_answer_has_the_images_shape(patch, multipliers, blocks):
    config = UNetConfig(
        image_size=16, in_channels=3, width=8, groups=4, patch=patch, multipliers=multipliers, blocks=blocks
    )
    x, t, y = batch(config)
    assert awake(config)(x, t, y).shape == x.shape


def test_the_first_answer_is_zero_and_each_block_starts_as_the_identity():
    net = UNet(UNetConfig(**TINY, attention=(14,)))
    x, t, y = batch(net.config)
    assert not net(x, t, y).any()
    h, told = torch.randn(2, 16, 14, 14), torch.randn(2, 64)
    assert torch.equal(net.down[0](h, told), h)


def test_weights_start_uniform_with_variance_one_over_fan_avg():
    torch.manual_seed(0)
    net = UNet(UNetConfig(width=64, multipliers=(2,)))
    for weight, fan_in, fan_out in (
        (net.middle[0].conv1.weight, 9 * 128, 9 * 128),
        (net.down[0].conv1.weight, 9 * 64, 9 * 128),
        (net.time[0].weight, 64, 256),
        (net.middle[0].attention.qkv.weight[:128], 128, 128),
    ):
        variance = 2 / (fan_in + fan_out)
        assert weight.var().item() == pytest.approx(variance, rel=0.05)
        assert weight.abs().max() <= (3 * variance) ** 0.5
    assert not any(
        p.any() for name, p in net.named_parameters() if name.endswith("bias") and "norm" not in name
    )


def test_trap_19_the_network_has_no_tables_for_an_average_to_touch():
    assert not list(UNet(UNetConfig(**TINY)).buffers())


def test_trap_25_every_norm_uses_the_eps_of_the_configuration():
    for config, eps in ((unet.paper(), 1e-6), (unet.small(), 1e-6), (UNetConfig(eps=1e-3), 1e-3)):
        with torch.device("meta"):
            norms = [m for m in UNet(config).modules() if isinstance(m, nn.GroupNorm)]
        assert {norm.eps for norm in norms} == {eps}


def test_trap_26_dropout_sits_after_the_second_activation_and_only_trains():
    config = UNetConfig(**TINY, scale_shift=False, dropout=0.5)
    net = awake(config)
    x, t, y = batch(config)
    assert torch.equal(net(x, t, y), net(x, t, y))
    seen = []
    net.down[0].dropout.register_forward_hook(lambda module, args, out: seen.append((args[0], out)))
    net.down[0].norm2.register_forward_hook(lambda module, args, out: seen.append(nn.functional.silu(out)))
    net.down[0].conv2.register_forward_hook(lambda module, args, out: seen.append(args[0]))
    net.train()(x, t, y)
    activated, (before, after), into_conv = seen
    assert torch.equal(before, activated)
    assert torch.equal(after, into_conv)
    assert (after == 0).float().mean().item() == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize("scale_shift", [True, False])
def test_the_step_and_the_class_change_the_answer(scale_shift):
    config = UNetConfig(**TINY, scale_shift=scale_shift)
    net = awake(config)
    x, t, y = batch(config)
    assert (net(x, t, y) - net(x, t + 300, y)).abs().mean() > 1e-3
    assert (net(x, t, y) - net(x, t, y + 1)).abs().mean() > 1e-3


def test_a_block_that_is_told_nothing_is_the_same_with_and_without_scale_and_shift():
    scaled, added = (awake(UNetConfig(**TINY, scale_shift=choice)) for choice in (True, False))
    shared = {name: value for name, value in scaled.state_dict().items() if "tell" not in name}
    added.load_state_dict(shared, strict=False)
    for net in (scaled, added):
        for block in (m for m in net.modules() if isinstance(m, unet.Block)):
            nn.init.zeros_(block.tell.weight)
            nn.init.zeros_(block.tell.bias)
    x, t, y = batch(scaled.config)
    torch.testing.assert_close(scaled(x, t, y), added(x, t, y))


def test_whole_steps_may_come_as_floats_and_steps_between_lie_between():
    net = awake(UNetConfig(**TINY))
    x, t, y = batch(net.config)
    assert torch.equal(net(x, t, y), net(x, t.double(), y))
    low, half, high = (wave(t + s, 16) for s in (0.0, 0.5, 1.0))
    assert ((half - low).norm() < (high - low).norm()).item()


def test_no_labels_means_the_null_label():
    net = awake(UNetConfig(**TINY))
    x, t, y = batch(net.config)
    assert torch.equal(net(x, t), net(x, t, torch.full_like(y, net.config.num_classes)))
    assert not torch.equal(net(x, t), net(x, t, y))


@pytest.mark.parametrize("attention", [(), (14, 7)])
def test_an_image_does_not_see_its_neighbours(attention):
    net = awake(UNetConfig(**TINY, attention=attention)).double()
    x, t, y = batch(net.config)
    together = net(x.double(), t, y)
    for i in range(len(x)):
        alone = net(x[i : i + 1].double(), t[i : i + 1], y[i : i + 1])
        torch.testing.assert_close(together[i : i + 1], alone, rtol=1e-9, atol=1e-9)


def test_attention_is_where_it_is_asked_for_and_in_the_middle():
    def attends(config):
        with torch.device("meta"):
            net = UNet(config)
        return [isinstance(m.attention, unet.Attention) for m in net.modules() if isinstance(m, unet.Block)]

    assert attends(UNetConfig(**TINY)) == [False, False, True, False, False, False, False, False]
    assert attends(UNetConfig(**TINY, attention=(7,))) == [False, True, True, False, True, True, False, False]


def test_trap_22_gradients_agree_with_float64_in_either_layout_of_memory():
    config = UNetConfig(**TINY, attention=(7,))
    x, t, y = batch(config)

    def gradients(dtype, memory_format):
        net = awake(config).to(dtype=dtype, memory_format=memory_format).train()
        inputs = x.to(dtype).contiguous(memory_format=memory_format)
        (net(inputs, t, y) - inputs).square().mean().backward()
        return torch.cat([p.grad.flatten() for p in net.parameters()]).double()

    exact = gradients(torch.float64, torch.contiguous_format)
    for layout in (torch.contiguous_format, torch.channels_last):
        assert (gradients(torch.float32, layout) - exact).norm() / exact.norm() < 1e-5


def test_bf16_autocast_stays_near_and_says_its_dtype():
    net = awake(UNetConfig(**TINY))
    x, t, y = batch(net.config)
    exact = net(x, t, y)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = net(x, t, y)
    assert rounded.dtype == torch.bfloat16
    assert (rounded.float() - exact).norm() / exact.norm() < 0.03


def test_the_same_seed_gives_the_same_bits_forwards_and_backwards():
    def run():
        torch.manual_seed(0)
        net = UNet(UNetConfig(**TINY, dropout=0.1))
        optimizer = torch.optim.AdamW(net.parameters(), 1e-3)
        x, t, y = batch(net.config, 8)
        for _ in range(3):
            (net(x, t, y) - x).square().mean().backward()
            optimizer.step()
        return net.state_dict()

    one, other = run(), run()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_the_whole_network_compiles_into_one_graph():
    net = awake(UNetConfig(**TINY, attention=(7,)))
    compiled = torch.compile(net, backend="eager", fullgraph=True)
    x, t, y = batch(net.config)
    torch.testing.assert_close(compiled(x, t, y), net(x, t, y))
    torch.testing.assert_close(compiled(x, t), net(x, t))


@pytest.mark.parametrize("config", [unet.small(), unet.paper(10)])
def test_on_the_meta_device_nothing_is_made_elsewhere(config):
    with torch.device("meta"):
        net = UNet(config)
    x, t, y = (value.to("meta") for value in batch(config))
    for answer in (net(x, t, y), net(x, t), net(x, t.float(), y)):
        assert answer.device.type == "meta"
        answer.sum().backward()
    with pytest.raises(
        ValueError, match=r"t: expected one for each of the 3 images on meta, got shape .* on cpu"
    ):
        net(x, t.new_empty(3, device="cpu"), y)


@pytest.mark.cuda
def test_on_cuda_the_answer_is_the_cpus():
    net = awake(UNetConfig(**TINY, attention=(7,)))
    x, t, y = batch(net.config)
    on_gpu = net.to("cuda")(x.cuda(), t.cuda(), y.cuda()).cpu()
    torch.testing.assert_close(on_gpu, net.cpu()(x, t, y), rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image_size": 30}, "image_size: expected a multiple of 4 for patch = 2 and 2 levels, got 30"),
        ({"image_size": 0}, "image_size: expected a whole number >= 1, got 0"),
        ({"patch": 1.5}, "patch: expected a whole number >= 1, got 1.5"),
        ({"blocks": 0}, "blocks: expected a whole number >= 1, got 0"),
        ({"in_channels": True}, "in_channels: expected a whole number >= 1, got True"),
        ({"num_classes": 0}, "num_classes: expected a whole number >= 1, got 0"),
        ({"multipliers": ()}, "multipliers: expected at least one level, got"),
        ({"multipliers": (1, 0)}, "multipliers: expected a whole number >= 1, got 0"),
        ({"width": 63, "groups": 1}, "width: expected an even number, half sines, half cosines, got 63"),
        ({"groups": 5}, "groups: expected a divisor of width = 64, got 5"),
        ({"attention": (16,)}, "attention: expected sides out of .14, 7., got 16"),
        ({"scale_shift": "no"}, "scale_shift: expected True or False, got 'no'"),
        ({"dropout": 1.0}, "dropout: expected a share in .0, 1., got 1.0"),
        ({"dropout": float("nan")}, "dropout: expected a share in .0, 1., got nan"),
        ({"eps": 0.0}, "eps: expected a number above 0, got 0.0"),
    ],
)
def test_a_configuration_that_cannot_be_built_says_why(changes, message):
    with pytest.raises(ValueError, match=message):
        UNetConfig(**{"width": 64, "multipliers": (1, 2), "groups": 8, **changes})


X, T, Y = batch(UNetConfig(**TINY))


@pytest.mark.parametrize(
    ("x", "t", "y", "message"),
    [
        (X[:, :, :27], T, Y, "x: expected at least one image, shape .B, 1, 28, 28., got .3, 1, 27, 28."),
        (X[0], T, Y, "x: expected at least one image, shape .B, 1, 28, 28., got .1, 28, 28."),
        (X[:0], T[:0], Y[:0], "x: expected at least one image, shape .B, 1, 28, 28., got .0, 1, 28, 28."),
        (X.double(), T, Y, "x: expected torch.float32, the network's dtype, got torch.float64"),
        ((X * 50).byte(), T, Y, "x: expected torch.float32, the network's dtype, got torch.uint8"),
        (X, T[:1], Y, "t: expected one for each of the 3 images on cpu, got shape .1,. on cpu"),
        (X, T.int(), Y, "t: expected int64 or floating point, got torch.int32"),
        (X, T, Y[:2], "y: expected one for each of the 3 images on cpu, got shape .2,. on cpu"),
        (X, T, Y.float(), "y: expected int64, got torch.float32"),
        (X, T, Y + 9, "y: expected labels in 0..10, got 9..11"),
        (X, T, Y - 1, "y: expected labels in 0..10, got -1..1"),
    ],
)
def test_bad_input_is_refused_by_name(x, t, y, message):
    with pytest.raises(ValueError, match=message):
        UNet(UNetConfig(**TINY))(x, t, y)


def test_labels_are_refused_by_a_network_that_takes_none():
    with pytest.raises(ValueError, match="y: expected None, since the network takes no labels"):
        UNet(UNetConfig(**TINY, num_classes=None))(X, T, Y)

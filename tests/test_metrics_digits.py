"""The classifier that ships with the package: what its card says is so, and its features tell good from bad."""

import json

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

from ddpm_lib import data, metrics
from ddpm_lib._device import tf32
from ddpm_lib.metrics import digits
from ddpm_lib.metrics.__main__ import write_classifier

CARD = json.loads((metrics.CLASSIFIER / "card.json").read_text())


@pytest.fixture(scope="module")
def extractor():
    return metrics.digit_features()


@pytest.fixture(scope="module")
def held_out():
    return data.load("mnist5k", "test")


def test_the_card_tells_the_accuracy_on_held_out_digits(held_out):
    right = int(metrics.correct(metrics.load_classifier(), held_out).sum())
    claim = CARD["held_out"]
    assert (right, len(held_out), right / len(held_out)) == (claim["right"], claim["n"], claim["accuracy"])
    assert claim["interval_95"] == pytest.approx(metrics.share_interval(right, len(held_out)), abs=1e-4)
    assert right >= 490


def test_the_card_tells_how_to_make_it_again():
    for word in ("python -m ddpm_lib.metrics", f"--seed {CARD['seed']}", "--epochs"):
        assert word in CARD["command"]
    assert len(CARD["commit"]) == 40
    assert set(CARD["versions"]) == {"python", "torch"}
    assert sum(p.numel() for p in metrics.DigitClassifier().parameters()) == CARD["parameters"] == 70_586


def test_the_weights_are_small():
    assert (metrics.CLASSIFIER / "model.safetensors").stat().st_size < 300_000


def test_every_feature_lives(extractor, held_out):
    """So that 500 digits have a covariance of full rank."""
    found = metrics.features(extractor, held_out.pixels)
    assert found.shape == (500, extractor.dims)
    assert found.dtype == torch.float64
    assert torch.linalg.eigvalsh(torch.cov(found.T))[0] > 1e-4


def test_features_do_not_depend_on_how_images_are_batched(extractor, held_out):
    some = held_out.pixels[::50]
    whole = metrics.features(extractor, some)
    assert torch.allclose(whole, metrics.features(extractor, some, batch=3), atol=1e-5)
    assert metrics.load_classifier().training is False


def test_features_are_the_layer_before_the_logits(extractor, held_out):
    net = metrics.load_classifier()
    x = data.to_unit(held_out.pixels[:5])
    assert torch.equal(net(x), net.head(extractor(held_out.pixels[:5])))


def spoilt(name, pixels):
    x = pixels.float()
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    return (
        {
            "noise": x + 24 * noise,
            "blur": (x + F.avg_pool2d(x, 3, 1, 1)) / 2,
            "two tones": (x > 127) * 255.0,
            "faint": 0.7 * x,
            "upside down": x.flip(2),
            "no sevens": x.unflatten(0, (-1, 10))[:, [0, 1, 2, 3, 4, 5, 6, 1, 8, 9]].flatten(0, 1),
        }[name]
        .round()
        .clamp(0, 255)
        .byte()
    )


@pytest.fixture(scope="module")
def measured(extractor):
    """500 digits with the classes in turns, their features, and those of 500 others."""
    whole = data.load("mnist5k", "all")
    rank = torch.randperm(500, generator=torch.Generator().manual_seed(0))[:100]
    pixels = whole.pixels[(rank[:, None] + 500 * torch.arange(10)).flatten()]
    told = metrics.features(extractor, pixels)
    return pixels[:500], told[:500], told[500:]


@pytest.mark.parametrize("way", ["noise", "blur", "two tones", "faint", "upside down", "no sevens"])
def test_spoilt_digits_are_farther_than_real_ones(extractor, measured, way):
    pixels, real, others = measured
    bad = metrics.features(extractor, spoilt(way, pixels))
    for distance, times in ((metrics.frechet_distance, 3), (metrics.kernel_distance, 1)):
        assert distance(bad, others) > times * abs(distance(real, others)) + 0.02


def test_27_only_bytes_are_measured(extractor, held_out):
    """Half a grey level, which a file does not hold, is not seen; floats are refused."""
    x = data.to_unit(held_out.pixels[:20])
    assert torch.equal(
        data.to_bytes(x + 0.4 / 127.5), held_out.pixels[:20].clamp(max=254) + (held_out.pixels[:20] == 255)
    )
    for call in (extractor, lambda p: metrics.features(extractor, p)):
        with pytest.raises(ValueError, match=r"pixels: expected images .* uint8, .* got .*float32"):
            call(x)


def test_27_the_digit_classifier_never_resizes(extractor):
    for shape in ((3, 1, 32, 32), (3, 3, 28, 28)):
        with pytest.raises(ValueError, match="1×28×28 images, got"):
            extractor(torch.zeros(shape, dtype=torch.uint8))


def test_training_again_gives_the_same_weights_to_the_bit():
    some = data.load("mnist5k", "train")[::15]
    first, second, other = (
        digits.train_digit_classifier(seed, 1, some, progress=False).state_dict() for seed in (3, 3, 4)
    )
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["head.weight"], other["head.weight"])


def test_training_leaves_the_callers_random_numbers_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    digits.train_digit_classifier(0, 1, data.load("mnist5k", "test")[::5], progress=False)
    assert torch.equal(torch.rand(3), expected)


def test_what_is_written_can_be_loaded(tmp_path, monkeypatch, capsys):
    net = metrics.load_classifier()
    monkeypatch.setattr(digits, "train_digit_classifier", lambda seed, epochs: net)
    write_classifier(tmp_path / "new", seed=7, epochs=3)
    card = json.loads((tmp_path / "new" / "card.json").read_text())
    assert (card["seed"], card["images_seen"], card["held_out"]) == (7, 13_500, CARD["held_out"])
    assert "held-out digits right" in capsys.readouterr().out
    loaded = metrics.load_classifier(tmp_path / "new").state_dict()
    assert all(torch.equal(value, loaded[name]) for name, value in net.state_dict().items())


@pytest.mark.parametrize("damage", ["flipped", "truncated", "gone", "no card", "another network", "bad card"])
def test_damaged_weights_are_named(tmp_path, damage):
    weights, card = tmp_path / "model.safetensors", tmp_path / "card.json"
    body = bytearray((metrics.CLASSIFIER / "model.safetensors").read_bytes())
    told = dict(CARD)
    if damage == "flipped":
        body[len(body) // 2] ^= 1
    weights.write_bytes(body[:1000] if damage == "truncated" else body)
    if damage == "another network":
        tensors = load_file(weights)
        save_file({name: t for name, t in tensors.items() if "head" not in name}, weights)
        told["sha256"] = digits.hashlib.sha256(weights.read_bytes()).hexdigest()
    card.write_text("[1" if damage == "bad card" else json.dumps(told))
    if damage in ("gone", "no card"):
        (weights if damage == "gone" else card).unlink()
    with pytest.raises(ValueError, match=f"classifier {weights} is missing or damaged"):
        metrics.load_classifier(tmp_path)


@pytest.mark.cuda
def test_cuda_sees_the_features_that_the_cpu_sees(extractor, held_out):
    with tf32(torch.device("cuda"), False):
        there = metrics.features(metrics.digit_features("cuda"), held_out.pixels[::10])
    assert torch.allclose(there, metrics.features(extractor, held_out.pixels[::10]), atol=1e-3)

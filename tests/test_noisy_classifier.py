"""The classifier of noisy images: trained by the same loop, told apart from denoisers, and good for guidance."""

import dataclasses
import json

import pytest
import torch
from torch import nn

from ddpm_lib import _loading, data, evaluation, metrics
from ddpm_lib._device import tf32
from ddpm_lib.config import CLASSIFIERS, TrainConfig
from ddpm_lib.gaussian import GaussianDiffusion
from ddpm_lib.guidance import ClassifierGuided, NoisyClassifier, class_loss, gradient, log_prob_of
from ddpm_lib.oracle import MixtureOracle
from ddpm_lib.samplers import ddim, sample
from ddpm_lib.schedule import linear
from ddpm_lib.training import (
    Trainer,
    load_denoiser,
    load_noisy_classifier,
    load_pretrained,
    load_pretrained_classifier,
    save_pretrained,
)
from ddpm_lib.unet import UNet, UNetConfig
from tests.helpers import batch, tiny_config
from tests.test_presets import blank

DIGITS = data.load("mnist5k")
OF_CLASS = {"objective": "class", "label_dropout": 0.0, "augment": "affine"}


def classifier_config(**changes) -> TrainConfig:
    return tiny_config(**OF_CLASS | changes)


def awake(config: UNetConfig) -> NoisyClassifier:
    torch.manual_seed(0)
    net = NoisyClassifier(config).eval()
    for p in net.parameters():
        nn.init.normal_(p, std=0.1) if p.ndim < 2 else nn.init.xavier_normal_(p)
    return net


def assert_same_bits(one, other):
    for module in ("net", "average"):
        ours, theirs = getattr(one, module).state_dict(), getattr(other, module).state_dict()
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)


# the network


@pytest.mark.parametrize("multipliers", [(1,), (1, 2)])
@pytest.mark.parametrize("patch", [1, 2])
def test_it_answers_with_a_logit_a_class_and_begins_with_no_opinion(multipliers, patch):
    config = UNetConfig(width=16, multipliers=multipliers, patch=patch, num_classes=7)
    x, t, _ = batch(config)
    assert torch.equal(NoisyClassifier(config)(x, t), torch.zeros(3, 7))
    assert awake(config)(x, t).shape == (3, 7)


def test_it_is_the_unets_way_down():
    """With the U-Net's weights its middle gives what the U-Net's gives."""
    config = UNetConfig(width=16)
    net, whole = awake(config), UNet(dataclasses.replace(config, num_classes=None))
    whole.load_state_dict(
        {
            k: v
            for k, v in net.state_dict().items()
            if k.split(".")[0] in ("time", "conv_in", "down", "middle")
        },
        strict=False,
    )
    x, t, _ = batch(config)
    assert torch.equal(net.encode(x, t)[0], whole.encode(x, t)[0])


def test_it_depends_on_the_step_and_not_on_its_neighbours():
    config = UNetConfig(width=16)
    net, (x, t, _) = awake(config), batch(config)
    assert not torch.allclose(net(x, t), net(x, t + 200))
    torch.testing.assert_close(net(x, t)[:1], net(x[:1], t[:1]))


def test_a_gradient_runs_through_it_even_where_none_is_kept():
    config = UNetConfig(width=16)
    net, (x, t, y) = awake(config).requires_grad_(False), batch(config)
    with torch.no_grad():
        found = gradient(log_prob_of(net, y), x, t)
    assert found.shape == x.shape
    assert found.abs().max() > 0


def test_a_network_without_classes_is_refused():
    with pytest.raises(
        ValueError, match="num_classes: expected a number of classes for a classifier, got None"
    ):
        NoisyClassifier(UNetConfig(num_classes=None))


# the loss


def test_no_classifier_has_a_lower_loss_than_the_exact_one():
    """Of two noisy bells the exact answer is known; a sharper, a flatter and a shifted one all cost more."""
    schedule, generator = linear(), torch.Generator().manual_seed(0)
    means = torch.tensor([[-1.0], [1.0]], dtype=torch.float64)
    mixture = MixtureOracle(schedule, means, torch.tensor([0.1, 0.1], dtype=torch.float64))
    y = torch.randint(2, (40_000,), generator=generator)
    x0 = means[y] + 0.1**0.5 * torch.randn(len(y), 1, generator=generator, dtype=torch.float64)
    eps = torch.randn(len(y), 1, generator=generator, dtype=torch.float64)
    t = torch.full((len(y),), 400)

    def loss(scale=1.0, shift=0.0):
        def net(x, t):
            return scale * mixture.responsibilities(x, t).log() + torch.tensor([0.0, shift])

        return class_loss(net, schedule, x0, t, eps, y).mean()

    assert all(loss() < other for other in (loss(1.3), loss(0.7), loss(1.0, 0.3), loss(1.0, -0.3)))


def test_the_loss_names_shapes_that_do_not_agree():
    x0, t = torch.zeros(3, 2), torch.tensor([1, 2, 3])

    def call(eps=x0, y=t):
        return class_loss(lambda x, t: torch.zeros(3, 4), linear(), x0, t, eps, y)

    assert call() == pytest.approx(torch.full((3,), 4.0).log())
    with pytest.raises(ValueError, match="eps: expected the shape of x0"):
        call(eps=torch.zeros(3, 1))
    with pytest.raises(ValueError, match="y: expected 3 labels"):
        call(y=t[:2])


# the run


def test_trap_24_stopping_and_resuming_gives_the_bits_of_the_whole_run(tmp_path):
    config = classifier_config(images=240, model=UNetConfig(width=16, multipliers=(1,), dropout=0.1))
    whole, part, resumed = (Trainer(config, images=DIGITS) for _ in range(3))
    whole.fit(progress=False)
    for _ in range(3):
        part.train_step()
    part.save(tmp_path)
    resumed.restore(tmp_path)
    assert resumed.images_seen == 3 * config.batch
    resumed.fit(progress=False)
    assert_same_bits(whole, resumed)


def test_the_first_loss_is_that_of_no_opinion_and_training_learns_the_classes():
    trainer = Trainer(classifier_config(images=3200, batch=32, lr=3e-3, warmup=200), images=DIGITS)
    assert trainer.train_step().item() == pytest.approx(torch.tensor(10.0).log().item(), abs=1e-5)
    curve = trainer.fit(progress=False)
    assert sum(loss for _, loss in curve[-3:]) / 3 < 1.9
    report = evaluation.evaluate_classifier(trainer.classifier, trainer.config, (1, 1000))
    assert report["accuracy_1"].low > 0.5


def test_every_label_is_kept():
    trainer = Trainer(classifier_config(batch=200), images=DIGITS)
    assert int(trainer._draw()[0][3].max()) < 10


def test_a_train_step_runs_on_the_meta_device():
    trainer = Trainer(classifier_config(), "meta", images=DIGITS)
    assert [trainer.train_step().device.type for _ in range(2)] == ["meta", "meta"]


@pytest.mark.cuda
def test_it_trains_on_cuda():
    curve = Trainer(classifier_config(images=8000, batch=64, lr=3e-3), "cuda").fit(progress=False)
    assert curve[-1][1] < curve[0][1]


def guided(device):
    """Two digits of the shipped model, guided by the shipped classifier."""
    model, _ = load_pretrained("mnist5k", device)
    net, _ = load_pretrained_classifier("noisy_classifier", device)
    y = torch.tensor([3, 7], device=device)
    denoiser = ClassifierGuided(model.given(None), log_prob_of(net, y), 2.0)
    with tf32(torch.device(device), False):
        return sample(denoiser, (2, 1, 28, 28), ddim, steps=5, device=device).cpu()


@pytest.mark.cuda
def test_it_guides_on_cuda_as_on_the_cpu():
    torch.testing.assert_close(guided("cuda"), guided("cpu"), rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_a_preset_trains(name):
    run = CLASSIFIERS[name]()
    trainer = Trainer(run, "meta", images=blank(run))
    trainer.train_step()
    assert isinstance(trainer.classifier, NoisyClassifier)


def test_a_classifier_is_no_denoiser_and_a_denoiser_no_classifier(tmp_path):
    for name, config in (("c", classifier_config(images=20)), ("d", tiny_config(images=20))):
        Trainer(config, images=DIGITS).fit(tmp_path / name, progress=False)
    net, config = load_noisy_classifier(tmp_path / "c")
    assert (config.objective, net.training) == ("class", False)
    assert not any(p.requires_grad for p in net.parameters())
    with pytest.raises(ValueError, match=r"run: expected the run of a denoiser, .* got that of a classifier"):
        load_denoiser(tmp_path / "c")
    with pytest.raises(ValueError, match=r"classifier: expected the run of a classifier, .* of a denoiser"):
        load_noisy_classifier(tmp_path / "d")
    with pytest.raises(ValueError, match="classifier: no folder"):
        load_noisy_classifier(tmp_path / "e")
    with pytest.raises(ValueError, match="objective: expected one of eps, x0, v, got 'class'"):
        Trainer(classifier_config(), images=DIGITS).denoiser  # noqa: B018 - it is the asking that fails


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"label_dropout": 0.1}, r"label_dropout: expected 0.0 for objective 'class', got 0.1"),
        ({"weighting": "bound"}, "weighting: expected simple for objective 'class', got 'bound'"),
        ({"sample_every": 80}, "sample_every: expected 0 for objective 'class', got 80"),
        (
            {"model": UNetConfig(width=16, num_classes=None)},
            "model.num_classes: expected a number of classes for objective 'class', got None",
        ),
    ],
)
def test_a_config_that_no_classifier_has_is_named(change, words):
    with pytest.raises(ValueError, match=words):
        classifier_config(**change)


# the one that comes with the package


@pytest.fixture(scope="module")
def card():
    return json.loads((_loading.PRETRAINED / "noisy_classifier" / "card.json").read_text())


@pytest.fixture(scope="module")
def shipped():
    return load_pretrained_classifier()


def test_its_card_tells_its_accuracy_at_each_noise_level(shipped, card):
    net, config = shipped
    claimed = {row["key"]: row for row in card["evaluation"]["rows"]}
    for t in (1, 300, 600, 1000):
        right, claim = (
            int(
                evaluation.told_classes(net, GaussianDiffusion(config.make_schedule()), held_out(), t)[
                    0
                ].sum()
            ),
            claimed[f"accuracy_{t}"],
        )
        assert claim["n"] == 500
        assert (
            abs(right / 500 - claim["value"]) <= 0.004
        )  # another CPU may round a digit or two over the edge


def held_out():
    return data.load("mnist5k", "test")


def test_it_knows_clean_digits_and_guesses_at_noise(shipped):
    report = evaluation.evaluate_classifier(*shipped, (1, 1000))
    assert report["accuracy_1"].value > 0.96
    assert report["accuracy_1000"].value < 0.2
    assert report["nats_1000"].value < 2.4  # no opinion is log 10 = 2.303; being sure and wrong costs more


def test_its_card_tells_how_to_make_it_again(shipped, card):
    net, config = shipped
    for word in ("python -m ddpm_lib train-classifier mnist5k", "--out"):
        assert word in card["command"]
    assert len(card["commit"]) == 40
    assert (card["seed"], card["images_seen"]) == (config.seed, config.images)
    assert sum(p.numel() for p in net.parameters()) == card["parameters"]
    assert set(card["versions"]) == {"python", "torch"}


def test_its_weights_are_small():
    assert (_loading.PRETRAINED / "noisy_classifier" / "model.safetensors").stat().st_size < 1_000_000


def test_each_kind_of_weights_has_its_own_door():
    with pytest.raises(ValueError, match="name: expected one of mnist5k, got 'noisy_classifier'"):
        load_pretrained("noisy_classifier")
    with pytest.raises(ValueError, match="name: expected one of noisy_classifier, got 'mnist5k'"):
        load_pretrained_classifier("mnist5k")


def test_what_is_saved_is_what_is_loaded(tmp_path, monkeypatch):
    trainer = Trainer(classifier_config(images=40), images=DIGITS)
    trainer.fit(progress=False)
    monkeypatch.setattr(_loading, "PRETRAINED", tmp_path)
    save_pretrained(trainer.classifier, trainer.config, tmp_path / "mine", {})
    net, config = load_pretrained_classifier("mine")
    assert config == trainer.config
    x, t, _ = batch(config.model)
    assert torch.equal(net(x, t), trainer.classifier(x, t))


def test_it_makes_an_unconditional_model_draw_the_class_that_is_asked_for(shipped):
    """The independent classifier, of clean digits, is the judge."""
    model, _ = load_pretrained("mnist5k")
    y = torch.arange(30) % 10

    def right(scale):
        guided = ClassifierGuided(model, log_prob_of(shipped[0], y), scale)
        x = sample(guided, (30, 1, 28, 28), ddim, steps=10, seed=0)
        return metrics.correct(
            metrics.load_classifier(), data.Images(data.to_bytes(x), y, tuple("0123456789"))
        )

    plain, guided = (int(right(scale).sum()) for scale in (0.0, 3.0))
    assert plain <= 10
    assert guided >= 21


def test_a_classifier_is_measured_without_dropout_and_left_in_its_mode(shipped):
    net = shipped[0].train()
    net.encode_plainly, some = net.encode, data.load("mnist5k", "test")[:20]

    def encode(*arguments):
        assert not net.training
        return net.encode_plainly(*arguments)

    net.encode = encode
    try:
        evaluation.told_classes(net, GaussianDiffusion(linear()), some, 300)
        assert net.training
    finally:
        del net.encode, net.encode_plainly
        net.eval()

"""What an evaluation says of models whose quality is known."""

import copy
import json

import pytest
import torch
from safetensors.torch import save_file

from ddpm_lib import data, evaluation, metrics, samplers
from ddpm_lib.bound import bits_per_dim, variational_bound
from ddpm_lib.denoiser import Clipped, NetworkDenoiser
from ddpm_lib.schedule import linear
from ddpm_lib.unet import UNetConfig
from tests.helpers import TINY, awake, tiny_config

WHOLE = data.load("mnist5k", "all")
ORDER = torch.randperm(500, generator=torch.Generator().manual_seed(0))
DIGITS = WHOLE[torch.arange(5000).view(10, 500)[:, ORDER].T.flatten()]  # at random, all classes in turns
TRAIN, HELD_OUT = DIGITS[:700], DIGITS[700:1000]


@pytest.fixture(scope="module")
def config():
    return tiny_config(T=20)


@pytest.fixture(scope="module")
def denoiser(config):
    return NetworkDenoiser(awake(config.model), config.make_schedule(), config.objective)


@pytest.fixture(scope="module")
def report(denoiser, config):
    return evaluation.evaluate(
        denoiser, config, n=100, steps=3, batch=40, bound_images=6, bound_steps=8, images=(TRAIN, HELD_OUT)
    )


KEYS = [
    *("frechet", "frechet_floor", "kernel", "kernel_floor"),
    *("frechet_held_out", "frechet_held_out_floor", "kernel_held_out", "kernel_held_out_floor"),
    *("accuracy", "accuracy_held_out", "bits", "bits_prior", "bits_steps", "bits_decoder"),
    *("nearest", "nearest_held_out", "nearest_train", "nearer", "copies", "speed"),
]


def test_every_row_has_its_value_in_an_interval_and_its_n(report):
    assert [row.key for row in report.rows] == KEYS
    for row in report.rows:
        assert row.low <= row.value <= row.high, row
        assert row.n in (100, 300, 350, 6)
        assert row.how
    assert report["bits"].n == 6
    assert report["accuracy_held_out"].n == 300


def test_noise_of_an_untrained_network_is_told_from_digits(report):
    for distance in ("frechet", "kernel", "frechet_held_out", "kernel_held_out"):
        assert report[distance].low > report[f"{distance}_floor"].high
    assert report["accuracy"].high < 0.5 < report["accuracy_held_out"].low
    assert report["nearest"].low > report["nearest_held_out"].high
    assert report["nearer"].value == 0 == report["copies"].value


def test_the_report_says_what_was_evaluated(report):
    text = report.as_text()
    for words in (
        "100 by ancestral in 3 steps, uniform",
        "mnist5k, 700 of training and 300 held out",
        "digits, 64",
    ):
        assert words in text
    assert json.loads(json.dumps(report.to_dict()))["about"]["seed"] == 0


def test_the_seed_decides_all_but_the_time(denoiser, config, report):
    options = {"steps": 3, "batch": 40, "bound_images": 6, "bound_steps": 8, "images": (TRAIN, HELD_OUT)}
    again = evaluation.evaluate(denoiser, config, n=100, **options)
    assert again.rows[:-1] == report.rows[:-1]
    other = evaluation.evaluate(denoiser, config, n=100, seed=1, **options)
    assert other["frechet"].value != report["frechet"].value


def test_samples_are_those_of_sample_however_they_are_batched(denoiser):
    y = torch.arange(5) % 10
    options = {"steps": 4, "spacing": "trailing", "seed": 3}
    x = samplers.sample(Clipped(denoiser.given(y)), (5, 1, 28, 28), samplers.ddim, eta=0.5, **options)
    found, rates = evaluation.draw_samples(denoiser, y, (5, 1, 28, 28), "ddim", eta=0.5, batch=2, **options)
    assert (found.int() - data.to_bytes(x).int()).abs().max() <= 1
    assert found.dtype == torch.uint8
    assert rates.shape == (2,)


def test_an_unconditional_model_has_no_row_of_asked_classes():
    config = tiny_config(T=20, model=UNetConfig(width=16, multipliers=(1,), num_classes=None))
    denoiser = NetworkDenoiser(awake(config.model), config.make_schedule(), config.objective)
    options = {"sampler": "ddim", "steps": 2, "batch": 100, "bound_images": 0, "images": (TRAIN, HELD_OUT)}
    found = evaluation.evaluate(denoiser, config, n=70, **options)
    keys = {row.key for row in found.rows}
    assert keys == set(KEYS) - {k for k in KEYS if k.startswith(("accuracy", "bits"))} - {"speed"}


@pytest.fixture(scope="module")
def told():
    return metrics.features(metrics.digit_features(), DIGITS.pixels[:2000])


def test_real_digits_lie_at_the_floor_and_those_of_other_classes_above(told):
    train, held_out, labels = told[:1200], told[1200:1600], DIGITS.labels[:1600]
    real = {row.key: row for row in evaluation.distance_rows(told[1600:], train, held_out, labels)}
    for key in ("frechet", "kernel", "frechet_held_out", "kernel_held_out"):
        floor = real[f"{key}_floor"]
        assert abs(real[key].value - floor.value) < 2 * (floor.high - floor.low)
    few = told[1600:].unflatten(0, (40, 10))[:, :5].repeat(1, 2, 1).flatten(0, 1)  # only 0 to 4
    bad = {row.key: row for row in evaluation.distance_rows(few, train, held_out, labels)}
    for key in ("frechet", "kernel"):
        assert bad[key].value > bad[f"{key}_floor"].high + 5 * abs(bad[f"{key}_floor"].value)


def test_without_enough_real_images_there_is_no_floor(told):
    rows = evaluation.distance_rows(told[:200], told[200:330], told[330:380], None)
    assert [row.key for row in rows] == ["frechet", "kernel", "kernel_held_out"]


def test_classes_take_turns_in_a_floors_draw():
    labels = torch.tensor([0] * 50 + [1] * 30 + [2] * 20)
    order = evaluation._draw_order(100, labels, torch.Generator().manual_seed(0))
    assert sorted(order.tolist()) == list(range(100))
    assert labels[order[:60]].bincount().tolist() == [20, 20, 20]


class TestNearest:
    def rows(self, samples):
        return {row.key: row for row in evaluation.nearest_rows(samples, TRAIN, HELD_OUT)}

    def test_copies_of_training_images_are_found_out(self):
        rows = self.rows(TRAIN.pixels[::7])
        assert rows["nearest"].value == 0
        assert rows["nearer"].value == rows["copies"].value == 1

    def test_a_few_copies_are_found_out_by_their_share(self):
        samples = torch.cat([TRAIN.pixels[:10], DIGITS.pixels[1000:1090]])
        rows = self.rows(samples)
        assert rows["copies"].low > 0.01
        assert rows["copies"].value >= 0.1

    def test_new_digits_are_as_near_as_held_out_ones(self):
        rows = self.rows(DIGITS.pixels[1000:1300])
        assert rows["nearer"].low < 0.5 < rows["nearer"].high
        assert rows["copies"].low < 0.01 < rows["copies"].high
        for other in ("nearest_held_out", "nearest_train"):
            assert rows["nearest"].value == pytest.approx(rows[other].value, rel=0.06)


class TestBound:
    def test_at_all_steps_it_is_the_bound(self, denoiser):
        some = HELD_OUT[:4]
        steps, weights, home = evaluation.draw_steps(20, 100)
        assert steps.tolist() == list(range(2, 21))
        assert weights.tolist() == [1] * 19
        terms = evaluation.encode(denoiser, some, True, steps, batch=4)
        whole = variational_bound(Clipped(denoiser.given(some.labels)), data.to_unit(some.pixels))
        assert torch.equal(terms.total, whole.total)
        rows = {row.key: row for row in evaluation.bound_rows(terms, weights, home)}
        assert rows["bits"].value == pytest.approx(whole.bits_per_dim.mean().item())
        parts = sum(rows[f"bits_{part}"].value for part in ("prior", "steps", "decoder"))
        assert rows["bits"].value == pytest.approx(parts)

    def test_batches_have_noise_of_their_own(self, denoiser):
        twice = data.Images(
            HELD_OUT.pixels[:1].repeat(2, 1, 1, 1), HELD_OUT.labels[:1].repeat(2), HELD_OUT.classes
        )
        terms = evaluation.encode(denoiser, twice, True, torch.tensor([5]), batch=1)
        assert terms.steps[0] != terms.steps[1]

    @pytest.mark.parametrize(("T", "count"), [(1000, 30), (50, 8), (7, 3)])
    def test_a_choice_of_steps_gives_the_sum_over_all_on_average_and_its_variance(self, T, count):
        values = torch.cat([torch.full((2,), torch.nan).double(), 1 / torch.arange(2, T + 1) ** 0.7])
        found, claimed = [], []
        for seed in range(1500):
            steps, weights, home = evaluation.draw_steps(T, count, seed)
            assert steps.unique().equal(steps)
            assert weights.sum() == pytest.approx(T - 1)
            found.append((values[steps] @ weights).item())
            claimed.append(evaluation.choice_variance(values[steps], weights, home))
        mean, low, high = metrics.mean_interval(torch.tensor(found))
        assert low - (high - mean) / 2 < values[2:].sum() < high + (high - mean) / 2  # three errors
        variance = torch.tensor(found).double().var().item()
        assert sum(claimed) / len(claimed) == pytest.approx(variance, rel=0.15)

    def test_a_chain_of_one_step_has_only_prior_and_decoder(self):
        assert [len(part) for part in evaluation.draw_steps(1, 10)] == [0, 0, 0]
        net = NetworkDenoiser(awake(TINY), linear(1, 0.5, 0.5), "v")
        steps, *weighting = evaluation.draw_steps(1, 10)
        rows = evaluation.bound_rows(evaluation.encode(net, HELD_OUT[:3], True, steps), *weighting)
        assert rows[2].value == 0

    def test_intervals_hold_both_choices(self, denoiser):
        steps, weights, home = evaluation.draw_steps(20, 8)
        terms = evaluation.encode(denoiser, HELD_OUT[:5], True, steps)
        rows = {row.key: row for row in evaluation.bound_rows(terms, weights, home)}
        per_image = bits_per_dim(terms.steps, terms.dims) @ weights
        assert rows["bits_steps"].high - rows["bits_steps"].value > 1.95 * per_image.std() / 5**0.5


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"n": 64}, "n: expected at least 65 samples for 64 features, got 64"),
        ({"sampler": "euler"}, "sampler: expected one of ancestral, ddim, dpm_solver, got 'euler'"),
        ({"eta": 1.0}, "eta: expected only with ddim or dpm_solver, got it with ancestral"),
        ({"steps": 21}, r"S: expected a number of steps in 1\.\.20, got 21"),
        ({"batch": 0}, "batch: expected at least 1, got 0"),
        ({"bound_images": 1}, "bound_images: expected 0 or at least 2 images, got 1"),
        ({"bound_steps": 0}, "bound_steps: expected at least 1, got 0"),
        ({"images": (TRAIN[:30], HELD_OUT[:30])}, "images: expected at least 65 real ones"),
    ],
)
def test_bad_input_is_named_before_the_work_is_done(denoiser, config, changes, words, monkeypatch):
    monkeypatch.setattr(metrics, "features", lambda *_, **__: pytest.fail("began to work"))
    options = {"n": 100, "steps": 3, "images": (TRAIN, HELD_OUT)} | changes
    with pytest.raises(ValueError, match=words):
        evaluation.evaluate(denoiser, config, **options)


@pytest.mark.parametrize(
    ("spec", "name", "words"),
    [
        ("digits", "cifar10", "digits is for mnist5k and mnist; for 'cifar10' name inception:PATH"),
        ("inception", "cifar10", "expected digits or inception:PATH, got 'inception'"),
        ("vgg", "mnist5k", "expected digits or inception:PATH, got 'vgg'"),
    ],
)
def test_an_extractor_that_cannot_be_is_named(spec, name, words):
    with pytest.raises(ValueError, match=f"extractor: {words}"):
        evaluation.find_extractor(spec, name)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Torch-fidelity's network with random weights, as files; the published ones are for the user to bring."""
    theirs = pytest.importorskip(
        "torch_fidelity.feature_extractor_inceptionv3",
        reason="needs torch-fidelity, which is not installed",
    )

    class Random(theirs.FeatureExtractorInceptionV3):
        def load_state_dict(self, state):
            return None

    folder = tmp_path_factory.mktemp("inception")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(theirs, "load_state_dict_from_url", lambda *_, **__: {})
        torch.manual_seed(0)
        net = Random("inception", ["2048"])
    torch.save(net.state_dict(), folder / "weights.pth")
    save_file(net.state_dict(), folder / "weights.safetensors")
    return net, folder


class TestInception:
    def test_features_are_those_of_torch_fidelity_grey_as_three_channels(self, weights):
        net, folder = weights
        pixels = HELD_OUT.pixels[:3]
        theirs = net(pixels.repeat(1, 3, 1, 1))[0]
        assert theirs.std() > 0
        for name in ("weights.pth", "weights.safetensors"):
            extractor = metrics.inception_features(folder / name)
            assert extractor.dims == 2048
            assert torch.equal(metrics.features(extractor, pixels), theirs.double())

    def test_27_resizing_with_antialiasing_gives_other_numbers(self, weights):
        """So it is left to the network, which does it as the published one did."""
        net, folder = weights
        pixels = torch.randint(0, 256, (2, 3, 400, 400), generator=torch.Generator().manual_seed(0)).byte()
        smooth = torch.nn.functional.interpolate(pixels.float(), (299, 299), mode="bilinear", antialias=True)
        extractor = metrics.inception_features(folder / "weights.pth")
        found, other = extractor(pixels), net(smooth.round().byte())[0]
        assert torch.equal(found, net(pixels)[0])
        assert (found - other).norm() > 0.05 * found.norm()

    def test_a_file_that_is_no_inception_is_named_and_never_unpickled(self, weights, tmp_path):
        net, _ = weights
        path = tmp_path / "other.pth"
        torch.save({"fc.bias": net.fc.bias}, path)
        with pytest.raises(ValueError, match=f"extractor: {path} holds no Inception v3"):
            metrics.inception_features(path)
        torch.save({"code": Bomb()}, path)
        with pytest.raises(ValueError, match=f"extractor: cannot read {path}"):
            metrics.inception_features(path)
        with pytest.raises(ValueError, match=r"extractor: cannot read nowhere\.pth"):
            metrics.inception_features("nowhere.pth")


class Bomb:
    """Whoever unpickles it fails the test."""

    def __reduce__(self):
        return pytest.fail, ("unpickled",)


def test_without_torch_fidelity_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "torch_fidelity.feature_extractor_inceptionv3", None)
    with pytest.raises(ValueError, match=r"needs torch-fidelity; .* pip install 'ddpm-lib\[inception\]'"):
        metrics.inception_features("weights.pth")


@pytest.mark.cuda
def test_cuda_measures_what_the_cpu_measures(denoiser, config, report):
    there = NetworkDenoiser(copy.deepcopy(denoiser.net).cuda(), denoiser.schedule, denoiser.objective)
    options = {"steps": 3, "batch": 40, "bound_images": 6, "bound_steps": 8, "images": (TRAIN, HELD_OUT)}
    found = evaluation.evaluate(there, config, n=100, device="cuda", **options)
    for row in report.rows[:-1]:
        assert found[row.key].value == pytest.approx(row.value, rel=0.05, abs=0.05), row.key

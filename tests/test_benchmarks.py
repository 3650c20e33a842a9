"""The quality benchmark's harness: it runs, keeps what it has, and its table says what it measured."""

import json

import pytest
import torch

from benchmarks import __main__ as bench
from benchmarks import quality, tuning
from benchmarks.peers import Contestant, Trained, contestants
from benchmarks.peers import with_diffusers as hf
from benchmarks.peers.loop import HalfLife, Recipe, lr_at
from ddpm_lib import data

N = 20


@pytest.fixture
def no_threads_changed():
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def copier(images, seconds, seed):
    """A contestant that has learnt nothing but to hand out real digits."""
    return Trained(lambda n, labels, seed: images.pixels[:n], parameters=7, images_seen=100)


def painter(images, seconds, seed):
    """One that paints all images grey."""
    return Trained(
        lambda n, labels, seed: torch.full((n, 1, 28, 28), 128, dtype=torch.uint8), 3, images_seen=100
    )


def pixel_scorer():
    real = data.load("mnist5k", "all")[::50]
    return quality.Scorer(lambda pixels: torch.nn.functional.avg_pool2d(pixels.float(), 14).flatten(1), real)


@pytest.mark.parametrize(
    "contestant", [c for c in contestants() if c.kind != "README"], ids=lambda c: quality.label(c)
)
def test_a_contestant_trains_for_its_time_and_draws_bytes(contestant):
    """Not those of the packages' own documentation: one step of theirs takes longer than a test may."""
    if not contestant.installed:
        pytest.skip(f"{contestant.package} is not installed")
    options = quality.Options(seconds=0.5, n=N)
    row = quality.measure(contestant, data.load("mnist5k", "train"), pixel_scorer(), options, seed=0)
    assert row["images_seen"] > 0
    assert row["train_seconds"] >= options.seconds  # by the clock, not by a number of images
    assert row["distance"] > 0


def test_channels_beside_the_image_tell_the_class():
    pytest.importorskip("diffusers")
    torch.manual_seed(0)
    net, x, t = hf.unet(hf.COURSE, 10), torch.randn(1, 1, 28, 28).expand(2, -1, -1, -1), torch.tensor(500)
    with torch.no_grad():
        answer = net(x, t, class_labels=torch.tensor([3, 7])).sample
    assert answer.shape == x.shape
    assert (answer[0] - answer[1]).abs().max() > 1e-3


class TestRun:
    @pytest.fixture
    def rows(self):
        return [
            Contestant("ddpm_lib", "ddpm_lib", "ours", True, copier),
            Contestant("painter", "ddpm_lib", "best", True, painter),
            Contestant("absent", "no_such_package_anywhere", "best", False, painter),
        ]

    @pytest.fixture(autouse=True)
    def _fast(self, monkeypatch):
        monkeypatch.setattr(quality.Scorer, "from_digits", classmethod(lambda cls: pixel_scorer()))

    def test_the_table_tells_distances_above_the_floor(self, rows, tmp_path):
        out = tmp_path / "deep" / "quality.json"
        results = quality.run(rows, quality.Options(seconds=1, n=N, repeats=2, out=out))
        table = {row["package"]: row for row in json.loads(out.read_text())["table"]}
        assert [row["seeds"] for row in table.values()] == [2, 2]
        assert "absent" not in table
        assert table["painter"]["distance"] > 10 * table["ddpm_lib"]["distance"]
        mine = table["ddpm_lib"]["distance"] - results["floor"]["with classes"]["mean"]
        assert table["ddpm_lib"]["above_floor"] == pytest.approx(mine)
        assert "painter, best, with classes" in quality.as_text(results)

    def test_a_resumed_run_does_only_what_is_missing(self, rows, tmp_path):
        options = quality.Options(seconds=1, n=N, out=tmp_path / "quality.json", resume=True)
        first = quality.run(rows[:1], options)
        second = quality.run(rows, options)
        assert second["runs"][0] == first["runs"][0]
        assert [run["package"] for run in second["runs"]] == ["ddpm_lib", "painter"]

    def test_another_measurement_is_not_resumed(self, rows, tmp_path):
        out = tmp_path / "quality.json"
        quality.run(rows[:1], quality.Options(seconds=1, n=N, out=out))
        with pytest.raises(ValueError, match=r"resume: .*quality\.json was measured with"):
            quality.run(rows[:1], quality.Options(seconds=2, n=N, out=out, resume=True))

    def test_images_of_another_shape_are_refused(self, rows, tmp_path):
        wrong = Contestant(
            "wrong", "ddpm_lib", "best", True, lambda *_: Trained(lambda n, *_: torch.zeros(n), 1, 1)
        )
        with pytest.raises(ValueError, match="uint8"):
            quality.run([wrong], quality.Options(seconds=1, n=N, out=tmp_path / "quality.json"))


def test_the_floor_falls_with_the_number_of_images_and_with_balance():
    scorer = pixel_scorer()
    at_random = [scorer.floor(n, balanced=False)["mean"] for n in (40, 80)]
    assert at_random[1] < at_random[0]
    assert scorer.floor(40, balanced=True)["mean"] < at_random[0]
    assert scorer.floor(len(scorer.real), balanced=True)["mean"] == pytest.approx(0, abs=1e-6)


def test_the_learning_rate_rises_and_falls_with_the_time():
    recipe = Recipe(lr=1.0, warmup=0.1)
    assert [round(lr_at(recipe, 0, gone), 6) for gone in (0, 0.05, 0.1, 0.55, 1)] == [0, 0.5, 1, 0.5, 0]
    steps = Recipe(lr=1.0, warmup=0, warmup_steps=4, cosine=False)
    assert [lr_at(steps, step, 0.5) for step in (0, 1, 3, 9)] == [0.25, 0.5, 1, 1]


def test_the_average_forgets_half_in_its_half_life():
    model = torch.nn.Linear(1, 1, bias=False)
    average = HalfLife(model, share=0.1, ramp=10)
    with torch.no_grad():
        model.weight.fill_(0)
        average.update(0.5)
        model.weight.fill_(1)
        average.update(0.6)
    assert average.module.weight.item() == pytest.approx(0.5)


def test_bad_options_end_with_one_line_and_code_2(capsys, no_threads_changed):
    assert bench.main(["quality", "--only", "nobody"]) == 2
    assert "only: none has 'nobody' in its name" in capsys.readouterr().err
    assert bench.main(["quality", "--seconds", "-1"]) == 2
    assert bench.main(["nothing"]) == 2
    assert bench.main(["--slow"]) == 2
    for name in bench.NAMES + bench.ALONE:
        assert bench.main([name, "--no-such-option"]) == 2
        assert bench.main([name, "--help"]) == 0


def test_a_quick_run_is_brief(monkeypatch, tmp_path, no_threads_changed):
    asked = []
    monkeypatch.setattr(quality, "run", lambda chosen, options: asked.append(options))
    monkeypatch.setattr(quality, "as_text", lambda results: "")
    for benchmark in (quality, tuning):
        benchmark.main(["--quick", "--out", str(tmp_path / "x.json")])
    assert [(options.seconds, options.n) for options in asked] == [(10, 80)] * 2


def test_a_quick_run_leaves_a_whole_ones_results_alone(tmp_path):
    assert quality.Options(quick=True).brief().out.name == "quality-quick.json"
    assert tuning.Options(quick=True).brief().out.name == "tuning-quick.json"
    chosen = tmp_path / "here.json"
    assert tuning.Options(quick=True, out=chosen).brief() == tuning.Options(10.0, 80, quick=True, out=chosen)

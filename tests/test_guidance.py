"""Guidance against exact answers: mixtures, whose classes are their components, and Gaussian data."""

from dataclasses import replace

import pytest
import torch

from ddpm_lib.denoiser import Clipped
from ddpm_lib.gaussian import GaussianDiffusion
from ddpm_lib.guidance import ClassifierFree, ClassifierGuided, MeanShifted, class_loss, gradient, log_prob_of
from ddpm_lib.oracle import GaussianOracle, MixtureOracle
from ddpm_lib.samplers import (
    ancestral,
    annealed_langevin,
    ddim,
    ddim_inversion,
    dpm_solver,
    flow,
    heun,
    langevin,
    predictor_corrector,
    sample,
    seeded,
)
from ddpm_lib.schedule import cosine, from_betas, linear, spaced_steps

SCHEDULE = linear()
MEANS = torch.tensor([[-0.6, 0.1], [0.4, 0.2]], dtype=torch.float64)
MIXTURE = MixtureOracle(
    SCHEDULE,
    MEANS,
    torch.tensor([0.05, 0.02], dtype=torch.float64),
    torch.tensor([0.3, 0.7], dtype=torch.float64),
)
ONE = GaussianOracle(SCHEDULE, MEANS[1], torch.full((2,), 0.02, dtype=torch.float64))
X = torch.randn(6, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
STEPS = torch.tensor([1, 20, 200, 500, 900, 1000])


def class_one(x_t, t):
    return MIXTURE.responsibilities(x_t, t)[:, 1].log()


def class_zero(x_t, t):
    return MIXTURE.responsibilities(x_t, t)[:, 0].log()


def assert_same(one, other):
    torch.testing.assert_close(one.eps, other.eps, rtol=1e-7, atol=1e-9)
    torch.testing.assert_close(one.x0, other.x0, rtol=1e-6, atol=1e-7)


def test_with_the_exact_classifier_and_scale_one_it_is_the_classs_own_denoiser():
    assert_same(ClassifierGuided(MIXTURE, class_one)(X, STEPS), ONE(X, STEPS))


def test_trap_17_the_scales_zero_and_one_of_both_conventions():
    free = ClassifierFree(ONE, MIXTURE, 0.0)
    assert_same(free(X, STEPS), MIXTURE(X, STEPS))
    assert_same(ClassifierFree(ONE, MIXTURE, 1.0)(X, STEPS), ONE(X, STEPS))
    assert_same(ClassifierFree.of_weight(ONE, MIXTURE, 0.0)(X, STEPS), ONE(X, STEPS))
    assert_same(
        ClassifierFree.of_weight(ONE, MIXTURE, 2.0)(X, STEPS), ClassifierFree(ONE, MIXTURE, 3.0)(X, STEPS)
    )


@pytest.mark.parametrize("scale", [0.5, 1.0, 4.0])
def test_classifier_free_guidance_is_that_of_its_implicit_classifier(scale):
    """The difference of the two scores is the gradient of log q(x_t|y) - log q(x_t)."""
    assert_same(
        ClassifierGuided(MIXTURE, class_one, scale)(X, STEPS), ClassifierFree(ONE, MIXTURE, scale)(X, STEPS)
    )


@pytest.mark.parametrize(
    "guided", [ClassifierGuided(MIXTURE, class_one, 3.0), ClassifierFree(ONE, MIXTURE, 3.0)]
)
def test_a_guided_answer_keeps_x_t_together(guided):
    seen = guided(X, STEPS)
    bar = SCHEDULE.alpha_bar[STEPS][:, None]
    torch.testing.assert_close(bar.sqrt() * seen.x0 + (1 - bar).sqrt() * seen.eps, X, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("at", ["mean", "x_t"])
@pytest.mark.parametrize("variance", ["posterior", "beta"])
def test_trap_16_the_reverse_steps_mean_is_shifted_by_variance_times_gradient(at, variance):
    schedule = SCHEDULE.respace(spaced_steps(1000, 10))
    options = {"variance": variance}
    guided = MeanShifted(MIXTURE, class_one, 2.0, schedule, at=at, **options)
    kernel = GaussianDiffusion(schedule)
    variances = {"posterior": schedule.beta_tilde, "beta": schedule.beta}[variance]
    for i in range(1, 11):
        t, here = (torch.full((len(X),), n) for n in (schedule.steps[i], i))
        plain = kernel.posterior(X, MIXTURE(X, t).x0, here).mean
        before = torch.full((len(X),), max(schedule.steps[i - 1], 1))
        slope = gradient(class_one, plain, before) if at == "mean" else gradient(class_one, X, t)
        wanted = plain + (2.0 * variances[i] * slope if i > 1 else 0)
        found = kernel.posterior(X, guided(X, t).x0, here).mean
        torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-9)


def test_trap_16_the_two_places_of_the_gradient_differ():
    schedule = SCHEDULE.respace(spaced_steps(1000, 10))
    t = torch.full((len(X),), int(schedule.steps[5]))
    one, other = (MeanShifted(MIXTURE, class_one, 2.0, schedule, at=at)(X, t).x0 for at in ("mean", "x_t"))
    assert (one - other).abs().max() > 1e-3


def begun(sampler, guided, *schedule, **options):
    """Its first step: samplers are generators, and look at what they were given when they begin."""
    return next(sampler(guided, X, *schedule, **options))


@pytest.mark.parametrize("wrap", [lambda guided: guided, Clipped])
def test_trap_16_a_shifted_mean_is_refused_by_a_sampler_on_other_steps_or_variances(wrap):
    few = SCHEDULE.respace(spaced_steps(1000, 10))
    on_all, on_few = (wrap(MeanShifted(MIXTURE, class_one, sampled=s)) for s in (None, few))
    names = "schedule: expected that of MeanShifted, Schedule of {} steps .*, got Schedule of {} steps"
    with pytest.raises(ValueError, match=names.format(1000, 10)):
        begun(ancestral, on_all, few)
    with pytest.raises(ValueError, match=names.format(10, 1000)):
        begun(ancestral, on_few)
    with pytest.raises(ValueError, match=names.format(10, 10)):
        begun(ancestral, on_few, SCHEDULE.respace(spaced_steps(1000, 10, "quadratic")))
    for sampler, options in (
        (ancestral, {"variance": "beta"}),
        (ddim, {}),
        (dpm_solver, {}),
        (predictor_corrector, {"variance": "beta"}),
    ):
        with pytest.raises(ValueError, match="variance: expected that of MeanShifted"):
            begun(sampler, on_few, few, **options)
    torch.testing.assert_close(begun(ancestral, on_few, few).eps, begun(ddim, on_few, few, eta=1.0).eps)


@pytest.mark.parametrize(
    "use",
    [
        lambda guided, few: begun(langevin, guided, 500, 1),
        lambda guided, few: begun(annealed_langevin, guided, few),
        lambda guided, few: begun(predictor_corrector, guided, few),
        lambda guided, few: begun(dpm_solver, guided, few, eta=1.0),
        lambda guided, few: begun(ddim_inversion, guided, few),
        lambda guided, few: flow(guided, X, 1000, 500),
    ],
    ids=["langevin", "annealed", "corrector", "dpm_solver", "inversion", "flow"],
)
def test_trap_16_a_shifted_mean_is_no_score(use):
    few = SCHEDULE.respace(spaced_steps(1000, 10))
    with pytest.raises(ValueError, match="expected that of MeanShifted"):
        use(MeanShifted(MIXTURE, class_one, sampled=few), few)


def test_trap_10_guidance_on_the_noise_is_refused_where_the_noise_says_nothing():
    ends = replace(MIXTURE, schedule=from_betas([0.1, 0.5, 1.0]))
    with pytest.raises(ValueError, match=r"schedule: expected alpha_bar\[T\] > 0 for guidance on the noise"):
        ClassifierGuided(ends, class_one)


@pytest.mark.parametrize("sampler", [ancestral, ddim, dpm_solver])
def test_guided_samples_at_scale_one_have_the_classs_law(sampler):
    n = 20_000
    guided = ClassifierGuided(MIXTURE, class_one)
    x_T = torch.randn(n, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    *_, step = sampler(
        guided,
        x_T,
        SCHEDULE.respace(spaced_steps(1000, 100, "quadratic")),
        generators=torch.Generator().manual_seed(2),
    )
    assert ((step.x.mean(0) - MEANS[1]).abs() < 0.01).all()
    assert ((step.x.var(0) / 0.02 - 1).abs() < 0.12).all()


def test_a_larger_scale_gives_fewer_samples_of_other_classes():
    def of_other_class(scale):
        guided = ClassifierGuided(MIXTURE, class_zero, scale)
        x = sample(guided, (2_000, 2), ddim, steps=20, seed=0).double()
        return (
            (MIXTURE.responsibilities(x, torch.zeros(len(x), dtype=torch.int64))[:, 0] < 0.5).double().mean()
        )

    rare = [of_other_class(scale) for scale in (0.0, 1.0, 3.0)]
    assert rare[0] > 0.5 > 0.1 > rare[1] >= rare[2]


def test_guidance_outside_its_interval_is_the_conditional_denoiser():
    guided = ClassifierFree(ONE, MIXTURE, 5.0, interval=(100, 600))
    seen, full, plain = guided(X, STEPS), ClassifierFree(ONE, MIXTURE, 5.0)(X, STEPS), ONE(X, STEPS)
    for row, t in enumerate(STEPS.tolist()):
        wanted = full if 100 < t <= 600 else plain
        torch.testing.assert_close(seen.eps[row], wanted.eps[row], rtol=1e-9, atol=1e-9)


def test_a_sample_does_not_depend_on_its_neighbours():
    guided = ClassifierGuided(MIXTURE, class_one, 2.0)
    many = [*ancestral(guided, X, cosine(20), generators=seeded(0, 6))][-1].x
    few = [*ancestral(guided, X[:2], cosine(20), generators=seeded(0, 2))][-1].x
    torch.testing.assert_close(many[:2], few, rtol=1e-9, atol=1e-9)


def test_a_classifiers_log_probability_is_that_of_each_images_own_label():
    logits = torch.randn(6, 10, dtype=torch.float64)
    y = torch.arange(6)
    found = log_prob_of(lambda x, t: logits, y)(X, STEPS)
    torch.testing.assert_close(found, logits.log_softmax(1)[torch.arange(6), y])


@pytest.mark.parametrize(
    ("y", "words"),
    [
        (torch.tensor([0, 1, 2]), "y: expected labels in 0..1, got 0..2"),
        (torch.tensor([0, -1, 1]), "y: expected labels in 0..1, got -1..1"),
        (torch.tensor([0.0, 1.0, 1.0]), "y: expected integer labels, got torch.float32"),
        (torch.tensor([True, False, True]), "y: expected integer labels, got torch.bool"),
    ],
)
def test_labels_that_the_classifier_does_not_know_are_named(y, words):
    with pytest.raises(ValueError, match=words):
        log_prob_of(lambda x, t: torch.zeros(3, 2), y)(X[:3], STEPS[:3])
    with pytest.raises(ValueError, match=words):
        class_loss(lambda x, t: torch.zeros(3, 2), SCHEDULE, X[:3], STEPS[:3], X[:3], y)


def test_the_loss_keeps_the_classifiers_precision_but_not_half():
    logits, y = torch.randn(6, 3, dtype=torch.float64), torch.arange(6) % 3
    found = class_loss(lambda x, t: logits, SCHEDULE, X, STEPS, X, y)
    assert found.equal(-logits.log_softmax(1)[torch.arange(6), y])
    half = class_loss(lambda x, t: logits.bfloat16(), SCHEDULE, X, STEPS, X, y)
    assert half.dtype == torch.float32


def test_the_gradient_is_had_in_inference_mode_too():
    y, weight = torch.tensor([0, 1, 1, 0, 1, 0]), torch.randn(2, 2, dtype=torch.float64)
    wanted = gradient(log_prob_of(lambda x, t: x.square() @ weight, y), X, STEPS)
    with torch.inference_mode():
        told = log_prob_of(lambda x, t: x.square() @ weight, y + 0)
        assert gradient(told, X + 0, STEPS + 0).equal(wanted)
        guided = ClassifierGuided(MIXTURE, told)(X + 0, STEPS + 0)
    assert guided.eps.equal(ClassifierGuided(MIXTURE, told)(X, STEPS).eps)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (
            lambda: ClassifierGuided(MIXTURE, class_one, -1.0),
            "scale: expected a finite number >= 0, got -1.0",
        ),
        (lambda: ClassifierGuided(MIXTURE, class_one, float("inf")), "scale: expected a finite number >= 0"),
        (
            lambda: ClassifierFree(ONE, replace(MIXTURE, schedule=cosine(1000))),
            "unconditional: expected the schedule of conditional, Schedule of 1000 steps 1..1000",
        ),
        (lambda: MeanShifted(MIXTURE, class_one, at="start"), "at: expected 'mean' or 'x_t', got 'start'"),
        (
            lambda: MeanShifted(MIXTURE, class_one, sampled=SCHEDULE.respace([5, 900]))(X, STEPS),
            "t: expected steps of the schedule that is sampled on",
        ),
        (lambda: ClassifierFree(ONE, MIXTURE, interval=(5, 5)), "interval: expected 0 <= low < high"),
        (
            lambda: log_prob_of(lambda x, t: torch.zeros(6, 3), torch.zeros(2).long())(X, STEPS),
            "y: expected 6 labels",
        ),
    ],
)
def test_bad_input_is_named(call, words):
    with pytest.raises(ValueError, match=words):
        call()


# the law of guided samples, beside the tilted density q(x_0) p(y|x_0)^s

FINE = SCHEDULE.respace(spaced_steps(1000, 50, "quadratic"))
QUANTILES = torch.special.ndtri((torch.arange(400, dtype=torch.float64) + 0.5) / 400)[:, None]
LINE = torch.linspace(-3, 4, 7001, dtype=torch.float64)[:, None]
PAIR = MixtureOracle(
    SCHEDULE,
    torch.tensor([[-0.5], [0.5]], dtype=torch.float64),
    torch.tensor([0.2, 0.2], dtype=torch.float64),
)


def of_the_right(x_t, t):
    return PAIR.responsibilities(x_t, t)[:, 1].log()


def flowed(guided, begin=QUANTILES, schedule=FINE):
    """The quantiles of what the ODE samples: on a line it keeps the order of points, so no chance is in them."""
    *_, last = heun(guided, begin, schedule)
    return last.x[:, 0]


def away(sample, scale):
    """Mean distance of the sample's quantiles from those of the tilted density of PAIR."""
    clean = torch.zeros(len(LINE), dtype=torch.int64)
    density = (PAIR.log_prob(LINE, clean) + scale * of_the_right(LINE, clean)).exp()
    places = (torch.arange(len(sample), dtype=torch.float64) + 0.5) / len(sample)
    at = torch.searchsorted(density.cumsum(0) / density.sum(), places)
    return (sample.sort().values - LINE[at, 0]).abs().mean()


@pytest.mark.parametrize("scale", [0.5, 1.0, 3.0])
def test_for_normal_data_and_a_log_linear_classifier_it_is_the_tilted_one_at_any_scale(scale):
    data = GaussianOracle(
        SCHEDULE, torch.tensor([0.1], dtype=torch.float64), torch.tensor([0.3], dtype=torch.float64)
    )

    def log_linear(x_t, t):  # log E[exp(1.5 x_0) | x_t], but for a constant
        bar = SCHEDULE.alpha_bar[t][:, None]
        return (1.5 * bar.sqrt() * 0.3 / (0.3 * bar + 1 - bar) * x_t)[:, 0]

    tilted, bar = 0.1 + scale * 1.5 * 0.3, SCHEDULE.alpha_bar[-1]
    begin = bar.sqrt() * tilted + (0.3 * bar + 1 - bar).sqrt() * QUANTILES
    errors = []
    for steps in (50, 100, 200):
        schedule = SCHEDULE.respace(spaced_steps(1000, steps, "quadratic"))
        found = flowed(ClassifierGuided(data, log_linear, scale), begin, schedule)
        errors.append((found - tilted - 0.3**0.5 * QUANTILES[:, 0]).abs().max())
    assert errors[0] / errors[1] > 3  # of second order, as Heun's rule is: nothing but its error is left
    assert errors[1] / errors[2] > 3
    assert errors[2] < 5e-4


def test_for_a_mixture_it_is_the_tilted_one_at_scale_one_alone():
    errors = {s: away(flowed(ClassifierGuided(PAIR, of_the_right, s)), s) for s in (0.0, 1.0, 2.0, 4.0)}
    assert max(errors[0.0], errors[1.0]) < 5e-3
    assert errors[2.0] > 0.1
    assert errors[4.0] > 0.3


def test_langevin_moves_at_each_level_lead_back_to_the_tilted_law():
    guided = ClassifierGuided(PAIR, of_the_right, 4.0)
    noise = torch.randn(1000, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    options = {"moves": 4, "size": 0.5, "generators": torch.Generator().manual_seed(1)}
    *_, plain = ancestral(guided, noise, FINE, generators=torch.Generator().manual_seed(1))
    *_, moved = predictor_corrector(guided, noise, FINE, **options)
    assert away(plain.x[:, 0], 4.0) > 0.12
    assert away(moved.x[:, 0], 4.0) < 0.08


def test_the_scale_is_not_rounded_to_single_precision():
    told, free = ONE(X, STEPS).eps, MIXTURE(X, STEPS).eps
    found = ClassifierFree(ONE, MIXTURE, 1.1)(X, STEPS).eps
    torch.testing.assert_close(found, free + 1.1 * (told - free), rtol=1e-14, atol=1e-14)

"""The binomial kernel against enumeration: all paths of short chains in exact fractions, all eight cases of Bayes' rule
at every step of long ones in fifty digits; and its probabilities at their edges, where 0 log 0 is 0."""

import math
from fractions import Fraction
from functools import cache
from itertools import product

import mpmath
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import binary_cross_entropy_with_logits

from ddpm_lib import data
from ddpm_lib.binomial import Bernoulli, BinomialDiffusion
from ddpm_lib.schedule import constant_share, cosine, from_betas, linear

BITS = (0, 1)
LONG = {"linear": linear(), "cosine": cosine(), "constant share": constant_share(1000)}
RATES = st.floats(1e-9, 1, exclude_max=True)
PROBABILITIES = st.sampled_from([0.0, 1.0]) | st.floats(0, 1)


def images(*values, dtype=torch.float64):
    return torch.tensor(values, dtype=dtype).view(-1, 1)


def steps(*values):
    return torch.tensor(values)


def close_to(value, rel):
    """Equal up to a relative error alone, so that a probability of 1e-9 has to have as many digits as one of 1/2."""
    return pytest.approx(float(value), rel=rel, abs=0)


def paths(betas, x0):
    """Every path (x_0, ..., x_T) from x0 and its probability, an exact fraction of the given rates."""
    betas = [Fraction(b) for b in betas]
    for tail in product(BITS, repeat=len(betas)):
        path, chance = (x0, *tail), Fraction(1)
        for b, x_prev, x in zip(betas, path, tail, strict=False):
            chance *= b / 2 if x != x_prev else 1 - b / 2
        yield path, chance


@cache
def by_paths(betas, x0, given=(), of=()):
    """P(x_t = bit for all (t, bit) in of | the same in given, x_0), by adding up paths."""
    total = favourable = Fraction(0)
    for path, chance in paths(betas, x0):
        if all(path[t] == bit for t, bit in given):
            total += chance
            favourable += chance * all(path[t] == bit for t, bit in of)
    return favourable / total


@given(betas=st.lists(RATES, min_size=1, max_size=4), last=st.none() | st.just(1.0))
def test_marginal_and_posterior_are_sums_over_all_paths(betas, last):
    schedule = from_betas([*betas, last] if last else betas)
    kernel = BinomialDiffusion(schedule)
    betas = tuple(schedule.beta[1:].tolist())  # as kept: behind large rates a tiny one has lost digits
    for t, x0 in product(range(1, len(betas) + 1), BITS):
        marginal = kernel.marginal(images(x0), steps(t))
        assert marginal.prob.item() == close_to(by_paths(betas, x0, of=((t, 1),)), rel=1e-12)
        assert marginal.rest.item() == close_to(by_paths(betas, x0, of=((t, 0),)), rel=1e-12)
        for x_t in BITS:
            posterior = kernel.posterior(images(x_t), images(x0), steps(t))
            one, zero = (by_paths(betas, x0, ((t, x_t),), ((t - 1, bit),)) for bit in (1, 0))
            assert posterior.prob.item() == close_to(one, rel=1e-12)
            assert posterior.rest.item() == close_to(zero, rel=1e-12)


@pytest.mark.parametrize("name", LONG)
def test_posterior_is_bayes_rule_in_all_eight_cases_at_every_step(name):
    schedule, half = LONG[name], mpmath.mpf(1) / 2
    kernel, t = BinomialDiffusion(schedule), torch.arange(1, schedule.T + 1)
    cases = {
        case: kernel.posterior(images(case[0]).expand(len(t), 1), images(case[1]).expand(len(t), 1), t)
        for case in product(BITS, BITS)
    }
    with mpmath.workdps(50):
        bar_before = mpmath.mpf(1)
        for i, beta in enumerate(schedule.beta[1:].tolist()):
            flip, away = mpmath.mpf(beta) / 2, (1 - bar_before) * half
            for (x_t, x0), posterior in cases.items():
                weight = {
                    x_prev: (flip if x_t != x_prev else 1 - flip) * (away if x_prev != x0 else 1 - away)
                    for x_prev in BITS
                }
                total = weight[0] + weight[1]
                for got, bit in ((posterior.prob[i], 1), (posterior.rest[i], 0)):
                    assert got.item() == close_to(weight[bit] / total, rel=1e-12), (i + 1, x_t, x0, bit)
            bar_before *= 1 - mpmath.mpf(beta)


def test_a_step_replaces_a_pixel_by_a_coin_so_it_flips_half_as_many():
    law = BinomialDiffusion(linear()).step(images(0, 1), steps(1000, 1000))
    assert law.prob.flatten().tolist() == pytest.approx([0.01, 0.99], rel=1e-13)


def test_a_last_rate_of_one_forgets_everything():
    kernel = BinomialDiffusion(constant_share(5))
    for x_t, x0 in product(BITS, BITS):
        assert kernel.marginal(images(x0), steps(5)).prob.item() == 0.5
        told, untold = (
            kernel.posterior(images(x_t), images(x0), steps(5)),
            kernel.marginal(images(x0), steps(4)),
        )
        assert told.prob.item() == close_to(untold.prob, rel=1e-14)


class TestGuess:
    """Where the clean image is a guess, the posterior averages over it: p(x_0 | x_t) is a belief that has seen x_t."""

    @given(p=PROBABILITIES, t=st.integers(1, 4), x_t=st.sampled_from(BITS))
    def test_it_is_the_mixture_and_so_linear_in_the_probability(self, p, t, x_t):
        betas = (0.3, 0.05, 0.6, 0.2)
        posterior = BinomialDiffusion(from_betas(betas)).posterior(images(x_t), images(p), steps(t))
        by_case = [by_paths(betas, x0, ((t, x_t),), ((t - 1, 1),)) for x0 in BITS]
        mixture = (1 - Fraction(p)) * by_case[0] + Fraction(p) * by_case[1]
        assert posterior.prob.item() == pytest.approx(float(mixture), rel=1e-12, abs=1e-15)
        assert posterior.rest.item() == pytest.approx(float(1 - mixture), rel=1e-12, abs=1e-15)

    def test_the_exact_guess_gives_the_exact_reverse_step_of_pixels_that_hang_together(self):
        """Two pixels, four images of given frequency; the guess for each pixel has seen both noisy pixels."""
        betas, t = (0.3, 0.05, 0.6, 0.2), 3
        frequency = dict(zip(product(BITS, BITS), map(Fraction, ("0.4", "0.1", "0.05", "0.45")), strict=True))
        kernel = BinomialDiffusion(from_betas(betas))

        def q(of, x0):
            """Probability of noisy states, {t: (pixel, pixel)}, of a clean pair, whose pixels walk independently."""
            return math.prod(by_paths(betas, x0[i], of=tuple((k, x[i]) for k, x in of.items())) for i in BITS)

        for x_t in product(BITS, BITS):
            evidence = sum(w * q({t: x_t}, x0) for x0, w in frequency.items())
            guess = [sum(w * q({t: x_t}, x0) * x0[i] for x0, w in frequency.items()) / evidence for i in BITS]
            exact = [
                sum(
                    w * q({t: x_t, t - 1: before}, x0) * before[i]
                    for x0, w in frequency.items()
                    for before in product(BITS, BITS)
                )
                / evidence
                for i in BITS
            ]
            posterior = kernel.posterior(
                torch.tensor([x_t], dtype=torch.float64),
                torch.tensor([[float(g) for g in guess]], dtype=torch.float64),
                steps(t),
            )
            assert posterior.prob.flatten().tolist() == pytest.approx([float(e) for e in exact], rel=1e-12)

    def test_a_probability_put_into_bayes_formula_is_another_thing(self):
        """It takes the guess for one made before x_t was seen, and counts x_t twice."""
        kernel, p, t = BinomialDiffusion(from_betas([0.3, 0.3])), 0.7, 2
        ours = kernel.posterior(images(1), images(p), steps(t)).prob.item()
        before = 0.7 * p + 0.3 / 2  # the marginal at step 1, with the probability in the place of the bit
        put_in = 0.85 * before / (0.85 * before + 0.15 * (1 - before))
        seen = 0.49 * p + 0.51 / 2
        belief = (0.49 + 0.51 / 2) * p / seen  # p(x_0 = 1 | x_t = 1), if p was the frequency before
        assert put_in - ours > 0.05
        assert kernel.posterior(images(1), images(belief), steps(t)).prob.item() == pytest.approx(
            put_in, rel=1e-12
        )

    def test_a_law_gives_the_guess_with_all_its_digits(self):
        """In float32 a sure network's 1 - p is 0; from its logits it is not, and being wrong costs what it should."""
        logits = images(-60.0, -20.0, 0.3, 20.0, 60.0, dtype=torch.float32)
        kernel, one = BinomialDiffusion(linear()), torch.ones(5, dtype=torch.int64)
        for bit in BITS:
            x0 = torch.full_like(logits, bit)
            truth = kernel.posterior(x0, x0, one)
            loss = kernel.kl(truth, kernel.posterior(x0, Bernoulli.from_logits(logits), one))
            expected = binary_cross_entropy_with_logits(logits, x0, reduction="none").flatten()
            torch.testing.assert_close(loss, expected, rtol=1e-6, atol=6e-8)  # log 1 for log(1 - 2e-9)
        zeros = torch.zeros_like(logits)
        rounded = kernel.kl(Bernoulli(zeros), kernel.posterior(zeros, logits.sigmoid(), one))
        assert rounded.isinf().tolist() == [False, False, False, True, True]

    def test_rounding_makes_no_probability_above_one(self):
        """prob + rest of a float32 guess may be 1 + 1e-7, and at so small a rate all of it stays."""
        guess = Bernoulli.from_logits(torch.linspace(-20, 20, 100_001)[:, None])
        assert (guess.prob + guess.rest > 1).any()
        kernel, t = BinomialDiffusion(from_betas([0.5, 1e-9])), torch.full((100_001,), 2)
        for bit in BITS:
            law = kernel.posterior(torch.full((100_001, 1), float(bit)), guess, t)
            torch.testing.assert_close(law.prob + law.rest, torch.ones(100_001, 1), rtol=0, atol=1.2e-7)

    def test_its_divergence_can_be_trained_on(self):
        """Gradients are finite at every step, also at the first, where the truth is certain; float32, sure guesses."""
        kernel, t = BinomialDiffusion(linear()), steps(1, 2, 500, 1000)
        for bit, x_t in product(BITS, BITS):
            logits = torch.tensor([[-40.0, -3.0, 0.0, 3.0, 40.0]] * 4, requires_grad=True)
            state, x0 = torch.full_like(logits, x_t), torch.full_like(logits, bit)
            guess = kernel.posterior(state, Bernoulli.from_logits(logits), t)
            kernel.kl(kernel.posterior(state, x0, t), guess).sum().backward()
            assert logits.grad.isfinite().all()
            assert (logits.grad * (1 if bit else -1) <= 1e-6).all(), (
                "it falls where the guess nears the truth"
            )


class TestBernoulli:
    @given(prob=PROBABILITIES)
    def test_log_prob_is_the_logarithm_at_the_edges_too(self, prob):
        law = Bernoulli(images(prob, prob))
        logs = law.log_prob(images(0, 1)).flatten().tolist()
        for got, p in zip(logs, (1 - prob, prob), strict=True):
            assert got == (pytest.approx(math.log(p), rel=1e-12, abs=1e-300) if p > 0 else -math.inf)

    @given(p=PROBABILITIES, q=PROBABILITIES)
    def test_kl_is_its_sum_with_0_log_0_as_0_and_infinite_where_it_is(self, p, q):
        got = BinomialDiffusion.kl(Bernoulli(images(p)), Bernoulli(images(q))).item()
        if (p > 0 and q == 0) or (1 - p > 0 and 1 - q == 0):
            assert got == math.inf
            return
        with mpmath.workdps(50):
            pairs = [(mpmath.mpf(p), mpmath.mpf(q)), (mpmath.mpf(1 - p), mpmath.mpf(1 - q))]
            exact = sum(a * mpmath.log(a / b) for a, b in pairs if a > 0)
        assert got == pytest.approx(float(exact), rel=1e-12, abs=1e-14)

    def test_kl_of_an_image_is_infinite_if_one_pixel_is_impossible(self):
        p, q = Bernoulli(torch.tensor([[0.0, 0.5, 1.0]])), Bernoulli(torch.tensor([[0.0, 0.5, 0.0]]))
        assert BinomialDiffusion.kl(p, q).item() == math.inf

    def test_it_agrees_with_torch(self):
        p, q = torch.rand(2, 50, 4, dtype=torch.float64)
        p[0], q[0] = torch.tensor([0.0, 1.0, 0.0, 1.0]), torch.tensor([0.5, 0.5, 0.0, 1.0])
        ours, theirs = (Bernoulli(p), Bernoulli(q)), [torch.distributions.Bernoulli(r) for r in (p, q)]
        x = ours[0].draw()
        torch.testing.assert_close(ours[0].log_prob(x)[1:], theirs[0].log_prob(x)[1:])
        torch.testing.assert_close(
            BinomialDiffusion.kl(*ours), torch.distributions.kl_divergence(*theirs).sum(1)
        )

    def test_a_sure_bit_is_drawn_surely_and_a_sample_rises_with_the_probability(self):
        u = torch.cat([torch.tensor([0.0, 1 - 2**-24]), torch.rand(1000)])[:, None]
        assert (Bernoulli(torch.zeros(1002, 1)).sample(u) == 0).all()
        assert (Bernoulli(torch.ones(1002, 1)).sample(u) == 1).all()
        rising = Bernoulli(torch.linspace(0, 1, 101).expand(1002, 101)).sample(u)
        assert (rising.diff(dim=1) >= 0).all()

    def test_rare_flips_are_drawn_as_often_from_0_as_from_1_in_half_precision(self):
        """With prob alone a 1 would never flip, as 1 - 5e-5 is 1 in bfloat16. Five standard errors of 4,000,000."""
        n, chance = 4_000_000, 5e-5
        x = images(0, 1, dtype=torch.bfloat16).expand(2, n)
        law = BinomialDiffusion(linear()).step(x, steps(1, 1))
        wide = Bernoulli(law.prob.expand(2, n), law.rest.expand(2, n))
        flipped = (wide.draw(torch.Generator().manual_seed(0)) != x).sum(1)
        assert ((flipped - n * chance).abs() < 5 * math.sqrt(n * chance) + n * chance * 2**-8).all(), flipped

    @pytest.mark.parametrize(
        ("call", "words"),
        [
            (lambda: Bernoulli(images(0.5, 1.25)), r"prob: expected probabilities in \[0, 1\], got 1\.25"),
            (lambda: Bernoulli(images(0.5, -0.5)), r"prob: expected probabilities in \[0, 1\], got -0\.5"),
            (lambda: Bernoulli(images(math.nan)), r"prob: expected probabilities in \[0, 1\], got nan"),
            (
                lambda: Bernoulli(images(0.5), images(2.0)),
                r"rest: expected probabilities in \[0, 1\], got 2\.0",
            ),
            (
                lambda: Bernoulli(torch.tensor([1])),
                r"prob: expected a floating-point tensor, got torch\.int64",
            ),
            (lambda: Bernoulli(0.5), "prob: expected a floating-point tensor, got float"),
            (
                lambda: Bernoulli(images(0.5)).log_prob(images(0.5)),
                r"x: expected every pixel to be 0 or 1, got 0\.5",
            ),
        ],
    )
    def test_bad_input_is_named(self, call, words):
        with pytest.raises(ValueError, match=words):
            call()


@pytest.mark.parametrize("bad", [-1.0, 0.5, 255.0, math.nan, math.inf])
def test_a_pixel_that_is_not_a_bit_is_named(bad):
    kernel, x, good = BinomialDiffusion(linear()), images(1, bad, 0), images(1, 0, 0)
    t = steps(1, 2, 3)
    for call, name in (
        (lambda: kernel.step(x, t), "x_prev"),
        (lambda: kernel.marginal(x, t), "x0"),
        (lambda: kernel.posterior(x, good, t), "x_t"),
    ):
        with pytest.raises(ValueError, match=f"{name}: expected every pixel to be 0 or 1, got {bad}"):
            call()
    if bad != 0.5:
        with pytest.raises(ValueError, match=rf"x0: expected probabilities in \[0, 1\], got {bad}"):
            kernel.posterior(good, x, t)


def test_digits_agree_with_their_clean_bits_as_often_as_the_marginal_says():
    """On 500 real digits; five standard errors of their 392,000 pixels, which are tossed independently."""
    clean = (data.mnist5k("test").pixels > 127).float()
    kernel = BinomialDiffusion(linear())
    for t in (1, 100, 300, 1000):
        noisy = kernel.marginal(clean, torch.full((500,), t)).draw(torch.Generator().manual_seed(t))
        share = (1 + kernel.schedule.alpha_bar[t].item()) / 2
        assert abs((noisy == clean).double().mean().item() - share) < 5 * math.sqrt(
            share * (1 - share) / clean.numel()
        )


@pytest.mark.parametrize("T", [1, 2, 9, 1000])
def test_constant_share_takes_the_same_share_at_each_step(T):
    schedule, t = constant_share(T), torch.arange(T + 1, dtype=torch.float64)
    torch.testing.assert_close(schedule.beta[1:], 1 / (T - t[1:] + 1), rtol=1e-10, atol=0)
    torch.testing.assert_close(schedule.alpha_bar, 1 - t / T, rtol=1e-11, atol=1e-15)
    assert (schedule.beta[T], schedule.alpha_bar[T]) == (1, 0)


def test_constant_share_names_a_bad_count():
    with pytest.raises(ValueError, match="T: expected a whole number of steps >= 1, got 0"):
        constant_share(0)

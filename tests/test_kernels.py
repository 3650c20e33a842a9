"""What both diffusion kernels promise, on every kind of schedule."""

import dataclasses
import inspect
import math

import pytest
import torch

from ddpm_lib.binomial import BinomialDiffusion
from ddpm_lib.gaussian import GaussianDiffusion
from ddpm_lib.kernel import Diffusion, Law, standard_normal, trajectory, uniform
from ddpm_lib.schedule import linear
from tests.kernel_cases import (
    EACH_KIND,
    KERNELS,
    KINDS,
    expectation,
    generator,
    images,
    joint,
    laws,
    other_images,
    some_steps,
    tensors,
    two_states,
)


@pytest.mark.parametrize("kernel", KERNELS)
class TestLaws:
    def test_at_step_0_the_marginal_is_the_image(self, kernel):
        x0 = images(kernel, 5, 3)
        assert torch.equal(kernel.marginal(x0, torch.zeros(5, dtype=torch.int64)).draw(), x0)

    def test_the_first_marginal_is_the_first_step(self, kernel):
        x0, one = images(kernel, 5, 3), torch.ones(5, dtype=torch.int64)
        torch.testing.assert_close(
            tensors(kernel.marginal(x0, one)), tensors(kernel.step(x0, one)), rtol=1e-14, atol=0
        )

    def test_a_step_after_a_marginal_is_the_next_marginal(self, kernel):
        t = some_steps(kernel, first=2)
        x0 = images(kernel, len(t), 1)
        after = kernel.marginal(x0, t)
        x_t = after.draw(generator())
        _, density, weight = joint(kernel, kernel.marginal(x0, t - 1), x_t, t)
        summed = (weight * density).sum(1, keepdim=True)
        torch.testing.assert_close(summed, after.log_prob(x_t).exp(), rtol=1e-10, atol=0)

    def test_posterior_is_bayes_rule(self, kernel):
        t = some_steps(kernel, first=2)
        x0 = images(kernel, len(t), 1)
        for x_t in two_states(kernel, kernel.marginal(x0, t)):
            x_prev, density, weight = joint(kernel, kernel.marginal(x0, t - 1), x_t, t)
            by_bayes = density / (weight * density).sum(1, keepdim=True)
            posterior = kernel.posterior(x_t, x0, t).log_prob(x_prev).exp()
            peak = by_bayes.max(1, keepdim=True).values
            torch.testing.assert_close(posterior / peak, by_bayes / peak, rtol=1e-9, atol=1e-11)

    def test_traps_2_and_5_at_step_1_the_posterior_is_the_image_whatever_the_noise(self, kernel):
        x0, one = images(kernel, 64, 3), torch.ones(64, dtype=torch.int64)
        x_1 = kernel.marginal(x0, one).draw(generator())
        torch.testing.assert_close(
            kernel.posterior(x_1, x0, one).draw(generator(1)), x0, rtol=1e-12, atol=1e-15
        )

    def test_a_step_leaves_the_prior_as_it_is(self, kernel):
        t = some_steps(kernel)
        prior = kernel.prior(images(kernel, len(t), 1))
        x_t = prior.draw(generator())
        _, density, weight = joint(kernel, prior, x_t, t)
        summed = (weight * density).sum(1, keepdim=True)
        torch.testing.assert_close(summed, prior.log_prob(x_t).exp(), rtol=1e-10, atol=0)

    def test_a_step_is_as_likely_there_as_back(self, kernel):
        """Detailed balance: π(x) q(y | x) = π(y) q(x | y)."""
        t = some_steps(kernel)
        x = kernel.prior(images(kernel, len(t), 50)).draw(generator())
        y, prior = kernel.step(x, t).draw(generator(1)), kernel.prior(x)
        there = prior.log_prob(x) + kernel.step(x, t).log_prob(y)
        back = prior.log_prob(y) + kernel.step(y, t).log_prob(x)
        torch.testing.assert_close(there, back, rtol=1e-9, atol=1e-9)

    def test_samples_have_the_laws_mean_and_variance(self, kernel):
        """By 100,000 draws each; five standard errors, which a right law leaves once in 1.7 million times."""
        n, t = 100_000, some_steps(kernel)
        for law in laws(kernel, images(kernel, len(t), 1), t).values():
            wide = dataclasses.replace(law, **{k: v.expand(-1, n) for k, v in tensors(law).items()})
            drawn = wide.draw(generator(2))
            mean = expectation(law, lambda x: x)
            var, fourth = (expectation(law, lambda x, k=k, m=mean: (x - m) ** k) for k in (2, 4))
            off_mean = (drawn.mean(1, keepdim=True) - mean).abs()
            off_var = ((drawn - mean) ** 2).mean(1, keepdim=True) - var
            assert (off_mean <= 5 * (var / n).sqrt() + 1e-12).all()
            assert (off_var.abs() <= 5 * ((fourth - var**2).clamp(min=0) / n).sqrt() + 1e-12).all()


@pytest.mark.parametrize("kernel", KERNELS)
class TestDivergence:
    def pairs(self, kernel):
        """Two laws for one pixel, of each kind, at steps where neither is a point."""
        t = some_steps(kernel, first=2)
        x0 = images(kernel, len(t), 1)
        here, there = laws(kernel, x0, t), laws(kernel, other_images(kernel, x0), t)
        yield from ((here[name], there[name]) for name in ("step", "marginal", "posterior"))
        yield here["posterior"], here["marginal"]
        yield here["marginal"], here["prior"]

    def test_it_is_its_defining_sum(self, kernel):
        for p, q in self.pairs(kernel):
            defined = expectation(p, lambda x, p=p, q=q: p.log_prob(x) - q.log_prob(x))
            torch.testing.assert_close(kernel.kl(p, q), defined.flatten(), rtol=1e-9, atol=1e-14)

    def test_it_is_never_below_zero_but_for_rounding(self, kernel):
        for p, q in self.pairs(kernel):
            assert (kernel.kl(p, q) >= -1e-15).all()

    def test_it_is_zero_between_equals(self, kernel):
        for p, q in self.pairs(kernel):
            assert (kernel.kl(p, p) == 0).all()
            assert (kernel.kl(q, q) == 0).all()

    def test_it_obeys_the_chain_rule(self, kernel):
        """The divergence of (x_{t-1}, x_t) given two images, taken apart in both orders; the step's own part is 0."""
        t = some_steps(kernel, first=2)
        x0 = images(kernel, len(t), 1)
        z0 = other_images(kernel, x0)

        def posteriors_apart(x_t):
            many = [y.expand_as(x_t).reshape(-1, 1) for y in (x_t, x0, z0)]
            steps = t[:, None].expand_as(x_t).reshape(-1)
            p, q = (kernel.posterior(many[0], clean, steps) for clean in many[1:])
            return kernel.kl(p, q).view_as(x_t)

        before = kernel.kl(kernel.marginal(x0, t - 1), kernel.marginal(z0, t - 1))
        after = kernel.kl(kernel.marginal(x0, t), kernel.marginal(z0, t))
        posterior = expectation(kernel.marginal(x0, t), posteriors_apart).flatten()
        torch.testing.assert_close(before, after + posterior, rtol=1e-9, atol=1e-14)

    def test_it_sums_the_coordinates_of_each_image(self, kernel):
        t = some_steps(kernel, first=2)
        x0 = images(kernel, len(t), 1, 2, 3)
        p, q = kernel.marginal(x0, t), kernel.prior(x0)
        total = kernel.kl(p, q)
        assert total.shape == t.shape
        by_pixel = [
            kernel.kl(kernel.marginal(pixel, t), kernel.prior(pixel)) for pixel in x0.flatten(1).split(1, 1)
        ]
        torch.testing.assert_close(total, sum(by_pixel), rtol=1e-9, atol=1e-15)

    def test_the_marginal_nears_the_prior(self, kernel):
        t = torch.arange(1, kernel.schedule.T + 1)
        x0 = images(kernel, 1, 4).expand(len(t), 4)
        away = kernel.kl(kernel.marginal(x0, t), kernel.prior(x0))
        assert (away.diff() < 1e-15).all()
        assert away[-1] == 0 or kernel.schedule.alpha_bar[-1] > 0


@pytest.mark.parametrize("kernel", KERNELS)
class TestBatch:
    def test_no_image_depends_on_its_neighbours(self, kernel):
        t = some_steps(kernel)
        x0 = images(kernel, len(t), 1, 3, 3)
        together = laws(kernel, x0, t)
        x_t = together["marginal"].draw(generator(1))
        for i in range(len(t)):
            one = slice(i, i + 1)
            alone = {
                "step": kernel.step(x0[one], t[one]),
                "marginal": kernel.marginal(x0[one], t[one]),
                "posterior": kernel.posterior(x_t[one], x0[one], t[one]),
            }
            for name, law in alone.items():
                for key, values in tensors(law).items():
                    assert torch.equal(values, tensors(together[name])[key][one]), (name, key)

    def test_an_image_with_a_generator_of_its_own_is_drawn_from_it_alone(self, kernel):
        t = some_steps(kernel)
        x0 = images(kernel, len(t), 1, 3, 3)
        drawn = kernel.marginal(x0, t).draw([generator(i) for i in range(len(t))])
        for i in range(len(t)):
            alone = kernel.marginal(x0[i : i + 1], t[i : i + 1]).draw([generator(i)])
            assert torch.equal(drawn[i : i + 1], alone)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
    def test_laws_and_samples_keep_the_images_dtype_and_shape(self, kernel, dtype):
        t = some_steps(kernel)
        x0 = images(kernel, len(t), 1, 3, 3, dtype=dtype)
        for law in laws(kernel, x0, t).values():
            assert {values.dtype for values in tensors(law).values()} == {dtype}
            assert law.draw(generator()).shape == x0.shape
            assert law.draw(generator()).dtype == dtype

    def test_float32_is_close_to_float64(self, kernel):
        t = some_steps(kernel)
        x0 = images(kernel, len(t), 1, 3, 3).float().double()
        x_t = kernel.marginal(x0, t).draw(generator()).float().double()
        for method, arguments in (
            (kernel.step, (x0,)),
            (kernel.marginal, (x0,)),
            (kernel.posterior, (x_t, x0)),
        ):
            exact = tensors(method(*arguments, t))
            single = tensors(method(*[x.float() for x in arguments], t))
            for name, values in exact.items():
                absolute = 1e-6 if name == "mean" else 0  # a mean is a difference; all else keeps its digits
                torch.testing.assert_close(single[name].double(), values, rtol=1e-6, atol=absolute)

    def test_everything_runs_where_the_images_are(self, kernel):
        """On the meta device, where a tensor made on another one is an error; the steps are on the CPU."""
        t = some_steps(kernel)
        x0 = torch.empty(len(t), 1, 3, 3, device="meta")
        for law in laws(kernel, x0, t).values():
            results = [
                *tensors(law).values(),
                law.draw(),
                law.sample(x0),
                law.log_prob(x0),
                kernel.kl(law, law),
            ]
            assert {values.device.type for values in results} == {"meta"}
        assert {x.device.type for x in trajectory(type(kernel)(linear(3)), x0)} == {"meta"}


def test_trap_4_a_respaced_chain_passes_through_the_same_marginals():
    taus = [1, 40, 700]
    for kind in KINDS:
        full, short = kind(linear()), kind(linear().respace(taus))
        x0 = images(full, 3, 5)
        torch.testing.assert_close(
            tensors(short.marginal(x0, torch.tensor([1, 2, 3]))),
            tensors(full.marginal(x0, torch.tensor(taus))),
        )


def test_trap_15_the_first_marginal_keeps_its_digits_in_float32():
    one = torch.ones(2, dtype=torch.int64)
    bits = torch.tensor([[0.0], [1.0]])
    normal = GaussianDiffusion(linear()).marginal(bits, one)
    coins = BinomialDiffusion(linear()).marginal(bits, one)
    assert normal.var.flatten().tolist() == pytest.approx([1e-4] * 2, rel=1e-7)
    assert [coins.prob[0].item(), coins.rest[1].item()] == pytest.approx([5e-5] * 2, rel=1e-7)
    assert 1 - coins.prob[1].item() != pytest.approx(5e-5, rel=1e-4), "why a Bernoulli has both"


@pytest.mark.parametrize("kernel", [k for k in KERNELS if k.values[0].schedule.T < 10])
class TestTrajectory:
    def test_it_passes_through_the_marginals(self, kernel):
        """By 40,000 walks from one image; five standard errors."""
        n = 40_000
        x0 = images(kernel, 1, 1).expand(n, 1)
        states = list(trajectory(kernel, x0, generator(3)))
        assert torch.equal(states[0], x0)
        assert len(states) == kernel.schedule.T + 1
        for t, x in enumerate(states[1:], start=1):
            law = kernel.marginal(x0[:1], torch.tensor([t]))
            mean = expectation(law, lambda y: y)
            var = expectation(law, lambda y, m=mean: (y - m) ** 2)
            assert abs(x.mean() - mean) < 5 * math.sqrt(var / n), t

    def test_neighbours_are_as_far_apart_as_a_step_takes_them(self, kernel):
        """Marginals alone would also come from states drawn afresh; E[x_{t-1} x_t] tells a walk from those."""
        n = 40_000
        x0 = images(kernel, 1, 1).expand(n, 1)
        states = list(trajectory(kernel, x0, generator(4)))
        for t in range(2, kernel.schedule.T + 1):
            before = kernel.marginal(x0[:1], torch.tensor([t - 1]))

            def product(x, t=t):
                law = kernel.step(x.reshape(-1, 1), torch.full((x.numel(),), t))
                return x * expectation(law, lambda y: y).view_as(x)

            products = states[t - 1] * states[t]
            assert abs(products.mean() - expectation(before, product)) < 5 * products.std() / math.sqrt(n)

    def test_a_walk_with_its_own_generator_is_the_same_alone(self, kernel):
        x0 = images(kernel, 3, 1, 2, 2)
        together = list(trajectory(kernel, x0, [generator(i) for i in range(3)]))
        alone = list(trajectory(kernel, x0[2:], [generator(2)]))
        assert all(torch.equal(a[2:], b) for a, b in zip(together, alone, strict=True))


@pytest.mark.parametrize("kernel", EACH_KIND)
class TestInterface:
    def test_it_is_the_protocols(self, kernel):
        assert isinstance(kernel, Diffusion)
        assert isinstance(kernel.prior(images(kernel, 2, 3)), Law)

    @pytest.mark.parametrize("method", ["step", "marginal", "posterior", "prior", "kl"])
    def test_arguments_have_the_protocols_names(self, kernel, method):
        promised = list(inspect.signature(getattr(Diffusion, method)).parameters)[1:]
        assert list(inspect.signature(getattr(kernel, method)).parameters) == promised

    @pytest.mark.parametrize(
        ("method", "t", "words"),
        [
            ("step", [0, 5], r"t: expected steps in 1\.\.1000, got 0\.\.5"),
            ("marginal", [-1, 5], r"t: expected steps in 0\.\.1000, got -1\.\.5"),
            ("marginal", [3, 1001], r"t: expected steps in 0\.\.1000, got 3\.\.1001"),
            ("posterior", [0, 5], r"t: expected steps in 1\.\.1000, got 0\.\.5"),
            ("marginal", [1.0, 2.0], "t: expected an integer tensor of steps, got torch.float32"),
            ("marginal", [1, 2, 3], r"t: expected one step a sample, shape \(2,\), got \(3,\)"),
        ],
    )
    def test_bad_steps_are_named(self, kernel, method, t, words):
        x = torch.zeros(2, 1, 3, 3)
        with pytest.raises(ValueError, match=words):
            getattr(kernel, method)(*[x] * (2 if method == "posterior" else 1), torch.tensor(t))

    @pytest.mark.parametrize(
        ("method", "shapes", "dtype", "words"),
        [
            ("step", [(1, 2)], torch.uint8, r"x_prev: expected a floating-point tensor, got torch\.uint8"),
            ("marginal", [(1, 2)], torch.bool, r"x0: expected a floating-point tensor, got torch\.bool"),
            ("posterior", [(1, 2)] * 2, torch.int64, r"x_t: expected a floating-point tensor"),
            (
                "posterior",
                [(1, 2), (1, 3)],
                torch.float32,
                r"x0: expected the shape of x_t, \(1, 2\), got \(1, 3\)",
            ),
        ],
    )
    def test_bad_images_are_named(self, kernel, method, shapes, dtype, words):
        with pytest.raises(ValueError, match=words):
            getattr(kernel, method)(*[torch.zeros(shape, dtype=dtype) for shape in shapes], torch.tensor([1]))

    def test_a_wrong_number_of_generators_is_named(self, kernel):
        with pytest.raises(ValueError, match="generators: expected one an image, 2, got 3"):
            kernel.prior(torch.zeros(2, 4)).draw([generator(i) for i in range(3)])


def test_noise_is_drawn_in_the_dtype_of_the_image_but_uniform_numbers_never_below_float32():
    for dtype in (torch.bfloat16, torch.float32, torch.float64):
        like = torch.zeros(2, 3, dtype=dtype)
        assert standard_normal(like, generator()).dtype == dtype
        assert uniform(like, generator()).dtype == torch.promote_types(dtype, torch.float32)

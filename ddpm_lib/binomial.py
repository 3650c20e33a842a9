"""The binomial diffusion kernel: the same chain for images of bits, whose steps replace pixels by coins."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ddpm_lib._checks import check_batch, check_same_shape, check_steps
from ddpm_lib.kernel import Generators, uniform
from ddpm_lib.schedule import Schedule, before


@dataclass(frozen=True)
class Bernoulli:
    """B(prob): independent bits, 0.0 or 1.0, given by the probability of a 1, which may be 0 and may be 1.

    rest: the probability of a 0, 1 - prob unless given. Where prob is near 1 it has digits that the difference
    has lost. Raises ValueError for values that are no probabilities.
    """

    prob: Tensor
    rest: Tensor | None = None

    def __post_init__(self):
        _check_probabilities("prob", self.prob)
        if self.rest is None:
            object.__setattr__(self, "rest", 1 - self.prob)
        _check_probabilities("rest", self.rest)

    @classmethod
    def from_logits(cls, logits: Tensor) -> Bernoulli:
        """Bits with these log odds, log(prob / rest), as a network gives them; up to ±80 none is sure in float32."""
        return cls(logits.sigmoid(), (-logits).sigmoid())

    def sample(self, u: Tensor) -> Tensor:
        """1 where u < prob and else 0, for u uniform in [0, 1) of the samples' shape."""
        by_the_smaller = torch.where(self.prob < self.rest, u < self.prob, 1 - u > self.rest)
        return by_the_smaller.to(self.prob.dtype)

    def draw(self, generators: Generators = None) -> Tensor:
        """A sample; generators: one for the whole batch, one an image, or None for torch's own."""
        return self.sample(uniform(self.prob, generators))

    def log_prob(self, x: Tensor) -> Tensor:
        """log probability of each bit of x, in nats, in x's shape; -inf for a bit that cannot be."""
        _check_bits("x", x)
        return torch.where(x == 1, self.prob, self.rest).log()


class BinomialDiffusion:
    """The chain q with transitions B((1-β_t) x_{t-1} + β_t/2), Sohl-Dickstein et al. 2015, table App. 1.

    Images (B, ...) are floating-point and hold 0.0 and 1.0 alone. Each method takes steps t as (B,) integers on any
    device (the CPU saves a transfer), computes its coefficients in float64, and returns a ``Bernoulli`` in the dtype
    and on the device of the images. All raise ValueError for a step out of range, for a pixel that is not a bit, or
    for shapes that do not agree.
    """

    def __init__(self, schedule: Schedule):
        self.schedule = schedule

    def step(self, x_prev: Tensor, t: Tensor) -> Bernoulli:
        """q(x_t | x_{t-1}), Eq. (eq-binomial-step), for t in 1..T: each bit is flipped with probability β_t/2."""
        self._check("x_prev", x_prev, t, low=1)
        return self._flipped(x_prev, self.schedule.beta / 2, t)

    def marginal(self, x0: Tensor, t: Tensor) -> Bernoulli:
        """q(x_t | x_0), Eq. (eq-binomial-marginal), for t in 0..T; at t = 0 it is x_0 itself."""
        self._check("x0", x0, t, low=0)
        return self._flipped(x0, self.schedule.one_minus_alpha_bar / 2, t)

    def posterior(self, x_t: Tensor, x0: Tensor | Bernoulli, t: Tensor) -> Bernoulli:
        """q(x_{t-1} | x_t, x_0), Eq. (eq-binomial-odds) and (eq-binomial-posterior), t in 1..T.

        At t = 1 it is x_0 itself. x0: bits, or, where x_0 is a guess from x_t, the probability that it is 1: a tensor
        in [0, 1], or its law with all digits (``Bernoulli.from_logits``). A guess gives the mixture
        Σ_{x_0} q(x_{t-1} | x_t, x_0) p(x_0 | x_t), linear in the probability, which is the exact q(x_{t-1} | x_t) of
        a pixel if p(x_0 | x_t) is exact. (To put a probability for x_0 into Bayes' formula itself would count x_t
        twice.)
        """
        self._check("x_t", x_t, t, low=1)
        if not isinstance(x0, Bernoulli):
            _check_probabilities("x0", x0)
            x0 = Bernoulli(x0)
        check_same_shape("x0", x0.prob, "x_t", x_t)
        s = self.schedule
        word_of_xt = ((2 - s.beta) / s.beta).log()
        word_of_x0 = ((1 + before(s.alpha_bar)) / before(s.one_minus_alpha_bar)).log()
        # The log odds that x_{t-1} equals x_t, if x_0 does and if it does not; and the chances of these two cases.
        agree, differ = word_of_xt + word_of_x0, word_of_xt - word_of_x0
        equal, other = _by_bit(x_t, x0.prob, x0.rest)
        stay = equal * s.at(agree.sigmoid(), t, x_t) + other * s.at(differ.sigmoid(), t, x_t)
        flip = equal * s.at((-agree).sigmoid(), t, x_t) + other * s.at((-differ).sigmoid(), t, x_t)
        return Bernoulli(*_by_bit(x_t, stay / (stay + flip), flip / (stay + flip)))

    def prior(self, like: Tensor) -> Bernoulli:
        """π = B(1/2), a fair coin for each pixel, Eq. (eq-coin-target), for images shaped as like."""
        return Bernoulli(torch.full_like(like, 0.5))

    @staticmethod
    def kl(p: Bernoulli, q: Bernoulli) -> Tensor:
        """KL(p ‖ q) in nats, Eq. (eq-kl-bernoulli), summed over each image's coordinates, (B,).

        It is infinite where q excludes a bit that p does not.
        """
        xlogy = torch.special.xlogy  # 0 where its first argument is 0
        ones = xlogy(p.prob, p.prob) - xlogy(p.prob, q.prob)
        zeros = xlogy(p.rest, p.rest) - xlogy(p.rest, q.rest)
        return (ones + zeros).flatten(1).sum(1)

    def _flipped(self, x: Tensor, chances: Tensor, t: Tensor) -> Bernoulli:
        flip = self.schedule.at(chances, t, x)
        return Bernoulli(*_by_bit(x, 1 - flip, flip))

    def _check(self, name: str, x: Tensor, t: Tensor, low: int) -> None:
        check_steps("t", t, low, self.schedule.T)
        check_batch(name, x, t)
        _check_bits(name, x)


def _by_bit(x: Tensor, same: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    """From what belongs to a bit's own value and to the other one: what belongs to 1, and what belongs to 0."""
    return torch.where(x == 1, same, other), torch.where(x == 1, other, same)


def _check_bits(name: str, x: Tensor) -> None:
    _check_values(name, x, (x == 0) | (x == 1), "every pixel to be 0 or 1")


def _check_probabilities(name: str, x: Tensor) -> None:
    if not isinstance(x, Tensor) or not x.is_floating_point():
        got = x.dtype if isinstance(x, Tensor) else type(x).__name__
        raise ValueError(f"{name}: expected a floating-point tensor, got {got}")
    _check_values(name, x, (x >= 0) & (x <= 1), "probabilities in [0, 1]")


def _check_values(name: str, x: Tensor, good: Tensor, expected: str) -> None:
    if x.device.type != "meta" and not good.all():
        raise ValueError(f"{name}: expected {expected}, got {x[~good][0].item()}")

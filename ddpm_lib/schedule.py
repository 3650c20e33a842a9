"""Noise schedules: how fast the forward chain forgets its start.

Index 0 of every table is clean data (ᾱ_0 = 1, β_0 = 0), so ``alpha_bar[t]`` *is* the paper's ᾱ_t for t = 0..T.
The tables are float64 on the CPU, since 1 - ᾱ_1 loses four digits in float32 and some devices have no float64;
``Schedule.at`` casts the few values that a step needs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from ddpm_lib._checks import check_steps
from ddpm_lib._device import moved


@dataclass(frozen=True, eq=False)
class Schedule:
    """A variance-preserving schedule, given by log ᾱ_t: the one table that keeps all digits of both ᾱ_t and 1 - ᾱ_t.

    log_alpha_bar: (T+1,) float64, 0 at index 0, then strictly falling; -inf at T stands for ᾱ_T = 0.
    steps: (T+1,) int64, the step of the *training* schedule that each index stands for. It is 0..T unless the
    schedule was respaced; a network is always asked at ``steps[i]``.

    Raises ValueError when a table breaks one of these rules.
    """

    log_alpha_bar: Tensor
    steps: Tensor | None = None

    def __post_init__(self):
        table = torch.as_tensor(self.log_alpha_bar, dtype=torch.float64, device="cpu")
        if table.ndim != 1 or len(table) < 2:
            raise ValueError(
                f"log_alpha_bar: expected a table of length T + 1 >= 2, got shape {tuple(table.shape)}"
            )
        if table[0] != 0 or not (table[1:] < table[:-1]).all():
            raise ValueError("log_alpha_bar: expected 0 at index 0 and then strictly falling values")
        steps = torch.arange(len(table)) if self.steps is None else torch.as_tensor(self.steps, device="cpu")
        if steps.shape != table.shape or steps[0] != 0 or not (steps.diff() > 0).all():
            raise ValueError(
                f"steps: expected {len(table)} rising steps that start at 0, got {steps.tolist()}"
            )
        object.__setattr__(self, "log_alpha_bar", table)
        object.__setattr__(self, "steps", steps.to(torch.int64))

    @property
    def T(self) -> int:
        """The number of noising steps."""
        return len(self.log_alpha_bar) - 1

    @cached_property
    def alpha_bar(self) -> Tensor:
        """ᾱ_t, (T+1,): the share of the data's variance that is left, Eq. (eq-alpha-bar)."""
        return self.log_alpha_bar.exp()

    @cached_property
    def one_minus_alpha_bar(self) -> Tensor:
        """1 - ᾱ_t, (T+1,): the noise's variance, to full precision even where ᾱ_t is near 1."""
        return -self.log_alpha_bar.expm1() + 0.0  # + 0.0 turns the -0.0 at t = 0 into 0.0

    @cached_property
    def signal(self) -> Tensor:
        """√ᾱ_t, (T+1,): what x_0 is multiplied by in x_t."""
        return self.alpha_bar.sqrt()

    @cached_property
    def sigma(self) -> Tensor:
        """√(1-ᾱ_t), (T+1,): what ε is multiplied by in x_t."""
        return self.one_minus_alpha_bar.sqrt()

    @cached_property
    def alpha(self) -> Tensor:
        """α_t = ᾱ_t / ᾱ_{t-1}, (T+1,); α_0 = 1."""
        return self._log_alpha.exp()

    @cached_property
    def beta(self) -> Tensor:
        """β_t = 1 - α_t, (T+1,), the diffusion rate; β_0 = 0. After respacing these are the longer steps' rates."""
        return -self._log_alpha.expm1() + 0.0

    @cached_property
    def beta_tilde(self) -> Tensor:
        """β̃_t, (T+1,), the posterior's variance, Eq. (eq-posterior-variance); β̃_0 = β̃_1 = 0."""
        variances = before(self.one_minus_alpha_bar) / self.one_minus_alpha_bar * self.beta
        variances[0] = 0  # there is no step before the data
        return variances

    @cached_property
    def snr(self) -> Tensor:
        """ᾱ_t / (1 - ᾱ_t), (T+1,), Eq. (eq-snr); infinite at t = 0."""
        return self.alpha_bar / self.one_minus_alpha_bar

    @cached_property
    def ends_in_noise(self) -> bool:
        """Whether ᾱ_T = 0, so that x_T is all noise and says nothing about x_0."""
        return self.alpha_bar[-1].item() == 0

    @property
    def _log_alpha(self) -> Tensor:
        return torch.cat(
            [torch.zeros(1, dtype=torch.float64), self.log_alpha_bar[1:] - self.log_alpha_bar[:-1]]
        )

    def same_as(self, other: Schedule) -> bool:
        """Whether both are one schedule on the same steps, to the bit."""
        return self.log_alpha_bar.equal(other.log_alpha_bar) and self.steps.equal(other.steps)

    def __repr__(self) -> str:
        """Steps and rates in one line, to tell one schedule from another in an error."""
        bar = self.alpha_bar[-1].item()
        return f"Schedule of {self.T} steps {self.steps[1]}..{self.steps[-1]}, alpha_bar[T] = {bar:.3g}"

    def at(self, table: Tensor, t: Tensor, like: Tensor) -> Tensor:
        """Values of one of the tables at steps t (B,), shaped (B, 1, ..., 1), device and dtype of like (B, ...).

        Of a table (T+1, ...) whose pixels differ, (B, ...). t: best on the CPU, which no other device need wait for.
        """
        if t.device.type == "meta":
            table = table.to(t.device)
        else:
            t = t.cpu()  # where the tables are; some devices have no float64
        picked = moved(table.index_select(0, t).to(like.dtype), like.device)
        return picked.view(-1, *[1] * (like.ndim - 1)) if picked.ndim == 1 else picked

    def respace(self, taus) -> Schedule:
        """The chain that visits only the steps taus, Nichol & Dhariwal 2021, Eq. 19.

        taus: rising steps in 1..T, any sequence of integers; step 0 is added. The result has len(taus) steps,
        β_i = 1 - ᾱ_{τ_i} / ᾱ_{τ_{i-1}} and remembers each τ_i in ``steps``.
        """
        taus = torch.as_tensor(taus)
        if taus.ndim != 1 or len(taus) == 0 or taus.is_floating_point():
            raise ValueError(f"taus: expected a sequence of at least one integer step, got {taus!r}")
        check_steps("taus", taus, 1, self.T)
        if not (taus.diff() > 0).all():
            raise ValueError(f"taus: expected strictly rising steps, got {taus.tolist()}")
        index = torch.cat([torch.zeros(1, dtype=torch.int64), taus.to(torch.int64)])
        return Schedule(self.log_alpha_bar[index], self.steps[index])

    def spaced(self, S: int, spacing: str = "uniform") -> Schedule:
        """The chain on S of these steps, chosen by ``spaced_steps`` or, with "log-snr", by their noise.

        log-snr: the steps nearest to even ones in log SNR, the clock of ``samplers.dpm_solver``, both ends in; where
        several fall on one step they take its neighbours. Raises ValueError where ᾱ_T = 0, which has no log SNR.
        """
        if spacing != "log-snr":
            return self.respace(spaced_steps(self.T, S, spacing))
        if self.ends_in_noise:
            raise ValueError("spacing: expected another than log-snr where alpha_bar[T] = 0")
        _check_share(S, self.T)
        clock = -self.snr[1:].log()  # rises
        wanted = torch.linspace(clock[0], clock[-1], S, dtype=torch.float64) if S > 1 else clock[-1:]
        return self.respace(_apart(1 + (clock - wanted[:, None]).abs().argmin(1), self.T))


def before(table: Tensor) -> Tensor:
    """The table one step earlier: its value for t - 1 at index t; index 0, which has none before it, keeps its own."""
    return torch.cat([table[:1], table[:-1]])


def from_betas(betas) -> Schedule:
    """The schedule with the given β_1..β_T, each in (0, 1]; only β_T may be 1 (then ᾱ_T = 0)."""
    betas = torch.as_tensor(betas, dtype=torch.float64)
    if betas.ndim != 1 or len(betas) == 0 or not ((betas > 0) & (betas <= 1)).all():
        raise ValueError(f"betas: expected a sequence of rates in (0, 1], got {betas}")
    return Schedule(torch.cat([torch.zeros(1, dtype=torch.float64), (-betas).log1p().cumsum(0)]))


def linear(T: int = 1000, beta_1: float = 1e-4, beta_T: float = 0.02) -> Schedule:
    """β_t rises in a straight line from beta_1 to beta_T, DDPM section 4."""
    _check_count(T)
    if not 0 < beta_1 <= beta_T < 1:
        raise ValueError(f"beta_1, beta_T: expected 0 < beta_1 <= beta_T < 1, got {beta_1} and {beta_T}")
    return from_betas(torch.linspace(beta_1, beta_T, T, dtype=torch.float64))


def cosine(T: int = 1000, s: float = 0.008, max_beta: float = 0.999) -> Schedule:
    """ᾱ_t = f(t)/f(0), f(t) = cos²((t/T + s)/(1 + s) · π/2), Nichol & Dhariwal 2021, Eq. 17.

    As there, β_t is capped at max_beta, which keeps ᾱ_T above zero. The formula is for ᾱ_t, not for β_t or α_t.
    """
    _check_count(T)
    if s < 0 or not 0 < max_beta < 1:
        raise ValueError(f"s, max_beta: expected s >= 0 and 0 < max_beta < 1, got {s} and {max_beta}")
    phase = (torch.arange(T + 1, dtype=torch.float64) / T + s) / (1 + s)
    falling = torch.cos(phase * math.pi / 2) ** 2
    return from_betas((1 - falling[1:] / falling[:-1]).clamp(max=max_beta))


def constant_share(T: int = 1000) -> Schedule:
    """β_t = 1/(T - t + 1): each step takes the share 1/T of the signal, ᾱ_t = 1 - t/T, Eq. (eq-constant-share).

    Sohl-Dickstein et al. 2015, section 2.4.1, for binomial diffusion. The last step takes all that is left: ᾱ_T = 0.
    """
    _check_count(T)
    return from_betas(1 / torch.arange(T, 0, -1, dtype=torch.float64))


SPACINGS = ("uniform", "leading", "trailing", "quadratic", "log-snr")


def spaced_steps(T: int, S: int, spacing: str = "uniform") -> Tensor:
    """S rising steps of 1..T to sample on, (S,) int64; S = T gives all of them with every spacing.

    uniform: from 1 to T, evenly (both ends in). leading: 1, 1 + T/S, ...; the noisiest steps may be left out.
    trailing: T, T - T/S, ...; the cleanest may be left out. quadratic: evenly in the square root of t, dense
    near the data, both ends in (DDIM, appendix D.2, there ending at 0.8 T).
    """
    _check_count(T)
    _check_share(S, T)
    i = torch.arange(S)
    if spacing == "uniform":
        taus = 1 + i * ((T - 1) / (S - 1)) if S > 1 else i + T
    elif spacing == "leading":
        taus = 1 + i * T // S
    elif spacing == "trailing":
        taus = T - i.flip(0) * T // S
    elif spacing == "quadratic":
        taus = torch.linspace(1, math.sqrt(T), S, dtype=torch.float64) ** 2 if S > 1 else i + T
        taus = _apart(taus.round(), T)
    elif spacing == "log-snr":
        raise ValueError("spacing: log-snr is for Schedule.spaced, as it needs a schedule")
    else:
        raise ValueError(f"spacing: expected one of {', '.join(SPACINGS)}, got {spacing!r}")
    return taus.round().to(torch.int64)


def _apart(taus: Tensor, T: int) -> Tensor:
    """Rising steps, of which some are the same: these move apart, and none past T."""
    i = torch.arange(len(taus))
    return ((taus - i).cummax(0).values + i).minimum(T - i.flip(0))


def _check_share(S, T: int) -> None:
    if not 1 <= S <= T:
        raise ValueError(f"S: expected a number of steps in 1..{T}, got {S}")


def _check_count(T) -> None:
    if not isinstance(T, int) or T < 1:
        raise ValueError(f"T: expected a whole number of steps >= 1, got {T!r}")

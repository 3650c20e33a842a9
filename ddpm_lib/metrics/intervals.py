"""Intervals at 95 %, each for what it is an interval of: a share, a mean, a median, a comparison, a distance."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor

Z = 1.959964  # the normal law's 97.5 % quantile
GROUPS, T_GROUPS = (
    20,
    2.093024,
)  # groups of the jackknife; Student's 97.5 % quantile for 19 degrees of freedom


def share_interval(hits: int, n: int) -> tuple[float, float]:
    """The interval of a share of which hits of n were seen, by Wilson's score, which holds near 0 and 1 too."""
    middle, reach = hits + Z * Z / 2, Z * math.sqrt(hits * (n - hits) / n + Z * Z / 4)
    return (middle - reach) / (n + Z * Z), (middle + reach) / (n + Z * Z)


def mean_interval(values: Tensor, extra_variance: float = 0.0) -> tuple[float, float, float]:
    """Mean of independent values (N,), N >= 2, and its interval: ± 1.96 standard errors.

    extra_variance: of the mean, from another source than the choice of these values.
    """
    values = values.double()
    reach = Z * math.sqrt(values.var().item() / len(values) + extra_variance)
    return values.mean().item(), values.mean().item() - reach, values.mean().item() + reach


def median_interval(values: Tensor) -> tuple[float, float, float]:
    """Median of independent values (N,) and its interval by order: ranks N/2 ± 0.98 √N, whatever their law."""
    ordered, n = values.double().sort().values, len(values)
    reach = Z * math.sqrt(n) / 2
    low, high = max(math.floor((n - 1) / 2 - reach), 0), min(math.ceil((n - 1) / 2 + reach), n - 1)
    return ordered.quantile(0.5).item(), ordered[low].item(), ordered[high].item()


def smaller_interval(a: Tensor, b: Tensor) -> tuple[float, float, float]:
    """P(a < b) + P(a = b)/2 for one of each, from (N,) and (M,) values, and its interval (DeLong et al. 1988)."""
    a, b = a.double(), b.double()
    ordered = b.sort().values
    below, up_to = (torch.searchsorted(ordered, a, right=right) for right in (False, True))
    of_a = 1 - (below + up_to).double() / (2 * len(b))
    ordered = a.sort().values
    below, up_to = (torch.searchsorted(ordered, b, right=right) for right in (False, True))
    of_b = (below + up_to).double() / (2 * len(a))
    reach = Z * math.sqrt(of_a.var().item() / len(a) + of_b.var().item() / len(b))
    return of_a.mean().item(), max(of_a.mean().item() - reach, 0.0), min(of_a.mean().item() + reach, 1.0)


def jackknife_interval(
    n: int, statistic: Callable[[Tensor], float], value: float
) -> tuple[float, float, float]:
    """The value of a smooth statistic of n rows and its interval, from leaving out a twentieth of them at a time.

    statistic: of the rows with an index (K,) int64. Each run of n/20 rows is left out in turn, so every run should be a
    fair sample, such as all classes in turn. The interval is of what the statistic is on average *for this n*: a bias
    that it has for few rows is not taken out. Raises ValueError for fewer than 20 rows.
    """
    if n < GROUPS:
        raise ValueError(f"n: expected at least {GROUPS} rows, got {n}")
    rows, edges = torch.arange(n), [round(k * n / GROUPS) for k in range(GROUPS + 1)]
    left = [statistic(torch.cat([rows[:low], rows[high:]])) for low, high in pairwise(edges)]
    spread = torch.tensor(left, dtype=torch.float64).var(correction=0).item()
    reach = T_GROUPS * math.sqrt((GROUPS - 1) * spread)
    return value, value - reach, value + reach

"""Intervals at 95 %."""

from __future__ import annotations

import math


def share_interval(hits: int, n: int) -> tuple[float, float]:
    """The 95 % interval of a share of which hits of n were seen, by Wilson's score, which holds near 0 and 1 too."""
    z = 1.959964
    middle, reach = hits + z * z / 2, z * math.sqrt(hits * (n - hits) / n + z * z / 4)
    return (middle - reach) / (n + z * z), (middle + reach) / (n + z * z)

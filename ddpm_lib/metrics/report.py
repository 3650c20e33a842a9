"""A table of measurements: each a number, the count of images behind it, and an interval."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Row:
    """One number: key for programs, title for people, n images. low, high: 95 % interval, and how it was made."""

    key: str
    title: str
    value: float
    n: int
    low: float
    high: float
    how: str

    @classmethod
    def of(cls, key: str, title: str, n: int, told: tuple[float, float, float], how: str) -> Row:
        """The row of a value and its interval, told as (value, low, high), as the ``..._interval`` functions do."""
        return cls(key, title, told[0], n, told[1], told[2], how)


@dataclass(frozen=True)
class Report:
    """The rows of an evaluation, and what was evaluated and how."""

    rows: tuple[Row, ...]
    about: dict

    def __getitem__(self, key: str) -> Row:
        """The row with this key. Raises KeyError where the evaluation has none."""
        for row in self.rows:
            if row.key == key:
                return row
        raise KeyError(key)

    def to_dict(self) -> dict:
        """As plain JSON values."""
        return {"about": self.about, "rows": [asdict(row) for row in self.rows]}

    def as_text(self) -> str:
        """A table for people."""
        table = [("", "value", "n", "95 % interval", "")]
        for row in self.rows:
            digits = _digits(row)
            low, high = f"{row.low:.{digits}f}", f"{row.high:.{digits}f}"
            table.append(
                (row.title, f"{row.value:.{digits}f}", f"{row.n:,}", f"{low} .. {high}", f"({row.how})")
            )
        wide = [max(len(line[k]) for line in table) for k in range(4)]
        lines = [
            f"{a:<{wide[0]}}  {b:>{wide[1]}}  {c:>{wide[2]}}  {d:>{wide[3]}}  {e}" for a, b, c, d, e in table
        ]
        head = [f"{key}: {value}" for key, value in self.about.items()]
        return "\n".join([*head, "", *(line.rstrip() for line in lines)])


def _digits(row: Row) -> int:
    """Decimals that show the interval's width, or the value, to three figures."""
    size = row.high - row.low or abs(row.value)
    return max(0, min(2 - math.floor(math.log10(size)), 8)) if size > 0 and math.isfinite(size) else 2

"""What a check leaves behind: one line to read, and a record for tools in the cell's output."""

from __future__ import annotations

import re
import sys
from dataclasses import asdict, dataclass, field

MIME = "application/vnd.ddpm.proof+json"

REASONS = (
    "Bayes",
    "Chapman-Kolmogorov",
    "Jensen",
    "Markov property",
    "Tweedie",
    "algebra",
    "chain rule",
    "change of variables",
    "completing the square",
    "convexity",
    "definition",
    "differentiation",
    "enumeration",
    "expansion",
    "independence",
    "induction",
    "integration",
    "integration by parts",
    "limit",
    "linearity",
    "normalisation",
    "reparameterisation",
    "substitution",
    "summation",
    "symmetry",
    "telescoping",
    "total probability",
    "triangle inequality",
)


class ProofError(AssertionError):
    """A claim that is false, or that means nothing somewhere; label, point, left and right say where."""

    def __init__(self, message: str, label: str = "", point: dict | None = None, left=None, right=None):
        super().__init__(message)
        self.label, self.point, self.left, self.right = label, point or {}, left, right


@dataclass(frozen=True)
class Record:
    """The outcome for one label.

    kind: identity, inequality, definition or assumption. status: proved, checked or stated. lhs, rhs: the
    sides as text to read; lhs_code, rhs_code: as text that gives the SymPy objects back. points: how many
    random points it was tried at, drawn from seed. undefined_at: ends of the steps' ranges where a side has
    no value. where_code, given_code, induction: what else ``verify.recheck`` needs to check it again. slow: why it
    takes long.
    """

    label: str
    kind: str
    status: str
    by: str
    relation: str
    lhs: str
    rhs: str
    detail: str
    lhs_code: str = ""
    rhs_code: str = ""
    seed: int = 0
    points: int = 0
    where: list[str] = field(default_factory=list)
    undefined_at: list[str] = field(default_factory=list)
    where_code: list[str] = field(default_factory=list)
    given_code: list[str] = field(default_factory=list)
    induction: dict = field(default_factory=dict)
    slow: str = ""

    def line(self) -> str:
        """The one line that a reader sees."""
        mark = {"proved": "✓", "checked": "≈", "stated": "·"}[self.status]
        return f"{mark} {self.label}  {self.detail}"


class Result:
    """A Record that shows itself once: in a notebook it was displayed when the check ran."""

    def __init__(self, record: Record):
        self.record = record

    def __getattr__(self, name: str):
        if name == "record":
            raise AttributeError(name)
        return getattr(self.record, name)

    def __repr__(self) -> str:
        return self.record.line()

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict:
        return {"text/plain": self.record.line(), MIME: asdict(self.record)}

    def _ipython_display_(self) -> None:
        """Nothing more to show when the result is a cell's last value."""


def show(record: Record) -> Result:
    """Displays the record in a notebook, prints its line elsewhere, and hands it back."""
    result = Result(record)
    if _in_notebook():
        from IPython.display import display

        display(result._repr_mimebundle_(), raw=True)
    else:
        _print(record.line())
    return result


def _print(line: str) -> None:
    """Print a line, with escapes for what the output's encoding lacks, as a pipe's on Windows lacks ✓."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    print(line.encode(encoding, "backslashreplace").decode(encoding))


def _in_notebook() -> bool:
    try:
        from IPython import get_ipython
    except ImportError:
        return False
    return get_ipython() is not None


def check_label(label: str) -> None:
    """Raises ValueError unless label looks like eq-posterior-mean."""
    if not isinstance(label, str) or not re.fullmatch(r"[a-z]+(-[a-z0-9]+)+", label):
        raise ValueError(
            f"label: expected small words joined by hyphens, such as 'eq-posterior-mean', got {label!r}"
        )


def check_reason(by: str) -> None:
    """Raises ValueError unless by is one of REASONS."""
    if by not in REASONS:
        raise ValueError(f"by: expected one of {', '.join(REASONS)}; got {by!r}")

"""refused: show that verify rejects a false claim, and with a counterexample."""

from __future__ import annotations

from textwrap import fill

from ddpm_lib.proof.record import ProofError
from ddpm_lib.proof.verify import verify

WIDTH = 70  # what fits beside the contents on a page


def refusal(label: str, lhs, rhs, *, by: str = "algebra", relation: str = "==", **options) -> ProofError:
    """The counterexample by which ``verify`` refuses a false claim.

    The arguments are those of ``verify``. Raises AssertionError if the claim is accepted, and if it is refused for
    anything but values that differ at an admissible point (a side that has no value refutes nothing); ValueError
    as ``verify`` does for a claim that says nothing.
    """
    try:
        accepted = verify(label, lhs, rhs, by=by, relation=relation, **options)
    except ProofError as error:
        if error.left is None:
            raise AssertionError(f"{label} was refused without a counterexample: {error}") from error
        return error
    raise AssertionError(f"{label} was not refused: {accepted.status}")


def refused(label: str, lhs, rhs, *, by: str = "algebra", relation: str = "==", **options) -> None:
    """Prints the counterexample to a false claim, or raises as ``refusal`` does."""
    print(fill(str(refusal(label, lhs, rhs, by=by, relation=relation, **options)), WIDTH), end="\n\n")

"""Checks the book's equations: proved by SymPy, or refuted with a counterexample."""

from ddpm_lib.proof.record import MIME, REASONS, ProofError, Record, Result
from ddpm_lib.proof.verify import assume, define, verify, verify_induction

__all__ = [
    "MIME",
    "REASONS",
    "ProofError",
    "Record",
    "Result",
    "assume",
    "define",
    "verify",
    "verify_induction",
]

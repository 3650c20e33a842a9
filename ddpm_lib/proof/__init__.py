"""Checks the book's equations: proved by SymPy, or refuted with a counterexample.

How to state a claim, with symbols from ``ddpm_lib.proof.notation``:

    step = normal_pdf(x_t, sqrt(alpha[t]) * x_prev, beta[t])                     # mean and *variance*
    define("eq-snr", snr[t], alpha_bar[t] / (1 - alpha_bar[t]))                  # agrees with the table, or fails
    assume("eq-markov", "x_t depends on the past through x_{t-1} alone")
    verify("eq-convolution", Integral(step * earlier, (x_prev, -oo, oo)), marginal, by="integration")
    verify("eq-bayes", step * earlier / marginal, posterior, by="Bayes")        # a ratio of densities is a density
    verify("eq-kl", kl_integral(p, q, x_t), closed_form, by="integration")
    verify("eq-toss", Sum(toss * earlier, (bit_prev, 0, 1)), bit_marginal, by="summation")  # bits: all cases
    verify("eq-ledger", Sum(beta[k] * alpha_bar[t] / alpha_bar[k], (k, 1, t)), 1 - alpha_bar[t], by="telescoping")
    verify("eq-small", Limit(beta_tilde[t] / beta[t], beta[t], 0), 1, by="limit")
    verify("eq-falls", snr[t], snr[t - 1], relation="<=", by="algebra", where=[t >= 2])
    verify_induction("eq-mean", sqrt(alpha_bar[t]) * x_0, base=x_0, step=lambda m: sqrt(alpha[t]) * m)

Sums and products may run to t, T or another symbol: they are closed or proved by an induction of their own. Write
numbers exactly (Rational(1, 2)), and give symbols of your own an assumption (real=True, positive=True). A claim about
densities that may be any takes ``unknown_density("p")``. Where a side has no value at t = 1 the record says so.
"""

from ddpm_lib.proof.record import MIME, REASONS, ProofError, Record, Result
from ddpm_lib.proof.refused import refusal, refused
from ddpm_lib.proof.verify import assume, define, recheck, verify, verify_induction

__all__ = [
    "MIME",
    "REASONS",
    "ProofError",
    "Record",
    "Result",
    "assume",
    "define",
    "recheck",
    "refusal",
    "refused",
    "verify",
    "verify_induction",
]

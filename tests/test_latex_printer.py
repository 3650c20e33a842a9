"""SymPy's own LaTeX printer as an independent writer: what it prints is read back."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import sympy
from hypothesis import given, settings
from hypothesis import strategies as st
from sympy import (
    Integral,
    Rational,
    S,
    Sum,
    exp,
    log,
    sqrt,
)
from sympy.printing.latex import LatexPrinter

from ddpm_lib.proof import book
from ddpm_lib.proof import notation as N
from ddpm_lib.proof.codes import decode
from ddpm_lib.proof.distributions import normal_pdf
from ddpm_lib.proof.latex import read, sides_code
from ddpm_lib.proof.same import difference, same
from ddpm_lib.proof.tokens import tokens
from tests.test_latex import a, alpha_bar, b, c, i, left, n, t, x

BOOK = Path(__file__).resolve().parents[1] / "book"


class Printer(LatexPrinter):
    """SymPy's own printer, which knows nothing of the reader, with the book's letters."""

    def _print_Symbol(self, e, style=None):
        row = N.BY_KEY.get(e.name)
        return row.latex if row is not None and row.object == e else self.letter(e.name)

    def _print_Indexed(self, e):
        row = N.BY_KEY.get(str(e.base.label))
        stem = re.sub("_[tk]$", "", row.latex) if row is not None else self.letter(str(e.base.label))
        return f"{stem}_{{{self._print(e.indices[0])}}}"

    def _print_Function(self, e, exp=None):
        if not isinstance(e, sympy.core.function.AppliedUndef):
            return super()._print_Function(e, exp)
        name, arguments = type(e).__name__, [self._print(arg) for arg in e.args]
        shown = r" \mid ".join([arguments[0], ", ".join(arguments[1:])] if arguments[1:] else arguments)
        if name.endswith("_tail"):
            name, shown = name.removesuffix("_tail"), rf"x_{{{arguments[0]}}}, \dots, x_T"
        if name.endswith("_joint"):
            name, shown = name.removesuffix("_joint"), ", ".join(arguments)
        shown = rf"{self.letter(name)}\left({shown}\right)"
        return shown if exp is None else f"{shown}^{{{exp}}}"

    def _print_Sum(self, e):
        """A double sum as one sign after the other, where SymPy's is one sign with two lines below it."""
        if len(e.limits) == 1:
            return super()._print_Sum(e)
        *inner, (k, low, high) = e.limits
        sign = rf"\sum_{{{self._print(k)}={self._print(low)}}}^{{{self._print(high)}}}"
        return f"{sign} {self._print(e.func(e.function, *inner))}"

    def _needs_mul_brackets(self, expr, first=False, last=False):
        """A derivative acts on all that follows it, so it is put in brackets unless it is the last factor."""
        if isinstance(expr, sympy.Derivative):
            return not last
        return super()._needs_mul_brackets(expr, first, last)

    @staticmethod
    def letter(name):
        base, *marks = name.split("_")
        accents = [mark for mark in marks if mark in ("bar", "hat", "tilde")]
        star = "^*" if "star" in marks else ""
        subs = [mark for mark in marks if mark not in (*accents, "star")]
        if base == "norm":
            return rf"\lVert {subs[0]} \rVert"
        greek = {"eps": r"\varepsilon", "lambda": r"\lambda"}.get(base) or rf"\{base}"
        head = base if len(base) == 1 else greek if known(greek) else rf"\mathrm{{{base}}}"
        for accent in accents:
            head = rf"\{accent}{{{head}}}"
        return head + star + "".join(f"_{{{sub if len(sub) < 3 else word(sub)}}}" for sub in subs)


def known(macro):
    try:
        return bool(tokens(macro))
    except ValueError:
        return False


def word(sub):
    return rf"\{sub}" if known(rf"\{sub}") else rf"\mathrm{{{sub}}}"


PRINTER = Printer({"root_notation": False, "mat_str": "pmatrix", "mat_delim": ""})


def claims():
    found = []
    for display, held in book.equations(BOOK):
        codes = sides_code(held)
        if held["kind"] in ("identity", "inequality") and all(codes):
            found.append(pytest.param(held, *map(decode, codes), id=display.label))
    return found


@pytest.mark.parametrize(("held", "lhs", "rhs"), claims())
def test_what_sympy_prints_of_each_claim_is_read_back(held, lhs, rhs):
    sides = [side if isinstance(side, (list, tuple)) else [side] for side in (lhs, rhs)]
    pairs = list(zip(*sides, strict=True))
    latex = r", \quad ".join(f"{PRINTER.doprint(one)} = {PRINTER.doprint(other)}" for one, other in pairs)
    reading = read(latex, held)
    assert difference(reading._replace(relation=held["relation"]), held) == "", latex


atoms = st.sampled_from([a, b, c, x, S(2), S(3), Rational(1, 2), alpha_bar[t - 1], N.x_prev, N.var_q])


def grown(smaller):
    pairs = st.tuples(smaller, smaller)
    return st.one_of(
        pairs.map(sum),
        pairs.map(lambda pair: pair[0] * pair[1]),
        pairs.map(lambda pair: pair[0] - pair[1]),
        pairs.map(lambda pair: pair[0] / (1 + pair[1] ** 2)),
        smaller.map(lambda e: e**2),
        smaller.map(lambda e: sqrt(1 + e**2)),
        smaller.map(lambda e: log(1 + e**2)),
        smaller.map(lambda e: exp(-e)),
        smaller.map(lambda e: e if e.has(Sum) else Sum(e * a**i, (i, 1, n))),
        smaller.map(lambda e: Integral(c**x * e, (x, 0, 1))),
        pairs.map(lambda pair: normal_pdf(x, *pair)),
    )


@settings(max_examples=100, deadline=None)
@given(st.recursive(atoms, grown, max_leaves=6))
def test_what_sympy_prints_of_any_expression_is_read_back(e):
    powers_of_functions = [
        f for f in e.atoms(sympy.Pow) if isinstance(f.base, (log, normal_pdf, Sum, Integral))
    ]
    if powers_of_functions:
        return
    latex = PRINTER.doprint(e)
    assert same(left(latex), e), latex


def test_only_reading_needs_the_parser():
    code = """
import sys
sys.modules["lark"] = None
import ddpm_lib.proof.book
from ddpm_lib.proof.latex import read
try:
    read("a = b", {"kind": "identity", "lhs_code": "Symbol('a')", "rhs_code": "Symbol('b')"})
except ImportError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "pip install lark" in done.stdout

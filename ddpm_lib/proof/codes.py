"""SymPy objects as text and back, with all that srepr leaves out: what an unknown function is assumed to be."""

from __future__ import annotations

from functools import cache

import sympy
from sympy import Function, sympify
from sympy.core.function import AppliedUndef
from sympy.functions.elementary.piecewise import ExprCondPair
from sympy.printing.repr import ReprPrinter

from ddpm_lib.proof.distributions import bernoulli_pmf, normal_pdf


class _Printer(ReprPrinter):
    def _print_FunctionClass(self, cls) -> str:
        if not issubclass(cls, AppliedUndef):
            return super()._print_FunctionClass(cls)
        assumed = "".join(f", {name}={value}" for name, value in _assumptions(cls).items())
        return f"Function({cls.__name__!r}{assumed})"


def _assumptions(cls) -> dict:
    """What an unknown function was declared with, of which SymPy keeps all that follows from it."""
    for name in ("positive", "nonnegative", "real"):
        if Function(cls.__name__, **{name: True})._kwargs == cls._kwargs:
            return {name: True}
    return dict(sorted(cls._kwargs.items()))


def encode(e) -> str:
    """A SymPy object (or a list of them) as text; nothing for plain text."""
    return "" if isinstance(e, str) else _Printer().doprint(sympify(e))


def decode(code: str):
    """What ``encode`` was given. Raises ValueError for text that it did not write."""
    try:
        return eval(code, {"__builtins__": {}}, _names())
    except Exception as error:
        raise ValueError(
            f"code: expected a SymPy object as encode writes it, got {code!r} ({error})"
        ) from None


@cache
def _names() -> dict:
    public = {name: getattr(sympy, name) for name in dir(sympy) if not name.startswith("_")}
    return public | {"normal_pdf": normal_pdf, "bernoulli_pmf": bernoulli_pmf, "ExprCondPair": ExprCondPair}

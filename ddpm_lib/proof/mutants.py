"""Wrong versions of a right equation, in LaTeX as it is displayed or in SymPy: the checks are there to refuse them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import combinations, zip_longest

from sympy import (
    Add,
    Derivative,
    Expr,
    Indexed,
    Integral,
    Limit,
    Mul,
    Pow,
    Product,
    Rational,
    S,
    Sum,
    Symbol,
    sympify,
)

from ddpm_lib.proof import notation as N

SWAPPED_TABLES = {N.alpha: N.alpha_bar, N.alpha_bar: N.alpha, N.beta: N.beta_tilde, N.beta_tilde: N.beta}
ALIKE = [  # symbols that are easily taken for each other
    {N.x_0, N.x_t, N.x_prev, N.x_0_hat},
    {N.bit_0, N.bit_t, N.bit_prev},
    {N.y, N.y_prev},
    {N.y_bit, N.y_bit_prev},
    {N.eps, N.eps_hat},
    {N.mean_p, N.mean_q},
    {N.var_p, N.var_q},
    {N.prob_p, N.prob_q},
]


def pick(found: Iterable[tuple[str, object]], most: int) -> dict:
    """At most so many of the (kind, mutant) pairs, as mutant -> kind, taking one of each kind in turn."""
    kinds: dict[str, list] = {}
    for kind, mutant in found:
        kinds.setdefault(kind, []).append(mutant)
    turns = (
        (kind, mutant)
        for turn in zip_longest(*kinds.values())
        for kind, mutant in zip(kinds, turn, strict=True)
        if mutant is not None
    )
    chosen: dict = {}
    for kind, mutant in turns:
        if len(chosen) < most:
            chosen.setdefault(mutant, kind)
    return chosen


def of_expression(e: Expr) -> Iterator[tuple[str, Expr]]:
    """Expressions that differ from e in one place, or by one exchange throughout, each with its kind."""
    e = sympify(e)
    for kind, mutant in (*_throughout(e), *_one_place(e)):
        if mutant != e and not mutant.has(S.NaN, S.ComplexInfinity):
            yield kind, mutant


def _throughout(e: Expr) -> Iterator[tuple[str, Expr]]:
    tables = {q: SWAPPED_TABLES[q.base][q.indices[0]] for q in e.atoms(Indexed) if q.base in SWAPPED_TABLES}
    yield "bar", e.xreplace(tables)
    if not any(N.t in f.variables for f in e.atoms(Sum, Product, Integral)):
        yield "index", e.xreplace({N.t: N.t - 1})
    for group in ALIKE:
        for a, b in combinations(sorted(group & e.free_symbols, key=str), 2):
            yield "order", e.xreplace({a: b, b: a})


def _one_place(e: Expr) -> Iterator[tuple[str, Expr]]:
    """e with one of its parts changed, at every depth."""
    yield from _changed(e)
    if isinstance(e, Indexed):
        return
    for place, arg in enumerate(e.args):
        if isinstance(arg, Expr):
            for kind, mutant in _one_place(arg):
                yield from _made(kind, e, [*e.args[:place], mutant, *e.args[place + 1 :]])


def _made(kind: str, e: Expr, args: list) -> Iterator[tuple[str, Expr]]:
    """e with these arguments, if there is such an expression: a sum's variable, say, must be a symbol."""
    try:
        yield kind, e.func(*args)
    except (TypeError, ValueError, NotImplementedError):
        return


def _changed(e: Expr) -> Iterator[tuple[str, Expr]]:
    if isinstance(e, Indexed):
        m, *others = e.indices
        if e.base in SWAPPED_TABLES:
            yield "bar", SWAPPED_TABLES[e.base][m]
        yield "index", e.base[(m - 1, *others)]
        yield "index", e.base[(m + 1, *others)]
        yield "root", Pow(e, Rational(1, 2))
    elif isinstance(e, Symbol):
        for group in ALIKE:
            if e in group:
                yield from (("symbol", other) for other in sorted(group - {e}, key=str))
        if not e.is_integer:
            yield "scaled", 2 * e
    elif e.is_Rational:
        yield "number", e + 1
        yield "sign", -e
    elif e.is_Add:
        for place, term in enumerate(e.args):
            rest = [*e.args[:place], *e.args[place + 1 :]]
            yield "sign", Add(-term, *rest)
            yield "dropped", Add(*rest)
    elif e.is_Mul:
        yield "sign", -e
        for place, factor in enumerate(e.args):
            rest = [*e.args[:place], *e.args[place + 1 :]]
            yield "dropped", Mul(*rest)
            yield "fraction", Mul(1 / factor, *rest)
    elif e.is_Pow:
        if e.exp.is_Rational and e.exp.q == 2:
            yield "root", e.base ** (2 * e.exp)
        if e.exp.is_Integer and abs(e.exp) == 2:
            yield "square", e.base ** (e.exp / 2)
    elif isinstance(e, (Sum, Product, Integral)):
        for x, *ends in e.limits:
            if len(e.limits) == 1 and len(ends) == 2:
                yield from _made("limits", e, [e.function, (x, ends[0] + 1, ends[1])])
                yield from _made("limits", e, [e.function, (x, ends[0], ends[1] + 1)])
    elif len(e.args) > 1 and not isinstance(e, (Limit, Derivative)):
        for i, j in combinations(range(len(e.args)), 2):
            if isinstance(e, N.normal_pdf) and (i, j) == (0, 1):
                continue  # a normal density is the same with its variable and its mean exchanged
            args = list(e.args)
            args[i], args[j] = args[j], args[i]
            yield from _made("order", e, args)


_LATEX = (  # kind, what is found, what stands there instead
    ("sign", r"(?<=[\s)}\]\w])\+(?=[\s\\\w({])", "-"),
    ("sign", r"(?<=[\s)}\]\w])-(?=[\s\\\w({])", "+"),
    ("bar", r"\\bar\s*\\alpha", r"\\alpha"),
    ("bar", r"(?<!\\bar)(?<!\\bar )\\alpha(?!\w)", r"\\bar\\alpha"),
    ("bar", r"\\tilde\s*\\beta", r"\\beta"),
    ("bar", r"(?<!\\tilde)(?<!\\tilde )\\beta(?!\w)", r"\\tilde\\beta"),
    ("index", r"_\{t\s*-\s*1\}", "_t"),
    ("index", r"_t(?!\w)|_\{t\}", "_{t-1}"),
    ("index", r"_0(?!\w)", "_t"),
    ("root", r"\\sqrt\s*(?=\{)", ""),
    ("root", r"\\sqrt\s*(?=\\)", ""),
    ("square", r"\^2|\^\{2\}", ""),
    *(("number", rf"(?<![\w\\_]){digit}(?!\w)", str(digit + 1)) for digit in range(5)),
    ("infinity", r"-\s*\\infty", "0"),
    ("symbol", r"\\varepsilon(?!_)", "x_0"),
    ("order", r"\\exp(?!\w)", r"\\log"),
)
_BRACED = r"\{((?:[^{}]|\{(?:[^{}]|\{[^{}]*\})*\})*)\}"


def of_latex(text: str) -> Iterator[tuple[str, str]]:
    """Displayed equations that differ from this one in one place, each with its kind. Not each of them can be read."""
    for kind, found, instead in _LATEX:
        for match in re.finditer(found, text):
            yield kind, text[: match.start()] + match.expand(instead) + text[match.end() :]
    for match in re.finditer(rf"\\[td]?frac\s*{_BRACED}\s*{_BRACED}", text):
        turned = rf"\frac{{{match[2]}}}{{{match[1]}}}"
        yield "fraction", text[: match.start()] + turned + text[match.end() :]
    for start, end, arguments in _densities(text):
        for i, j in combinations(range(len(arguments)), 2):
            if len(arguments) == 3 and (i, j) == (0, 1):
                continue  # as in of_expression
            swapped = list(arguments)
            swapped[i], swapped[j] = swapped[j], swapped[i]
            yield "order", text[:start] + "; ".join(swapped[:1]) + "; " + ", ".join(swapped[1:]) + text[end:]


def _densities(text: str) -> Iterator[tuple[int, int, list[str]]]:
    """Where the arguments of each normal or Bernoulli density stand, and what they are."""
    for match in re.finditer(r"\\mathcal\s*\{?\s*[NB]\s*\}?\s*(?:\\left|\\[bB]igg?l?)?\s*\(", text):
        depth, start, arguments, last = 0, match.end(), [], match.end()
        for place in range(start, len(text)):
            c = text[place]
            if c in "([{":
                depth += 1
            elif c == ")" and depth == 0:
                end = place - len(re.search(r"(?:\\right|\\[bB]igg?r?)?\s*$", text[last:place])[0])
                yield start, end, [*arguments, text[last:end]]
                break
            elif c in ")]}":
                depth -= 1
            elif c in ";," and depth == 0 and text[place - 1] != "\\":
                arguments.append(text[last:place])
                last = place + 1

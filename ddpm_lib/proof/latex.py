r"""Reads a displayed equation back into SymPy, to be compared with what ``verify`` was given.

``read(latex, record)`` takes the equation as it stands in a chapter; ``same.difference`` compares the result with
the record. Conventions, where mathematics leaves a choice:

- a sum, a product, a limit and a derivative reach to the next + or -; an integral to its d;
- a function without brackets takes one factor, which a space set by hand, another function or the end must follow:
  ``\cos\phi\; x_0`` and ``\log \frac ab + c`` are read, ``\log a b`` is not, and neither is ``a/b c``;
- ``q(x_t \mid x_{t-1}, x_0)`` is ``q(x_t, x_prev, x_0)``, the density of the first argument given the others;
  ``q(x_0, x_t)`` is ``q_joint(x_0, x_t)``, ``q(x_0, x_t \mid x_T)`` is ``q_given(x_0, x_t, x_T)``;
  ``q(x_k, \dots, x_T)`` is ``q_tail(k)``;
- ``f_t(x)`` is ``f_t(x)`` or ``f(t, x)``, and ``w_t`` is ``w[t]`` or ``w(t)``, whichever the record has; and ``v``
  alone is the record's ``v(x_0, eps)``, if that is the only v in it;
- ``\mathbb E_{q(x), p(y)}[f]`` and ``\mathrm{KL}(p(x) \,\|\, q(x))`` are the integrals (for a bit, sums) over x, and y;
- a limit is from above where the variable is positive or its end says ``0^+``, else from both sides.

What has no such meaning is refused with a ValueError that names it, never guessed.
"""

from __future__ import annotations

import re
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

from sympy import Expr, Function, MatrixBase, Mul, S, Symbol, erf, factorial, gamma, oo, pi
from sympy.core.function import AppliedUndef

from ddpm_lib.proof import notation as N
from ddpm_lib.proof.calculus import Calculus
from ddpm_lib.proof.codes import decode, encode
from ddpm_lib.proof.distributions import bernoulli_pmf, expectation, kl_bernoulli, kl_integral, normal_pdf
from ddpm_lib.proof.grammar import tree
from ddpm_lib.proof.nodes import Name, Scripts, brackets, elements, kind, single_product, text
from ddpm_lib.proof.reduction import NAMED
from ddpm_lib.proof.tokens import equations
from ddpm_lib.proof.vocabulary import Vocabulary

CONSTANTS = {Name("pi"): pi, Name("e"): S.Exp1, Name("infty"): oo}
LAWS = ("p", "q", "T", "E")  # what stands in their brackets has a bar before what is given
SPECIAL = {Name("Gamma"): gamma, Name("erf"): erf}


class Reading(NamedTuple):
    """A displayed equation: its sides and the relation "==", "<=" or ">=" between them.

    Where the display has several equations, or a chain of them, lhs and rhs are tuples, one entry an equation.
    """

    lhs: Expr | tuple[Expr, ...]
    rhs: Expr | tuple[Expr, ...]
    relation: str


def read(latex: str, record: dict) -> Reading:
    """The equation that latex displays, in the notation table's symbols and those that the record holds.

    latex: the display without its dollar signs. record: what ``verify`` left in the cell's output. Raises ValueError,
    with its name, for a macro, a letter or a construction that has no meaning here.
    """
    reader = _Reader(_vocabulary(*(code for code in sides_code(record) if code)))
    pairs, relations = [], []
    for sides, between in equations(latex):
        pairs += pairwise(reader.sum(tree(side)) for side in sides)
        relations += between
    if len(set(relations)) > 1:
        raise ValueError(f"latex: expected one kind of relation in a display, got {' and '.join(relations)}")
    lhs, rhs = zip(*pairs, strict=True)
    return Reading(lhs, rhs, relations[0]) if len(pairs) > 1 else Reading(lhs[0], rhs[0], relations[0])


def sides_code(record: dict) -> tuple[str, str]:
    """What a display of this record has on its left and on its right; "" where the record has a sentence only.

    For an induction the left side is what the closed form is of; for a definition it may be a name, such as "lr(m)".
    """
    left = (record.get("induction") or {}).get("of") or record["lhs_code"]
    if not left and record["kind"] == "definition":
        left = _code_of_name(record["lhs"], decode(record["rhs_code"]))
    return left, record["rhs_code"]


def _code_of_name(name: str, defined) -> str:
    """A letter, or a function of some, that is given as text, with the letters of what it is defined as."""
    found = re.fullmatch(r"([A-Za-z]\w*)(?:\((\w+(?:, \w+)*)\))?", name)
    if found is None:
        return ""
    head, arguments = found.groups()
    held = {symbol.name: symbol for symbol in defined.free_symbols}
    letters = [held.get(letter, Symbol(letter)) for letter in (arguments or "").split(", ")]
    return encode(Function(head)(*letters) if arguments else Symbol(head))


@lru_cache(maxsize=1024)
def _vocabulary(*codes: str) -> Vocabulary:
    held = []
    for value in map(decode, codes):
        held += value if isinstance(value, (list, tuple, MatrixBase)) else [value]
    return Vocabulary(tuple(held))


class _Reader(Calculus):
    """Gives letters their meaning by the notation table and one record, and brackets behind a letter theirs."""

    def __init__(self, vocabulary: Vocabulary):
        super().__init__()
        self.vocabulary = vocabulary

    def symbol(self, scripts: Scripts) -> Expr:
        name, above = scripts.name, self.exponent(scripts)
        own = next((scope[name] for scope in reversed(self.bound) if name in scope), None)
        if own is None and name in CONSTANTS and name.base not in self.vocabulary.symbols:
            own = CONSTANTS[name]
        if own is None:
            value = self.vocabulary.letter(name, self.index(scripts), above)
        else:
            value = own if above is None else own**above
        return factorial(value) if scripts.factorial else value

    def norm(self, scripts: Scripts) -> Expr:
        name = scripts.name
        return self.vocabulary.letter(
            Name(f"norm_{name.base}", name.accents, name.primes, name.sub), None, None
        )

    def index(self, scripts: Scripts) -> Expr | None:
        """The value of a subscript, None where it is a word."""
        if scripts.sub is None or len(scripts.sub) != 1 or kind(scripts.sub[0]) != "sum":
            return None
        try:
            return self.sum(scripts.sub[0])
        except ValueError:
            return None

    def letter(self, scripts: Scripts, rest: list) -> tuple[Expr, list]:
        group = brackets(rest[0]) if rest else None
        if group is not None:
            behind = Scripts(rest[0])
            value = self.applied(scripts, group, behind)
            if value is not None:
                doubtful = scripts.sup and (scripts.name not in SPECIAL or behind.sub or behind.sup)
                if doubtful or scripts.factorial or behind.primes or behind.star:
                    raise ValueError(f"latex: no reading of the marks at {text(scripts.node, rest[0])!r}")
                return self.power(value, scripts if scripts.sup else behind), rest[1:]
        return self.symbol(scripts), rest

    def applied(self, scripts: Scripts, group, behind: Scripts) -> Expr | None:
        """The value of a letter with brackets behind it; None if they are another factor."""
        name = scripts.name
        if behind.sub:  # Cov[x_t]_{ij}
            name = Name(
                name.base, name.accents, name.primes, (name.sub and name.sub + ",") + text(*behind.sub)
            )
        if name == Name("mathcalN"):
            return normal_pdf(*self.inside(group, ";,"))
        if name == Name("mathcalB"):
            return bernoulli_pmf(*self.inside(group, ";"))
        if name == Name("KL"):
            return self.divergence(group)
        if name.base == "mathbbE" and scripts.sub and not behind.sub:
            return self.mean(scripts, group)
        if name == Name("mathbbE"):
            name = Name("E")
        found = self.calls(name, self.index(scripts), group)
        if not found and name in SPECIAL:
            return SPECIAL[name](*self.inside(group, ""))
        if not found and (elements(group)[1] or group.children[0] == "[" or name == Name("E")):
            raise ValueError(f"latex: the record has no function {name} as in {text(scripts.node, group)!r}")
        if len(found) > 1:
            raise ValueError(f"latex: {text(scripts.node, group)!r} may be {' or '.join(map(str, found))}")
        return found[0] if found else None

    def calls(self, name: Name, index: Expr | None, group) -> list[Expr]:
        """The record's unknown functions that a letter with these brackets may be, with their arguments."""
        functions, parts = self.vocabulary.functions, elements(group)[0]
        tails = [f for f, n in functions(name, "_tail") if n == 1]
        if any(kind(part) == "DOTS" for part in parts):
            return [f(self.first_of_tail(group)) for f in tails]
        plain, joint, given = functions(name), functions(name, "_joint"), functions(name, "_given")
        stepped = functions(name.stem) if name.sub else []
        if not (plain or joint or given or stepped or tails):
            return []
        arguments = [self.sum(part) for part in parts]
        before_bar, bar, _ = elements(group)[1].partition("|")
        several, is_law = "," in before_bar, name.base in LAWS
        joint = given if several and bar else joint if several else []
        if is_law and (several or not bar) and len(arguments) > 1:
            plain = []
        attempts = [
            [f(*arguments) for f, n in joint if n == len(arguments)],
            [f(*arguments) for f, n in plain if n == len(arguments)],
            [f(index, *arguments) for f, n in stepped if index is not None and n == len(arguments) + 1],
            [f(N.T) for f in tails if arguments == [N.x_T]],
        ]
        found = next((attempt for attempt in attempts if attempt), [])
        if not found and not (len(arguments) == 1 and not plain and not joint and not given):
            raise ValueError(f"latex: the record has no {name} of {len(arguments)} arguments")
        return found

    def first_of_tail(self, group) -> Expr:
        r"""The step k of the states x_k, x_{k+1}, \dots, x_T."""
        parts, separators = elements(group)
        states = [NAMED.get(state, state) for state in map(self.sum, (p for p in parts if kind(p) != "DOTS"))]
        steps = [q.indices[0] for q in states if getattr(q, "base", None) in (N.x, N.bit)]
        in_a_row = all(b - a == 1 for a, b in pairwise(steps[:-1]))
        if (
            [kind(p) for p in parts[-2:]] != ["DOTS", "sum"]
            or set(separators) != {","}
            or len(steps) != len(parts) - 1
        ):
            raise ValueError(f"latex: no reading of the dots in {text(group)!r}")
        if steps[-1] != N.T or not in_a_row:
            raise ValueError(f"latex: expected states one after the other up to x_T in {text(group)!r}")
        return steps[0]

    def mean(self, scripts: Scripts, group) -> Expr:
        """The average over one density, or over several that are parted by commas: the innermost integral first."""
        (value,) = self.inside(group, "")
        densities = [self.sum(part) for part in scripts.sub if kind(part) == "sum"]
        if any(text(part) != "," for part in scripts.sub[1::2]) or len(densities) != len(scripts.sub[::2]):
            raise ValueError(f"latex: expected densities in {text(scripts.node)!r}")
        variables = [_variable(density, scripts.node) for density in densities]
        value = Mul(value, *densities)
        for x in variables:
            value = expectation(value, 1, x)
        return value

    def divergence(self, group) -> Expr:
        """KL(p ‖ q) of two densities, or of two coins that are given by their probabilities."""
        coins = [self.coin(part) for part in elements(group)[0]]
        if None not in coins and elements(group)[1] == "‖":
            return kl_bernoulli(*coins)
        p, q = self.inside(group, "‖")
        return kl_integral(p, q, _variable(p, group))

    def coin(self, node) -> Expr | None:
        r"""The probability in ``\mathcal B(\rho)``, None for anything else."""
        parts = single_product(node) if kind(node) == "sum" else []
        if len(parts) != 2 or text(parts[0]) != "mathcalB" or kind(parts[1].children[0]) != "group":
            return None
        group = parts[1].children[0]
        return self.inside(group, "")[0] if elements(group)[1] == "" else None


def _variable(density: Expr | None, node) -> Expr:
    """The variable that a density is one of: its first argument."""
    if not isinstance(density, (normal_pdf, bernoulli_pmf, AppliedUndef)):
        raise ValueError(f"latex: expected the density of a variable in {text(node)!r}")
    return density.args[0]

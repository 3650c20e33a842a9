"""What stands in the syntax tree of a display: letters with their scripts, factors, the ends of a sum."""

from __future__ import annotations

from dataclasses import dataclass

from ddpm_lib.proof.grammar import tree
from ddpm_lib.proof.tokens import tokens

ALIASES = {"varepsilon": ("varepsilon", "epsilon", "eps"), "varphi": ("varphi", "phi")}


@dataclass(frozen=True)
class Name:
    """A letter as it is displayed, with the text of its subscript."""

    base: str
    accents: tuple[str, ...] = ()
    primes: int = 0
    sub: str = ""

    def __str__(self) -> str:
        letter = self.base if len(self.base) == 1 else f"\\{self.base}"
        head = " ".join([*(f"\\{accent}" for accent in self.accents), letter])
        return head + "'" * self.primes + (f"_{{{self.sub}}}" if self.sub else "")

    @property
    def stem(self) -> Name:
        """The letter without its subscript."""
        return Name(self.base, self.accents, self.primes)

    def spellings(self) -> list[str]:
        """The names that SymPy objects for this letter have: x_0_hat, x_hat_0, mu_tilde, delta_ij, eps_theta."""
        marks = [*self.accents, *["prime"] * self.primes]
        subs = [self.sub] if self.sub else []
        bases = ALIASES.get(self.base, (self.base,))
        return list(
            dict.fromkeys(
                "_".join([base, *order]) for base in bases for order in (marks + subs, subs + marks)
            )
        )


class Scripts:
    """An atom with what is written below, above and behind it."""

    def __init__(self, node):
        self.node, self.atom = node, node.children[0]
        self.sub: list | None = None
        self.sup: list | None = None
        self.primes, self.factorial, self.star = 0, False, False
        for head, *inner in (script.children for script in node.children[1:]):
            if head.type == "PRIME":
                self.primes += 1
            elif head.type == "CARET" and kind(inner[0]) == "STAR":
                self.star = True
            elif head.type == "BANG":
                self.factorial = True
            elif head.type == "UNDER" and self.sub is None:
                self.sub = inner
            elif head.type == "CARET" and self.sup is None:
                self.sup = inner
            else:
                raise ValueError(f"latex: two times {head} at one letter in {text(node)!r}")

    @property
    def name(self) -> Name:
        """The letter under accents and primes, with its subscript's text."""
        accents, atom, sub, primes = ["star"] * self.star, self.atom, self.sub, self.primes
        while kind(atom) == "accented":
            accents.append(str(atom.children[0]))
            atom = atom.children[1]
            if kind(atom) == "scripted":  # \hat{x} or \hat{x_0}
                inner = Scripts(atom)
                if inner.sup or (inner.sub and sub):
                    raise ValueError(f"latex: an accent over {text(atom)!r}, which is no letter")
                atom, sub, primes = inner.atom, inner.sub or sub, inner.primes + primes
        if kind(atom) != "NAME":
            raise ValueError(f"latex: expected a letter, got {text(self.node)!r}")
        return Name(str(atom), tuple(accents), primes, text(*sub) if sub else "")


def name_and_power(latex: str) -> tuple[Name, int]:
    r"""The letter and the power of one symbol, such as ``\sigma_q^2`` or ``x_{t-1}``."""
    scripts = Scripts(single(tree(tokens(latex))))
    return scripts.name, int(text(*scripts.sup)) if scripts.sup else 1


def kind(node) -> str:
    """What a node of the tree is: a token's type or a rule's name."""
    return getattr(node, "type", None) or node.data


def text(*nodes) -> str:
    """The text of some nodes, without braces and spaces."""
    found = (node.scan_values(lambda _: True) if hasattr(node, "data") else [node] for node in nodes)
    return "".join(token for part in found for token in part)


def factors(items) -> list:
    """The factors of a product, and what parts them."""
    head, *rest = items.children
    return [*factors(head), *rest] if kind(head) == "items" else items.children


def single_product(node) -> list:
    """The factors of a sum that is one product; nothing for any other."""
    if len(node.children) != 1 or kind(node.children[0]) != "items":
        return []
    return [part for part in factors(node.children[0]) if kind(part) != "gap"]


def single(node):
    """The letter, number or bracket that a sum consists of; None for any other."""
    found = single_product(node)
    return found[0] if len(found) == 1 and kind(found[0]) == "scripted" else None


def only_one(node) -> Scripts:
    """The one letter, number or bracket that a sum consists of, with its scripts."""
    found = single(node)
    if found is None:
        raise ValueError(f"latex: expected one letter, got {text(node)!r}")
    return Scripts(found)


def brackets(node):
    r"""The brackets that a factor is, also those in braces that SymPy prints: \log{\left(x \right)}; else None."""
    atom = node.children[0] if kind(node) == "scripted" else node
    inner = single(atom.children[0]) if kind(atom) == "brace" else None
    if inner is not None and len(inner.children) == 1:
        atom = inner.children[0]
    return atom if kind(atom) == "group" else None


def elements(group) -> tuple[list, str]:
    """What stands in brackets, and what parts it: ";," for N(x; m, v), "|" for q(x | y), "‖" for KL(p ‖ q)."""
    opened, *inside, closed = group.children
    if (opened, closed) not in (("(", ")"), ("[", "]"), ("{", "}")):
        raise ValueError(f"latex: brackets that do not match in {text(group)!r}")
    marks = {"COMMA": ",", "SEMI": ";", "MID": "|", "PAR": "‖"}
    return inside[::2], "".join(marks[part.children[0].type] for part in inside[1::2])


def ends(node) -> tuple:
    """What stands below and above a sum, a product, an integral or a limit; None where nothing does."""
    found = {}
    for head, *inner in (part.children for part in node.children if kind(part) == "script"):
        if str(head) in found or len(inner) != 1 or kind(inner[0]) not in ("sum", "equation", "approach"):
            raise ValueError(f"latex: no reading of the ends in {text(node)!r}")
        found[str(head)] = inner[0]
    return found.get("_"), found.get("^")

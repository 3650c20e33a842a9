r"""LaTeX to tokens: the signs and letters of a display, and where one equation of it ends.

What needs more than one token of foresight is settled here, so that the grammar can do without:

- ``\frac12`` and ``x_10`` take one digit as their argument, as TeX does;
- a d is a differential where an integral at the same depth of brackets waits for one, and else a letter.
"""

from __future__ import annotations

import re

Token = tuple[str, str]  # kind and text

NAMES = (
    "alpha beta gamma delta epsilon varepsilon zeta eta theta vartheta iota kappa lambda mu nu xi pi rho sigma tau "
    "upsilon phi varphi chi psi omega Gamma Delta Theta Lambda Xi Pi Sigma Upsilon Phi Psi Omega ell partial infty"
)
MACROS = {
    "NAME": NAMES,
    "FUNC": "log ln exp sin cos tan sinh cosh tanh min max",
    "BIG": "sum prod lim",
    "_INT": "int",
    "ACCENT": "bar hat tilde",
    "_FRAC": "frac tfrac dfrac",
    "_BINOM": "binom tbinom",
    "_SQRT": "sqrt",
    "CDOT": "cdot times",
    "STAR": "ast",
    "DOTS": "dots ldots",
    "REL": "le leq ge geq",
    "_TO": "to rightarrow",
    "MID": "mid",
    "PAR": "|",
    "OPEN": "{ lbrack",
    "CLOSE": "} rbrack",
    "_LABS": "lvert",
    "_RABS": "rvert",
    "_LNORM": "lVert",
    "_RNORM": "rVert",
    "SPACE": "quad qquad , ; :",
    "": "displaystyle textstyle limits nolimits nonumber notag !",
}
KIND_OF_MACRO = {macro: kind for kind, macros in MACROS.items() for macro in macros.split()} | {" ": "SPACE"}
CHARACTERS = {
    "SIGN": "+-",
    "_SLASH": "/",
    "CARET": "^",
    "UNDER": "_",
    "PRIME": "'",
    "BANG": "!",
    "STAR": "*",
    "_LBRACE": "{",
    "_RBRACE": "}",
    "OPEN": "([",
    "CLOSE": ")]",
    "COMMA": ",",
    "SEMI": ";",
    "_EQ": "=",
    "REL": "<>",
    "SPACE": "~",
}
KIND_OF_CHARACTER = {character: kind for kind, several in CHARACTERS.items() for character in several}
KIND_OF_FENCE = {
    **{r"\left.": "_LAT", r"\left|": "_LABS", r"\right|": "_RABS", r"\middle|": "MID"},
    **{r"\left\|": "_LNORM", r"\right\|": "_RNORM", r"\middle\|": "PAR"},
}
KIND_OF_GROUP = {"number": "NUMBER", "letter": "NAME", "word": "NAME", "upright": "NAME"}
KIND_OF_GROUP |= {"styled": "NAME", "begin": "_BEGIN", "end": "_END", "cell": "_CELL", "row": "ROW"}
SCANNER = re.compile(
    r"(?P<blank>\s+|\{\}(?=\s*(?:[-+=]|\\cdot))|\\(?:begin|end)\{aligned\}|\\tag\{[^{}]*\})"
    r"|(?P<row>\\\\(?:\[[0-9.]+\s*[a-z]+\])?)"
    r"|(?P<begin>\\begin\{pmatrix\})|(?P<end>\\end\{pmatrix\})|(?P<cell>&)"
    r"|(?P<fence>\\(?:left|right|middle)\\?\||\\left\.)"
    r"|(?P<size>\\(?:[bB]igg?[lrm]?|left|right|middle)(?![a-zA-Z]))"
    r"|\\(?:mathrm|operatorname|text)\s*\{(?P<word>[A-Za-z]+)\}"
    r"|\\mathrm\s*(?P<upright>[A-Za-z])"
    r"|\\(?P<styled>(?:mathcal|mathbb)\s*(?:[A-Z]|\{[A-Z]\}))"
    r"|\\(?P<macro>[a-zA-Z]+|.)"
    r"|(?P<number>\d+(?:\.\d+)?)|(?P<letter>[a-zA-Z])|(?P<other>.)",
    re.DOTALL,
)
OPENING = ("OPEN", "_LBRACE", "_LAT", "_LABS", "_LNORM", "_BEGIN")
CLOSING = ("CLOSE", "_RBRACE", "_RABS", "_RNORM", "_END")
ARGUMENTS = {"_FRAC": 2, "_BINOM": 2, "_SQRT": 1, "UNDER": 1, "CARET": 1}
IS_ARGUMENT = ("NUMBER", "NAME", "FUNC", "_FRAC", "_BINOM", "_SQRT", "_LBRACE")
LINKS = ("_EQ", "REL", "SIGN", "CDOT", "_SLASH")


def tokens(latex: str) -> list[Token]:
    """The tokens of a display. Raises ValueError, with its name, for a macro or a character that it does not know."""
    found: list[Token] = []
    waiting = [0]  # how many arguments are still to come, at each depth of braces
    in_matrix, position, latex = 0, 0, _without_phantoms(latex)
    while position < len(latex):
        match = SCANNER.match(latex, position)
        position = match.end()
        kind, text = _token(match)
        in_matrix += {"_BEGIN": 1, "_END": -1}.get(kind, 0)
        if kind == "" or (kind == "_CELL" and not in_matrix):
            continue
        if kind == "ROW" and in_matrix:
            kind = "_LINE"
        if kind == "NUMBER" and waiting[-1] and len(text) > 1:
            position, text = match.start() + 1, text[0]
        waiting[-1] += ARGUMENTS.get(kind, 0) - (kind in IS_ARGUMENT and waiting[-1] > 0)
        if kind == "_LBRACE":
            waiting.append(0)
        elif kind == "_RBRACE" and len(waiting) > 1:
            waiting.pop()
        found.append((kind, text))
    return _words_in_scripts(_differentials(found))


def _without_phantoms(latex: str) -> str:
    while r"\phantom{" in latex:
        start = latex.index(r"\phantom{")
        end, depth = start + len(r"\phantom{"), 1
        while depth and end < len(latex):
            depth += {"{": 1, "}": -1}.get(latex[end], 0)
            end += 1
        latex = latex[:start] + latex[end:]
    return latex


def _token(match: re.Match) -> Token:
    """The token of one match, of kind "" if it only sets the type."""
    group = match.lastgroup
    text = match[group]
    if group in ("blank", "size"):
        return "", text
    if group == "styled":
        text = re.sub(r"[\s{}]", "", text)
    if group in KIND_OF_GROUP:
        return KIND_OF_GROUP[group], text
    known = {"macro": KIND_OF_MACRO, "fence": KIND_OF_FENCE, "other": KIND_OF_CHARACTER}[group]
    if text not in known:
        sort = "macro \\" if group == "macro" else "character "
        raise ValueError(f"latex: unknown {sort}{text} in {match.string!r}")
    return known[text], text


def _differentials(found: list[Token]) -> list[Token]:
    """The same tokens, with each d that ends an integral marked as such."""
    depth, waiting, marked = 0, [], []
    for (kind, text), (following, _) in zip(found, [*found, ("", "")][1:], strict=True):
        depth += (kind in OPENING) - (kind in CLOSING)
        if kind == "_INT":
            waiting.append(depth)
        elif (kind, text) == ("NAME", "d") and following in ("NAME", "ACCENT") and depth in waiting[-1:]:
            waiting.pop()
            kind = "_DIFF"
        marked.append((kind, text))
    return marked


def _words_in_scripts(found: list[Token]) -> list[Token]:
    r"""The same tokens, with a function that is only a word, as in ``\mathrm{lr}_{\max}``, marked as a letter."""
    kinds = ["", "", *(kind for kind, _ in found), ""]
    around = zip(kinds, kinds[1:], kinds[3:], strict=False)
    return [
        ("NAME", text)
        if kind == "FUNC"
        and (before == "UNDER" or (earlier, before, after) == ("UNDER", "_LBRACE", "_RBRACE"))
        else (kind, text)
        for (kind, text), (earlier, before, after) in zip(found, around, strict=True)
    ]


def equations(latex: str) -> list[tuple[list[list[Token]], list[str]]]:
    """The display's equations, each as its sides and the relations "==", "<=", ... between them.

    A new equation begins after a comma or on a new line outside of all brackets, where the one before it is complete:
    it has a relation, and the line does not begin with a relation or an operator. Raises ValueError for a text without
    a relation.
    """
    found = []
    for part in _parts(tokens(latex)):
        sides, relations, depth = [[]], [], 0
        for kind, text in part:
            depth += (kind in OPENING) - (kind in CLOSING)
            if depth == 0 and kind in ("_EQ", "REL"):
                relations.append(
                    {"le": "<=", "leq": "<=", "ge": ">=", "geq": ">=", "=": "=="}.get(text, text)
                )
                sides.append([])
            else:
                sides[-1].append((kind, text))
        if not relations:
            raise ValueError(f"latex: expected a relation (=, \\le or \\ge) in {latex!r}")
        found.append((sides, relations))
    return found


def _parts(found: list[Token]) -> list[list[Token]]:
    """The tokens of each equation of a display; a line that goes on leaves a space."""
    parts, depth, related = [[]], 0, False
    for i, (kind, text) in enumerate(found):
        depth += (kind in OPENING) - (kind in CLOSING)
        if depth == 0 and kind in ("ROW", "COMMA"):
            rest = [later for later, _ in found[i + 1 :] if later != "SPACE"]
            goes_on = (
                not rest or (kind == "ROW" and rest[0] in LINKS) or (parts[-1] and parts[-1][-1][0] in LINKS)
            )
            if related and not goes_on:
                parts.append([])
                related = False
                continue
            if kind == "COMMA":
                raise ValueError(
                    f"latex: a comma outside of brackets must part two equations: {text_of(found)!r}"
                )
        related |= depth == 0 and kind in ("_EQ", "REL")
        parts[-1].append(("SPACE", text) if kind == "ROW" else (kind, text))
    return parts


def text_of(found: list[Token]) -> str:
    """Tokens as text, for messages."""
    return " ".join(text for _, text in found)

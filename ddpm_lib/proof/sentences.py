"""What a chapter's running text says: the equations without a label, in sentences that assert them.

A sentence that supposes, asks or denies says nothing, and neither does one that holds at one step only. Words can't
tell all of that apart, so tests/premises.json lists the formulas that claims rest on: each has been read in its place.
"""

from __future__ import annotations

import re

UNLABELLED = re.compile(r"(?<!\$)\$(?!\$)([^$]+)\$(?!\$)|^```\{math\}\n(.+?)^```$", re.MULTILINE | re.DOTALL)
BLOCK = re.compile(
    r"\n\s*\n(?=```\{math\})|(?<=\n```)\n\s*\n(?=[a-z])"
)  # a displayed formula belongs to its sentence
SENTENCE = re.compile(r"(?<!e\.g\.)(?<!i\.e\.)(?<!cf\.)(?<=[.!?])[)*]*\s|\n\s*\n|(?<=\n)(?=[-*] )")
NOT_BEFORE = re.compile(
    r"\b(if|suppos\w*|unless|would|were|not|wrong|assum\w+|pretend\w*|when|whenever|as long as|in case|nearly|about"
    r"|roughly|approximately|mistake\w*|claimed|cannot|\w+n't|never|show that)\b"
    r"|\b(at|for)\s+\$[^$]*=[^$]*\$",
    re.IGNORECASE,
)
NOT_AFTER = re.compile(r"\b(if|unless|wrong|when|whenever|as long as|not)\b|\?\s*$", re.IGNORECASE)
COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
PIECE = re.compile(r"\\(?:[A-Za-z]+|.)|.", re.DOTALL)  # of LaTeX: a command or a character
OPEN, CLOSE = {"(", "[", "{", r"\{"}, {")", "]", "}", r"\}"}
NO_CHAIN = re.compile(  # another relation, a condition, several rows: more than a chain of equalities
    r"[<>;&]|\\\\|\\(le|leq|lt|ge|geq|gt|ne|neq|not|approx|sim|simeq|equiv|propto|to|rightarrow|Rightarrow|implies|iff"
    r"|Leftrightarrow|text|quad|qquad|mid)"
)
STEPS = {"t", "s", "k", "n", "T"}


def said(text: str) -> list[str]:
    """The equations without a label that a text asserts, as LaTeX, in their order."""
    text, found = BLOCK.sub("\n", COMMENT.sub("", text)), []
    for match in UNLABELLED.finditer(text):
        before, after = SENTENCE.split(text[: match.start()])[-1], SENTENCE.split(text[match.end() :])[0]
        latex = "".join(filter(None, match.groups()))
        if "=" in latex and not NOT_BEFORE.search(before) and not NOT_AFTER.search(after):
            found.append(latex)
    return found


def chains(latex: str) -> list[list[str]]:
    """The sides of each chain a = b = c in it, of which commas outside of brackets part several.

    [] where there is anything else, such as another relation, or "t = 1", which is a condition on the others.
    """
    found, depth = [[""]], 0
    for piece in PIECE.findall(latex):
        depth += (piece in OPEN) - (piece in CLOSE)
        if depth == 0 and NO_CHAIN.fullmatch(piece):
            return []
        if depth == 0 and piece == ",":
            found.append([""])
        elif depth == 0 and piece == "=":
            found[-1].append("")
        else:
            found[-1][-1] += piece
    condition = any(side.strip() in STEPS for chain in found for side in chain)
    return [] if len(found) > 1 and condition else found

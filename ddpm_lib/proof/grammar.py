r"""Tokens to a tree: what one side of a displayed equation says, before any letter has a meaning.

The grammar is LALR(1), so each text has one tree or none. A space that is set by hand (``\,`` or a new line) is kept
where it parts two factors, since it tells where the argument of a function without brackets ends: ``\cos\phi\; x_0``.
"""

from __future__ import annotations

from functools import cache, lru_cache

from ddpm_lib.proof.tokens import CLOSING, Token, text_of

GRAMMAR = r"""
sum: SIGN? product (SIGN product)*
?product: items | items _SLASH items -> ratio | (items gap?)? big -> items
items: factor (gap? factor)*
gap: SPACE | CDOT
big: BIG script* SPACE? SIGN? product

?factor: scripted | integral
integral: _INT script* SPACE? sum _DIFF scripted
scripted: atom script*
script: UNDER _inner | CARET _inner | CARET STAR | CARET _LBRACE STAR _RBRACE | PRIME | BANG
_inner: only | SIGN | _LBRACE (_list | equation | approach | SIGN) _RBRACE
equation: sum _EQ sum
approach: sum _TO sum

?atom: NUMBER | NAME | FUNC | accented | frac | sqrt | binom | group | brace | abs | norm | at | matrix
accented: ACCENT (NAME | accented | _LBRACE scripted _RBRACE)
frac: _FRAC _argument _argument
sqrt: _SQRT _argument
binom: _BINOM _argument _argument
group: OPEN _list CLOSE
brace: _LBRACE sum _RBRACE
abs: _LABS sum _RABS
norm: _LNORM sum _RNORM
at: _LAT sum _RABS UNDER _LBRACE equation _RBRACE
matrix: _BEGIN row (_LINE row)* _END
row: sum (_CELL sum)*

_argument: only | _LBRACE sum _RBRACE
only: only_product -> sum
only_product: only_factor -> items
only_factor: (NUMBER | NAME | accented | frac) -> scripted
_list: _element (separator _element)*
_element: sum | DOTS
separator: COMMA | SEMI | MID | PAR

%declare STAR SIGN SPACE CDOT BIG UNDER CARET PRIME BANG COMMA SEMI MID PAR DOTS NUMBER NAME FUNC ACCENT OPEN CLOSE
%declare _SLASH _INT _DIFF _LBRACE _RBRACE _EQ _TO _FRAC _SQRT _BINOM _LAT _LABS _RABS _LNORM _RNORM
%declare _BEGIN _CELL _LINE _END
"""

ENDS_A_FACTOR = ("NUMBER", "NAME", "PRIME", "BANG", *CLOSING)
STARTS_A_FACTOR = {"NUMBER", "NAME", "FUNC", "ACCENT", "_FRAC", "_SQRT", "_BINOM", "BIG", "_INT"}
STARTS_A_FACTOR |= {"OPEN", "_BEGIN", "_LAT", "_LABS", "_LNORM"}


def tree(side: list[Token]):
    """The syntax tree of one side. Raises ValueError, with the place, for what has no reading."""
    return _tree(tuple(_spaces_between_factors(side)))


def _spaces_between_factors(side: list[Token]) -> list[Token]:
    kept: list[Token] = []
    for i, token in enumerate(side):
        if token[0] == "SPACE":
            following = next((kind for kind, _ in side[i + 1 :] if kind != "SPACE"), "END")
            if not kept or kept[-1][0] not in ENDS_A_FACTOR or following not in STARTS_A_FACTOR:
                continue
        kept.append(token)
    return kept


@lru_cache(maxsize=4096)
def _tree(side: tuple[Token, ...]):
    parser, refusal = _parser()
    try:
        return parser.parse(side)
    except refusal as error:
        at = getattr(error.token, "start_pos", None)
        upto = side if error.token.type == "$END" or at is None else side[: at + 1]
        raise ValueError(f"latex: no reading of {text_of(side)!r}, at the end of {text_of(upto)!r}") from None


@cache
def _parser():
    """The parser, and the error that it raises."""
    try:
        from lark import Lark, UnexpectedToken
        from lark import Token as LarkToken
        from lark.lexer import Lexer
    except ImportError as error:
        raise ImportError("reading equations back needs the parser lark: pip install lark") from error

    class Tokens(Lexer):
        """Hands on what ``tokens`` found."""

        def __init__(self, configuration):
            pass

        def lex(self, side):
            for i, (kind, text) in enumerate(side):
                yield LarkToken(kind, text, start_pos=i)

    return Lark(GRAMMAR, start="sum", parser="lalr", lexer=Tokens), UnexpectedToken

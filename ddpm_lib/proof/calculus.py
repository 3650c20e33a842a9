"""The value of a display's syntax tree, but for its letters: algebra, functions, and what binds a variable."""

from __future__ import annotations

from abc import ABC, abstractmethod

from sympy import (
    Abs,
    Add,
    Derivative,
    Expr,
    ImmutableMatrix,
    Integral,
    Limit,
    MatAdd,
    MatMul,
    MatPow,
    MatrixBase,
    MatrixExpr,
    Max,
    Min,
    Mul,
    Product,
    Rational,
    S,
    Subs,
    Sum,
    Symbol,
    binomial,
    cos,
    cosh,
    exp,
    factorial,
    log,
    oo,
    sin,
    sinh,
    sqrt,
    tan,
    tanh,
)

from ddpm_lib.proof.nodes import (
    Name,
    Scripts,
    brackets,
    elements,
    ends,
    factors,
    kind,
    only_one,
    single,
    single_product,
    text,
)

FUNCTIONS = {"log": log, "ln": log, "exp": exp, "sin": sin, "cos": cos, "tan": tan, "min": Min, "max": Max}
FUNCTIONS |= {"sinh": sinh, "cosh": cosh, "tanh": tanh}


class Calculus(ABC):
    """Turns trees into SymPy objects. Subclasses say what a letter is."""

    def __init__(self):
        self.bound: list[dict[Name, Symbol]] = []

    @abstractmethod
    def symbol(self, scripts: Scripts) -> Expr:
        """The value of a letter that nothing is applied to, with its exponent."""

    @abstractmethod
    def norm(self, scripts: Scripts) -> Expr:
        """The length of a vector that only its letter is known of."""

    @abstractmethod
    def letter(self, scripts: Scripts, rest: list) -> tuple[Expr, list]:
        """The value of a letter and of the brackets that it is applied to, and the nodes after them."""

    # sums, products, powers

    def sum(self, node) -> Expr:
        terms, sign = [], S.One
        for part in node.children:
            if kind(part) == "SIGN":
                sign = _sign(part)
            else:
                value = self.product(part)
                terms.append(value if sign == 1 else _joined(Mul, MatMul, [sign, value]))
        return _joined(Add, MatAdd, terms)

    def product(self, node) -> Expr:
        if kind(node) == "items":
            return self.factors(factors(node))
        above, below = (factors(items) for items in node.children)
        divisor, rest = self.factor(below)
        if rest:
            raise ValueError(
                f"latex: is {text(*rest)!r} in the denominator of {text(node)!r}? Write it as a \\frac"
            )
        return self.factors(above) / divisor

    def factors(self, nodes: list) -> Expr:
        values, rest, times = [], nodes, False
        while rest:
            if kind(rest[0]) == "gap":
                times, rest = times or rest[0].children[0].type == "CDOT", rest[1:]
                continue
            if values and not times and (_is_number(rest[0]) or values[-1] is oo):
                raise ValueError(
                    f"latex: no reading of {text(*nodes)!r}: a sign is missing before {text(*rest)!r}"
                )
            value, rest = self.factor(rest)
            values.append(value)
            times = False
        return _joined(Mul, MatMul, values)

    def factor(self, nodes: list) -> tuple[Expr, list]:
        """The value of a product's first factor, and the nodes after it."""
        node, *rest = nodes
        if kind(node) == "integral":
            return self.integral(node), rest
        if kind(node) == "big":
            return self.big(node), []
        scripts = Scripts(node)
        if kind(scripts.atom) in ("NAME", "accented"):
            return self.letter(scripts, rest)
        if kind(scripts.atom) == "FUNC":
            return self.function(scripts, rest)
        if scripts.sub or scripts.primes or scripts.star:
            raise ValueError(f"latex: no reading of the marks at {text(node)!r}")
        if kind(scripts.atom) == "frac" and _is_slope(scripts.atom):
            return self.derivative(scripts, rest)
        return self.power(self.atom(scripts.atom), scripts), rest

    def atom(self, node) -> Expr:
        """The value of a number, a fraction, a root or what stands in brackets."""
        if kind(node) == "NUMBER":
            return Rational(str(node))
        if kind(node) == "group":
            (value,) = self.inside(node, "")
            return value
        if kind(node) == "norm":
            return self.norm(only_one(node.children[0]))
        if kind(node) == "at":
            return self.at(node)
        if kind(node) == "matrix":
            return ImmutableMatrix([[self.sum(cell) for cell in row.children] for row in node.children])
        values = [self.sum(part) for part in node.children]
        return {
            "frac": lambda above, below: above / below,
            "sqrt": sqrt,
            "binom": binomial,
            "brace": lambda value: value,
            "abs": Abs,
        }[kind(node)](*values)

    def inside(self, group, separators: str) -> list[Expr]:
        """The values of what stands in brackets, which just these separators must part."""
        parts, found = elements(group)
        if found != separators or any(kind(part) != "sum" for part in parts):
            raise ValueError(f"latex: no reading of {text(group)!r} here")
        return [self.sum(part) for part in parts]

    def power(self, value: Expr, scripts: Scripts) -> Expr:
        value = factorial(value) if scripts.factorial else value
        above = self.exponent(scripts)
        if isinstance(value, MatrixBase):
            return value if above is None else MatPow(value, above)
        return value if above is None else value**above

    def exponent(self, scripts: Scripts) -> Expr | None:
        if scripts.sup is None:
            return None
        if len(scripts.sup) != 1 or kind(scripts.sup[0]) != "sum":
            raise ValueError(f"latex: no reading of the exponent in {text(scripts.node)!r}")
        return self.sum(scripts.sup[0])

    # functions

    def function(self, scripts: Scripts, rest: list) -> tuple[Expr, list]:
        name = str(scripts.atom)
        marked = scripts.primes or scripts.star or scripts.factorial or (scripts.sub and name != "log")
        if marked or not rest or kind(rest[0]) == "gap":
            raise ValueError(f"latex: no reading of \\{name} in {text(scripts.node, *rest)!r}")
        if (group := brackets(rest[0])) is not None:
            powers = rest[0].children[1:]
            if powers:
                raise ValueError(
                    f"latex: is the power in \\{name}{text(rest[0])} one of \\{name}? Set brackets"
                )
            commas = "," * (len(elements(group)[0]) - 1) if name in ("min", "max") else ""
            arguments, after = self.inside(group, commas), rest[1:]
        else:
            argument, after = self.factor(rest)
            _check_that_it_ends(name, rest, after)
            arguments = [argument]
        value = FUNCTIONS[name](*arguments)
        if scripts.sub:
            value /= log(self.sum(scripts.sub[0]))
        above = self.exponent(scripts)
        if above is not None and above.is_positive is not True:
            raise ValueError(f"latex: is \\{name}^{{{above}}} an inverse or a power? Write it out")
        return value if above is None else value**above, after

    # what binds a variable

    def derivative(self, scripts: Scripts, rest: list) -> tuple[Expr, list]:
        r"""The value of ``\frac{d}{dx} f`` or of ``\frac{\partial^2 f}{\partial x^2}``, and the nodes after it."""
        (head, *operand), (_, below) = (single_product(part) for part in scripts.atom.children)
        order, variable = self.exponent(Scripts(head)) or S.One, Scripts(below)
        plain = len(scripts.node.children) == 1 and all(part.children[0] == "^" for part in head.children[1:])
        if not plain or not (operand or rest) or (order != 1 and self.exponent(variable) != order):
            raise ValueError(f"latex: no reading of the derivative {text(scripts.node, *rest)!r}")
        if order != 1:
            variable.sup = None
        value, rest = (self.factors(operand), rest) if operand else (self.factors(rest), [])
        return Derivative(value, (self.symbol(variable), order)), rest

    def integral(self, node) -> Expr:
        low, high = ends(node)
        if low is None or high is None:
            raise ValueError(f"latex: expected both ends at the integral {text(node)!r}")
        body = next(part for part in node.children if kind(part) == "sum")
        x = self.bind(Scripts(node.children[-1]), real=True)
        value = self.sum(body)
        self.bound.pop()
        return Integral(value, (x, self.sum(low), self.sum(high)))

    def at(self, node) -> Expr:
        r"""The value of ``\left. f \right|_{x = a}``."""
        body, _, equation = node.children
        x = self.symbol(only_one(equation.children[0]))
        return Subs(self.sum(body), x, self.sum(equation.children[1]))

    def big(self, node) -> Expr:
        """The value of a sum, a product or a limit."""
        sort = str(node.children[0])
        lower, upper = ends(node)
        expected = "approach" if sort == "lim" else "equation"
        variable = single(lower.children[0]) if lower is not None and kind(lower) == expected else None
        if variable is None or (upper is None) != (sort == "lim"):
            raise ValueError(f"latex: no reading of the ends of \\{sort} in {text(node)!r}")
        if sort == "lim":
            return self.limit(node, Scripts(variable), lower.children[1])
        start, end = self.sum(lower.children[1]), self.sum(upper)
        k = self.bind(Scripts(variable), integer=True)
        value, rest = self.body(node)
        self.bound.pop()
        return {"sum": Sum, "prod": Product}[sort](value, (k, start, end)) * rest

    def limit(self, node, variable: Scripts, target) -> Expr:
        end, side = single(target), None
        above = Scripts(end).sup if end is not None and _is_number(end) else None
        if above and kind(above[0]) == "SIGN":  # 0^+
            side, value = str(above[0]), self.atom(end.children[0])
        else:
            value = self.sum(target)
        x = self.bind(variable, real=True)
        body, rest = self.body(node)
        self.bound.pop()
        if rest != 1:
            raise ValueError(f"latex: where does the limit end in {text(node)!r}? Set brackets")
        if value in (oo, -oo):
            return Limit(body, x, value)
        return Limit(body, x, value, side or ("+" if x.is_positive and value == 0 else "+-"))

    def body(self, node) -> tuple[Expr, Expr]:
        r"""The value of what a sum sign reaches, with the sign before it, and that of a factor after it.

        Such a factor is a second sum over the same letter, as in ``\prod_i a_i \prod_i b_i``.
        """
        *head, product = node.children
        sign = _sign(head[-1]) if kind(head[-1]) == "SIGN" else S.One
        *reached, last = factors(product) if kind(product) == "items" else [product]
        if not reached or kind(last) != "big" or node.children[0] == "lim":
            return sign * self.product(product), S.One
        if _running(last) == _running(node):
            return sign * self.factors(reached), self.big(last)
        if node.children[0] == "prod":
            raise ValueError(f"latex: where does the first product end in {text(node)!r}? Set brackets")
        return sign * self.product(product), S.One

    def bind(self, variable: Scripts, **assumptions) -> Expr:
        """The variable that a sum, an integral or a limit binds, until self.bound.pop(): a known letter or its own."""
        try:
            symbol, scope = self.symbol(variable), {}
        except ValueError:
            symbol = Symbol(variable.name.spellings()[0], **assumptions)
            scope = {variable.name: symbol}
        self.bound.append(scope)
        return symbol


def _running(big) -> str:
    """The letter that a sum, a product or a limit runs over, as text."""
    lower, _ = ends(big)
    return text(lower.children[0]) if lower is not None else ""


def _joined(kind_of, kind_of_matrices, values: list) -> Expr:
    """The sum or the product of values; one of matrices is left as it is displayed."""
    matrices = any(isinstance(value, (MatrixBase, MatrixExpr)) for value in values)
    return (kind_of_matrices if matrices and len(values) > 1 else kind_of)(*values)


def _is_number(node) -> bool:
    return kind(node) == "scripted" and kind(node.children[0]) == "NUMBER"


def _sign(token) -> Expr:
    return S.NegativeOne if token == "-" else S.One


def _is_slope(fraction) -> bool:
    r"""Whether a fraction is a derivative: \frac{d ...}{d x} or \frac{\partial ...}{\partial x}."""
    above, below = (single_product(part) for part in fraction.children)
    if not above or len(below) != 2 or any(kind(node) != "scripted" for node in (above[0], *below)):
        return False
    letter = str(below[0].children[0])
    return letter in ("d", "partial") and letter == str(above[0].children[0]) and len(below[0].children) == 1


def _check_that_it_ends(name: str, before: list, after: list) -> None:
    r"""Raises ValueError where the argument of a function without brackets might go on: \log a b, \log 2\, \pi."""
    if not after:
        return
    gap = after[0] if kind(after[0]) == "gap" else None
    following = after[0] if gap is None else after[1]
    if kind(following) == "scripted" and kind(following.children[0]) == "FUNC":
        return
    if gap is None or kind(gap.children[0]) == "CDOT" or _is_number(before[0]):
        raise ValueError(f"latex: is {text(*after)!r} in the argument of \\{name}? Set brackets")

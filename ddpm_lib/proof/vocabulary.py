"""What the letters of a display stand for: the notation table's symbols, and those that a record holds itself."""

from __future__ import annotations

from collections import defaultdict
from functools import cache

from sympy import Expr, IndexedBase, Symbol, sqrt
from sympy.core.function import AppliedUndef

from ddpm_lib.proof import notation as N
from ddpm_lib.proof.nodes import Name, name_and_power
from ddpm_lib.proof.reduction import NAMED, by_name


@cache
def _table() -> tuple[dict[Name, dict[Symbol, int]], dict[Name, list[IndexedBase]]]:
    """The table's symbols by the letter that shows them: plain ones with their power, and bases to index."""
    plain, indexed = defaultdict(dict), defaultdict(list)
    for row in N.TABLE:
        name, power = name_and_power(row.latex)
        if row.indexed:
            indexed[name.stem].append(row.object)
        else:
            plain[name][row.object] = power
    return dict(plain), dict(indexed)


class Vocabulary:
    """The letters that a record's sides may be displayed with. What the record holds goes before the table."""

    def __init__(self, sides: tuple[Expr, ...]):
        self.symbols: dict[str, set[Symbol]] = defaultdict(set)
        self.bases: dict[str, set[IndexedBase]] = defaultdict(set)
        self.calls: dict[str, set[AppliedUndef]] = defaultdict(set)
        for side in sides:
            side = by_name(side)
            bases = side.atoms(IndexedBase)
            for base in bases:
                self.bases[str(base.label)].add(base)
            for symbol in side.atoms(Symbol) - {base.label for base in bases}:
                self.symbols[symbol.name].add(symbol)
            for call in side.atoms(AppliedUndef):
                self.calls[type(call).__name__].add(call)
        self.has_bits = any(_is_bit(key) for key in (*self.symbols, *self.bases))

    def letter(self, name: Name, index: Expr | None, power: Expr | None) -> Expr:
        """What a letter with this exponent stands for. Raises ValueError for an unknown or an ambiguous one.

        index: the value of its subscript, None where that is a word.
        """
        searches = (self._own_symbol, self._table_symbol, self._own_indexed, self._own_call)
        for search in searches:
            found = search(name, index)
            if found is not None:
                square = _table()[0].get(name, {}).get(found, 1)  # 2 for var, which is shown as sigma^2
                found = found if square == 1 else sqrt(found)
                return found if power is None else found**power
        raise ValueError(f"latex: unknown letter {name}")

    def _own_symbol(self, name: Name, index) -> Symbol | None:
        held = [symbol for spelled in name.spellings() for symbol in self.symbols.get(spelled, ())]
        return _one(name, [symbol for symbol in held if symbol.name not in N.BY_KEY])

    def _table_symbol(self, name: Name, index) -> Expr | None:
        found = list(_table()[0].get(name, ()))
        if index is not None:
            found += [by_name(base[index]) for base in _table()[1].get(name.stem, ())]
        found = list(dict.fromkeys(found))
        held = [symbol for symbol in found if self._holds(symbol)]
        exact = [symbol for symbol in held if symbol in self.symbols.get(str(symbol), ())]
        if held:
            return _one(name, exact if len(exact) == 1 else held)
        if found and self._own_call(name, index) is None:
            return next((symbol for symbol in found if _is_bit(_key(symbol)) == self.has_bits), found[0])
        return None

    def _holds(self, symbol: Expr) -> bool:
        entry = NAMED.get(symbol, symbol)
        base = str(entry.base.label) if hasattr(entry, "base") else None
        return symbol in self.symbols.get(str(symbol), ()) or base in self.bases

    def _own_indexed(self, name: Name, index) -> Expr | None:
        if index is None:
            return None
        base = _one(name, [base for spelled in name.stem.spellings() for base in self.bases.get(spelled, ())])
        return None if base is None else base[index]

    def _own_call(self, name: Name, index) -> Expr | None:
        """A quantity that the record holds as a function: w_t as w(t), or v as v(x_0, eps), all of it shown as v."""
        if index is not None and (at := [f for f, n in self.functions(name.stem) if n == 1]):
            return _one(name, [f(index) for f in at])
        return _one(name, [call for spelled in self._names(name) for call in self.calls.get(spelled, ())])

    @staticmethod
    def _names(name: Name) -> list[str]:
        return list(dict.fromkeys([*name.spellings(), *map(str, _table()[0].get(name, ()))]))

    def functions(self, name: Name, suffix: str = "") -> list[tuple]:
        """The record's unknown functions of this name, with the numbers of arguments that they occur with."""
        names = [spelled + suffix for spelled in name.spellings()] if suffix else self._names(name)
        found = {(call.func, len(call.args)) for spelled in names for call in self.calls.get(spelled, ())}
        return sorted(found, key=str)


def _key(symbol: Expr) -> str:
    return str(symbol.base.label) if hasattr(symbol, "base") else str(symbol)


def _is_bit(key: str) -> bool:
    return key in N.BY_KEY and N.BY_KEY[key].span in ("bit", "bits")


def _one(name: Name, found: list):
    found = list(dict.fromkeys(found))
    if len(found) > 1:
        raise ValueError(f"latex: {name} may be {' or '.join(map(str, found))}")
    return found[0] if found else None

"""verify: refute a claim by numbers, or prove it by algebra, and say which."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from sympy import Eq, Expr, Float, Indexed, IndexedBase, MatrixBase, MatrixExpr, Symbol, nan, sympify, zoo
from sympy.core.function import AppliedUndef
from sympy.logic.boolalg import Boolean

from ddpm_lib.proof import notation as N
from ddpm_lib.proof.codes import encode
from ddpm_lib.proof.evaluation import Diverges
from ddpm_lib.proof.points import seed_of
from ddpm_lib.proof.prover import prove
from ddpm_lib.proof.record import ProofError, Record, Result, check_label, check_reason, show
from ddpm_lib.proof.reduction import by_name, rename_bound
from ddpm_lib.proof.refuter import Claim, confirm, refute
from ddpm_lib.proof.statement import Induction, Statement, from_record, is_unknown, parts, previous


def verify(
    label: str, lhs, rhs, *, by: str, relation: str = "==", where=(), given=(), slow: str = ""
) -> Result:
    """Checks the identity lhs == rhs for every admissible value of its symbols, or raises ProofError.

    label: the equation's label, such as eq-marginal. lhs, rhs: SymPy expressions in the symbols of
    ``notation``, or two sequences of them of one length, or matrices (MatMul and the like stay as they are displayed
    and are multiplied out for the check). by: the step's reason, one of ``REASONS``.
    relation: "==", "<=" or ">=". where: conditions on plain symbols, such as [t >= 2], if the claim holds
    only there. given: assumptions on unknown functions, such as [Eq(q(x_t, x_prev, x_0), r(x_t, x_prev))], put in
    one after the other.
    slow: why the check takes more than two seconds, if it does.

    First it looks for a counterexample, with 60 digits at random admissible points; then SymPy is to prove
    it. The result's status is "proved", or "checked" where no proof was found but every point agrees to 50
    digits. Raises ProofError for a false claim, or one that has no value at an admissible point; ValueError
    for a claim that says nothing (both sides are the same expression, or a premise is the claim), for an
    unknown reason, a bad label, a decimal number, or a symbol that is not the notation table's.
    """
    check_label(label)
    check_reason(by)
    if relation not in ("==", "<=", ">="):
        raise ValueError(f"relation: expected '==', '<=' or '>=', got {relation!r}")
    conditions, given = _conditions(where), _premises(given)
    pairs = _pairs(label, lhs, rhs)
    unopened = any(isinstance(side, MatrixExpr) for side in (lhs, rhs)) and lhs != rhs
    if all(left == right for left, right in pairs) and not unopened:
        raise ValueError(f"{label} says nothing: both sides are {sympify(lhs)}")
    if same_as_given := [p for p in given for pair in pairs if set(pair) == set(p.args)]:
        raise ValueError(f"{label} says nothing: it is given {same_as_given[0]}; is it a definition?")
    left, right = zip(*pairs, strict=True)
    outcome = check(Statement(label, by, left, right, relation, conditions, given))
    kind = "identity" if relation == "==" else "inequality"
    return _report(label, kind, by, relation, lhs, rhs, outcome, conditions, given, slow)


def verify_induction(
    label, claim, *, base, step: Callable, var: Symbol = N.t, start: int = 0, of=None, slow: str = ""
) -> Result:
    """Proves a closed form for var = start, start + 1, ... from its first value and its recurrence.

    claim: the closed form in var (an expression, or a sequence of them). base: its value at var = start.
    step: called with a symbol for the earlier value (with a list of them for a sequence), returns what the
    recurrence makes of it at var. There the claim at var - 1 is put in, in which x_prev stands for x_t. Both
    base == claim(start) and step(claim(var - 1)) == claim(var) go through ``verify``'s checks, and so do its
    errors; ValueError too if the step does not use what it is called with.

    of: what has the closed form, as the equation's left side shows it. If it can be computed, such as a sum up
    to var, it must have this base and this recurrence too; for an unknown function, such as q(x_t, x_0), or an
    indexed symbol of the chapter's own the text must have said both before (``premises``).

        verify_induction("eq-marginal-mean", sqrt(alpha_bar[t]) * x_0,
                         base=x_0, step=lambda previous: sqrt(alpha[t]) * previous)
    """
    check_label(label)
    several = isinstance(claim, (list, tuple, MatrixBase))
    claims = parts(claim)
    if var == N.t and any(c.has(N.x_prev, N.bit_prev) for c in claims):
        raise ValueError(f"{label}: claim: expected one about x_t, without x_prev, got {claim}")
    unknown = previous(len(claims))
    steps = parts(step(unknown if several else unknown[0]))
    if not any(e.has(*unknown) for e in steps):
        raise ValueError(f"{label}: step: expected a value made from the previous one, got one without it")
    bases = [right for _, right in _pairs(label, claims, parts(base))]
    if len(steps) != len(claims):
        raise ValueError(f"{label}: step: expected {len(claims)} expressions, got {len(steps)}")
    statement = Induction(label, tuple(claims), tuple(bases), tuple(steps), var, start)
    _pairs(label, list(statement.lhs), claims)
    outcome = check(statement)
    if of is not None:
        _check_recurrence(replace(statement, rhs=tuple(left for left, _ in _pairs(label, of, claim))))
    stepped = list(statement.lhs) if several else statement.lhs[0]
    induction = {
        "var": encode(var),
        "start": start,
        "base": encode(base),
        "step": encode(steps if several else steps[0]),
        "of": "" if of is None else encode(of),
    }
    condition = f"{claim} = {base} at {var} = {start}"
    return _report(
        label, "identity", "induction", "==", stepped, claim, outcome, [condition], (), slow, induction
    )


def _check_recurrence(statement: Induction) -> None:
    """Raises ProofError if a quantity that can be computed has another base or another recurrence."""
    if not any(map(is_unknown, statement.rhs)):
        check(statement)


def recheck(record: dict, rhs=None, lhs=None) -> str:
    """Checks a stored record's statement again, or a variant with another side: "proved" or "checked".

    Nothing is shown or recorded. Raises ProofError as ``verify`` does, ValueError for what is no claim.
    """
    statement = from_record(record, rhs, lhs)
    for left, right in zip(statement.lhs, statement.rhs, strict=True):
        _pairs(statement.label, left, right)
    return "proved" if check(statement)[2] else "checked"


def define(label: str, symbol, expression) -> Result:
    """Records that label defines symbol (a SymPy object, or a name as text) as expression.

    A quantity of the schedule must be defined as the notation table has it: anything else raises ProofError.
    Raises ValueError for a symbol that occurs in its own definition.
    """
    check_label(label)
    expression = sympify(expression)
    points, detail = 0, "definition"
    if not isinstance(symbol, str):
        if expression.has(symbol):
            raise ValueError(f"{label}: {symbol} occurs in its own definition")
        if isinstance(symbol, Indexed) and symbol.base.label.name in N.BY_KEY:
            points, _, _ = _check(Claim(label, "definition", _pairs(label, symbol, expression)))
            detail = f"definition (agrees with the notation table at {points} random points)"
    return show(
        Record(
            *(label, "definition", "stated", "definition", "==", str(symbol), str(expression), detail),
            *(encode(symbol), encode(expression), seed_of(label), points),
        )
    )


def assume(label: str, statement) -> Result:
    """Records that label is an assumption: a sentence, or a SymPy relation. Nothing is checked."""
    check_label(label)
    if not str(statement).strip():
        raise ValueError(f"{label}: statement: expected a sentence or a relation, got {statement!r}")
    text = str(statement)
    return show(Record(label, "assumption", "stated", "assumption", "", text, "", f"assumed: {text}"))


def check(statement: Statement | Induction) -> tuple[int, list[str], str | None]:
    """Refutes the statement or tries to prove it: number of points, where it has no value, how it was proved."""
    outcomes = [_check(claim) for claim in statement.claims()]
    points, undefined, how = outcomes[-1]
    if len(outcomes) == 2:
        both = all(outcome[2] is not None for outcome in outcomes)
        how = f"base {statement.var} = {statement.start} and step both reduce to 0" if both else None
    return points, undefined, how


def _check(claim: Claim) -> tuple[int, list[str], str | None]:
    """The same for one claim."""
    claim = replace(
        claim, pairs=[tuple(rename_bound(by_name(side)) for side in pair) for pair in claim.pairs]
    )
    points, undefined = refute(claim)
    how = "both sides are one expression"
    for left, right in claim.pairs:
        if left == right:
            continue
        try:
            how = prove(left, right, claim.relation, claim.where)
        except Diverges as error:
            raise ProofError(
                f"{claim.name} has no value: {error}. Claimed by {claim.by}.", claim.label
            ) from None
        if how is None:
            confirm(claim)
            break
    return points, undefined, how


def _report(label, kind, by, relation, lhs, rhs, outcome, conditions, given, slow, induction=None) -> Result:
    points, undefined, how = outcome
    agree = (
        f"{points} random points agree to 50 digits"
        if relation == "=="
        else f"holds at {points} random points"
    )
    limits = f"; not defined at {', '.join(undefined)}" if undefined else ""
    detail = (
        f"proved by {by} (SymPy: {how}; {agree}{limits})"
        if how
        else f"checked, not proved: {by} ({agree}{limits})"
    )
    return show(
        Record(
            *(label, kind, "proved" if how else "checked", by, relation, str(lhs), str(rhs), detail),
            *(
                encode(lhs),
                encode(rhs),
                seed_of(label),
                points,
                [str(c) for c in (*conditions, *given)],
                undefined,
            ),
            where_code=[] if induction else [encode(c) for c in conditions],
            given_code=[encode(c) for c in given],
            induction=induction or {},
            slow=slow,
        )
    )


def _pairs(label: str, lhs, rhs) -> list[tuple[Expr, Expr]]:
    """Both sides as lists of expressions, checked for what can never be true or false."""
    shapes = [side.shape if isinstance(side, (MatrixBase, MatrixExpr)) else None for side in (lhs, rhs)]
    left, right = parts(lhs), parts(rhs)
    if len(left) != len(right) or not left or shapes[0] != shapes[1]:
        raise ValueError(
            f"{label}: expected two sides of one shape, got {len(left)} and {len(right)} expressions"
        )
    for name, side in (("lhs", left), ("rhs", right)):
        for e in side:
            _check_expression(f"{label}: {name}", e)
    return list(zip(left, right, strict=True))


def _check_expression(name: str, e) -> None:
    if not isinstance(e, Expr) or e.has(nan, zoo):
        raise ValueError(f"{name}: expected a SymPy expression with a value, got {e}")
    if e.has(Float):
        raise ValueError(
            f"{name}: expected exact numbers, got a decimal in {e}; write Rational(1, 10) for 0.1"
        )
    for atom in e.atoms(Symbol, IndexedBase):
        row = N.BY_KEY.get(atom.name)
        own = row is not None and atom not in (row.object, getattr(row.object, "label", None))
        if own or atom.name.startswith("_"):
            raise ValueError(
                f"{name}: the symbol {atom.name} is not the notation table's; import it from there"
            )


def _conditions(where) -> tuple:
    conditions = tuple(where) if isinstance(where, Iterable) else (where,)
    for condition in conditions:
        if not isinstance(condition, Boolean) or isinstance(condition, Symbol):
            raise ValueError(f"where: expected a list of conditions such as [t >= 2], got {where!r}")
    return conditions


def _premises(given) -> tuple:
    told, premises = set(), tuple(given) if isinstance(given, Iterable) else (given,)
    for premise in premises:
        if not isinstance(premise, Eq) or not isinstance(premise.lhs, AppliedUndef) or premise.lhs in told:
            raise ValueError(
                f"given: expected equations with one unknown function each on the left, got {premise}"
            )
        told.add(premise.lhs)
    return premises

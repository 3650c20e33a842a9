"""Premises: each has been said before the claim that it is given to, and none is the claim itself."""

import json
from itertools import islice
from pathlib import Path

import pytest
from sympy import Eq, Function, Symbol, sqrt

from ddpm_lib.proof import MIME, book, ledger, premises, recheck, verify, verify_induction
from ddpm_lib.proof.mutants import of_expression
from ddpm_lib.proof.notation import alpha_bar, beta, eps, eps_hat, s, t, var, x_0, x_0_hat, x_t
from ddpm_lib.proof.waivers import RULES
from tests.helpers import record_of

BOOK = Path(__file__).resolve().parents[1] / "book"
ENTRIES = {entry.label: entry for entry in ledger.entries(BOOK)}
GIVEN = [
    (display, premise, place)
    for display, record in book.equations(BOOK)
    for premise, place in zip(premises.premises(record), ENTRIES[display.label].given, strict=True)
]

v = Function("v", real=True)
variance = alpha_bar[t] * var + 1 - alpha_bar[t]
of_v = Eq(v(t), variance)


def test_every_premise_of_the_book_has_been_said_before():
    assert len(GIVEN) >= 100
    assert [f"{display.place}: {premise}" for display, premise, place in GIVEN if not place] == []


def test_most_premises_are_read_and_the_rules_are_needed():
    read = [place for _, _, place in GIVEN if place.startswith("eq-") or place == premises.IN_TEXT]
    assert len(read) >= 0.8 * len(GIVEN)
    used = {str(premise) for _, premise, place in GIVEN if place == RULES.get(str(premise))}
    assert used == set(RULES)


def test_a_spoilt_premise_has_been_said_nowhere():
    tried, found, before, equations = 0, [], [], book.equations(BOOK)
    for display, record in equations:
        given = premises.premises(record)
        here = premises.known(BOOK, display, equations, before) if given else ()
        for premise in given:
            for kind, wrong in islice(of_expression(premise.rhs), 3):
                place = premises.origin(Eq(premise.lhs, wrong, evaluate=False), *here)
                found += [f"{display.place}: {premise.lhs} = {wrong} ({kind}): {place}"] if place else []
                tried += 1
        before += premises.statements(display, record)
    assert tried >= 300
    assert found == []


def test_an_equation_says_it_of_other_letters_too():
    stated = [premises.Stated("eq-v", of_v.lhs, of_v.rhs)]
    assert premises.origin(of_v, stated, []) == "eq-v"
    assert premises.origin(of_v.subs(t, s), stated, []) == "eq-v"
    assert premises.origin(of_v.subs(t, t - 1), stated, []) == "eq-v"
    assert premises.origin(Eq(v(s), variance), stated, []) == ""
    assert premises.origin(Eq(v(t), variance - 1), stated, []) == ""
    assert premises.origin(Eq(Function("w", real=True)(t), variance), stated, []) == ""


@pytest.mark.parametrize(
    ("latex", "place"),
    [
        (r"v_t = \bar\alpha_t \sigma^2 + 1 - \bar\alpha_t", premises.IN_TEXT),
        (r"\bar\alpha_t \sigma^2 + 1 - \bar\alpha_t = v_t", premises.IN_TEXT),
        (r"c = v_t = 1 - \bar\alpha_t + \bar\alpha_t \sigma^2", premises.IN_TEXT),
        (r"v_t = \bar\alpha_t \sigma^2 - 1 - \bar\alpha_t", ""),
        (r"v_t = \alpha_t \sigma^2 + 1 - \bar\alpha_t", ""),
        (r"w_t = \bar\alpha_t \sigma^2 + 1 - \bar\alpha_t", ""),
        (r"v_t =", ""),
    ],
)
def test_the_running_text_is_read(latex, place):
    assert premises.origin(of_v, [], [latex]) == place
    assert premises.origin(of_v.subs(t, s), [], [latex]) == place


def test_a_networks_answer_stands_for_what_is_right():
    made = eps * sqrt(1 - alpha_bar[t]) + x_0 * sqrt(alpha_bar[t])
    stated = [premises.Stated("eq-x0", x_0, (x_t - sqrt(1 - alpha_bar[t]) * eps) / sqrt(alpha_bar[t]))]
    guess = (x_t - sqrt(1 - alpha_bar[t]) * eps_hat) / sqrt(alpha_bar[t])
    assert premises.origin(Eq(Function("x_0_hat")(x_t, eps_hat), guess), stated, []) == "eq-x0"
    assert premises.origin(Eq(Function("x_0_hat")(x_t, eps_hat), guess + x_0_hat), stated, []) == ""
    assert (
        premises.origin(Eq(Function("x_t")(x_0, eps), made), [premises.Stated("eq-x", x_t, made)], [])
        == "eq-x"
    )


def test_no_claim_rests_on_one_that_comes_after_it(tmp_path):
    f, g = Function("f", real=True)(x_t), Function("g", real=True)(x_t)
    claims = [
        ("eq-first", f, "f(x_t) = x_t", [Eq(f, g), Eq(g, x_t)]),
        ("eq-second", g, "g(x_t) = x_t", [Eq(g, f), Eq(f, x_t)]),
    ]
    cells = []
    for label, side, latex, given in claims:
        record = record_of(verify(label, side, x_t, by="substitution", given=given))
        out = {"output_type": "display_data", "data": {MIME: record}}
        cells += [
            {"cell_type": "markdown", "source": f"$$ {latex} $$ ({label})"},
            {"cell_type": "code", "source": "", "outputs": [out]},
        ]
    (tmp_path / "01_tried.ipynb").write_text(json.dumps({"cells": cells}))
    first, second = ledger.entries(tmp_path)
    assert first.given == ("", "")
    assert second.given == ("", "eq-first")


def test_a_claim_that_is_its_own_premise_says_nothing():
    for premise in (of_v, Eq(v(t), variance, evaluate=False)):
        with pytest.raises(ValueError, match=r"eq-tried says nothing: it is given .*is it a definition\?"):
            verify("eq-tried", v(t), variance, by="definition", given=[premise])
        with pytest.raises(ValueError, match="says nothing"):
            verify("eq-tried", variance, v(t), by="definition", given=[premise])


def test_premises_are_put_in_one_after_the_other():
    w, c = Function("w", real=True), Symbol("c", real=True)
    chain = [Eq(w(t), c * v(t)), of_v]
    assert verify("eq-tried", w(t), c * variance, by="substitution", given=chain).status == "proved"


def test_the_ledger_shows_premises_and_conditions():
    table = ledger.as_markdown(list(ENTRIES.values()))
    row = next(line for line in table.splitlines() if "`eq-flow-by-score`" in line)
    assert "{eq}`eq-flow-field`, in the text" in row
    assert "| `t >= 2` |" in table


def test_the_left_side_of_an_induction_is_not_to_be_chosen():
    made = verify_induction("eq-tried", alpha_bar[t], base=1, step=lambda before: (1 - beta[t]) * before)
    record = record_of(made)
    assert recheck(record) == "proved"
    with pytest.raises(ValueError, match="lhs: expected None for an induction"):
        recheck(record, lhs=alpha_bar[t])

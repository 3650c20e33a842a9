"""Premises: each has been said before the claim that it is given to, and none is the claim itself."""

import json
from itertools import islice
from pathlib import Path

import pytest
from sympy import Eq, Function, IndexedBase, Integral, Product, Sum, Symbol, sqrt

from ddpm_lib.proof import MIME, book, ledger, premises, recheck, sentences, verify, verify_induction
from ddpm_lib.proof.mutants import of_expression
from ddpm_lib.proof.notation import (
    T,
    alpha,
    alpha_bar,
    beta,
    eps,
    eps_hat,
    k,
    n,
    s,
    t,
    var,
    x,
    x_0,
    x_0_hat,
    x_prev,
    x_s,
    x_T,
    x_t,
)
from ddpm_lib.proof.waivers import RULES
from tests.helpers import record_of

BOOK = Path(__file__).resolve().parents[1] / "book"
ENTRIES = {entry.label: entry for entry in ledger.entries(BOOK)}
EQUATIONS = book.equations(BOOK)
GIVEN = [
    (display, premise, place)
    for display, record in EQUATIONS
    for premise, place in zip(premises.premises(record), ENTRIES[display.label].given, strict=True)
]

v, w = Function("v", real=True), IndexedBase("w", real=True)
variance = alpha_bar[t] * var + 1 - alpha_bar[t]
of_v = Eq(v(t), variance)


def origin(premise, before=(), text=(), where=()):
    """Where a premise of some claim was read."""
    stated = [premises.Stated("eq-said", *equation.args) for equation in before]
    return premises.Known("eq-tried", where, stated, list(text)).origin(premise)


def test_every_premise_of_the_book_has_been_said_before():
    assert len(GIVEN) >= 100
    assert [f"{display.place}: {premise}" for display, premise, place in GIVEN if not place] == []


def test_most_premises_are_read_and_the_rules_are_needed():
    read = [place for _, _, place in GIVEN if place.startswith("eq-") or place == premises.IN_TEXT]
    assert len(read) >= 0.8 * len(GIVEN)
    rules = {(display.label, str(premise)): place for display, premise, place in GIVEN}
    assert {key: rules.get(key) for key in RULES} == RULES
    labels = {display.label for display, _ in EQUATIONS}
    assert {rule for rule in RULES.values() if rule.startswith("eq-")} <= labels


def test_each_formula_of_the_text_that_a_claim_rests_on_has_been_read_in_its_place():
    """Words can't tell what is asserted. Where this differs read the sentence, then keep premises.json in step."""
    pinned = json.loads(Path(__file__).with_name("premises.json").read_text(encoding="utf-8"))
    used = {chapter: [] for chapter in pinned}
    for display, record, here in premises.known(BOOK, EQUATIONS):
        sources = filter(None, map(here.source, premises.premises(record)))
        used.setdefault(display.chapter, []).extend(source.latex for source in sources if source.latex)
    assert {chapter: sorted(set(formulas)) for chapter, formulas in used.items()} == pinned


def test_a_spoilt_premise_has_been_said_nowhere():
    tried, found = 0, []
    for display, record, here in premises.known(BOOK, EQUATIONS):
        for premise in premises.premises(record):
            for kind, wrong in islice(of_expression(premise.rhs), 3):
                place = here.origin(Eq(premise.lhs, wrong, evaluate=False))
                found += [f"{display.place}: {premise.lhs} = {wrong} ({kind}): {place}"] if place else []
                tried += 1
    assert tried >= 350
    assert found == []


def test_an_equation_says_it_of_other_letters_too():
    assert origin(of_v, [of_v]) == "eq-said"
    assert origin(of_v.subs(t, s), [of_v]) == "eq-said"
    assert origin(of_v.subs(t, t - 1), [of_v]) == "eq-said"
    assert origin(Eq(v(s), variance), [of_v]) == ""
    assert origin(Eq(v(t), variance - 1), [of_v]) == ""
    assert origin(Eq(Function("w", real=True)(t), variance), [of_v]) == ""


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
        (r"v_t = 1, c = \bar\alpha_t \sigma^2 + 1 - \bar\alpha_t", ""),
        (r"c = 1, v_t = \bar\alpha_t \sigma^2 + 1 - \bar\alpha_t", premises.IN_TEXT),
        (r"v_t = 1 \text{ if } \bar\alpha_t = \bar\alpha_t \sigma^2 + 1 - \bar\alpha_t", ""),
        (r"v_t = 3 > 1 = \bar\alpha_t \sigma^2 + 1 - \bar\alpha_t", ""),
    ],
)
def test_the_running_text_is_read(latex, place):
    assert origin(of_v, text=[latex]) == place
    assert origin(of_v.subs(t, s), text=[latex]) == place


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("Hence $v = 2$.", 1),
        ("So it is\n\n```{math}\nv = 2\n```\n\nIf not, then not.", 1),
        ("If $u = 2$, all is well. Then $v = 2$.", 1),
        ("Suppose the claim holds, $v = 2$.", 0),
        ("Suppose\n\n```{math}\nv = 2\n```\n", 0),
        ("It is\n\n```{math}\nv = 2\n```\n\nonly if the noise is small.", 0),
        ("It is $v = 2$ if the noise is small.", 0),
        ("Then $v = 2$, but only if the noise is small.", 0),
        ("That is constant exactly if $v = 2$.", 0),
        ("It would be wrong to say that $v = 2$.", 0),
        ("It does not follow that $v = 2$.", 0),
        ("Let us assume, e.g. for one pixel, $v = 2$.", 0),
        ("Is it true that $v = 2$?", 0),
        ("At $t = 1$ it is $v = 2$.", 0),
        ("There $v = 2$ is a mistake, and wrong.", 0),
        ("<!-- So $v = 2$. -->", 0),
        ("$$ v = 2 $$ (eq-tried)", 0),
    ],
)
def test_what_is_supposed_or_denied_is_not_said(text, count):
    assert sum("v = 2" in latex for latex in sentences.said(text)) == count


@pytest.mark.parametrize(
    "latex",
    [
        r"\begin{aligned} v_t &= 1 \\ w_t &= 2 \end{aligned}",
        r"v_t = 1 \quad c = 2",
        r"v_t = 1; c = 2",
        r"v_t = 1 \ne c = 2",
        r"v_t = 1 \sim c = 2",
        r"v_t = 1 \Rightarrow c = 2",
        r"v_t = 1 \text{ if } c = 2",
        r"v_t = 2, t = 1",
    ],
)
def test_more_than_equalities_is_no_chain(latex):
    assert sentences.chains(latex) == []
    assert sentences.chains(r"a = \frac{b}{c}, d = f(x, y)") == [["a ", r" \frac{b}{c}"], [" d ", " f(x, y)"]]


def test_a_networks_answer_stands_for_what_is_right():
    made = eps * sqrt(1 - alpha_bar[t]) + x_0 * sqrt(alpha_bar[t])
    clean = Eq(x_0, (x_t - sqrt(1 - alpha_bar[t]) * eps) / sqrt(alpha_bar[t]))
    guess, answer = (x_t - sqrt(1 - alpha_bar[t]) * eps_hat) / sqrt(alpha_bar[t]), Function("x_0_hat")
    assert origin(Eq(answer(x_t, eps_hat), guess), [clean]) == "eq-said"
    assert origin(Eq(answer(x_t, eps_hat), guess + x_0_hat), [clean]) == ""
    assert origin(Eq(answer(x_t, eps), clean.rhs), [clean]) == ""  # the answer is not the truth
    noise = Eq(eps, (x_t - sqrt(alpha_bar[t]) * x_0) / sqrt(1 - alpha_bar[t]))
    for truth in (x_0, x[0], Function("x_0")(x_t)):
        assert origin(Eq(Function("eps_hat")(x_t), noise.rhs.subs(x_0, truth)), [noise]) == ""
    assert origin(Eq(Function("x_t")(x_0, eps), made), [Eq(x_t, made)]) == "eq-said"


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


@pytest.mark.parametrize("latex", ["v = 2", "v = 2, c = 3"])
def test_a_bare_letter_in_the_text_is_of_no_other_step(latex):
    assert origin(Eq(v(t), 2), text=[latex]) == premises.IN_TEXT
    for step in (t - 1, s, T, 0):
        assert origin(Eq(v(step), 2), text=[latex]) == ""


def test_an_equation_says_nothing_at_an_end_where_it_has_no_value():
    stated = premises.Stated("eq-said", v(t), 1 / t, undefined=("t = 1",))
    assert premises.Known("eq-tried", (), [stated], []).origin(Eq(v(s), 1 / s)) == "eq-said"
    assert premises.Known("eq-tried", (), [stated], []).origin(Eq(v(1), 1)) == ""


def test_what_holds_under_a_condition_is_said_under_it_alone():
    stated = premises.Stated("eq-said", v(t), t, ("t >= 2",))
    assert premises.Known("eq-tried", ("t >= 2",), [stated], []).origin(Eq(v(t), t)) == "eq-said"
    assert premises.Known("eq-tried", (), [stated], []).origin(Eq(v(t), t)) == ""


def test_a_rule_is_one_for_its_own_claims():
    (label, premise), rule = next(iter(RULES.items()))
    given = next(p for display, p, _ in GIVEN if (display.label, str(p)) == (label, premise))
    assert premises.Known(label, (), [], []).origin(given) == rule
    assert premises.Known("eq-tried", (), [], []).origin(given) == ""


def test_an_equation_of_another_chapter_says_nothing_here():
    here = {display.label: known for display, _, known in premises.known(BOOK, EQUATIONS)}
    places = {stated.place for stated in here["eq-ddim-marginal-mean"].before}
    assert "eq-ddim-family" in places
    assert "eq-marginal-mean" not in places


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


mean, spread, density = Function("E", real=True), Function("Var", real=True), Function("q", positive=True)


@pytest.mark.parametrize(
    ("said", "asked", "place"),
    [
        (Eq(mean(x_t, x_0), x_0 * alpha_bar[t]), Eq(mean(x_prev, x_0), x_0 * alpha_bar[t - 1]), "eq-said"),
        (Eq(mean(x_t, x_0), x_0 * alpha_bar[t]), Eq(mean(x_prev, x_0), x_0 * alpha_bar[t]), ""),
        (Eq(mean(x_prev, x_0), x_0 * alpha_bar[t - 1]), Eq(mean(x_t, x_0), x_0 * alpha_bar[t]), "eq-said"),
        (Eq(spread(x_0, x_0), 0), Eq(spread(x_t, x_0), 0), ""),
        (Eq(spread(x_T, x_0), 1), Eq(spread(x_t, x_0), 1), ""),
        (Eq(spread(x_t, x_0), 1), Eq(spread(x_0, x_0), 1), "eq-said"),
        (Eq(v(t) * mean(s, s), 1), Eq(v(t), 1), ""),
        (Eq(mean(s, s), s), Eq(mean(s, t), t), ""),
        (Eq(w[n], beta[t] * w[n - 1]), Eq(w[1], beta[t] * w[0]), "eq-said"),
        (Eq(w[n], beta[t] * w[n - 1]), Eq(w[1], beta[t] * w[n - 1]), ""),
        (Eq(w[0], 1), Eq(w[1], 1), ""),
        (Eq(v(T), 1), Eq(v(t), 1), ""),
        (Eq(v(x_0), x_0), Eq(v(x_t), x_t), ""),
        (Eq(Symbol("v"), alpha_bar[t]), Eq(v(t), alpha_bar[t]), "eq-said"),
        (Eq(Symbol("v"), alpha_bar[t]), Eq(v(t - 1), alpha_bar[t]), ""),
        (Eq(Symbol("v"), alpha_bar[t]), Eq(v(s), alpha_bar[t]), ""),
        (Eq(density(x_t, x_s), x_t - x_s), Eq(density(x_s, x_t), x_s - x_t), ""),
        (Eq(density(x_t, x_0), x_t), Eq(density(x_t, x_prev), x_t), ""),
        (Eq(mean(x_T, x_0), 0), Eq(mean(s, x_0), 0), ""),
        (Eq(v(x_T), 0), Eq(v(s), 0), ""),
        (Eq(v(x_t), Integral(x_s * x_t, (x_s, 0, 1))), Eq(v(x_s), Integral(x_s**2, (x_s, 0, 1))), ""),
        (Eq(v(n), Sum(k * n, (k, 1, 3))), Eq(v(k), Sum(k * k, (k, 1, 3))), ""),
    ],
)
def test_what_is_said_of_one_state_is_not_said_of_another(said, asked, place):
    assert origin(asked, [said]) == place


def test_an_induction_is_given_its_first_value_and_its_recurrence():
    def facts(**changed):
        said = {"base": x_0, "step": lambda before: sqrt(1 - beta[t]) * before, "of": mean(x_t, x_0)}
        return premises.premises(
            record_of(verify_induction("eq-tried", sqrt(alpha_bar[t]) * x_0, **said | changed))
        )

    first, recurrence = facts()
    assert (first.lhs, first.rhs) == (mean(x_0, x_0), x_0)
    assert (recurrence.lhs, recurrence.rhs) == (mean(x_t, x_0), sqrt(1 - beta[t]) * mean(x_prev, x_0))
    text = [
        r"\mathbb E[x_0 \mid x_0] = x_0",
        r"\mathbb E[x_t \mid x_0] = \sqrt{1 - \beta_t}\, \mathbb E[x_{t-1} \mid x_0]",
    ]
    assert [origin(fact, text=text) for fact in facts()] == [premises.IN_TEXT] * 2
    by_alpha = facts(step=lambda before: sqrt(alpha[t]) * before)
    assert [origin(fact, text=text) for fact in by_alpha] == [premises.IN_TEXT, ""]
    assert facts(of=sqrt(Product(alpha[k], (k, 1, t))) * x_0) == []  # this has been computed


def test_the_inductions_of_the_book_have_theirs():
    inductions = [record for _, record in EQUATIONS if record.get("induction")]
    assert len(inductions) >= 19
    assert all(record["induction"]["of"] for record in inductions)
    assert sum(len(premises.premises(record)) for record in inductions) >= 30


def test_the_left_side_of_an_induction_is_not_to_be_chosen():
    made = verify_induction("eq-tried", alpha_bar[t], base=1, step=lambda before: (1 - beta[t]) * before)
    record = record_of(made)
    assert recheck(record) == "proved"
    with pytest.raises(ValueError, match="lhs: expected None for an induction"):
        recheck(record, lhs=alpha_bar[t])

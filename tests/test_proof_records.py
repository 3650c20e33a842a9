"""Inductions, definitions and assumptions, and the records that each check leaves."""

import json
from dataclasses import asdict

import nbformat
import pytest
import sympy
from nbclient import NotebookClient
from sympy import (
    Eq,
    Integral,
    Product,
    Sum,
    cos,
    exp,
    log,
    oo,
    pi,
    sqrt,
)

from ddpm_lib.proof import MIME, ProofError, assume, define, recheck, verify, verify_induction
from ddpm_lib.proof import notation as N
from ddpm_lib.proof.codes import decode, encode
from ddpm_lib.proof.distributions import (
    expectation,
    normal_pdf,
    unknown_density,
)
from tests.helpers import record_of
from tests.proof_cases import (
    BAR,
    PREV,
    marginal,
    marginal_prev,
    posterior,
    step,
)

t, s, T, k, n, x, x_0, x_t, x_prev = N.t, N.s, N.T, N.k, N.n, N.x, N.x_0, N.x_t, N.x_prev
alpha, alpha_bar, beta, beta_tilde = N.alpha, N.alpha_bar, N.beta, N.beta_tilde
snr, rate = N.snr, N.rate
f, g = unknown_density("f"), unknown_density("g")


def test_an_induction_with_a_false_base_or_step_is_refused():
    with pytest.raises(ProofError, match="base, t = 0"):
        verify_induction("eq-base", sqrt(BAR) * x_0, base=2 * x_0, step=lambda m: sqrt(alpha[t]) * m)
    with pytest.raises(ProofError, match=r"\(step\)"):
        verify_induction("eq-step", sqrt(BAR) * x_0, base=x_0, step=lambda m: alpha[t] * m)


def test_an_induction_on_several_values_at_once():
    pair = verify_induction(
        "eq-pair",
        (sqrt(BAR) * x_0, 1 - BAR),
        base=(x_0, 0),
        step=lambda m: (sqrt(alpha[t]) * m[0], alpha[t] * m[1] + beta[t]),
    )
    assert pair.status == "proved"


def test_an_induction_on_another_index():
    kept = verify_induction("eq-kept", (1 - rate) ** n, var=n, base=1, step=lambda m: m * (1 - rate))
    assert kept.status == "proved"


def test_an_induction_on_the_number_of_steps_carries_the_state():
    def jump(q):
        return Integral(normal_pdf(N.y, sqrt(1 - rate) * N.y_prev, rate) * q, (N.y_prev, -oo, oo))

    after = normal_pdf(N.y, (1 - rate) ** (n / 2) * N.y_0, 1 - (1 - rate) ** n)
    one = normal_pdf(N.y, sqrt(1 - rate) * N.y_0, rate)
    assert verify_induction("eq-runs", after, var=n, start=1, base=one, step=jump).status == "proved"


def test_a_record_is_checked_again_and_a_mutant_of_it_refused():
    stepped = verify_induction("eq-again", 1 - BAR, base=0, step=lambda w: alpha[t] * w + beta[t])
    premised = verify("eq-given", f(x_t) - x_0, x_0, by="definition", given=[Eq(f(x_t), x_0 + x_0)])
    ratio = PREV * (1 - BAR) / (BAR * (1 - PREV))
    limited = verify("eq-where", snr[t - 1] / snr[t], ratio, by="algebra", where=[t >= 2])
    for result, wrong in ((stepped, 1 - alpha[t]), (premised, 2 * x_0), (limited, 1 / ratio)):
        record = record_of(result)
        assert recheck(record) == "proved"
        with pytest.raises(ProofError):
            recheck(record, rhs=wrong)


def test_the_code_of_a_side_keeps_what_unknown_functions_are():
    h, r = unknown_density("h"), sympy.Function("r", real=True)
    for e in (
        h(x_t) * r(x_0, x_t),
        [h(t), r(t)],
        Eq(h(x_t), r(x_t)),
        sympy.Matrix([[1, BAR], [0, t]]),
        t >= 2,
    ):
        assert decode(encode(e)) == sympy.sympify(e)
    with pytest.raises(ValueError, match="as encode writes it"):
        decode("__import__('os').getcwd()")


def test_an_induction_on_the_last_step_carries_the_last_coordinate():
    jump = normal_pdf(x[T], sqrt(alpha[T]) * x[T - 1], beta[T])
    result = verify_induction(
        "eq-last",
        normal_pdf(N.x_T, sqrt(alpha_bar[T]) * x_0, 1 - alpha_bar[T]),
        var=T,
        start=1,
        base=normal_pdf(N.x_T, sqrt(alpha[1]) * x_0, beta[1]),
        step=lambda q: Integral(jump * q, (x[T - 1], -oo, oo)),
    )
    assert result.status == "proved"


def test_an_induction_that_says_nothing_is_an_error():
    with pytest.raises(ValueError, match="without it"):
        verify_induction("eq-empty", 1 - BAR, base=0, step=lambda m: 1 - alpha[t] * PREV)
    with pytest.raises(ValueError, match="without x_prev"):
        verify_induction("eq-empty", x_prev * BAR, base=x_0, step=lambda m: m * alpha[t])


def test_an_induction_whose_step_sympy_cannot_prove_is_called_checked():
    softplus = expectation(log(1 + exp(x_t)), normal_pdf(x_t, 0, 1), x_t)
    mirrored = expectation(log(1 + exp(-x_t)), normal_pdf(x_t, 0, 1), x_t)
    result = verify_induction("eq-slow", softplus * BAR, base=mirrored, step=lambda m: m * alpha[t])
    assert result.status == "checked"


def test_a_definition_agrees_with_the_table():
    assert define("eq-alpha-bar", BAR, Product(alpha[k], (k, 1, t))).kind == "definition"
    assert define("eq-forward-step", "q(x_t | x_{t-1})", step).lhs == "q(x_t | x_{t-1})"
    assert define("eq-two", N.mean, x_0 / 2).points == 0
    with pytest.raises(ProofError, match="is false"):
        define("eq-cosine", alpha[t], cos(pi * t / (2 * T + 2)) ** 2)
    with pytest.raises(ValueError, match="its own definition"):
        define("eq-circle", BAR, alpha[t] * BAR)


def test_an_assumption_is_recorded_in_words():
    record = assume("eq-markov", "x_t depends on the past through x_{t-1} alone").record
    assert (record.kind, record.status) == ("assumption", "stated")
    with pytest.raises(ValueError, match="statement"):
        assume("eq-markov", "  ")


def test_the_record_is_json_that_gives_the_sides_back():
    result = verify("eq-record", step * marginal_prev / marginal, posterior, by="Bayes")
    record = json.loads(json.dumps(asdict(result.record)))
    names = {**vars(sympy), "normal_pdf": normal_pdf}
    assert eval(record["lhs_code"], names) == step * marginal_prev / marginal
    assert eval(record["rhs_code"], names) == posterior
    assert (record["label"], record["status"], record["by"], record["points"]) == (
        "eq-record",
        "proved",
        "Bayes",
        8,
    )


def test_a_check_prints_the_same_line_each_time(capsys):
    for _ in range(2):
        verify("eq-line", alpha[t] + beta[t], 1, by="definition")
    first, second = capsys.readouterr().out.splitlines()
    assert first == second
    assert first == (
        "✓ eq-line  proved by definition (SymPy: difference reduces to 0; 8 random points agree to 50 digits)"
    )


def test_in_a_notebook_each_check_leaves_its_line_and_its_record_once():
    cell = """
from ddpm_lib.proof import verify
from ddpm_lib.proof.notation import *
verify("eq-one", alpha[t] + beta[t], 1, by="definition")
verify("eq-two", alpha_bar[t], alpha[t] * alpha_bar[t - 1], by="definition")
"""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell)])
    NotebookClient(notebook, kernel_name="python3").execute()
    outputs = notebook.cells[0].outputs
    assert [output.output_type for output in outputs] == ["display_data"] * 2
    assert [sorted(output.data) for output in outputs] == [[MIME, "text/plain"]] * 2
    assert [output.data[MIME]["label"] for output in outputs] == ["eq-one", "eq-two"]


def test_a_sum_over_several_indices_must_be_nested():
    assert verify("eq-twice", Sum(x_0, (k, 1, 2), (n, 1, 3)), 6 * x_0, by="summation").status == "proved"

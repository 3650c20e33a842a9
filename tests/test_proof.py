"""The proof engine: true claims are proved, false or meaningless ones refused, and the record says which."""

import pytest
import sympy
from sympy import (
    Abs,
    Eq,
    Function,
    Integral,
    Matrix,
    Max,
    Piecewise,
    Pow,
    Rational,
    Sum,
    Symbol,
    exp,
    log,
    sqrt,
    zoo,
)

from ddpm_lib.proof import REASONS, ProofError, verify
from ddpm_lib.proof import notation as N
from ddpm_lib.proof.distributions import (
    expectation,
    kl_bernoulli,
    normal_pdf,
    unknown_density,
)
from ddpm_lib.proof.mutants import of_expression
from ddpm_lib.proof.prover import prove
from ddpm_lib.proof.reduction import rename_bound
from tests.evaluation import differ
from tests.proof_cases import (
    BAR,
    CASES,
    PREV,
    marginal,
    marginal_prev,
    posterior,
    posterior_mean,
    step,
)

t, s, T, k, n, x, x_0, x_t, x_prev = N.t, N.s, N.T, N.k, N.n, N.x, N.x_0, N.x_t, N.x_prev
alpha, alpha_bar, beta, beta_tilde = N.alpha, N.alpha_bar, N.beta, N.beta_tilde
snr, rate = N.snr, N.rate
f, g = unknown_density("f"), unknown_density("g")


def refused(lhs, rhs, by="algebra", **options) -> ProofError:
    with pytest.raises(ProofError) as caught:
        verify("eq-false", lhs, rhs, by=by, **options)
    return caught.value


def status(case, rhs) -> str:
    try:
        return case.check(rhs).status
    except ValueError as error:
        return str(error)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.label)
def test_each_identity_is_proved_and_its_mutants_refused(case):
    assert case.check(case.rhs).status == "proved"
    kinds = {mutant: kind for kind, mutant in of_expression(case.rhs)}
    assert len(kinds) > 1
    for mutant, what in kinds.items():
        if differ(case.rhs, mutant):
            with pytest.raises((ProofError, ValueError), match=r"is false|has no value|without x_prev"):
                case.check(mutant)
        else:  # no mistake, such as x and its mean exchanged: then there is a proof, or it is the left side
            assert status(case, mutant) == "proved" or "says nothing" in status(case, mutant), what


ILL_POSED = {
    "says nothing": (x_0 + x_t, x_t + x_0),
    "of one shape": (Matrix([x_0, x_t]), Matrix([[x_0, x_t]])),
    "2 and 1": ([x_0, x_t], [x_0]),
    "with a value": (x_0 + zoo, x_t),
    "SymPy expression": (Eq(x_0, x_t), x_t),
    "exact numbers": (0.5 * x_0, x_0 / 2),
    "not the notation table's": (Symbol("beta", real=True) * 2, x_0),
    "the symbol _u is not": (Symbol("_u", real=True), x_0),
    "with an assumption": (Symbol("z") * 2, x_0),
}


@pytest.mark.parametrize("message", ILL_POSED)
def test_an_ill_posed_claim_is_an_error(message):
    with pytest.raises(ValueError, match=message):
        verify("eq-ill", *ILL_POSED[message], by="algebra")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"by": "it can be shown"}, "Markov property"),
        ({"by": "algebra", "relation": "<"}, "relation"),
        ({"by": "algebra", "where": [t > 99]}, "only 0 points"),
        ({"by": "algebra", "where": [beta[t] > 0.5]}, "plain symbols"),
        ({"by": "algebra", "where": t}, "list of conditions"),
        ({"by": "algebra", "given": [Eq(x_0, x_t)]}, "unknown function"),
        ({"by": "algebra", "given": [Eq(f(x_0), 1), Eq(f(x_0), 2)]}, "unknown function"),
    ],
)
def test_a_bad_option_is_an_error(options, message):
    with pytest.raises(ValueError, match=message):
        verify("eq-bad-option", 2 * x_0, x_0 + x_t, **options)


@pytest.mark.parametrize("label", ["posterior", "eq_posterior", "Eq-posterior", "", 3])
def test_a_bad_label_is_an_error(label):
    with pytest.raises(ValueError, match="label"):
        verify(label, x_0, x_t, by="algebra")


QUICK = [case for case in CASES if case.lhs is not None and not case.lhs.has(Integral, normal_pdf)]


@pytest.mark.parametrize("case", QUICK, ids=lambda case: case.label)
def test_the_prover_by_itself_proves_no_wrong_mutant(case):
    for what, mutant in of_expression(case.rhs):
        proved = prove(rename_bound(case.lhs), rename_bound(mutant)) is not None
        assert proved is not differ(case.rhs, mutant), what


def test_reasons_are_known_words():
    for by in REASONS:
        assert verify("eq-any-reason", alpha[t] + beta[t], 1, by=by).by == by


def test_a_counterexample_names_label_reason_point_and_both_values():
    error = refused(
        posterior_mean, posterior_mean.xreplace({sqrt(alpha[t]): sqrt(BAR)}), "completing the square"
    )
    message = str(error)
    assert message.startswith("eq-false is false: at t=")
    for part in (
        "alpha[t]=0.",
        "alpha_bar[t - 1]=0.",
        "x_0=",
        "x_t=",
        "the left side is",
        "the right side",
        "difference",
    ):
        assert part in message
    assert message.endswith("Claimed by completing the square.")
    point = {name: float(value) for name, value in error.point.items()}
    bar, prev = point["alpha_bar[t]"], point["alpha_bar[t - 1]"]
    value = prev**0.5 * point["beta[t]"] * point["x_0"] + point["alpha[t]"] ** 0.5 * (1 - prev) * point["x_t"]
    assert float(error.left) == pytest.approx(value / (1 - bar), rel=1e-4)
    assert error.label == "eq-false"


def test_a_counterexample_shows_a_running_table():
    assert "beta[1]=0." in str(refused(Sum(beta[k], (k, 1, t)), 1 - BAR))


def test_a_tiny_difference_is_seen_and_shown():
    assert "e-37" in str(refused(x_0 + Rational(1, 10**37), x_0))


def test_a_claim_of_several_parts_names_the_false_one():
    assert "in part 2 of 2" in str(refused((2 * x_0, x_t), (x_0 + x_0 * (alpha[t] + beta[t]), x_0)))
    assert verify(
        "eq-parts", Matrix([2 * x_0, x_t]), Matrix([x_0 * (alpha[t] + beta[t]) + x_0, x_t]), by="algebra"
    )


def test_a_claim_that_fails_only_at_the_first_step_is_refused():
    assert "at t=1 the left" in str(refused(Piecewise((0, t < 2), (1, True)), 1))
    assert "beta_tilde[t]=0" in str(
        refused(Pow(0, beta_tilde[t], evaluate=False), beta_tilde[t] * 0 + x_0 - x_0)
    )


def test_a_claim_that_fails_only_for_some_signs_is_refused():
    h = Function("h", real=True)
    refused(Abs(h(x_0)), h(x_0))
    refused(Abs(x_0) * Abs(x_t), x_0 * x_t)
    refused(Abs(x_0 + x_t), Abs(x_0) + Abs(x_t))
    refused(Max(x_0, x_t), x_t)


def test_an_end_of_the_range_without_a_value_is_recorded():
    result = verify("eq-ends", step * marginal_prev / marginal, posterior, by="Bayes")
    assert result.undefined_at == ["t = 1"]
    assert "not defined at t = 1" in repr(result)


def test_a_condition_is_kept_in_the_record():
    ratio = snr[t - 1] / snr[t]
    assert verify(
        "eq-where", ratio, PREV * (1 - BAR) / (BAR * (1 - PREV)), by="algebra", where=[t >= 2]
    ).where == ["t >= 2"]
    bare = verify("eq-where", ratio, PREV * (1 - BAR) / (BAR * (1 - PREV)), by="algebra", where=t >= 2)
    assert bare.where == ["t >= 2"]


def test_what_sympy_cannot_prove_is_called_checked():
    softplus = expectation(log(1 + exp(x_t)), normal_pdf(x_t, 0, 1), x_t)
    mirrored = expectation(log(1 + exp(-x_t)), normal_pdf(x_t, 0, 1), x_t)
    result = verify("eq-softplus", softplus, mirrored, by="symmetry")
    assert result.status == "checked"
    assert repr(result).startswith("≈ eq-softplus  checked, not proved: symmetry")


def test_what_agrees_to_fifty_digits_only_is_refused():
    refused(sympy.tanh(70 + 0 * x_0) + Abs(x_0), 1 + Max(x_0, -x_0))


def test_a_premise_turns_the_chain_rule_into_the_markov_chain():
    joint = f(x[2], x[1], x_0) * g(x[1], x_0)
    markov = [Eq(f(x[2], x[1], x_0), f(x[2], x[1]))]
    refused(joint, f(x[2], x[1]) * g(x[1], x_0), "Markov property")
    result = verify("eq-joint", joint, f(x[2], x[1]) * g(x[1], x_0), by="Markov property", given=markov)
    assert result.status == "proved"
    assert "f(x[2], x[1])" in result.where[0]


def test_a_false_inequality_is_refused():
    assert "claimed is left <= right" in str(refused(beta_tilde[t], beta[t] / 2, relation="<="))
    refused(kl_bernoulli(N.prob_p, N.prob_q), (N.prob_p - N.prob_q) ** 2 * 3, relation=">=")
    refused(x_0 * x_t, -Abs(x_0), relation=">=")


def test_an_inequality_without_a_proof_is_called_checked():
    lhs, rhs = sympy.tanh(N.var), sympy.tanh(N.var + N.var_p)
    assert verify("eq-rising", lhs, rhs, by="algebra", relation="<=").status == "checked"

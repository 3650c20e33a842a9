"""The parts of the proof engine: normal forms, integrals, densities and the notation table."""

import json
from pathlib import Path

import pytest
import sympy
from sympy import Rational, Sum, exp, log, sqrt

from ddpm_lib.gaussian import Normal
from ddpm_lib.proof import notation as N
from ddpm_lib.proof.distributions import bernoulli_pmf, normal_pdf
from ddpm_lib.proof.evaluation import Diverges, do_sums, gaussian_integral
from ddpm_lib.proof.normal_form import is_zero
from ddpm_lib.schedule import linear
from tests.proof_cases import HALF

k, n, x_0, x_t, snr = N.k, N.n, N.x_0, N.x_t, N.snr


@pytest.mark.parametrize(
    ("zero", "e"),
    [
        (True, sqrt(6) - sqrt(2) * sqrt(3)),
        (True, 1 / (sqrt(N.var) - 1) - (sqrt(N.var) + 1) / (N.var - 1)),
        (True, N.var ** Rational(3, 4) - (N.var ** Rational(1, 4)) ** 3),
        (True, exp(x_0 + log(N.var) / 2) - sqrt(N.var) * exp(x_0)),
        (True, log(N.var_p**2 / sqrt(N.var_q)) - 2 * log(N.var_p) + log(N.var_q) / 2),
        (True, (2 * N.var) ** n - 2**n * N.var**n),
        (True, exp(2 * x_0) - exp(x_0) ** 2),
        (False, sqrt(x_0**2) - x_0),
        (False, log(x_0**2) - 2 * log(x_0)),
        (False, sqrt(1 + N.var) - 1 - sqrt(N.var)),
        (False, exp(x_0) - 1 - x_0),
    ],
)
def test_the_normal_form_decides(zero, e):
    assert is_zero(e) is zero


def test_a_density_knows_its_derivatives():
    q = normal_pdf(x_t, N.mean, N.var)
    for symbol in (x_t, N.mean, N.var):
        assert is_zero(q.diff(symbol).doit() - q.doit().diff(symbol))
    assert q.is_positive
    assert normal_pdf(x_t, 0, x_0).is_positive is None


def test_an_integral_that_diverges_is_told_from_one_that_is_not_known():
    with pytest.raises(Diverges):
        gaussian_integral(exp(x_t**2), x_t)
    assert gaussian_integral(exp(x_0 * x_t**2), x_t) is None
    assert gaussian_integral(exp(-(x_t**4)), x_t) is None
    assert gaussian_integral(exp(-(x_t**2)) * 0, x_t) == 0


def test_a_sum_with_fewer_than_no_terms_is_an_error():
    with pytest.raises(ValueError, match="low <= high"):
        do_sums(Sum(snr[k], (k, 5, 2)))


def test_densities_print_as_latex():
    assert sympy.latex(normal_pdf(x_t, 0, 1)) == r"\mathcal N\left(x_{t};\, 0,\, 1\right)"
    assert sympy.latex(bernoulli_pmf(N.prob, HALF) ** 2).endswith("^{2}")
    assert sympy.latex(normal_pdf(x_t, 0, 1) ** 2).endswith("^{2}")


def test_the_notation_page_holds_the_table():
    page = json.loads((Path(__file__).parent.parent / "book" / "notation.ipynb").read_text(encoding="utf-8"))
    shown = ["".join(o["data"]["text/markdown"]) for cell in page["cells"] for o in cell.get("outputs", [])]
    assert shown == [N.table_markdown(), N.translation_markdown()]


def test_each_symbol_is_exported_under_its_key():
    assert all(getattr(N, row.key) is row.object for row in N.TABLE)
    assert len({row.key for row in N.TABLE}) == len(N.TABLE)


def test_the_table_names_what_the_library_has():
    schedule = linear(4)
    for row in N.TABLE:
        owner, _, attribute = row.code.partition(".")
        if owner == "schedule":
            assert hasattr(schedule, attribute), row.code
        if owner in ("Normal", "p", "q"):
            assert attribute in Normal.__dataclass_fields__, row.code

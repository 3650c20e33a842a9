"""Displayed = checked: each labelled equation of the book, read back from its LaTeX, is what its record holds."""

import re
import time
from pathlib import Path

import pytest

from ddpm_lib.proof import book
from ddpm_lib.proof.latex import read
from ddpm_lib.proof.waivers import WAIVED

BOOK = Path(__file__).resolve().parents[1] / "book"
EQUATIONS = [(display, record) for display, record in book.equations(BOOK) if record["kind"] != "assumption"]
CLAIMS = [(display, record) for display, record in EQUATIONS if record["kind"] in ("identity", "inequality")]
CHAPTERS = sorted({display.chapter for display, _ in EQUATIONS})
LEAST = 0.9  # of the claims that are read back


def of(chapter, equations):
    return [(display, record) for display, record in equations if display.chapter == chapter]


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_what_is_displayed_is_what_was_checked(chapter):
    compared = [
        (display, record) for display, record in of(chapter, EQUATIONS) if display.label not in WAIVED
    ]
    found = [text for display, record in compared if (text := book.complaint(display, record))]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_few_claims_are_waived(chapter):
    claims = [display.label for display, _ in of(chapter, CLAIMS)]
    assert sum(label not in WAIVED for label in claims) >= LEAST * len(claims)


@pytest.mark.parametrize("label", WAIVED)
def test_a_waiver_has_a_reason_and_is_needed(label):
    ours = [(display, record) for display, record in EQUATIONS if display.label == label]
    assert len(ours) == 1
    assert len(WAIVED[label].split()) > 4
    assert book.complaint(*ours[0]), f"{label} is read back now: delete its waiver"


def flipped(latex):
    """The display with its first + as a - or the other way round."""
    return re.sub(r"(?<=[\w})] )[+-]", lambda sign: {"+": "-", "-": "+"}[sign[0]], latex, count=1)


def without_a_square(latex):
    return re.sub(r"\^2(?!\d)", "", latex, count=1)


def one_step_late(latex):
    return latex.replace("{t-1}", "{t}", 1)


def one_step_early(latex):
    return re.sub(r"(\\(?:alpha|beta)|SNR\})_t", r"\1_{t-1}", latex, count=1)


def arguments_exchanged(latex):
    r"""The display with the mean and the variance of its first \mathcal N exchanged."""
    start = latex.find(r"\mathcal N")
    parts, depth, cuts = re.finditer(r"[{}();,]", latex[max(start, 0) :]), 0, []
    for part in parts:
        sign, at = part[0], start + part.start()
        depth += (sign in "({") - (sign in ")}")
        if (depth == 1 and sign in ";," and latex[at - 1] != "\\") or (depth == 0 and sign == ")"):
            cuts.append(at)
        if depth == 0 and sign == ")":
            break
    if start < 0 or len(cuts) != 3:
        return latex
    semicolon, comma, end = cuts
    mean, var = latex[semicolon + 1 : comma], latex[comma + 1 : end]
    tail = r"\right" if var.endswith(r"\right") else ""
    return f"{latex[: semicolon + 1]}{var.removesuffix(tail)},{mean}{tail}{latex[end:]}"


SPOILT = [flipped, without_a_square, one_step_late, one_step_early, arguments_exchanged]


@pytest.mark.parametrize("chapter", CHAPTERS)
@pytest.mark.parametrize("spoil", SPOILT, ids=lambda spoil: spoil.__name__)
def test_a_spoilt_display_is_found_and_named(chapter, spoil):
    missed, tried = [], 0
    for display, record in of(chapter, CLAIMS):
        latex = spoil(display.latex)
        if latex == display.latex or display.label in WAIVED:
            continue
        tried += 1
        text = book.complaint(book.Display(display.label, latex, display.chapter, display.cell), record)
        if not text.startswith(f"{display.label} ({chapter}, cell {display.cell}): "):
            missed.append((display.label, latex))
    assert not missed
    if not tried:
        pytest.skip("nothing of that kind is displayed here")


def test_spoiling_spoils_what_it_says():
    shown = r"a + \mathcal N\left(x_t;\, \frac{(b, c)}{d}\, x^2,\, \beta_t\right) - \bar\alpha_{t-1}"
    assert flipped(shown) == shown.replace("a +", "a -")
    assert without_a_square(shown) == shown.replace("x^2", "x")
    assert one_step_late(shown) == shown.replace("{t-1}", "{t}")
    assert one_step_early(shown) == shown.replace(r"\beta_t", r"\beta_{t-1}")
    assert arguments_exchanged(shown) == (
        r"a + \mathcal N\left(x_t;\, \beta_t,\, \frac{(b, c)}{d}\, x^2\right) - \bar\alpha_{t-1}"
    )


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_sides_that_change_places_are_found(chapter):
    for display, record in of(chapter, CLAIMS):
        if display.label not in WAIVED and record["relation"] == "==" and display.latex.count("=") == 1:
            lhs, rhs = re.sub(r"\\(begin|end)\{aligned\}", "", display.latex).split("=")
            turned = book.Display(
                display.label, rf"{rhs.strip().rstrip(chr(92))} = {lhs}", chapter, display.cell
            )
            assert book.complaint(turned, record), display.place


def test_reading_an_equation_takes_a_few_milliseconds():
    for display, record in CLAIMS[:1]:
        read(display.latex, record)
    read_back = [(display, record) for display, record in CLAIMS if display.label not in WAIVED]
    start = time.process_time()
    for display, record in read_back:
        read(display.latex, record)
    assert (time.process_time() - start) / len(read_back) < 0.02

"""Equations whose display is not compared with their record, each with its reason. The ledger shows them."""

WAIVED: dict[str, str] = {
    "eq-marginal-likelihood": "T integrals are displayed, one for each step; one stands for all in the record",
    "eq-entropy-bound": "displays the entropies by what they are of; the record has a letter for each",
}

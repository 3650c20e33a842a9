"""What is not compared by machine, each with its reason. The ledger shows both lists."""

# Equations whose display is not compared with their record.
WAIVED: dict[str, str] = {
    "eq-marginal-likelihood": "T integrals are displayed, one for each step; one stands for all in the record",
    "eq-entropy-bound": "displays the entropies by what they are of; the record has a letter for each",
}

# Premises that no equation of the book states in these letters: which claims have them, and the rule that each is.
_STEP_BACK = "Eq(q(x_prev, x_t, x_0), q(x_prev, x_0)*q(x_t, x_prev)/q(x_t, x_0))"
_BALANCE = "Eq(T_pi(y, y_prev, rate), T_pi(y_prev, y, rate)*pi(y)/pi(y_prev))"
_EVIDENCE = "Eq(p(z, x_0), p_joint(x_0, z)/p(x_0))"
RULES: dict[tuple[str, str], str] = {
    ("eq-all-ways", "Eq(p_given(y, y_prev, y_0), p(y_prev, y_0)*p(y, y_prev, y_0))"): "product rule",
    ("eq-chapman-kolmogorov", "Eq(p(y, y_prev, y_0), p(y, y_prev))"): "Markov property",
    ("eq-balance-integrated", _BALANCE): "eq-detailed-balance",
    ("eq-disturbance", _BALANCE): "eq-detailed-balance",
    ("eq-forward-joint", "Eq(q_tail(0), q(x_0))"): "a trajectory without steps is its start",
    (
        "eq-forward-joint",
        "Eq(q_tail(0), q(x[T], x[T - 1])*q_tail_before(0))",
    ): "product rule and Markov property",
    (
        "eq-reverse-joint",
        "Eq(p(x[k - 1], x[k]), p_tail(k - 1)/p_tail(k))",
    ): "product rule and Markov property",
    (
        "eq-true-reverse",
        "Eq(q_tail(t - 1), q(x_prev)*q(x_t, x_prev)*q_later(x_t))",
    ): "product rule and Markov property",
    ("eq-true-reverse", "Eq(q_tail(t), q(x_t)*q_later(x_t))"): "product rule and Markov property",
    (
        "eq-bayes",
        "Eq(q_joint(x_0, x_prev, x_t), q(x_0)*q(x_prev, x_0)*q(x_t, x_prev, x_0))",
    ): "product rule",
    ("eq-bayes", "Eq(q_joint(x_0, x_t), q(x_0)*q(x_t, x_0))"): "product rule",
    ("eq-bayes-markov", "Eq(q(x_t, x_prev, x_0), q(x_t, x_prev))"): "Markov property",
    (
        "eq-binomial-posterior",
        "Eq(lambda(t, bit_t, bit_0), (2*bit_0 - 1)*log((alpha_bar[t - 1] + 1)/(1 - alpha_bar[t - 1]))"
        " + (2*bit_t - 1)*log((2 - beta[t])/beta[t]))",
    ): "name for the right side of eq-binomial-odds",
    ("eq-reverse-mixture", _STEP_BACK): "Bayes and Markov property",
    ("eq-gap-pointwise", _EVIDENCE): "product rule",
    ("eq-gap", _EVIDENCE): "product rule",
    ("eq-step-turned", _STEP_BACK): "Bayes and Markov property",
    ("eq-pair-both-ways", _STEP_BACK): "Bayes and Markov property",
    ("eq-inner-average", _STEP_BACK): "Bayes and Markov property",
    (
        "eq-model-mean",
        "Eq(mu_theta(x_t, t), x_t*(1 - alpha_bar[t - 1])*sqrt(alpha[t])/(1 - alpha_bar[t])"
        " + (-eps_hat*sqrt(1 - alpha_bar[t]) + x_t)*sqrt(alpha_bar[t - 1])*beta[t]"
        "/((1 - alpha_bar[t])*sqrt(alpha_bar[t])))",
    ): "the mean of eq-posterior-mean at the guess of eq-x0-hat",
    (
        "eq-noisy-classifier",
        "Eq(p(label, x_t), Integral(p(label, x_0)*q(x_0)*q(x_t, x_0), (x_0, -oo, oo))/q(x_t))",
    ): "total probability and Markov property",
    (
        "eq-guided-step",
        "Eq(p(x_prev, x_t, label), p(label, x_prev)*q(x_prev)*q(x_t, x_prev)"
        "/Integral(p(label, x_prev)*q(x_prev)*q(x_t, x_prev), (x_prev, -oo, oo)))",
    ): "Bayes and Markov property",
    (
        "eq-guided-step",
        "Eq(p(label, x_t), Integral(p(label, x_prev)*q(x_prev)*q(x_t, x_prev), (x_prev, -oo, oo))/q(x_t))",
    ): "total probability and Markov property",
}

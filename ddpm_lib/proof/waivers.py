"""What is not compared by machine, each with its reason. The ledger shows both lists."""

# Equations whose display is not compared with their record.
WAIVED: dict[str, str] = {
    "eq-marginal-likelihood": "T integrals are displayed, one for each step; one stands for all in the record",
    "eq-entropy-bound": "displays the entropies by what they are of; the record has a letter for each",
}

# Premises that no equation of the book states in these letters: the rule that each of them is.
_BY_RULE = {
    "product rule": (
        "Eq(p_given(y, y_prev, y_0), p(y_prev, y_0)*p(y, y_prev, y_0))",
        "Eq(p(x[k - 1], x[k]), p_tail(k - 1)/p_tail(k))",
        "Eq(q_joint(x_0, x_prev, x_t), q(x_0)*q(x_prev, x_0)*q(x_t, x_prev, x_0))",
        "Eq(q_joint(x_0, x_t), q(x_0)*q(x_t, x_0))",
        "Eq(p(z, x_0), p_joint(x_0, z)/p(x_0))",
    ),
    "Markov property": (
        "Eq(p(y, y_prev, y_0), p(y, y_prev))",
        "Eq(q(x_t, x_prev, x_0), q(x_t, x_prev))",
    ),
    "product rule and Markov property": (
        "Eq(q_tail(t - 1), q(x_prev)*q(x_t, x_prev)*q_later(x_t))",
        "Eq(q_tail(t), q(x_t)*q_later(x_t))",
    ),
    "Bayes": ("Eq(p(x_prev, x_t), q(x_prev)*q(x_t, x_prev)/q(x_t))",),
    "Bayes and Markov property": (
        "Eq(q(x_prev, x_t, x_0), q(x_prev, x_0)*q(x_t, x_prev)/q(x_t, x_0))",
        "Eq(p(x_prev, x_t, label), p(label, x_prev)*q(x_prev)*q(x_t, x_prev)"
        "/Integral(p(label, x_prev)*q(x_prev)*q(x_t, x_prev), (x_prev, -oo, oo)))",
    ),
    "total probability and Markov property": (
        "Eq(p(label, x_t), Integral(p(label, x_0)*q(x_0)*q(x_t, x_0), (x_0, -oo, oo))/q(x_t))",
        "Eq(p(label, x_t), Integral(p(label, x_prev)*q(x_prev)*q(x_t, x_prev), (x_prev, -oo, oo))/q(x_t))",
    ),
    "detailed balance": ("Eq(T_pi(y, y_prev, rate), T_pi(y_prev, y, rate)*pi(y)/pi(y_prev))",),
    "name for the right side of eq-binomial-odds": (
        "Eq(lambda(t, bit_t, bit_0), (2*bit_0 - 1)*log((alpha_bar[t - 1] + 1)/(1 - alpha_bar[t - 1]))"
        " + (2*bit_t - 1)*log((2 - beta[t])/beta[t]))",
    ),
    "the mean of eq-posterior-mean at the guess of eq-x0-hat": (
        "Eq(mu_theta(x_t, t), x_t*(1 - alpha_bar[t - 1])*sqrt(alpha[t])/(1 - alpha_bar[t])"
        " + (-eps_hat*sqrt(1 - alpha_bar[t]) + x_t)*sqrt(alpha_bar[t - 1])*beta[t]"
        "/((1 - alpha_bar[t])*sqrt(alpha_bar[t])))",
    ),
    "lambda = 1 - r, in the text": ("Eq(r(lambda), 1 - lambda)",),
}
RULES: dict[str, str] = {premise: rule for rule, held in _BY_RULE.items() for premise in held}

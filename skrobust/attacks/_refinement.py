"""Iterated projections: the gradient through the support that a step along it would lead to."""

# Refinements within each step, as published.
N_PROJECTIONS = 20


def refined_gradient(attacker, x, objective, move):
    """Gradient of ``objective(scores).sum()`` at `x` and the scores there; with ``gradient="iterated"`` refined.

    Front ends project the gradient on the basis vectors that they select. A step changes that selection, so it is
    looked up where the step leads: first a step along the gradient without projection, then again and again from `x`
    along the gradient that was found where the last one ended.

    Parameters
    ----------
    attacker : ModuleVictim
    x : Tensor of shape (n_samples, ...)
    objective : callable
        Scores to one value a sample.
    move : callable
        A gradient to the end of the step from `x` along it.
    """
    if attacker.gradient_mode != "iterated":
        return attacker.gradient(x, objective)
    gradient, scores = attacker.unprojected.gradient(x, objective)
    for _ in range(N_PROJECTIONS):
        gradient, _ = attacker.gradient(move(gradient), objective)
    return gradient, scores

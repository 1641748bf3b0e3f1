"""Iterated projections: the gradient through the support that a step along it would lead to."""

# Refinements within each step, as published.
N_PROJECTIONS = 20


def refined_gradient(model, x, objective, move):
    """Gradient of ``objective(scores).sum()`` at `x` and the scores there; with ``gradient="iterated"`` refined.

    Front ends project the gradient on the basis vectors that they select. A step changes that selection, so the
    selection is read where the step ends, ``move(gradient)``: first after a step along the gradient without projection,
    then repeatedly after a step from `x` along the gradient found at the previous end.
    """
    if model.gradient_mode != "iterated":
        return model.gradient(x, objective)
    gradient, scores = model.unprojected.gradient(x, objective)
    for _ in range(N_PROJECTIONS):
        gradient, _ = model.gradient(move(gradient), objective)
    return gradient, scores

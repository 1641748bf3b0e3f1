"""The one ascent that all iterative gradient attacks share."""

import torch

from ._refinement import refined_gradient
from ._shapes import wide


def climb(attacker, ball, x, loss, offer, *, n_iter, step_size, progress, momentum=0.0, anneal=False):
    """Ascend `loss` from `x` by projected steps.

    Parameters
    ----------
    attacker : ModuleVictim
    ball : Ball of n_samples
    x : Tensor of shape (n_samples, ...)
        Starting points.
    loss : callable
        ``loss(scores, at)``: one value for each of the samples `at`.
    offer : callable
        ``offer(at, x, scores)``, called with every iterate, says which of the samples `at` are to go on.
    n_iter : int
    step_size : float or None
        See `Ball.step`.
    progress : tqdm
    momentum : float, default=0.0
        Decay of the sum of past gradients, each divided by its l1 norm.
    anneal : bool, default=False
        Sharpen relaxed backward passes on the way.

    Returns
    -------
    Tensor
        The last iterates of those that went on to the end.
    """
    at = torch.arange(len(x), device=x.device)
    velocity = None
    for k in range(n_iter):
        if anneal:
            attacker.anneal(k / n_iter)
        step = ball.step(step_size, n_iter)
        gradient, scores = refined_gradient(
            attacker,
            x,
            lambda scores, at=at: loss(scores, at),
            lambda gradient, x=x, ball=ball, step=step: ball.project(x + step * ball.direction(x, gradient)),
        )
        still = offer(at, x, scores)
        progress.update()
        if not bool(still.all()):
            at, x, gradient, ball = at[still], x[still], gradient[still], ball[still]
            step = ball.step(step_size, n_iter)
            velocity = None if velocity is None else velocity[still]
            if not len(at):
                return x
        if momentum:
            size = wide(gradient.abs().flatten(1).sum(1), gradient)
            gradient = gradient / torch.where(size > 0, size, 1)
            velocity = gradient if velocity is None else momentum * velocity + gradient
            gradient = velocity
        x = ball.project(x + step * ball.direction(x, gradient))
    offer(at, x, attacker.scores(x))
    return x

"""Projected ascent, shared by the iterative gradient attacks."""

import torch

from .solvers import wide


def climb(model, ball, x, loss, offer, *, n_iter, step_size, progress, momentum=0.0, anneal=False):
    """Ascend a loss from `x` by projected steps of size ``ball.step(step_size, n_iter)``.

    ``loss(scores, at)`` is one value for each of the samples `at`. ``offer(at, x, scores)``, called with every iterate,
    returns which of them continue. `momentum` is the decay of the sum of past gradients, each divided by its l1 norm;
    `anneal` sharpens relaxed backward passes on the way. Returns the last iterates of the samples that continued to the
    end.
    """
    at = torch.arange(len(x), device=x.device)
    velocity = None
    step = ball.step(step_size, n_iter)
    for k in range(n_iter):
        if anneal:
            model.anneal(k / n_iter)
        gradient, scores = model.refined_gradient(
            x,
            lambda scores, at=at: loss(scores, at),
            lambda gradient, x=x, ball=ball, step=step: ball.project(x + step * ball.direction(x, gradient)),
        )
        still = offer(at, x, scores)
        progress.update()
        if not bool(still.all()):
            at, x = at[still], x[still]
            if not len(at):
                return x
            gradient, ball = gradient[still], ball[still]
            step = ball.step(step_size, n_iter)
            velocity = None if velocity is None else velocity[still]
        if momentum:
            size = wide(gradient.abs().flatten(1).sum(1), gradient)
            gradient = gradient / torch.where(size > 0, size, 1)
            velocity = gradient if velocity is None else momentum * velocity + gradient
            gradient = velocity
        x = ball.project(x + step * ball.direction(x, gradient))
    offer(at, x, model.scores(x))
    return x

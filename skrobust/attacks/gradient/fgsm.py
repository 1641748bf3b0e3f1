"""The fast gradient sign method and its l2 and l1 forms."""

from skrobust.attacks.core.base import STEP_GRADIENTS, GradientAttack
from skrobust.attacks.core.losses import ASCENT_LOSSES
from skrobust.signals.parameters import parameter, parametrized


@parametrized
class FGSM(GradientAttack):
    """Fast gradient sign method: one step to the point of the ball that is farthest along the gradient.

    x + eps · sgn(∇loss(x)) for l-infinity; for l2 and l1 the optimum of the linearised loss over the ball cut by the
    box. Exact on linear models with two classes.

    Parameters
    ----------
    loss : {"cross_entropy", "margin", "dlr", "kl"}, default="cross_entropy"
        What the step raises, see `PGD`.
    gradient : {"exact", "identity", "projection", "iterated", "smooth", "skip", "worst"}, default="exact"
        Backward pass of front ends, see `PGD`.

    References
    ----------
    I. Goodfellow, J. Shlens, C. Szegedy, "Explaining and harnessing adversarial examples", ICLR 2015.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.svm import LinearSVC
    >>> from skrobust.attacks import FGSM
    >>> X, y = np.array([[0.2, 0.4], [0.8, 0.5]]), np.array(["left", "right"])
    >>> model = LinearSVC().fit(X, y)
    >>> FGSM(eps=0.1).perturb(model, X, y).round(2)
    array([[0.3, 0.5],
           [0.7, 0.4]])
    """

    loss: str = parameter("cross_entropy", ASCENT_LOSSES)
    gradient: str = parameter("exact", STEP_GRADIENTS)

    def search_batch(self, model, search):
        index = search.remaining()
        goal, ball = search.goal[index], search.ball[index]
        gradient, _ = model.refined_gradient(
            ball.x, lambda scores: goal.loss(scores, self.loss), lambda gradient: ball.farthest(gradient)
        )
        x = ball.farthest(gradient)
        search.offer(index, x, model.scores(x))
        search.progress.update()

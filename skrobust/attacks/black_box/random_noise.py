"""Random noise of the same norm: the baseline of any attack."""

from skrobust.attacks.core.base import BlackBoxAttack
from skrobust.signals.parameters import AT_LEAST_1, parameter, parametrized


@parametrized
class RandomNoise(BlackBoxAttack):
    """Random noise on the surface of the ball, the most harmful of `n_restarts` draws for each image.

    Signs of size eps (l-infinity), a uniform direction (l2), or Laplace noise scaled to the norm (l1); then brought
    into the box.

    Parameters
    ----------
    n_restarts : int, default=1
        Number of draws; the attack on an image ends at its first success.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.ensemble import RandomForestClassifier
    >>> from skrobust.attacks import RandomNoise
    >>> X, y = load_digits(return_X_y=True)
    >>> X = X / 16
    >>> model = RandomForestClassifier(20, random_state=0).fit(X[:1000], y[:1000])
    >>> X_adv = RandomNoise(eps=0.2, n_restarts=5, random_state=0).perturb(model, X[1000:1100], y[1000:1100])
    >>> bool(model.score(X_adv, y[1000:1100]) < model.score(X[1000:1100], y[1000:1100]))
    True
    """

    n_restarts: int = parameter(1, AT_LEAST_1)

    def search_batch(self, model, search):
        for restart in range(self.n_restarts):
            index = search.remaining()
            if not len(index):
                return
            x = search.sample(index, restart=restart, surface=True)
            search.offer(index, x, model.scores(x))
            search.progress.update()

    def n_passes(self, n_classes):
        return self.n_restarts

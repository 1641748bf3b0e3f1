"""A black-box attack of your own: the most harmful of several random corners of the ball."""

from sklearn.datasets import load_digits
from sklearn.ensemble import RandomForestClassifier

from skrobust.attacks import BlackBoxAttack
from skrobust.signals import parameter, parametrized


@parametrized
class RandomCorners(BlackBoxAttack):
    """Best of `n_iter` random corners of the ball."""

    n_iter: int = parameter(20, int)

    def search_batch(self, model, search):
        for k in range(self.n_iter):
            index = search.remaining()
            if not len(index):
                return
            x = search.sample(index, restart=k, surface=True)
            search.offer(index, x, model.scores(x))


X, y = load_digits(return_X_y=True)
X = X / 16
forest = RandomForestClassifier(20, random_state=0).fit(X[:1000], y[:1000])
X_adv = RandomCorners(eps=0.2, random_state=0).perturb(forest, X[1000:], y[1000:])
assert forest.score(X_adv, y[1000:]) < forest.score(X[1000:], y[1000:]) - 0.1

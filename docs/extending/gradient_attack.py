"""A gradient attack of your own: ascent of the margin along the signs of its gradient."""

from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from skrobust.attacks import GradientAttack


class SignAscent(GradientAttack):
    """Maximise the margin by `n_iter` steps along the signs of its gradient."""

    def __init__(self, eps=0.1, *, n_iter=10, gradient="exact"):
        self.eps = eps
        self.n_iter = n_iter
        self.gradient = gradient

    def search_batch(self, model, search):
        index = search.remaining()
        x = search.x[index]
        for _ in range(self.n_iter):
            goal, ball = search.goal[index], search.ball[index]
            gradient, _ = model.gradient(x, goal.margin)
            x = ball.project(x + ball.step(None, self.n_iter) * gradient.sign())
            remaining = search.offer(index, x, model.scores(x))
            index, x = index[remaining], x[remaining]
            if not len(index):
                return


X, y = load_digits(return_X_y=True)
X = X / 16
model = LogisticRegression(max_iter=500).fit(X[:1000], y[:1000])
X_adv = SignAscent(eps=0.1).perturb(model, X[1000:], y[1000:])
assert abs(X_adv - X[1000:]).max() <= 0.1
assert model.score(X_adv, y[1000:]) < model.score(X[1000:], y[1000:]) - 0.3

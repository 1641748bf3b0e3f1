"""An attack made on another model."""

import numpy as np
from sklearn.base import clone

from ._base import Attack
from ._black_box import BlackBoxAttack


class Transfer(BlackBoxAttack):
    """Transfer attack: images made on a model that the attacker has, tried once on the one that he has not.

    The attack runs on `source` to its full length, since an image that barely fools one model seldom fools another,
    and its most harmful image (for the source) is the only one that `model` is shown.

    Parameters
    ----------
    attack : attack
        What is run on the source.
    source : fitted classifier, Pipeline or torch.nn.Module
        With the classes of the model under attack. Cloning the attack does not clone it.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.ensemble import RandomForestClassifier
    >>> from sklearn.linear_model import LogisticRegression
    >>> from skrobust.attacks import PGD, Transfer
    >>> X, y = load_digits(return_X_y=True)
    >>> X = X / 16
    >>> source = LogisticRegression().fit(X[:1000], y[:1000])
    >>> forest = RandomForestClassifier(20, random_state=0).fit(X[:1000], y[:1000])
    >>> X, y = X[1000:1100], y[1000:1100]
    >>> X_adv = Transfer(PGD(eps=0.2, random_state=0), source).perturb(forest, X, y)
    >>> bool(forest.score(X_adv, y) < 0.5 < forest.score(X, y))
    True
    """

    _threat_model = "transfer"
    _parameter_constraints = {"attack": [Attack], "source": "no_validation"}

    def __init__(self, attack, source):
        self.attack = attack
        self.source = source

    @property
    def eps(self):
        """Radius of the attack's ball."""
        return getattr(self.attack, "eps", None)

    @property
    def norm(self):
        """Norm of the attack's ball."""
        return self.attack.norm

    @property
    def clip(self):
        """Range of valid values, as the attack's."""
        return self.attack.clip

    @property
    def mask(self):
        """Features that may change, as the attack's."""
        return self.attack.mask

    @property
    def keep(self):
        """Which iterates count, as the attack's."""
        return self.attack.keep

    @property
    def perturb_all(self):
        """Whether wrong images are attacked, as the attack's."""
        return self.attack.perturb_all

    @property
    def batch_size(self):
        return self.attack.batch_size

    @property
    def random_state(self):
        return self.attack.random_state

    @property
    def device(self):
        return self.attack.device

    @property
    def verbose(self):
        return self.attack.verbose

    def set_params(self, **params):
        """Set parameters of this attack; ``eps`` is the inner attack's."""
        if "eps" in params:
            params["attack__eps"] = params.pop("eps")
        return super().set_params(**params)

    def describe(self):
        """The attack's settings; its name says where the images were made."""
        told = self.attack.describe()
        return {**told, "name": f"{told['name']} on {type(self.source).__name__}", "threat_model": self.threat_model}

    def __sklearn_clone__(self):
        return Transfer(clone(self.attack), self.source)

    def _validate_params(self):
        super()._validate_params()
        self.attack._validate_params()

    def _attackers(self, model, x, judge):
        inner = self.attack._judge(self.source, x)
        known, ours = inner.classes(x), judge.classes(x)
        if not np.array_equal(known, ours):
            raise ValueError(
                f"source has the classes {known.tolist()}, but the model under attack has {ours.tolist()}: transfer "
                "needs a source with the same classes."
            )
        return [(inner, self.attack._attackers(self.source, x, inner))]

    def _run_against(self, attacker, search):
        source, attackers = attacker
        if not len(search.standing()):
            return
        index, inner = search.rehearse(source)
        for seen in attackers:
            self.attack._run_against(seen, inner)
        search.offer(index, inner.best, search.judge.scores(inner.best))

    def _run(self, attacker, search):
        raise NotImplementedError  # the inner attack runs

    def _radius(self):
        return self.attack._radius()

    def _ball_norm(self):
        return self.attack._ball_norm()

    def _n_ticks(self, n_classes):
        return self.attack._n_ticks(n_classes)

    def _n_copies(self, n_classes):
        return self.attack._n_copies(n_classes)

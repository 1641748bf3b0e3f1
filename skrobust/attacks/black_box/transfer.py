"""An attack computed on another model."""

import numpy as np
from sklearn.base import clone

from skrobust.attacks.core.base import Attack, BlackBoxAttack


def _parameter_of_attack(name):
    return property(lambda self: getattr(self.attack, name, None), doc=f"`{name}` of the inner attack.")


class Transfer(BlackBoxAttack):
    """Transfer attack: computes images on a model that the attacker has, and tries each once on the attacked model.

    The attacked model is queried once an image, with the image that is most harmful for the source.

    Parameters
    ----------
    attack : attack
        Runs on the source.
    source : fitted classifier, Pipeline or torch.nn.Module
        With the classes of the attacked model. Cloning the attack does not clone it.
    stop_at_success : bool, default=False
        End the attack on an image at its first success on the source. False: run to the full length, which is stronger:
        an image that barely fools one model seldom fools another.
    source_name : str or None, default=None
        Name of the source in reports. None: that of its class.

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
    _parameter_constraints = {
        "attack": [Attack],
        "source": "no_validation",
        "stop_at_success": ["boolean"],
        "source_name": [str, None],
    }

    def __init__(self, attack, source, *, stop_at_success=False, source_name=None):
        self.attack = attack
        self.source = source
        self.stop_at_success = stop_at_success
        self.source_name = source_name

    eps, norm, clip, mask, keep, perturb_all, batch_size, random_state, device, verbose = map(
        _parameter_of_attack,
        ("eps", "norm", "clip", "mask", "keep", "perturb_all", "batch_size", "random_state", "device", "verbose"),
    )

    def set_params(self, **params):
        """Set parameters of this attack; ``eps`` is the inner attack's."""
        if "eps" in params:
            params["attack__eps"] = params.pop("eps")
        return super().set_params(**params)

    def describe(self):
        """The attack's settings; the name includes the source."""
        settings, source = self.attack.describe(), self.source_name or type(self.source).__name__
        return {**settings, "name": f"{settings['name']} on {source}", "threat_model": self.threat_model}

    def __sklearn_clone__(self):
        parameters = self.get_params(deep=False)
        return Transfer(**{**parameters, "attack": clone(self.attack)})

    def _validate_params(self):
        super()._validate_params()
        self.attack._validate_params()

    def _models(self, model, x, oracle):
        inner = self.attack._oracle(self.source, x)
        source_classes, model_classes = inner.classes(x), oracle.classes(x)
        if not np.array_equal(source_classes, model_classes):
            raise ValueError(
                f"source has the classes {source_classes.tolist()}, but the attacked model has "
                f"{model_classes.tolist()}. Transfer needs a source with the same classes."
            )
        return [(inner, self.attack._models(self.source, x, inner))]

    def search_batch(self, model, search):
        """Attack the batch on the source, and offer the images that are most harmful there."""
        source, models = model
        index, inner = search.with_oracle(source, stop_at_success=self.stop_at_success)
        for source_model in models:
            self.attack._search_with(source_model, inner)
        search.offer(index, inner.best, search.oracle.scores(inner.best))

    def _radius(self):
        return self.attack._radius()

    def _ball_norm(self):
        return self.attack._ball_norm()

    def n_passes(self, n_classes):
        """Those of the inner attack; see `Attack.n_passes`."""
        return self.attack.n_passes(n_classes)

    def _n_copies(self, n_classes):
        return self.attack._n_copies(n_classes)

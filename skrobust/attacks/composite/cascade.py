"""Several attacks in a row, each on the images that survived those before it."""

from sklearn.base import clone

from skrobust.attacks.black_box.square import Square
from skrobust.attacks.core.base import Attack, GradientAttack
from skrobust.attacks.core.corners import Corners
from skrobust.attacks.gradient.apgd import APGD
from skrobust.attacks.gradient.fab import FAB
from skrobust.signals.parameters import AT_LEAST_1, parameter, parametrized


@parametrized
class Cascade(GradientAttack):
    """AutoAttack's order of attack: APGD on cross-entropy, targeted APGD, targeted FAB, Square.

    Each attack is run only on the images that remain, and the most harmful candidate of each image counts.
    The defaults are AutoAttack's standard settings: 100 iterations, 9 other classes, 5000 queries, one restart. For
    fewer than four classes the losses that need more are plain differences of scores.

    Parameters
    ----------
    norm : {"linf", "l2", "l1"}, default="linf"
        "l1" needs `attacks`.
    attacks : list of attacks or None, default=None
        Any attacks in place of the four, including those of other libraries (`FromART`) and `Transfer`. Their `eps`,
        `norm`, `clip`, `mask`, `perturb_all`, `random_state` and, where they have it, `gradient` and `n_eot` are this
        cascade's.
    n_iter : int, default=100
        Steps of the gradient attacks of ``attacks=None``.
    n_queries : int, default=5000
        Queries of Square of ``attacks=None``.
    n_targets : int, default=9
        Other classes of the targeted attacks of ``attacks=None``.
    image_shape : tuple or None, default=None
        For `Square`, see there.
    gradient : {"exact", "identity", "projection", "smooth", "skip", "worst"}, default="exact"
        Backward pass of front ends, see `PGD`. "worst" runs each gradient attack through all of them, and in
        l-infinity `CornerSearch` on a model whose exact gradient is zero everywhere.

    References
    ----------
    F. Croce, M. Hein, "Reliable evaluation of adversarial robustness with an ensemble of diverse parameter-free
    attacks", ICML 2020.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.linear_model import LogisticRegression
    >>> from skrobust.attacks import APGD, Cascade
    >>> X, y = load_digits(return_X_y=True)
    >>> X = X / 16
    >>> model = LogisticRegression().fit(X[:1000], y[:1000])
    >>> X, y = X[1000:1100], y[1000:1100]
    >>> attacks = [Cascade(n_iter=20, n_queries=50, random_state=0), APGD(n_iter=20, random_state=0)]
    >>> all_four, first = (model.score(attack.perturb(model, X, y), y) for attack in attacks)
    >>> bool(all_four <= first)
    True
    """

    attacks: list | None = parameter(None, list, tuple)
    n_iter: int = parameter(100, AT_LEAST_1)
    n_queries: int = parameter(5000, AT_LEAST_1)
    n_targets: int = parameter(9, AT_LEAST_1)
    image_shape: tuple | None = parameter(None, tuple, list)

    def describe(self):
        """Settings for reports, with those of the attacks under "attacks"."""
        return {**super().describe(), "attacks": [part.describe() for part in self._parts()]}

    def _parts(self):
        if self.attacks is None:
            parts = [
                APGD(n_iter=self.n_iter),
                APGD(n_iter=self.n_iter, loss="targeted_dlr", n_targets=self.n_targets),
                FAB(n_iter=self.n_iter, n_targets=self.n_targets),
                Square(n_iter=self.n_queries, rescale_schedule=False, image_shape=self.image_shape),
            ]
        else:
            for part in self.attacks:
                if not isinstance(part, Attack):
                    raise TypeError(f"attacks must contain attacks of skrobust.attacks, got {type(part).__name__}.")
            parts = [clone(part) for part in self.attacks]
        for part in parts:
            part.set_params(**self._shared_params(part))
            part._validate_params()
            if part.norm != self.norm:
                raise ValueError(f"norm={self.norm!r}, but {type(part).__name__} is an attack in {part.norm}.")
        return parts

    def _shared_params(self, part):
        """Parameters that `part`, or the attack inside it, shares with this cascade, by their names in `part`."""
        own = part.get_params()
        return {
            f"{prefix}{name}": getattr(self, name)
            for prefix in ("", "attack__")
            for name in ("eps", "norm", "clip", "mask", "perturb_all", "random_state", "gradient", "n_eot")
            if f"{prefix}{name}" in own
        }

    def _models(self, model, x, oracle):
        # Black-box attacks, too, get their scores through the bridge, because margins are compared between attacks.
        pairs = [(part, attacked) for part in self._parts() for attacked in part._models(model, x, oracle)]
        corner_searches = [pair for pair in pairs if isinstance(pair[1], Corners)]
        return [pair for pair in pairs if pair not in corner_searches[1:]]  # one corner search serves all parts

    def _search_with(self, model, search):
        self.search_batch(model, search)

    def search_batch(self, model, search):
        part, attacked = model
        part._search_with(attacked, search)

    def n_passes(self, n_classes):
        return sum(part.n_passes(n_classes) for part in self._parts())

    def _n_passes_with(self, model, n_classes):
        return model[0].n_passes(n_classes)

    def _n_copies(self, n_classes):
        return max(part._n_copies(n_classes) for part in self._parts())

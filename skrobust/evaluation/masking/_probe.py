"""What the checks look at: some images, the model, and the evaluation that is in question."""

from functools import cached_property

import numpy as np
from sklearn.base import clone

from skrobust.evaluation._per_image import at_radius, for_images, is_per_image
from skrobust.evaluation._scoring import predicted_labels


class Probe:
    """A model under an evaluation, on a few images that it names rightly.

    Parameters
    ----------
    model : fitted classifier
    X, y : ndarray
        Images that `model` names rightly when clean.
    eps : float
        Where the evaluation is looked into.
    attacks : list of attack
        The evaluation's attacks, all threat models.
    broken : ndarray of bool of shape (n_samples,) or None
        Which images the evaluation's white-box attacks broke at `eps`; None: found by running them.
    baseline : fitted classifier or None
    image_shape : tuple of int or None
    norm : {"linf", "l2", "l1"}
    clip : (float, float) or None
    random_state : int
    """

    def __init__(
        self,
        model,
        X,
        y,
        *,
        eps,
        attacks,
        broken=None,
        baseline=None,
        image_shape=None,
        norm="linf",
        clip=(0, 1),
        random_state=0,
    ):
        self.model = model
        self.X = X
        self.y = y
        self.eps = float(eps)
        self.attacks = attacks
        self.baseline = baseline
        self.image_shape = image_shape
        self.norm = norm
        self.clip = clip
        self.random_state = random_state
        self._broken = broken

    @property
    def n(self):
        return len(self.y)

    @cached_property
    def module(self):
        """The model as a torch module with its exact gradients, or None."""
        return _module(self.model)

    @cached_property
    def baseline_module(self):
        """The baseline as a torch module, or None."""
        return None if self.baseline is None else _module(self.baseline)

    @cached_property
    def main_attack(self):
        """The iterated white-box attack in question: the last of the evaluation's, or a plain PGD if it has none."""
        from skrobust.attacks import PGD

        iterated = [
            attack
            for attack in self.attacks
            if attack.threat_model == "white box" and {"n_iter", "random_state", "gradient"} <= set(attack.get_params())
        ]
        if iterated:
            return iterated[-1]
        return PGD(
            norm=self.norm,
            clip=self.clip,
            loss="margin",
            gradient="worst",
            n_restarts=2,
            random_state=self.random_state,
        )

    @cached_property
    def broken_by_white_box(self):
        """Images that the evaluation's white-box attacks break at eps, the per-image worst of them."""
        if self._broken is not None:
            return self._broken
        broken = np.zeros(self.n, dtype=bool)
        for attack in [one for one in self.attacks if one.threat_model == "white box"] or [self.main_attack]:
            broken |= self.broken_by(attack, among=~broken)
        return broken

    @cached_property
    def broken_by_main_attack(self):
        """Images that the main attack breaks at eps."""
        return self.broken_by(self.main_attack)

    def broken_by(self, attack, eps=None, among=None, source=None):
        """Images that `attack` breaks.

        Parameters
        ----------
        attack : attack
        eps : float or None
            None: the probe's.
        among : ndarray of bool or None
            Attack only these; the others count as not broken.
        source : fitted classifier or None
            Make the attack on this model instead, and try it on the probe's.
        """
        chosen = np.flatnonzero(np.ones(self.n, bool) if among is None else among)
        broken = np.zeros(self.n, dtype=bool)
        if chosen.size:
            ready = for_images(at_radius(attack, self.eps if eps is None else eps), chosen, self.X)
            attacked = ready.perturb(self.model if source is None else source, self.X[chosen], self.y[chosen])
            broken[chosen] = predicted_labels(self.model, np.asarray(attacked)) != self.y[chosen]
        return broken

    def alike(self, attack):
        """`attack` with the freedom of the main attack: its mask, and its eps where that is an array."""
        main = self.main_attack.get_params()
        freedom = {"mask": main.get("mask")}
        if np.ndim(main.get("eps")) > 0:
            freedom["eps"] = main["eps"]
        return attack.set_params(**freedom)

    def variant(self, **parameters):
        """The main attack with other settings, as far as it has them."""
        known = self.main_attack.get_params()
        return clone(self.main_attack).set_params(**{k: v for k, v in parameters.items() if k in known})

    @property
    def widest_eps(self):
        """A radius within which every image of the box lies; None without a box that all images share."""
        frozen = getattr(self.main_attack, "mask", None) is not None
        if self.clip is None or frozen or any(is_per_image(bound, self.X.ndim) for bound in self.clip):
            return None
        width = float(np.max(np.asarray(self.clip[1], float) - np.asarray(self.clip[0], float)))
        n_features = self.X[0].size
        return width * {"linf": 1.0, "l2": np.sqrt(n_features), "l1": n_features}[self.norm]


def _module(model):
    from skrobust.bridge import NoGradientError, as_module

    try:
        return as_module(model)
    except NoGradientError:
        return None

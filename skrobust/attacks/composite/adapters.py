"""Attacks of other libraries, run on any fitted classifier or Pipeline through `perturb`."""

import inspect
import math

import torch

from skrobust.attacks.core.ball import ORDERS
from skrobust.signals.clip import clip_range
from skrobust.signals.parameters import parametrized

from .outside import OutsideAttack

# Attacks of ART that take labels as targets, and draw targets if given no labels.
_ALWAYS_TARGETED = {"SaliencyMapMethod"}


@parametrized
class FromART(OutsideAttack):
    """Any evasion attack of the Adversarial Robustness Toolbox.

    Parameters
    ----------
    attack : str or type
        A class of ``art.attacks.evasion`` or its name, such as "ProjectedGradientDescent".
    options : dict or None, default=None
        Arguments of that class, such as ``{"max_iter": 40}``. Where they leave it open, `eps` and `norm` are the
        adapter's, ``eps_step`` is at most `eps`, and ``batch_size``, unless it is 1 by default, is all images of the
        batch; other defaults are those of ART.

    Raises
    ------
    ImportError
        On the first use, if ART is not installed. The extra "bench" installs it.

    Examples
    --------
    >>> from skrobust.attacks import FromART
    >>> FromART("HopSkipJump", {"max_iter": 10}, norm="l2").threat_model
    'black box'
    """

    _library = "ART"
    _package = "adversarial-robustness-toolbox"
    _namespace = "art.attacks.evasion"
    _gradient_free = frozenset(
        {
            "BoundaryAttack",
            "GRAPHITEBlackbox",
            "GeoDA",
            "HopSkipJump",
            "PixelAttack",
            "SignOPTAttack",
            "SimBA",
            "SpatialTransformation",
            "SquareAttack",
            "ThresholdAttack",
            "ZooAttack",
        }
    )

    def _generate(self, model, x, goal, n_classes, eps):
        cls = self._attack_class()
        from art.estimators.classification import PyTorchClassifier

        classifier = PyTorchClassifier(
            model=model,
            loss=torch.nn.CrossEntropyLoss(),
            input_shape=tuple(x.shape[1:]),
            nb_classes=n_classes,
            clip_values=clip_range(self.clip),
            device_type="gpu" if x.is_cuda else "cpu",
        )
        defaults = {name: argument.default for name, argument in inspect.signature(cls.__init__).parameters.items()}
        params = self._arguments(
            cls,
            eps=eps,
            norm=ORDERS[self.norm],
            eps_step=min(eps, defaults.get("eps_step", eps)),
            batch_size=1 if defaults.get("batch_size") == 1 else len(x),
            targeted=goal.targeted,
            verbose=bool(self.verbose),
        )
        labels = torch.nn.functional.one_hot(goal.label, n_classes).cpu().numpy()
        if cls.__name__ in _ALWAYS_TARGETED:
            labels = labels if goal.targeted else None
        elif goal.targeted and "targeted" not in defaults:
            raise ValueError(f"{cls.__name__} of ART cannot aim at y_target.")
        return cls(classifier, **params).generate(x.cpu().numpy(), y=labels)


@parametrized
class FromFoolbox(OutsideAttack):
    """Any attack of foolbox.

    Parameters
    ----------
    attack : str or type
        A class of ``foolbox.attacks`` or its name, such as "LinfPGD".
    options : dict or None, default=None
        Arguments of that class, such as ``{"steps": 40}``.

    Raises
    ------
    ImportError
        On the first use, if foolbox is not installed. The extra "bench" installs it.

    Examples
    --------
    >>> from skrobust.attacks import FromFoolbox
    >>> FromFoolbox("LinfPGD", {"steps": 40}, eps=0.2).describe()["name"]
    'foolbox LinfPGD'
    """

    _library = "foolbox"
    _package = "foolbox"
    _namespace = "foolbox.attacks"
    _gradient_free = frozenset(
        {
            "BinarizationRefinementAttack",
            "BinarySearchContrastReductionAttack",
            "BoundaryAttack",
            "DatasetAttack",
            "GaussianBlurAttack",
            "GenAttack",
            "HopSkipJumpAttack",
            "InversionAttack",
            "L2AdditiveGaussianNoiseAttack",
            "L2AdditiveUniformNoiseAttack",
            "L2ClippingAwareAdditiveGaussianNoiseAttack",
            "L2ClippingAwareAdditiveUniformNoiseAttack",
            "L2ClippingAwareRepeatedAdditiveGaussianNoiseAttack",
            "L2ClippingAwareRepeatedAdditiveUniformNoiseAttack",
            "L2ContrastReductionAttack",
            "L2RepeatedAdditiveGaussianNoiseAttack",
            "L2RepeatedAdditiveUniformNoiseAttack",
            "LinearSearchBlendedUniformNoiseAttack",
            "LinearSearchContrastReductionAttack",
            "LinfAdditiveUniformNoiseAttack",
            "LinfRepeatedAdditiveUniformNoiseAttack",
            "PointwiseAttack",
            "SaltAndPepperNoiseAttack",
            "SpatialAttack",
        }
    )

    def _generate(self, model, x, goal, n_classes, eps):
        cls = self._attack_class()
        from foolbox import PyTorchModel
        from foolbox.criteria import Misclassification, TargetedMisclassification
        from foolbox.distances import LpDistance

        distance = LpDistance(ORDERS[self.norm])
        attack = cls(**self._arguments(cls, distance=distance, constraint=self.norm))
        own = getattr(getattr(attack, "distance", distance), "p", distance.p)
        if own != distance.p:
            raise ValueError(f"norm={self.norm!r}, but {cls.__name__} of foolbox is an attack in l{own}.")
        # foolbox draws starts within bounds. Without clip: the range of the images, extended by the radius.
        radius = eps if math.isfinite(eps) else 1.0
        bounds = clip_range(self.clip) or (float(x.min()) - radius, float(x.max()) + radius)
        criterion = (TargetedMisclassification if goal.targeted else Misclassification)(goal.label)
        epsilons = eps if math.isfinite(eps) else None
        return attack(PyTorchModel(model, bounds, device=x.device), x, criterion, epsilons=epsilons)[1]


@parametrized
class FromTorchattacks(OutsideAttack):
    """Any attack of torchattacks, which knows images in [0, 1] only.

    Parameters
    ----------
    attack : str or type
        A class of ``torchattacks`` or its name, such as "PGD".
    options : dict or None, default=None
        Arguments of that class, such as ``{"steps": 40, "alpha": 0.01}``. Where they leave it open, ``eps``, ``norm``,
        ``n_classes`` and ``seed`` are the adapter's; other defaults, such as step sizes, are those of torchattacks.
    clip : pair, default=(0, 1)
        Range of valid values, within [0, 1].

    Raises
    ------
    ImportError
        On the first use, if torchattacks is not installed. No extra installs it, because it pins an old release of
        requests and requires torchvision without using it: ``pip install --no-deps torchattacks``.

    Examples
    --------
    >>> from skrobust.attacks import FromTorchattacks
    >>> FromTorchattacks("Square", eps=0.2, image_shape=(28, 28)).threat_model
    'black box'
    """

    _library = "torchattacks"
    _package = "torchattacks"
    _install = "--no-deps torchattacks"
    _namespace = "torchattacks"
    _gradient_free = frozenset({"GN", "OnePixel", "Pixle", "SPSA", "Square", "VANILA"})

    def _generate(self, model, x, goal, n_classes, eps):
        cls = self._attack_class()
        bounds = clip_range(self.clip)
        if bounds is None or bounds[0] < 0 or bounds[1] > 1:
            raise ValueError(
                f"torchattacks supports images in [0, 1] only, but clip={self.clip!r}. Scale X inside the Pipeline."
            )
        params = self._arguments(
            cls,
            eps=eps,
            norm=self.norm.replace("l", "L", 1),
            n_classes=n_classes,
            seed=int(torch.randint(2**31 - 1, (1,))),
        )
        attack = cls(model, **params)
        if goal.targeted:
            attack.set_mode_targeted_by_label(quiet=True)
        return attack(x, goal.label)

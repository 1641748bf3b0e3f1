"""Documentation that the layered coders share, and what completes their docstrings with it."""

import inspect
import re

PARAMETERS = """
n_components : int or sequence of int, default=(16, 32)
    Number of atoms per layer; its length sets the number of layers.
kernel_size : int, None or sequence, default=5
    Kernel size of all layers, or one per layer: an int, a tuple of height and width, or None for atoms that cover the
    whole grid (a dense layer). Reduced where the layer's signal is smaller.
stride : int or sequence of int, default=1
    Positions between atoms: one value for all layers, or one per layer.
padding : {"valid", "same", "full", "circular"}, default="valid"
    Where atoms may lie; see `skrobust.operators.ConvolutionalOperator`.
alpha : float or sequence of float, default=0.1
    Penalties, >= 0: one for all layers, or one per layer. > 0 with `tol`.
penalty : {"l1", "elastic_net", "group_l1"} or Penalty, or list with one per layer, default="l1"
    What takes the place of the l1 norm; see `skrobust.pursuits.Penalty`. `DeepPursuit` alone takes
    ``GroupL1(over="layers")``. Dictionaries are learned under the l1 norm; supervised learning needs "l1".
skip : {None, "residual", "dense"}, default=None
    Skip connections, which add earlier codes to the input of a layer; see `skrobust.operators.LayeredDictionary`.
momentum : bool, default=True
    Accelerated steps; False: those of the papers.
positive : bool, default=True
    Whether codes are >= 0. A penalty object has its own ``positive``, which this one must not contradict.
learning : {"unsupervised", "supervised"}, default="unsupervised"
    "unsupervised": layer by layer, each from the codes below it, by convolutional dictionary learning.
    "supervised": end to end, by back-propagation through the pursuit under a linear head; `fit` then needs y, and
    penalties are learned for each atom.
dictionaries : list of array-like or None, default=None
    Atoms of each layer, ``(n_components, *kernel_size, n_channels)``, used as they are: nothing is learned.
output : {"code", "reconstruction"}, default="code"
    "reconstruction": `transform` returns images, as a front end does.
clip : tuple of (float, float) or None, default=None
    Lowest and highest value of reconstructions. Codes and `inverse_transform` are not clipped.
per_layer : bool, default=False
    Return the codes of all layers side by side, not only those of the last.
n_epochs : int, default=5
    Passes over X in learning, for each layer ("unsupervised") or for all together ("supervised").
batch_size : int or None, default=None
    Images per update of the atoms. None: all for "unsupervised", 64 for "supervised".
training_params : dict or None, default=None
    For supervised learning: further arguments of `skrobust.nn.train_layered` (``learning_rate``, ``parseval``,
    ``incoherence``, ``checkpoint``, ...) and of `skrobust.nn.LayeredPursuit` (``unit_norm``, ``batch_norm``,
    ``learn_steps``).
image_shape : tuple of int or None, default=None
    ``(height, width)`` or ``(height, width, n_channels)`` of images given as rows of a 2-D X. None: rows are 1-D
    signals.
n_jobs : int or None, default=None
    Number of threads. None: what the environment allows. The result does not depend on it.
device : str, torch.device or None, default=None
    Torch device of `transform` and of supervised learning. None: compiled kernels on the CPU.
random_state : int, RandomState instance or None, default=None
    For the initial atoms and the order of batches.
verbose : int, default=0
    1: print a line per epoch.
"""

ATTRIBUTES = """
components_ : list of ndarray, ``(n_components, *kernel_size, n_channels)`` each
    Atoms of each layer.
{penalty}s_ : list
    {penalty_title} of the layers: numbers, or after supervised learning one per atom.
layers_ : skrobust.operators.LayeredDictionary
    The atoms of all layers, with their connections, as one dictionary.
code_shapes_ : list of tuple
    Shape of each layer's codes as maps, ``(*positions, n_components)``.
objectives_ : list of list of float
    Mean objective of each layer and epoch; unsupervised learning only.
history_ : list of dict
    Training history, one entry per epoch; supervised learning only.
head_coef_, head_intercept_, head_classes_ : ndarray
    The linear head on the codes of the last layer, and its classes; supervised learning only.
n_iter_ : int
    Epochs of learning.
n_features_in_ : int
feature_names_in_ : ndarray of str
    Only when X has feature names.
"""


def document_parameters(cls):
    """Complete the "Parameters" section of a layered coder's docstring, and add "Attributes".

    A parameter described in the class's own section keeps that description; all are listed in the order of the
    constructor.
    """
    if cls.__doc__ is None:  # python -OO
        return cls
    text = inspect.cleandoc(cls.__doc__)
    own = re.search(r"\n\nParameters\n-+\n(.*?)(?=\n\n)", text, flags=re.DOTALL)
    entries = {**_entries(PARAMETERS), **_entries(own[1] if own else "")}
    names = [name for name in inspect.signature(cls).parameters if name in entries]
    attributes = ATTRIBUTES.format(
        penalty=cls._strength, penalty_title="Thresholds" if cls._strength == "threshold" else "Penalties"
    )
    sections = "\n\nParameters\n----------\n" + "\n".join(entries[name] for name in names)
    sections += "\n\nAttributes\n----------\n" + attributes.strip()
    if own:
        text = text.replace(own[0], "", 1)
    before, see_also, after = text.partition("\n\nSee Also\n")
    cls.__doc__ = before + sections + see_also + after + "\n"
    return cls


def _entries(section):
    """Description of each parameter of a section."""
    return {entry.split(" :")[0]: entry.rstrip() for entry in re.split(r"\n(?=\w)", section.strip()) if entry}

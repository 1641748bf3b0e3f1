"""The rows of a gallery of attacked images, for figures and for HTML."""


def gallery_rows(examples):
    """Rows of a gallery from top to bottom.

    Yields
    ------
    label : str
    model : str or None
        None for the clean images.
    images : ndarray
    answers : ndarray
        The true labels for the clean images, else what the model answers.
    """
    yield "clean", None, examples.clean, examples.truth
    for view in examples.views:
        yield f"attacked:\n{view.model}", view.model, view.attacked, view.predicted
        if view.restored is not None:
            yield "restored by\nits front end", view.model, view.restored, view.predicted

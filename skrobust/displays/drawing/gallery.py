"""The rows of a gallery of attacked images, for figures and for HTML."""


def gallery_rows(examples):
    """Rows of a gallery from top to bottom: label, model (None for clean images), images, and what the model answers
    or, for clean images, the true labels.
    """
    yield "clean", None, examples.clean, examples.truth
    for view in examples.views:
        yield f"attacked:\n{view.model}", view.model, view.attacked, view.predicted
        if view.restored is not None:
            yield "restored by\nits front end", view.model, view.restored, view.predicted

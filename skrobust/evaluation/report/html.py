"""The report as one HTML file, from the template ``report.html``."""

import base64
import io
import pathlib
import re

import numpy as np

from skrobust.displays.drawing.curves import curves_of_report, draw_curves, norm_symbol
from skrobust.displays.drawing.style import RIGHT, WRONG, drawing, model_colors

from .comparison import accuracy_at, points
from .text import percent, steps
from .trials import WORST


def render(report):
    """Self-contained HTML text of a `RobustnessReport`."""
    try:
        import jinja2
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("to_html needs Jinja2: pip install 'skrobust[plot]'.", name="jinja2") from error
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters["percent"] = percent
    environment.filters["points"] = points
    environment.filters["eps"] = lambda value: f"{value:.4g}"
    template = environment.from_string((pathlib.Path(__file__).with_name("report.html")).read_text(encoding="utf-8"))
    return template.render(
        report=report,
        norm=norm_symbol(report.norm),
        colors=model_colors(report.models, report.baseline),
        right=RIGHT,
        wrong=WRONG,
        n_classes=len(np.unique(report.y)),
        sentences=report.conclusions(),
        curve=_inline_svg(report) if report.eps.size else None,
        summary=_summary(report),
        corrupted=_corrupted(report),
        rows=[dict(row, steps=steps(row)) for row in report.rows if row["attack"] not in ("none", WORST)],
        gallery=_gallery(report),
    )


def _summary(report):
    """For each eps and model, accuracy with its interval, and the difference to the baseline."""
    table = []
    for eps in (0.0, *report.eps.tolist()):
        cells = []
        for model in report.models:
            k = 0 if eps == 0 else report.index_of(eps) + 1
            _, _, low, high = (values[k] for values in report.curve(model))
            cell = {"model": model, "accuracy": accuracy_at(report, model, eps), "low": low, "high": high}
            if report.baseline not in (None, model):
                cell["difference"] = report.compare(model, report.baseline, eps)
            cells.append(cell)
        table.append({"eps": eps, "cells": cells})
    return table


def _corrupted(report):
    """For each corruption the rows of all models."""
    rows = [row for row in report.rows if row["threat_model"] == "corruption"]
    return list(zip(*([row for row in rows if row["model"] == model] for model in report.models), strict=True))


def _inline_svg(report):
    with drawing():
        from matplotlib.figure import Figure

        figure = Figure(figsize=(5.0, 3.4), layout="constrained")
        draw_curves(figure.subplots(), **curves_of_report(report))
        stream = io.StringIO()
        figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None})
    svg = stream.getvalue()
    svg = svg[svg.index("<svg") :]
    label = "Accuracy under attack against eps; the same figures are in the table."
    return re.sub(
        r'<svg [^>]*?viewBox="([^"]+)"[^>]*>', rf'<svg role="img" aria-label="{label}" viewBox="\1">', svg, count=1
    )


def _gallery(report):
    examples = report.examples
    if examples is None:
        return None
    lines = []
    for label, model, images, predictions in examples.rows():
        cells = [
            {
                "png": _png(image, examples.value_range),
                "answer": str(prediction),
                "verdict": None if model is None else "right" if prediction == truth else "wrong",
            }
            for image, prediction, truth in zip(images, predictions, examples.truth, strict=True)
        ]
        lines.append({"label": " ".join(label.split()), "model": model, "cells": cells})
    return {"lines": lines, "quality": examples.quality, "eps": examples.eps}


def _png(image, value_range):
    """The image as a PNG data URL."""
    from PIL import Image

    low, high = value_range
    levels = np.rint(255 * np.clip((image - low) / (high - low), 0, 1)).astype(np.uint8)
    stream = io.BytesIO()
    Image.fromarray(levels).save(stream, "PNG")
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode("ascii")

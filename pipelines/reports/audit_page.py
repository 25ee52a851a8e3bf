"""The audit's page: one file, nothing loaded from elsewhere. It shows no original, and of outputs only linked faces."""

import io
from collections.abc import Callable, Sequence
from typing import Any

from matplotlib.figure import Figure

from mien.models.images import encode_image
from mien.transforms.elements import Pixels
from mien.transforms.page import data_uri, render

Json = dict[str, Any]

_BLUE, _ORANGE, _GREY = "#2b6cb0", "#c05621", "#718096"
_NONE = "\N{EN DASH}"
_ROWS = 300  # of the table of places


def page(report: Json, pictures: Sequence[tuple[str, Pixels]]) -> str:
    """audit.html of audit.json's content and of (place, (S, S, 3) uint8) pictures of linked output faces."""
    charts = {
        (view, group["group"]): data_uri(_chart(group["recognisers"]), "png")
        for view, found in report["views"].items()
        for group in found["reidentification"]
    }
    worst = ("as it was", "recognisable", "partly as it was", "kept by a rule", "changed", "gone")
    rows = {
        view: sorted(found["rows"], key=lambda row: worst.index(row["verdict"]))[:_ROWS]
        for view, found in report["views"].items()
    }
    shown = [(place, data_uri(encode_image(pixels, "jpeg", 80), "jpeg")) for place, pixels in pictures]
    filters: dict[str, Callable[..., str]] = {"percent": _percent, "interval": _interval, "number": _number}
    return render("audit.html", filters, report=report, charts=charts, rows=rows, pictures=shown)


def _percent(value: float | None, digits: int = 1) -> str:
    return _NONE if value is None else f"{value:.{digits}%}"


def _interval(value: Sequence[float | None] | None) -> str:
    """A share with its interval."""
    if value is None or None in value:
        return _NONE
    return f"{_percent(value[0])} ({_percent(value[1])} to {_percent(value[2])})"


def _number(value: float | None, digits: int = 2) -> str:
    return _NONE if value is None else f"{value:.{digits}f}"


def _chart(recognisers: Sequence[Json]) -> bytes:
    """A row a recogniser: its scores, and its ROC with the line of chance."""
    figure = Figure(figsize=(9, 2.9 * len(recognisers)), layout="constrained")
    axes = figure.subplots(len(recognisers), 2, squeeze=False)
    for (scores, roc), one in zip(axes, recognisers, strict=True):
        edges = one["histogram"]["edges"]
        for name, colour in (("impostor", _GREY), ("genuine", _ORANGE)):
            counts = one["histogram"][name]
            total = max(1, sum(counts))
            scores.stairs([count / total for count in counts], edges, fill=True, alpha=0.55, color=colour, label=name)
        scores.set(title=f"{one['recogniser']}: similarity to originals", xlabel="similarity", ylabel="share of pairs")
        scores.legend(frameon=False)
        rates, accepted = zip(*one["roc"], strict=True)
        roc.plot(rates, accepted, color=_BLUE, label=one["recogniser"])
        roc.plot(rates, rates, "--", color=_GREY, label="chance")
        roc.set(xscale="log", ylim=(-0.02, 1.02), title="ROC", xlabel="false accept rate", ylabel="true accept rate")
        roc.legend(frameon=False)
        for axis in (scores, roc):
            axis.spines[["top", "right"]].set_visible(False)
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=100)
    return out.getvalue()

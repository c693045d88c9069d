"""Every page as one HTML file that needs nothing else: templates, style, script, and data that can be saved."""

import base64
import functools
import gzip
from importlib.resources import files
from typing import Any

import jinja2
import pandas as pd
from markupsafe import Markup

from equivox.definitions import METRICS
from equivox.reports.numbers import number
from equivox.reports.plots import palette


def render(template: str, **context: Any) -> str:
    """Return a page that opens from disk without a network: its style and script are in it, all text is escaped.

    Args:
        template: A template that extends `base.html.j2`.
        context: What it shows. Every page needs `version` (of the software), `kind` (of the page), `title`, `facts`
            (pairs of words below the title) and `contents` (pairs of anchor and label, one or more).
    """
    return (
        _environment()
        .get_template(template)
        .render(style=_palette() + _asset("report.css"), script=_asset("report.js"), **context)
    )


def words(key: str) -> str:
    """Return a key as a reader would write it: the label of a metric, else words with a capital.

    Example:
        >>> words("hd95"), words("empty_masks")
        ('HD95', 'Empty masks')
    """
    if key in METRICS:
        return METRICS[key].label
    text = key.replace("_", " ")
    return text[:1].upper() + text[1:]


def packed_csv(table: pd.DataFrame) -> str:
    """Return a table as gzipped CSV in base64: the script unpacks it when it is saved."""
    text = table.to_csv(index=False, lineterminator="\n")
    return base64.b64encode(gzip.compress(text.encode("utf-8"), mtime=0)).decode("ascii")


@functools.cache
def _environment() -> jinja2.Environment:
    """Return the one environment, so that a template is compiled once however many pages are written."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("equivox.reports"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["words"] = words
    environment.filters["counted"] = lambda count: number(count, 0)
    return environment


def _asset(name: str) -> Markup:
    return Markup(files("equivox.reports").joinpath("templates", name).read_text(encoding="utf-8"))  # noqa: S704  our own


def _palette() -> Markup:
    light, dark = (
        ":root{" + "".join(f"--{name}:{pair[which]};" for name, pair in palette().items()) + "}" for which in (0, 1)
    )
    return Markup(f"{light}@media screen and (prefers-color-scheme:dark){{{dark}}}\n")  # noqa: S704  our own

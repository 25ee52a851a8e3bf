"""mien's HTML pages: one file each, in which nothing is loaded from elsewhere and every value is escaped.

page.html is what all have in common. Its Content-Security-Policy lets run what is in the page itself, and no other.
"""

import base64
import hashlib
from collections.abc import Callable, Mapping
from importlib.resources import files
from typing import Any

import jinja2

_PACKAGES = ("mien.transforms", "mien.pipelines.reports")


def render(name: str, filters: Mapping[str, Callable[..., Any]] | None = None, **values: Any) -> str:
    """The page that a template makes of the values. A value that the template names and that is missing is an error.

    name: of the template, which extends page.html, in a package of mien's. filters: Jinja2's, by name.
    """
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_template),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(filters or {})
    environment.globals["content_policy"] = content_policy
    return environment.get_template(name).render(values)


def content_policy(style: str, script: str) -> str:
    """A Content-Security-Policy (level 2) that allows this style, this script and pictures inside the page."""
    parts = [
        "default-src 'none'",
        "img-src data:",
        f"style-src {_digest(style)}",
        "base-uri 'none'",
        "form-action 'none'",
    ]
    if script:
        parts.append(f"script-src {_digest(script)}")
    return "; ".join(parts)


def _digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def data_uri(data: bytes, kind: str) -> str:
    """An image file's bytes as an address; kind: jpeg, png, webp."""
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def _template(name: str) -> str | None:
    for package in _PACKAGES:
        path = files(package).joinpath(name)
        if path.is_file():
            return path.read_text(encoding="utf-8")
    return None

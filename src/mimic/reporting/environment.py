"""The templates of page/, as all pages use them."""

from __future__ import annotations

from jinja2 import Environment, PackageLoader, StrictUndefined

from mimic.reporting.verdict import number


def page_environment() -> Environment:
    """The templates, which may use no name that is not given to them."""
    environment = Environment(
        loader=PackageLoader("mimic.reporting", "page"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = number
    return environment

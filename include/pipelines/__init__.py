"""The registry of pipelines: every module of this package that declares PIPELINE."""

from __future__ import annotations

import functools
import importlib
import pkgutil

from include.errors import MinutemarkError
from include.pipelines.declaration import Dimension, Output, Pipeline, Retention

__all__ = ["Dimension", "Output", "Pipeline", "Retention", "all_pipelines", "get", "named_or_all"]


class UnknownPipeline(MinutemarkError):
    """A pipeline name that no module declares."""


@functools.cache
def all_pipelines() -> dict[str, Pipeline]:
    """Every declared pipeline by name."""
    by_name = {}
    for module in pkgutil.iter_modules(__path__):
        declared = getattr(importlib.import_module(f"{__name__}.{module.name}"), "PIPELINE", None)
        if declared is None:
            continue
        if declared.name != module.name:  # its transform and its SQL are found by this name
            raise ValueError(
                f"include/pipelines/{module.name}.py declares the pipeline {declared.name!r}: name it {module.name!r}, or "
                "rename the file."
            )
        by_name[declared.name] = declared
    return by_name


def get(name: str) -> Pipeline:
    """The pipeline of that name. Raises UnknownPipeline, which lists the declared ones."""
    try:
        return all_pipelines()[name]
    except KeyError:
        names = ", ".join(sorted(all_pipelines()))
        raise UnknownPipeline(f"Unknown pipeline {name!r}. Choose one of {names}.") from None


def named_or_all(name: str | None) -> list[Pipeline]:
    """The pipeline of that name, or all of them without a name. Raises UnknownPipeline."""
    return [get(name)] if name else list(all_pipelines().values())

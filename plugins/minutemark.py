"""The plugin that registers Minutemark with Airflow. DAGs import the other modules of this folder as `plugins.…`."""

from __future__ import annotations

import importlib

from airflow.plugins_manager import AirflowPlugin

from plugins.access import KnownHosts, OperationsPermissions
from plugins.preload import Preload
from plugins.priority import LiveBeforeBackfill
from plugins.timetable import ContinuousWithBackfills


class LazyApp:
    """The ASGI app `module:name`, imported at its first request: every process loads plugins, only the API server serves it."""

    def __init__(self, where: str) -> None:
        self._module, self._name = where.split(":")
        self._app = None

    async def __call__(self, scope, receive, send) -> None:
        if self._app is None:
            self._app = getattr(importlib.import_module(self._module), self._name)
        await self._app(scope, receive, send)


class MinutemarkPlugin(AirflowPlugin):
    name = "minutemark"
    priority_weight_strategies = [LiveBeforeBackfill]
    timetables = [ContinuousWithBackfills]
    listeners = [Preload()]
    fastapi_apps = [{"name": "Pipelines", "app": LazyApp("plugins.pipelines_page:app"), "url_prefix": "/minutemark"}]
    # The last is the outermost.
    fastapi_root_middlewares = [
        {"name": "Permissions of operations", "middleware": OperationsPermissions},
        {"name": "Known hosts", "middleware": KnownHosts},
    ]
    external_views = [
        {
            "name": "Pipelines",
            "href": "minutemark/pipelines",
            "destination": "nav",
            "url_route": "pipelines",
            "nav_top_level": True,
            "icon": "minutemark/static/icon.svg",
            "icon_dark_mode": "minutemark/static/icon-dark.svg",
        }
    ]

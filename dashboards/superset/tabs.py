"""Merges the boards of the folders beside this file into one dashboard, with a tab for each board.

A board is a complete dashboard, as Superset exports it. The tabs are sorted by the `tab` of their boards, 50
by default. A tab's filters and cross-filters apply only to its own charts. This module does not need Superset.
"""

from __future__ import annotations

from pathlib import Path

import yaml

FOLDER = Path(__file__).parent
TITLE, SLUG = "Minutemark", "minutemark"
UUID = "3c0c6b1d-1f4e-5a39-9a4c-5b0de8f0a3a7"
REFRESH = 15  # seconds
ROOT, TABS = "ROOT_ID", "TABS-minutemark"
_PLACE = 50


def boards() -> dict[str, dict]:
    """The board of each folder, in the order of the tabs."""
    read = {
        path.parts[-3]: yaml.safe_load(path.read_text(encoding="utf-8")) for path in FOLDER.glob("*/dashboards/*.yaml")
    }
    return dict(sorted(read.items(), key=lambda item: (item[1].get("tab", _PLACE), item[1]["dashboard_title"])))


def tab_id(folder: str) -> str:
    """The id of the folder's tab. An address that ends in # and this id opens the tab."""
    return f"TAB-{folder}"


def dashboard(boards: dict[str, dict]) -> dict:
    """All boards as one dashboard, as Superset imports it."""
    tabs = [tab_id(folder) for folder in boards]
    position = {
        "DASHBOARD_VERSION_KEY": "v2",
        ROOT: {"type": "ROOT", "id": ROOT, "children": [TABS]},
        TABS: {"type": "TABS", "id": TABS, "children": tabs, "parents": [ROOT], "meta": {}},
        "HEADER_ID": {"type": "HEADER", "id": "HEADER_ID", "meta": {"text": TITLE}},
    }
    metadata = {
        "refresh_frequency": REFRESH,
        "timed_refresh_immune_slices": [],
        "expanded_slices": {},
        "label_colors": {},
        "color_scheme": "",
        "cross_filters_enabled": True,
        "default_filters": "{}",
        "filter_bar_orientation": "HORIZONTAL",
        "native_filter_configuration": [],
        "chart_configuration": {},
        "global_chart_configuration": {"scope": {"rootPath": [ROOT], "excluded": []}, "chartsInScope": []},
    }
    for folder, board in boards.items():
        _add_tab(position, metadata, folder, board)
    return {
        "dashboard_title": TITLE,
        "description": None,
        "css": "",
        "slug": SLUG,
        "certified_by": None,
        "certification_details": None,
        "published": True,
        "uuid": UUID,
        "position": position,
        "metadata": metadata,
        "version": "1.0.0",
    }


def _add_tab(position: dict, metadata: dict, folder: str, board: dict) -> None:
    tab, own = tab_id(folder), board["metadata"]
    components = {key: component for key, component in board["position"].items() if isinstance(component, dict)}
    names = {key: f"{component['type']}-{folder}-{key}" for key, component in components.items()} | {"GRID_ID": tab}
    charts = {key: component for key, component in components.items() if component["type"] == "CHART"}
    # Exports of two servers may use the same chart numbers. The import replaces all of them.
    first = 1 + sum(component["type"] == "CHART" for component in position.values() if isinstance(component, dict))
    numbers = {component["meta"]["chartId"]: number for number, component in enumerate(charts.values(), first)}
    position[tab] = {
        "type": "TAB",
        "id": tab,
        "children": [names[child] for child in components["GRID_ID"]["children"]],
        "parents": [ROOT, TABS],
        "meta": {"text": board["dashboard_title"]},
    }
    for key, component in components.items():
        if component["type"] in ("ROOT", "GRID", "HEADER"):
            continue
        meta = {**component["meta"]}
        if key in charts:
            meta["chartId"] = numbers[meta["chartId"]]
        parents = [names[parent] for parent in component["parents"] if parent != ROOT]
        position[names[key]] = {
            **component,
            "id": names[key],
            "children": [names[child] for child in component["children"]],
            "parents": [ROOT, TABS, *parents],
            "meta": meta,
        }
    metadata["timed_refresh_immune_slices"] += [numbers[number] for number in own["timed_refresh_immune_slices"]]
    for native_filter in own["native_filter_configuration"]:
        excluded = [numbers[number] for number in native_filter["scope"]["excluded"]]
        metadata["native_filter_configuration"].append(
            {
                **native_filter,
                "id": f"{native_filter['id']}-{folder}",
                "scope": {"rootPath": [tab], "excluded": excluded},
            }
        )
    for number in numbers.values():
        scope = {"rootPath": [tab], "excluded": [number]}
        metadata["chart_configuration"][str(number)] = {
            "id": number,
            "crossFilters": {"scope": scope, "chartsInScope": []},  # the browser fills chartsInScope
        }

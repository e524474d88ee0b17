"""Run by JupyterLab's own Python, with JupyterLab's options: prints the patterns of the server's routes as JSON."""

import json
import sys
from collections.abc import Iterator

from jupyterlab.labapp import LabApp


def patterns(router) -> Iterator[str]:
    """The routes of a router and of those that it delegates to."""
    for rule in router.rules:
        if hasattr(rule.target, "rules"):
            yield from patterns(rule.target)
        else:
            yield rule.matcher.regex.pattern


if __name__ == "__main__":
    print(json.dumps(sorted(set(patterns(LabApp.initialize_server(argv=sys.argv[1:]).web_app.default_router)))))

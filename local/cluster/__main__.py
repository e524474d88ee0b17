"""`make cluster`: a throw-away deployment of many nodes with demo traffic, until Ctrl-C."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
from pathlib import Path

from local.isolation import isolate


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="mm-cluster-") as folder:
        isolate(Path(folder))
        os.environ["MINUTEMARK_DEMO"] = "1"
        from include.errors import MinutemarkError
        from local import signals, start, supervisor
        from local.cluster import installation
        from local.cluster.stack import Cluster
        from local.problems import Problem
        from local.progress import say

        signals.exit_on_signals()
        try:
            installation.check_warehouse()
            installation.install()
            start.run(Cluster)
            say("Ctrl-C stops the cluster and deletes its data.")
            signal.pause()
        except KeyboardInterrupt:
            say("\nStopping …")
        except (Problem, MinutemarkError) as problem:
            print(problem, file=sys.stderr)
            return 2
        finally:
            signals.ignore_signals()
            supervisor.shut_down()
    return 0


if __name__ == "__main__":
    sys.exit(main())

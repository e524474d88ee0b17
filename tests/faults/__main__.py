"""`python -m tests.faults [names …] [--seed N] [--list]`: starts a stack of its own, does the damage, prints a table."""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
import time
from pathlib import Path

PORTS = ("AIRFLOW_PORT", "CASSANDRA_PORT", "CASSANDRA_STORAGE_PORT", "MARIADB_PORT", "POSTGRES_PORT")


def main() -> int:
    parser = argparse.ArgumentParser(prog="make faults", description=__doc__)
    parser.add_argument("names", nargs="*", help="NAME= scenarios; all when none is given")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--list", action="store_true", help="only list the scenarios")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mm-faults-") as folder:
        _isolate(Path(folder))
        from tests.faults.scenarios import SCENARIOS

        unknown = [name for name in asked.names if name not in SCENARIOS]
        if unknown:
            print(f"There is no scenario {', '.join(unknown)}; there are {', '.join(SCENARIOS)}.", file=sys.stderr)
            return 2
        if asked.list:
            print("\n".join(SCENARIOS))
            return 0
        return _run([SCENARIOS[name] for name in asked.names or SCENARIOS], asked.seed)


def _isolate(folder: Path) -> None:
    """State, temporary files and ports of our own; connections are this stack's, whatever the shell has set."""
    from local.process import free_port

    for name in [name for name in os.environ if name.startswith(("AIRFLOW", "MINUTEMARK_"))]:
        del os.environ[name]
    (folder / "tmp").mkdir()
    os.environ |= {name: str(free_port()) for name in PORTS}
    os.environ |= {"MINUTEMARK_STATE": str(folder / "state"), "TMPDIR": str(folder / "tmp"), "MINUTEMARK_DEMO": "0"}
    os.environ["MINUTEMARK_INGEST"] = ""  # its producers write to the lake
    tempfile.tempdir = None  # read again from TMPDIR
    for module in [name for name in sys.modules if name.startswith("local.")]:
        del sys.modules[module]  # what has read the environment reads it again


def _run(chosen: list, seed: int) -> int:
    from rich.console import Console
    from rich.table import Table

    from tests.faults.world import Broken, running

    table, failed = Table("scenario", "also looked at", "seconds", "result"), 0
    with running(seed) as world:
        world.send(world.events(300))
        world.must_be_right()
        for number, one in enumerate(chosen, 1):
            world.rng.seed(f"{seed} {one.name}")
            print(f"   … {number}/{len(chosen)} {one.name}", file=sys.stderr, flush=True)
            begun = time.monotonic()
            try:
                one.do(world)
                world.must_be_right()
                result = "right"
            except Broken as broken:
                failed += 1
                result = f"BROKEN: {broken}"
            seconds = time.monotonic() - begun
            print(f"   {'✗' if 'BROKEN' in result else '✓'} {one.name}  {seconds:.0f} s", file=sys.stderr, flush=True)
            table.add_row(one.name, one.checks, f"{seconds:.0f}", result)
    Console(width=160 if not sys.stdout.isatty() else None).print(table)
    print(f"{len(chosen) - failed} passed, {failed} failed; seed {seed}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

"""`python -m tests.faults [names …] [--cluster] [--strict] [--soak MINUTES] [--seed N] [--list]`: starts a throw-away
stack, injects the faults, and prints a table. With --strict, a fault that this machine does not allow counts as a
failure. A soak sends events all the time, and repeats the faults in random orders until its minutes are over. The
stack runs from a copy of the sources, in which the shop holds undeclared fields."""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from pathlib import Path

from local import signals
from local.isolation import WAREHOUSE, isolate, work_in_copy
from tests.faults.disk import small_disk

MARIADB = "mariadb"
PASSED, FAILED, SKIPPED = "✓", "✗", "-"
STRICT_SHOP = """
from dataclasses import replace

PIPELINE = replace(PIPELINE, unknown_fields="hold")
"""


def main() -> int:
    parser = argparse.ArgumentParser(prog="make faults", description=__doc__)
    parser.add_argument("names", nargs="*", help="NAME= scenarios; all if none is named")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument(
        "--soak", type=float, default=0, metavar="MINUTES", help="SOAK= time to repeat the scenarios in random orders"
    )
    parser.add_argument("--cluster", action="store_true", help="CLUSTER=1 use a cluster of three nodes")
    parser.add_argument("--list", action="store_true", help="only list the scenarios")
    parser.add_argument("--strict", action="store_true", help="STRICT=1 fail if a fault cannot be injected")
    args = parser.parse_args()
    signals.exit_on_signals()  # the stack is stopped on the way out
    with tempfile.TemporaryDirectory(prefix="mm-faults-") as folder:
        _copy_with_strict_shop(Path(folder) / "project")
        state = isolate(Path(folder))
        if args.cluster:
            from local.cluster import installation  # from the copy, like everything that is imported from here on
            from local.problems import Problem

            try:
                installation.check_warehouse()
            except Problem as problem:
                print(problem, file=sys.stderr)
                return 2
        scenarios = _scenarios(args.cluster)
        unknown = [name for name in args.names if name not in scenarios]
        if unknown:
            print(f"Unknown scenario {', '.join(unknown)}. Choose one of {', '.join(scenarios)}.", file=sys.stderr)
            return 2
        if args.list:
            print("\n".join(scenarios))
            return 0
        chosen = [scenarios[name] for name in args.names or scenarios]
        with small_disk(state / "data" / os.environ.get(WAREHOUSE, MARIADB)):
            return _run(_in_random_orders(chosen, args.soak * 60, args.seed) if args.soak else iter(chosen), args)


def _scenarios(on_cluster: bool) -> dict:
    if on_cluster:
        from tests.faults.cluster import SCENARIOS
    else:
        from tests.faults.scenarios import SCENARIOS
    return SCENARIOS


def _stack(on_cluster: bool) -> type:
    if on_cluster:
        from local.cluster import installation
        from local.cluster.stack import Cluster
        from tests.faults import partition

        partition.remove_rules()  # those of a run that was killed
        installation.install()
        return Cluster
    from local.start import Stack

    return Stack


def _copy_with_strict_shop(project: Path) -> None:
    work_in_copy(project)
    with (project / "include" / "pipelines" / "ecommerce.py").open("a", encoding="utf-8") as declaration:
        declaration.write(STRICT_SHOP)


def _in_random_orders(chosen: list, seconds: float, seed: int) -> Iterator:
    """All scenarios in a random order, and again in another one, until the time is over."""
    rng, deadline = random.Random(seed), time.monotonic() + seconds
    while True:
        for scenario in rng.sample(chosen, len(chosen)):
            if time.monotonic() >= deadline:
                return
            yield scenario


def _run(scenarios: Iterator, args: argparse.Namespace) -> int:
    from rich.console import Console
    from rich.table import Table

    from include.verify.verify import run_verify
    from tests.faults.system import BACK_WITHIN, FIRST_WITHIN, CannotInject, GuaranteeBroken, running_system

    table, results = Table("scenario", "also checked", "seconds", "result"), []
    with running_system(args.seed, _stack(args.cluster)) as system:
        started_at = time.monotonic()
        system.send(system.events(300))
        system.visit_shop(100)
        system.must_be_right(FIRST_WITHIN if args.cluster else BACK_WITHIN)
        for number, scenario in enumerate(scenarios, 1):
            system.rng.seed(f"{args.seed} {number} {scenario.name}")
            print(f"   … {number} {scenario.name}", file=sys.stderr, flush=True)
            started = time.monotonic()
            try:
                with system.traffic() if args.soak else contextlib.nullcontext():
                    scenario.do(system)
                system.visit_shop(20)
                system.must_be_right()
                result, mark = "right", PASSED
            except CannotInject as why:
                result, mark = f"not injected: {why}", SKIPPED
            except Exception as error:  # after any error, the other scenarios still run
                what = (
                    str(error)
                    if isinstance(error, GuaranteeBroken)
                    else "".join(traceback.format_exception(error))[-1500:]
                )
                result, mark = f"BROKEN: {what}", FAILED
            seconds = time.monotonic() - started
            print(f"   {mark} {scenario.name}  {seconds:.0f} s  {result}", file=sys.stderr, flush=True)
            table.add_row(scenario.name, scenario.checks, f"{seconds:.0f}", result)
            results.append(mark)
        minutes = (time.monotonic() - started_at) / 60
        report = run_verify(None, None, None, patience=120) if args.soak else None
        sent = len(system.sent) + len(system.sent_to_shop)
    Console(width=160 if not sys.stdout.isatty() else None).print(table)
    if report:
        print(report)
    passed, failed, skipped = (results.count(mark) for mark in (PASSED, FAILED, SKIPPED))
    print(
        f"{passed} passed, {failed} failed, {skipped} not injected; {sent:,} events, {minutes:.0f} min, seed {args.seed}"
    )
    return exit_status(results, is_clean=report is None or report.clean, strict=args.strict)


def exit_status(marks: list[str], *, is_clean: bool, strict: bool) -> int:
    """1 if a scenario failed or the last verify found differences; with `strict`, also if a fault could not be injected."""
    bad = {FAILED, SKIPPED} if strict else {FAILED}
    return 0 if is_clean and bad.isdisjoint(marks) else 1


if __name__ == "__main__":
    sys.exit(main())

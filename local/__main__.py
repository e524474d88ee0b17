"""The commands behind the Makefile: `python -m local <command>`, in the environment that local.bootstrap made."""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys

from include import env_file
from include.durations import utc_now
from include.errors import MinutemarkError, storage_problem
from local.layout import AIRFLOW_HOME, DATA, ENV_FILE, INSTALLED, LOCAL, LOGS, PORTS_FILE, ROOT, RUN, STATE
from local.problems import Problem
from local.progress import say


def run(arguments: argparse.Namespace) -> int:
    from local import live, signals, start, supervisor

    began = utc_now()
    signal.signal(signal.SIGHUP, _interrupt)
    signal.signal(signal.SIGTERM, _interrupt)
    with start.wait_for_other_starts() as starting:
        # A failed start does not stop a stack that was running before it.
        stops_on_failure = not (arguments.detach or supervisor.running())
        try:
            stack = start.run()
            merged = start.await_first_merge(stack, began, 150)
            if not merged:
                say("   The first run has not finished yet. `make status` shows its progress.")
            stack.start_other_dags()
            # The class archive is created in the background; until it exists, runs are only slower.
            supervisor.start(start.SPARK_ARCHIVE, start.CLEANING)
            if arguments.detach:
                say("Running in the background. See `make status` and `make logs`; stop it with `make stop`.")
                return 0
            stops_on_failure = True
            starting.close()
            live.show_table(f"Airflow: {stack.airflow.url} · Ctrl-C stops everything")
            say("Stopped in another terminal.")
        except KeyboardInterrupt:
            signals.ignore_signals()
            say("\nStopping …")
            supervisor.shut_down()
            say("Stopped.")
        except BaseException:
            if stops_on_failure:
                signals.ignore_signals()
                supervisor.shut_down()
            raise
    return 0


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def services(_: argparse.Namespace) -> None:
    from local import start

    start.services()


def dashboards(_: argparse.Namespace) -> None:
    _use_connections("make dashboards")
    from local import dashboards

    dashboards.start()


def notebook(_: argparse.Namespace) -> None:
    _use_connections("make notebook")
    from local import notebook

    notebook.start()


def tableau(arguments: argparse.Namespace) -> None:
    _use_connections("make tableau")
    from local import tableau

    tableau.extract(arguments.rest)


def stop(_: argparse.Namespace) -> None:
    from local import supervisor

    was_running = supervisor.running()
    leftovers = supervisor.shut_down()
    if leftovers:
        say(f"Also stopped: {', '.join(leftovers)}")
    say("Stopped." if was_running or leftovers else "Nothing was running.")


def status(arguments: argparse.Namespace) -> int:
    from local import status

    return status.show(arguments.json)


def logs(arguments: argparse.Namespace) -> int:
    names = sorted(path.stem for path in LOGS.glob("*.log")) if LOGS.is_dir() else []
    chosen = [arguments.name] if arguments.name else names
    if not names:
        raise Problem("make logs", "there are no logs yet", "Run `make run` first.")
    if arguments.name and arguments.name not in names:
        raise Problem("make logs", f"there is no log named {arguments.name!r}", f"NAME is one of {', '.join(names)}.")
    follow = [] if arguments.no_follow else ["-F"]
    try:
        return subprocess.run(["tail", "-n", "40", *follow, *(str(LOGS / f"{name}.log") for name in chosen)]).returncode
    except KeyboardInterrupt:
        return 0


def cloud_function(_: argparse.Namespace) -> None:
    from local import cloud_function

    say(
        f"Written: {os.path.relpath(cloud_function.write_source(), ROOT)}. docs/bigquery.md has the command that deploys it."
    )


def pipeline(arguments: argparse.Namespace) -> None:
    from local import new_pipeline

    files = new_pipeline.make(arguments.name.strip())
    say(new_pipeline.next_steps(arguments.name.strip(), files))


ARGUMENT_FORWARDERS = (tableau,)  # commands that pass unknown arguments to their tool


def _use_connections(what: str) -> None:
    from local import environment

    known = environment.read()
    if not known:
        raise Problem(what, ".local/env does not exist yet", "Run `make run` or `make services` first.")
    env_file.use(known)


def clean(arguments: argparse.Namespace) -> int:
    from local import supervisor

    paths = [DATA, AIRFLOW_HOME, LOGS, RUN, ENV_FILE]
    if arguments.all:  # `.local` may have the data of another stack, which this command does not stop
        paths = [LOCAL] if STATE == LOCAL else [*paths, PORTS_FILE, *INSTALLED]
        if STATE != LOCAL and any(supervisor.marked_processes(LOCAL)):
            raise Problem(
                "make clean",
                f"the stack in {LOCAL} uses files that ALL=1 deletes",
                "Stop it first: run `make stop` without MINUTEMARK_STATE.",
            )
    paths = [path for path in paths if path.exists()]
    if not paths:
        say("Nothing to delete.")
        return 0
    names = ", ".join(os.path.relpath(path, ROOT) for path in paths)
    if not arguments.force:
        if not sys.stdin.isatty():
            raise Problem("make clean", "it asks for confirmation, but there is no terminal", "Run: make clean FORCE=1")
        try:
            confirmation = input(f"Stop everything and delete {names}, with all data? [y/N] ")
        except EOFError:  # Ctrl-D
            confirmation = ""
        if confirmation.strip().lower() not in ("y", "yes"):
            return 1
    supervisor.shut_down()
    for path in paths:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    say(f"Deleted {names}.")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m local", description=__doc__)
    commands = parser.add_subparsers(required=True)

    def command(function, **keywords) -> argparse.ArgumentParser:
        subparser = commands.add_parser(function.__name__.rstrip("_").replace("_", "-"), **keywords)
        subparser.set_defaults(function=function)
        return subparser

    command(run, help="start everything").add_argument("--detach", action="store_true")
    command(services, help="start only the stores")
    command(dashboards, help="start Superset with the boards")
    command(notebook, help="open JupyterLab with the notebooks")
    command(stop, help="stop everything")
    command(status, help="show processes, memory, ports and freshness").add_argument("--json", action="store_true")
    logs_parser = command(logs, help="follow the logs")
    logs_parser.add_argument("--name", default="")
    logs_parser.add_argument("--no-follow", action="store_true")
    command(cloud_function, help="write the source folder of the Cloud Function")
    command(pipeline, help="create a new pipeline from a working skeleton").add_argument("--name", default="")
    for function in ARGUMENT_FORWARDERS:
        command(function, add_help=False)
    clean_parser = command(clean, help="delete local data")
    clean_parser.add_argument("--force", action="store_true")
    clean_parser.add_argument("--all", action="store_true")
    return parser


def main() -> int:
    parser = _parser()
    arguments, arguments.rest = parser.parse_known_args()
    if arguments.rest and arguments.function not in ARGUMENT_FORWARDERS:
        parser.error(f"unknown arguments: {' '.join(arguments.rest)}")
    try:
        return arguments.function(arguments) or 0
    except MinutemarkError as error:
        print(f"\n{error}", file=sys.stderr)
        return error.exit_status
    except BrokenPipeError:  # the reader has closed the pipe, as in `make status | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        if (message := storage_problem(error, LOCAL)) is None:
            raise
        print(f"\n{message}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())

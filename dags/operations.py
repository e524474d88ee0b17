"""What is done by hand, or once, each as a DAG. `make` has a target for each that calls the same function."""

from datetime import timedelta

from airflow.sdk import DAG, Param, chain, task

from include import pipelines
from include.chain import START
from plugins.notifiers import TellOfFailedRun

POOLS = ("spark", "merge")
DEFAULTS = {"owner": "minutemark", "retries": 2, "retry_delay": timedelta(seconds=10)}
SETTINGS = {
    "start_date": START,
    "catchup": False,
    "max_active_runs": 1,
    "default_args": DEFAULTS,
    "on_failure_callback": TellOfFailedRun(),
}


@task(retries=18, execution_timeout=timedelta(minutes=3))  # three minutes for the stores to come up
def apply_schema() -> None:
    from include.operations.setup import set_up

    set_up()


@task(execution_timeout=timedelta(hours=12))  # a file of any size; one that was stopped goes on where it was
def import_rows(params=None) -> None:
    from include.operations.imports import asked_import

    print(asked_import(params["pipeline"], params["table"], params["file"], params["from"], params["encoding"]))


@task(execution_timeout=timedelta(minutes=2))
def check_connections() -> None:
    from include.operations.preflight import preflight

    print("\n".join(preflight()))


@task(retries=0, execution_timeout=timedelta(minutes=3))
def check_pools(ti=None) -> None:
    """A task in a pool that does not exist waits for ever without a word; so does the one that this one watches."""
    from include.operations.preflight import wait_for_pools

    wait_for_pools(ti, {f"try_pool_{pool}": pool for pool in POOLS})


def preflight_tasks() -> list:
    """check_connections, check_pools, and a task in each pool that check_pools watches."""
    tried = [
        task(task_id=f"try_pool_{pool}", pool=pool, execution_timeout=timedelta(minutes=1))(_nothing)()
        for pool in POOLS
    ]
    return [check_connections(), check_pools(), *tried]


def _nothing() -> None:
    """Running at all is the whole test."""


with DAG(
    "minutemark_setup",
    schedule="@once",
    description="Creates the tables of both stores and grants the accounts what they need, then checks everything.",
    doc_md=(
        "1. **apply_schema** creates what is missing in the lake and in the warehouse, and grants.\n"
        "2. **check_connections** names connections, jars or Java that are missing, with what to do.\n"
        "3. **check_pools** names missing pools.\n\n"
        "Runs once by itself; trigger it again after an upgrade. It changes nothing that is there."
    ),
    tags=["minutemark", "operations"],
    dagrun_timeout=timedelta(minutes=30),
    **SETTINGS,
):
    chain(apply_schema(), preflight_tasks())

with DAG(
    "minutemark_preflight",
    schedule=None,
    description="Names what the pipelines lack before they can run: connections, pools, jars, Java, stores.",
    doc_md="Trigger it after a deployment. Each problem that it names comes with what to do.",
    tags=["minutemark", "operations"],
    dagrun_timeout=timedelta(minutes=10),
    **SETTINGS,
):
    preflight_tasks()

with DAG(
    "minutemark_import",
    schedule=None,
    description="Imports a CSV of events or of a dimension, or a flat lake table.",
    doc_md=(
        "Events: `pipeline` and `file`. A dimension, such as `job`: `table` and `file`; the facts follow at once. "
        "A flat lake table (PRIMARY KEY create_time): `pipeline` and `from`. Files are read where the task runs. "
        "Importing the same again changes nothing; a stopped import goes on where it was."
    ),
    tags=["minutemark", "operations"],
    params={
        "pipeline": Param(None, enum=[None, *pipelines.all_pipelines()], description="Whose events these are"),
        "table": Param(None, type=["null", "string"], description="Dimension to import the file into"),
        "file": Param(None, type=["null", "string"], description="Path of a .csv, .csv.gz or .zip"),
        "from": Param(None, type=["null", "string"], description="keyspace.table of a flat lake table to copy"),
        "encoding": Param("utf-8", type="string", description="Of the file"),
    },
    dagrun_timeout=timedelta(hours=13),
    **SETTINGS,
):
    import_rows()

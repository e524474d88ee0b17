"""What is done by hand, or once, each as a DAG. `make` has a target for each that calls the same function."""

from datetime import timedelta

from airflow.sdk import DAG, chain, task

from include.chain import START

POOLS = ("spark", "merge")
DEFAULTS = {"owner": "minutemark", "retries": 2, "retry_delay": timedelta(seconds=10)}
SETTINGS = {"start_date": START, "catchup": False, "max_active_runs": 1, "default_args": DEFAULTS}


@task(retries=18, execution_timeout=timedelta(minutes=3))  # three minutes for the stores to come up
def apply_schema() -> None:
    from include.operations.setup import set_up

    set_up()


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

"""The operations as DAGs, most of them with a form: set-up, preflight, import, release, accept, reprocess, verify, housekeeping.

The commands of `./minutemark` run the same code.
"""

from collections.abc import Mapping
from datetime import timedelta

from airflow.sdk import DAG, CronDataIntervalTimetable, Param, chain, task

from include import commands, pipelines
from plugins import lineage
from plugins.minute_dag import SETTINGS
from plugins.reporting_task import reporting_task

POOLS = ("spark",)
DEFAULTS = {"owner": "minutemark", "retries": 2, "retry_delay": timedelta(seconds=10)}
DAG_ARGS = {**SETTINGS, "max_active_runs": 1, "default_args": DEFAULTS}


# Before the transforms of any pipeline: the task needs the next free slot for a moment only.
_TRY_POOL = {"priority_weight": 1_000, "weight_rule": "absolute", "execution_timeout": timedelta(minutes=1)}


def form(name: str) -> dict[str, Param]:
    """The form of a DAG: the parameters of that command."""
    return {
        parameter.name: Param(parameter.form_default(), description=parameter.help, **parameter.schema())
        for parameter in commands.get(name).parameters
    }


def triggering_user(dag_run) -> str:
    """The name that a record keeps: the logged-in user, whatever the form says."""
    return getattr(dag_run, "triggering_user_name", None) or "unknown user of Airflow"


@reporting_task(
    lineage.views_lineage, retries=18, execution_timeout=timedelta(hours=12)
)  # an upgrade may sum all published rows
def apply_schema() -> None:
    from include.operations.setup import set_up

    set_up()


def operation(name: str, task_id: str, timeout: timedelta):
    """The task that runs this command of include/commands.py with the values of the form."""

    @task(task_id=task_id, execution_timeout=timeout)
    def run(params=None, dag_run=None, ti=None) -> None:
        run_operation(name, params, dag_run, ti)

    return run


def operation_dag(name: str, timeout: timedelta, doc_md: str) -> DAG:
    """The DAG with the form of this command of include/commands.py, without a schedule."""
    command = commands.get(name)
    return DAG(
        command.dag,
        schedule=None,
        description=command.help,
        doc_md=doc_md,
        tags=["minutemark", "operations"],
        params=form(name),
        dagrun_timeout=timeout,
        **DAG_ARGS,
    )


def run_operation(name: str, params: Mapping, dag_run, ti=None) -> None:
    """Run a command, print its result, and fail if there is a problem. Only temporary failures are retried."""
    from airflow.sdk.exceptions import AirflowFailException

    from include.errors import MinutemarkError
    from include.listing import as_json

    try:
        result = commands.get(name).run(params, user=triggering_user(dag_run))
    except MinutemarkError as error:
        if error.is_retried:
            raise
        raise AirflowFailException(str(error)) from None
    print(result)
    if name == "verify":
        ti.xcom_push("report", as_json(result))  # the Pipelines page shows it
    if problem := getattr(result, "problem", None):
        raise AirflowFailException(problem)


@task(execution_timeout=timedelta(hours=12))  # a file of any size; an interrupted import resumes
def import_rows(params=None, dag_run=None) -> None:
    """Import files, but only from the folder MINUTEMARK_IMPORT_ROOT."""
    import contextlib

    from airflow.sdk.exceptions import AirflowFailException

    from include.files.import_root import file_under_root
    from include.files.record_files import FileRefused

    with contextlib.ExitStack() as stack:
        try:
            file = params["file"] and stack.enter_context(file_under_root(params["file"]))
        except FileRefused as refused:
            raise AirflowFailException(str(refused)) from None
        run_operation("import", params | {"file": file}, dag_run)


release_minutes = operation("release", "release_minutes", timedelta(minutes=5))
accept_drift = operation("accept", "accept_drift", timedelta(minutes=5))
# With `wait`, the task ends when all reprocessed minutes are merged, which may take hours.
reprocess_rejected = operation("reprocess", "reprocess_rejected", timedelta(hours=12))
verify = operation("verify", "verify", timedelta(hours=12))  # every id of the lake is read


@task(execution_timeout=timedelta(minutes=2))
def check_connections() -> None:
    from include.operations.preflight import preflight

    print("\n".join(preflight()))


def users_of_pools() -> dict[str, list[tuple[str, str]]]:
    """The tasks of other DAGs in each pool, as (dag_id, task_id)."""
    dag_ids = [f"{name}_{kind}" for name in pipelines.all_pipelines() for kind in ("minute", "reconcile")]
    return {"spark": [(dag_id, "transform_delta") for dag_id in dag_ids]}


@task(retries=0, execution_timeout=timedelta(minutes=3))
def check_pools(ti=None) -> None:
    """A task in a pool that does not exist is never scheduled, and Airflow reports nothing: watch a task in each pool."""
    from include.operations.preflight import wait_for_pools

    wait_for_pools(ti, {f"try_pool_{pool}": pool for pool in POOLS}, users_of_pools())


def housekeeping_task(step: str, description: str):
    """The task of that step, with `description` as its documentation."""

    @task(task_id=step, execution_timeout=timedelta(hours=2), doc_md=description)
    def run_housekeeping(params=None) -> None:
        from include.housekeeping.steps import run_step

        days = {name.removeprefix("keep_"): value for name, value in params.items() if name.startswith("keep_")}
        run_step(step, days, dry=params["dry_run"])

    return run_housekeeping()


def preflight_tasks() -> list:
    """check_connections, check_pools, and in each pool a task that check_pools watches."""
    pool_tasks = [task(task_id=f"try_pool_{pool}", pool=pool, **_TRY_POOL)(_do_nothing)() for pool in POOLS]
    return [check_connections(), check_pools(), *pool_tasks]


def _do_nothing() -> None:
    """Running at all is the whole test."""


with DAG(
    "minutemark_setup",
    schedule="@once",
    description="Creates missing tables, topics and grants in Cassandra, MySQL and Kafka, then checks the installation.",
    doc_md=(
        "1. **apply_schema** creates missing tables, topics and grants.\n"
        "2. **check_connections** reports missing connections, jars or Java, and stores that do not answer.\n"
        "3. **check_pools** reports missing pools.\n\n"
        "The DAG runs once automatically. Trigger it again after an upgrade. It deletes no facts. "
        "An upgrade may add columns and keys, replace views and rebuild tables. Otherwise it changes nothing that exists."
    ),
    tags=["minutemark", "operations"],
    dagrun_timeout=timedelta(hours=13),
    **DAG_ARGS,
):
    chain(apply_schema(), preflight_tasks())

with DAG(
    "minutemark_preflight",
    schedule=None,
    description="Checks that connections, pools, jars, Java and stores are ready, and reports what is missing.",
    doc_md="Trigger it after a deployment. It fails if something is missing, and its log says what to do about each problem.",
    tags=["minutemark", "operations"],
    dagrun_timeout=timedelta(minutes=10),
    **DAG_ARGS,
):
    preflight_tasks()

with operation_dag(
    "import",
    timedelta(hours=13),
    "- Events from a file: set `pipeline` and `file`.\n"
    "- Events from a flat Cassandra table (its primary key is create_time or that of the lake): set `pipeline` and `from`.\n"
    "- A dimension such as `job`: set `table` and `file`. Existing facts are updated at once.\n\n"
    "The file is CSV or JSON lines, plain or compressed (gzip, bzip2, xz, zstd, zip). It must be in the folder "
    "`MINUTEMARK_IMPORT_ROOT` of the worker, by default the project's `data/`. "
    "Importing the same file again counts no row twice, and validates rejected rows again. An interrupted import "
    "of events resumes where it stopped, and one of a dimension starts over.",
):
    import_rows()

with operation_dag(
    "release",
    timedelta(minutes=10),
    "Set either `minute`, or `from` and `to`. The next run of the minute DAG reads these minutes again and publishes "
    "them. The staging checks that they fail count as warnings in that batch. A release covers neither other minutes nor "
    "a check that fails the whole batch. `etl.releases` keeps the record.\n\n"
    "The Pipelines page, `./minutemark held` and `etl.minute_ledger` list held minutes and the reasons.",
):
    release_minutes()

with operation_dag(
    "accept",
    timedelta(minutes=10),
    "A field *disappeared* if no row of a minute has it although many rows had it the day before. It is *unreadable* if "
    "its values stop being numbers or times. Drift *ignored*, whose field is `ignored_rows`, means that far more rows than "
    "usual are ignored. An undeclared field has *appeared*.\n\n"
    "After the acceptance, the next run of the minute DAG reads the minutes held for this drift again. Other "
    "failing checks still hold them. The acceptance ends when the field is again as it was before; for an undeclared "
    "field, it never ends. "
    "`etl.drifts` keeps the record.",
):
    accept_drift()

with operation_dag(
    "reprocess",
    timedelta(hours=13),
    "Rejected events of the lake are read again, together with their whole minutes. Rejected rows of imports and topics "
    "are validated again, and written to the lake if they are valid now. Every row counts once, however often this DAG "
    "runs. With `wait`, it ends when the minutes are merged, and its log reports the outcome.",
):
    reprocess_rejected()

with operation_dag(
    "verify",
    timedelta(hours=13),
    "The run fails if something differs. Its log says what differs, where, and what to do. This DAG changes nothing, and can "
    "run alongside all other DAGs. Minutes that are pending, open or held are listed separately.\n\n"
    "Without `from` and `to` it verifies every minute that the lake's change log or the warehouse has. With them it "
    "verifies every minute of the range, including minutes missing from the change log.",
):
    verify()

HOUSEKEEPING = {
    "make_partitions": "Creates the partitions of the next seven days in tables that are partitioned by day.",
    "drop_days": (
        "Drops old partitions of tables that are partitioned by day, for pipelines that declare `rows_by_day`. "
        "Facts do not change."
    ),
    "clean_warehouse": (
        "Closes abandoned batches, and deletes staged rows of batches that are not open, payloads of rejected events, "
        "check samples, field counts, past drift and old batches."
    ),
    "expire_change_log": "Deletes old days of the change log if all their minutes are merged or closed.",
    "remove_demo_traffic": "Deletes old minutes of the lake that hold only demo events, with MINUTEMARK_DEMO=1.",
    "fold_contributions": "Folds old contributions from one row per minute to one per hour. Facts do not change.",
}
with DAG(
    "minutemark_housekeeping",
    schedule=CronDataIntervalTimetable("17 3 * * *", timezone="UTC"),
    description="Deletes data past its retention every night, in short transactions, while the pipelines run.",
    doc_md=(
        "\n".join(f"- **{step}**: {description}" for step, description in HOUSEKEEPING.items())
        + "\n\nEach pipeline declares its retention in `Retention`. The form overrides it for all pipelines. With `dry_run` "
        "the run only counts what it would delete."
    ),
    tags=["minutemark", "operations"],
    params=form("housekeeping"),
    dagrun_timeout=timedelta(hours=6),
    max_active_tasks=1,  # it is not urgent, and the minute DAGs need the cores
    **DAG_ARGS,
):
    for step, description in HOUSEKEEPING.items():
        housekeeping_task(step, description)

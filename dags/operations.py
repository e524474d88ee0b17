"""What is done by hand, or once, each as a DAG. `make` has a target for each that calls the same function."""

from dataclasses import fields
from datetime import timedelta

from airflow.sdk import DAG, CronDataIntervalTimetable, Param, chain, task

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


@task(execution_timeout=timedelta(minutes=5))
def release_minutes(params=None, dag_run=None) -> None:
    from airflow.sdk.exceptions import AirflowFailException

    from include.operations.held import asked_release
    from include.warehouse.held import ReleaseRefused

    by = params["by"] or getattr(dag_run, "triggering_user_name", None) or "somebody in Airflow"
    minutes = (params["pipeline"], params["minute"], params["from"], params["to"])
    try:
        print(asked_release(*minutes, by=by, why=params["why"]))
    except ReleaseRefused as refused:
        raise AirflowFailException(str(refused)) from None


@task(execution_timeout=timedelta(hours=12))  # a replay of weeks waits until all their minutes are merged
def replay_rejected(params=None) -> None:
    from airflow.sdk.exceptions import AirflowFailException

    from include.operations.replay import ReplayStalled, asked_replay
    from include.window import WindowRefused

    try:
        asked_replay(params["pipeline"], params["reason"], params["from"], params["to"], wait=params["wait"])
    except (WindowRefused, ReplayStalled) as refused:
        raise AirflowFailException(str(refused)) from None


@task(execution_timeout=timedelta(hours=12))  # every id of the lake is read
def recount(params=None, ti=None) -> None:
    from airflow.sdk.exceptions import AirflowFailException

    from include.operations.verify import asked_verify

    report = asked_verify(params["pipeline"], params["from"], params["to"], params["patience"], params["lines"])
    print(report)
    ti.xcom_push("report", report.as_json())  # the Pipelines page shows it
    if not report.clean:
        raise AirflowFailException("Lake, ledger, contributions and facts do not agree: the report is above.")


@task(execution_timeout=timedelta(minutes=2))
def check_connections() -> None:
    from include.operations.preflight import preflight

    print("\n".join(preflight()))


@task(retries=0, execution_timeout=timedelta(minutes=3))
def check_pools(ti=None) -> None:
    """A task in a pool that does not exist waits for ever without a word; so does the one that this one watches."""
    from include.operations.preflight import wait_for_pools

    wait_for_pools(ti, {f"try_pool_{pool}": pool for pool in POOLS})


def housekeeping_task(step: str, what: str):
    """The task of that name; `what` it removes stands in its docs."""

    @task(task_id=step, execution_timeout=timedelta(hours=2), doc_md=what)
    def keep_house(params=None) -> None:
        from include.operations.housekeeping import run_step

        days = {name.removeprefix("keep_"): value for name, value in params.items() if name.startswith("keep_")}
        for removed in run_step(step, days, dry=params["dry_run"]):
            print(removed)

    return keep_house()


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

PIPELINE = Param(next(iter(pipelines.all_pipelines())), enum=[*pipelines.all_pipelines()], description="Whose minutes")


def time_param(description: str) -> Param:
    return Param(None, type=["null", "string"], format="date-time", description=description)


with DAG(
    "minutemark_release",
    schedule=None,
    description="Lets held minutes pass their staging gate once, and keeps who released them and why.",
    doc_md=(
        "Enter either `minute`, or `from` and `to`. The next run of the minute DAG reads these minutes again and publishes "
        "them; the checks that they fail count as warnings, for that one batch. Other minutes and failures of a whole batch "
        "are not covered. The record stays in `etl.releases`. What is held, and why: `etl.minute_ledger`, or `make held`."
    ),
    tags=["minutemark", "operations"],
    params={
        "pipeline": PIPELINE,
        "minute": time_param("One minute (UTC)"),
        "from": time_param("The first of several minutes (UTC)"),
        "to": time_param("Their end, not included"),
        "why": Param(None, type=["null", "string"], description="For those who ask later"),
        "by": Param(None, type=["null", "string"], description="Who releases them; empty: who triggers this run"),
    },
    dagrun_timeout=timedelta(minutes=10),
    **SETTINGS,
):
    release_minutes()

with DAG(
    "minutemark_replay",
    schedule=None,
    description="Processes rejected events again, once a rule or a row is mended.",
    doc_md=(
        "Rejected events of the lake are read again with their whole minutes; rows of imports and topics are judged again, "
        "and written to the lake where they are admissible now. Every row is counted once, however often this runs. With "
        "`wait` it ends when their minutes are merged, and its log says what became of the rows."
    ),
    tags=["minutemark", "operations"],
    params={
        "pipeline": PIPELINE,
        "reason": Param(None, type=["null", "string"], description="Only those for this reason, or one that begins so"),
        "from": time_param("Only those from this minute on (UTC)"),
        "to": time_param("Only those before this minute"),
        "wait": Param(True, type="boolean", description="Wait until their minutes are merged"),
    },
    dagrun_timeout=timedelta(hours=13),
    **SETTINGS,
):
    replay_rejected()

with DAG(
    "minutemark_verify",
    schedule=None,
    description="Recounts the lake against the ledger, contributions and facts, and says what differs.",
    doc_md=(
        "Fails when something differs; its log says what, where and what to do. It changes nothing, and may run beside "
        "everything else: minutes that are pending, open or held are listed apart. Without `from` and `to` it recounts "
        "every minute that lake or warehouse know; with them every minute in between, also one that nobody announced."
    ),
    tags=["minutemark", "operations"],
    params={
        "pipeline": Param(None, enum=[None, *pipelines.all_pipelines()], description="Empty: all"),
        "from": Param(None, type=["null", "string"], format="date-time", description="First minute to recount (UTC)"),
        "to": Param(None, type=["null", "string"], format="date-time", description="End of them, not included"),
        "patience": Param(120, type="number", minimum=0, description="Seconds to wait for pending minutes"),
        "lines": Param(20, type="integer", minimum=1, description="To print of each kind of difference"),
    },
    dagrun_timeout=timedelta(hours=13),
    **SETTINGS,
):
    recount()


HOUSEKEEPING = {
    "tidy_warehouse": "Staged rows of dead attempts, payloads of rejected events, samples of checks, old batches.",
    "forget_change_log": "Days of the change log that nobody touched for long, when all of their minutes are merged.",
    "remove_demo_traffic": "Old minutes of the lake that hold nothing but invented events; only with MINUTEMARK_DEMO=1.",
    "fold_contributions": "Contributions of old hours become one row per fact key instead of sixty; facts do not change.",
}
with DAG(
    "minutemark_housekeeping",
    schedule=CronDataIntervalTimetable("17 3 * * *", timezone="UTC"),
    description="Removes what nothing needs any more, in small steps, beside the running pipelines.",
    doc_md=(
        "\n".join(f"- **{step}**: {what}" for step, what in HOUSEKEEPING.items())
        + "\n\nHow long what is kept is declared in `Retention` of each pipeline; the form overrides it for all of them. "
        "With `dry_run` it counts what it would remove, and removes nothing."
    ),
    tags=["minutemark", "operations"],
    params={
        "dry_run": Param(False, type="boolean", title="dry_run", description="Only count what would be removed"),
        **{
            f"keep_{field.name}": Param(
                None,
                type=["null", "number"],
                minimum=1,
                title=f"keep_{field.name}",
                description=f"Days; empty: as declared, by default {field.default.days}",
            )
            for field in fields(pipelines.Retention)
        },
    },
    dagrun_timeout=timedelta(hours=6),
    max_active_tasks=1,  # it has a day for it, and the minute DAGs need the cores
    **SETTINGS,
):
    for step, what in HOUSEKEEPING.items():
        housekeeping_task(step, what)

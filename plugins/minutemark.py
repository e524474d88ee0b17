"""What Airflow itself must know of Minutemark. The other modules here are imported as `plugins.…` by the DAGs."""

from airflow.plugins_manager import AirflowPlugin

from plugins.priority import LiveBeforeReplay


class MinutemarkPlugin(AirflowPlugin):
    name = "minutemark"
    priority_weight_strategies = [LiveBeforeReplay]

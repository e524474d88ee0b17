"""The Kafka provider's consumer hook, extended with a follower's settings.

Everything that the provider does for a connection therefore applies here: callbacks in its extra, tokens of managed clusters.
`<pipeline>_ingest` (with MINUTEMARK_INGEST=dag) and `minutemark_dead_letters` read topics through it.
"""

from __future__ import annotations

from airflow.providers.apache.kafka.hooks.consume import KafkaConsumerHook
from confluent_kafka import Consumer

from include.connections import KAFKA
from include.kafka.clients import follower_settings, log_client_error
from include.kafka.ingest_mode import DAG
from include.pipelines import Pipeline


class FollowerHook(KafkaConsumerHook):
    """A consumer of one pipeline's topic, with the settings of a follower on top of the connection's."""

    def __init__(self, pipeline: Pipeline, consumer: str = DAG) -> None:
        super().__init__(topics=[pipeline.topic], kafka_config_id=KAFKA)
        self._pipeline, self._consumer = pipeline, consumer
        self.servers = ""  # as the connection names them, once there is a client

    def _get_client(self, config: dict) -> Consumer:
        self.servers = config.get("bootstrap.servers", "")
        return super()._get_client(
            {"error_cb": log_client_error, **config, **follower_settings(self._pipeline, self._consumer)}
        )

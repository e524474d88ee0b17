"""What the connector does with a request that a node refuses or does not answer, shown by its settings with a real node."""

from __future__ import annotations

import os
import subprocess
import sys

from include.spark.jvm import environment
from tests.airflow_home import PROJECT

PROGRAM = """
from pyspark.sql import SparkSession

from include.connections import endpoint
from include.spark.settings import session_settings
from include.spark.stores import lake_settings

builder = SparkSession.builder.master("local[1]")
for name, value in {**session_settings("local[1]"), **lake_settings(endpoint("lake_reader"))}.items():
    builder = builder.config(name, value)
spark = builder.getOrCreate()
jvm = spark._jvm
connector = jvm.com.datastax.spark.connector.cql.CassandraConnector.apply(spark.sparkContext._jsc.sc().getConf())
profile = connector.openSession().getContext().getConfig().getDefaultProfile()
options = jvm.com.datastax.oss.driver.api.core.config.DefaultDriverOption
print("policy:", profile.getString(options.RETRY_POLICY_CLASS))
print("speculative:", profile.getString(options.SPECULATIVE_EXECUTION_POLICY_CLASS))
print("executions:", profile.getInt(options.SPECULATIVE_EXECUTION_MAX))
print("delay:", profile.getDuration(options.SPECULATIVE_EXECUTION_DELAY).toMillis())
spark.stop()
"""


def test_the_connector_is_set_to_use_the_next_node_after_a_refusal_or_three_seconds_without_an_answer(
    schemas: None,
) -> None:
    """The connector's own policy repeats a request at the same node; a node that is cut off from the others refuses it again."""
    variables = {**os.environ, **environment("local[1]"), "PYTHONPATH": str(PROJECT)}
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=variables, capture_output=True, text=True, timeout=300)
    assert "policy: DefaultRetryPolicy" in done.stdout, done.stderr[-2000:]
    assert "speculative: ConstantSpeculativeExecutionPolicy\nexecutions: 2\ndelay: 3000" in done.stdout

"""Keys of the values of Airflow's Helm chart that deploy/kubernetes may use, from the values.yaml of chart version 1.19.

If the chart's schema leaves an object open, the chart ignores a misspelled key in it, and the setting silently keeps its
default. The chart is not on a package registry, so the keys are kept here: update them when the chart's version changes.
"""

# Dotted paths; below a path that ends in .*, any key is valid.
KEYS = frozenset(
    {
        "airflowVersion",
        "defaultAirflowRepository",
        "defaultAirflowTag",
        "airflowHome",
        "uid",
        "gid",
        "executor",
        "allowPodLaunching",
        "data.metadataSecretName",
        "data.resultBackendSecretName",
        "data.brokerUrlSecretName",
        "fernetKeySecretName",
        "apiSecretKeySecretName",
        "jwtSecretName",
        "extraEnvFrom",
        "env.*",
        "config.*",
        "postgresql.enabled",
        "pgbouncer.enabled",
        "redis.enabled",
        "redis.persistence.enabled",
        "statsd.enabled",
        "createUserJob.useHelmHooks",
        "migrateDatabaseJob.useHelmHooks",
        "scheduler.replicas",
        "scheduler.resources.*",
        "scheduler.podDisruptionBudget.enabled",
        "scheduler.podDisruptionBudget.config.*",
        "apiServer.replicas",
        "apiServer.resources.*",
        "apiServer.podDisruptionBudget.enabled",
        "apiServer.podDisruptionBudget.config.*",
        "dagProcessor.enabled",
        "dagProcessor.replicas",
        "dagProcessor.resources.*",
        "triggerer.enabled",
        "triggerer.replicas",
        "triggerer.resources.*",
        "triggerer.persistence.enabled",
        "workers.replicas",
        "workers.resources.*",
        "workers.persistence.enabled",
        "workers.terminationGracePeriodSeconds",
        "workers.serviceAccount.name",
        "workers.env.*",
        "workers.extraVolumes.*",
        "workers.extraVolumeMounts.*",
        "networkPolicies.enabled",
    }
)

# Minutemark on one machine. `make` alone lists the targets.

SHELL := /bin/bash
PYTHON3 ?= python3
VENV := .local/venv/bin
LOCAL := $(VENV)/python -m local
UV := .local/tools/uv/bin/uv

# A variable given on the command line (make run AIRFLOW_PORT=8081) reaches the commands by their environment.
export AIRFLOW_PORT CASSANDRA_PORT CASSANDRA_STORAGE_PORT MARIADB_PORT POSTGRES_PORT KAFKA_PORT KAFKA_CONTROLLER_PORT SUPERSET_PORT JUPYTER_PORT
ifdef EVENTS
export MINUTEMARK_DEMO_EVENTS := $(EVENTS)
endif

# Whatever the calling shell's own Python is set to, these commands use the project's.
unexport PYTHONPATH PYTHONHOME

.DEFAULT_GOAL := help
.PHONY: help setup run services dashboards notebook stop status logs query schema pipeline import replay-csv ingest held release rejected replay verify housekeeping latency bench page-bench volume shop-file faults test lint clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  \1\t\2/' | expand -t 14
	@echo
	@echo "  Ports: AIRFLOW_PORT=8080 CASSANDRA_PORT=9042 CASSANDRA_STORAGE_PORT=7000 MARIADB_PORT=3306"
	@echo "  POSTGRES_PORT=15432 (Airflow's metadata) KAFKA_PORT=9092 KAFKA_CONTROLLER_PORT=9093 SUPERSET_PORT=8088"
	@echo "  JUPYTER_PORT=8888, remembered in .local/ports."
	@echo "  A MySQL or Cassandra of your own: set AIRFLOW_CONN_WAREHOUSE_ETL, _BI (and _ADMIN), or AIRFLOW_CONN_LAKE_READER,"
	@echo "  _WRITER (and _ADMIN); a Spark master or a Kafka of your own: AIRFLOW_CONN_SPARK_DEFAULT, AIRFLOW_CONN_KAFKA_DEFAULT."
	@echo "  Without Kafka: MINUTEMARK_INGEST= (empty); producers then write to the lake."

setup: ## install what is missing: OS packages, Python environment, jars
	@command -v $(PYTHON3) >/dev/null || { echo "There is no $(PYTHON3) here: install Python 3.12 or 3.11, or set PYTHON3=…" >&2; exit 1; }
	@$(PYTHON3) -m local.bootstrap

run: setup ## start everything and show the last runs until Ctrl-C (DETACH=1: return when it is healthy; EVENTS=5000 a minute)
	@$(LOCAL) run $(if $(DETACH),--detach)

services: setup ## start only the stores and write .local/env, for `astro dev start --standalone`
	@$(LOCAL) services

dashboards: ## three boards on the running warehouse, in Apache Superset; the first time installs it (700 MB)
	@[ -x $(VENV)/python ] || { echo "Nothing is set up here: make run" >&2; exit 3; }; $(LOCAL) dashboards

notebook: ## JupyterLab with the notebooks, on the stores of the running stack, until Ctrl-C; the first time installs it (600 MB)
	@[ -x $(VENV)/python ] || { echo "Nothing is set up here: make run" >&2; exit 3; }; $(LOCAL) notebook

stop: ## stop everything
	@[ -x $(VENV)/python ] || { echo "Nothing is set up here."; exit 0; }; $(LOCAL) stop

status: ## show processes, memory, ports and freshness (JSON=1)
	@[ -x $(VENV)/python ] || { echo "Nothing is set up here: make run" >&2; exit 3; }; $(LOCAL) status $(if $(JSON),--json)

logs: ## follow the logs (NAME=scheduler: only that one)
	@$(LOCAL) logs $(if $(NAME),--name "$(NAME)")

# The statement travels in the environment: a shell would take its quotes and stars for its own.
query: export QUERY_SQL = $(SQL)
query: ## ask the warehouse as the read-only account: SQL="SELECT …" (FORMAT=table|tsv|json)
	@$(LOCAL) query --sql "$$QUERY_SQL" $(if $(FORMAT),--format "$(FORMAT)")

schema: ## create what is missing in both stores and in Kafka, and grant; changes nothing the second time
	@$(LOCAL) schema

pipeline: ## copy a working skeleton of a new pipeline, all its files: NAME=turnover
	@[ -x $(VENV)/python ] || { echo "Nothing is set up here: make setup" >&2; exit 1; }; $(LOCAL) pipeline --name="$(NAME)"

latency: ## of the running stack: seconds from tick to merged over the last scheduled runs (PIPELINE=recruitment RUNS=30)
	@$(VENV)/python -m bench.minutes $(if $(RUNS),--runs $(RUNS)) $(if $(PIPELINE),--dag $(PIPELINE)_minute)

bench: setup ## measure on stores of its own what a minute costs beside lakes of 10 thousand to 10 million rows (ROWS="…" ROUNDS=10 PARTS="minute classic poll catch-up")
	@$(UV) pip install -q --python $(VENV)/python -r bench/requirements.txt
	@$(VENV)/python -m bench.flat_cost $(if $(ROWS),--rows $(ROWS)) $(if $(ROUNDS),--rounds $(ROUNDS)) $(if $(PARTS),--parts $(PARTS))

page-bench: setup ## measure on stores of its own how soon the Pipelines page answers beside a year of minutes
	@$(VENV)/python -m bench.page_year

volume: setup ## measure on stores of its own how fast a history is imported, merged and recounted: FILE=2019-Nov.csv.gz (PIPELINE=ecommerce)
	@$(VENV)/python -m bench.volume --file "$(FILE)" $(if $(PIPELINE),--pipeline "$(PIPELINE)")

shop-file: setup ## write a file of invented shop events, spread as those of the public data set: FILE=2019-Nov.csv.gz ROWS=10000000 (START=2019-11-01 DAYS=30 SEED=1)
	@$(VENV)/python -m bench.shop_file --file="$(FILE)" --rows="$(ROWS)" $(if $(START),--start="$(START)") $(if $(DAYS),--days="$(DAYS)") \
	  $(if $(SEED),--seed="$(SEED)")

import: ## fill the lake or a dimension: PIPELINE=recruitment FILE=x.csv; TABLE=job FILE=job.csv; PIPELINE=… FROM=keyspace.table (ENCODING=cp1252)
	@$(LOCAL) import $(if $(PIPELINE),--pipeline "$(PIPELINE)") $(if $(TABLE),--table "$(TABLE)") $(if $(FILE),--file "$(FILE)") \
	  $(if $(FROM),--from "$(FROM)") $(if $(ENCODING),--encoding "$(ENCODING)")

replay-csv: ## feed a CSV through Kafka as if it happened now: PIPELINE=recruitment FILE=x.csv (RATE=1|60|max SHIFT=now|none SAMPLE=10000 AGAIN=1 ENCODING=cp1252)
	@$(LOCAL) replay-csv --pipeline="$(PIPELINE)" --file="$(FILE)" --rate="$(RATE)" --shift="$(SHIFT)" --sample="$(SAMPLE)" \
	  $(if $(ENCODING),--encoding "$(ENCODING)") $(if $(AGAIN),--again)

ingest: ## take in what a topic holds, up to its end: PIPELINE=recruitment (SECONDS=60: follow it; AGAIN=1: all that it still holds, once more)
	@$(LOCAL) ingest $(if $(PIPELINE),--pipeline "$(PIPELINE)") $(if $(SECONDS),--seconds "$(SECONDS)") $(if $(AGAIN),--again)

faults: setup ## break a stack of its own in every way that the guarantees name (NAME="…": only these; SOAK=60: in random orders, so many minutes; SEED=…)
	@$(VENV)/python -m tests.faults $(NAME) $(if $(SOAK),--soak $(SOAK)) $(if $(SEED),--seed $(SEED))

held: ## list held minutes, why, and what they failed (PIPELINE=recruitment FORMAT=table|json)
	@$(LOCAL) held $(if $(PIPELINE),--pipeline "$(PIPELINE)") $(if $(FORMAT),--format "$(FORMAT)")

# What people write travels in the environment, as a statement does.
release: export RELEASE_BY = $(BY)
release: export RELEASE_WHY = $(WHY)
release: ## let held minutes pass once, and keep who did it: PIPELINE=recruitment MINUTE=2026-11-22T14:05 (or FROM=… TO=…; BY=name WHY="…")
	@$(LOCAL) release --pipeline "$(PIPELINE)" --minute "$(MINUTE)" --from "$(FROM)" --to "$(TO)" --by="$$RELEASE_BY" --why="$$RELEASE_WHY"

rejected: ## list rejected events by reason, with samples (PIPELINE=recruitment FROM=… TO=… FORMAT=table|json)
	@$(LOCAL) rejected $(if $(PIPELINE),--pipeline "$(PIPELINE)") --from "$(FROM)" --to "$(TO)" $(if $(FORMAT),--format "$(FORMAT)")

replay: export REPLAY_REASON = $(REASON)
replay: ## process rejected events again, once a rule or a row is mended: PIPELINE=recruitment (REASON="…" FROM=… TO=… WAIT=0)
	@$(LOCAL) replay --pipeline "$(PIPELINE)" --reason="$$REPLAY_REASON" --from "$(FROM)" --to "$(TO)" $(if $(WAIT),--wait "$(WAIT)")

verify: ## recount the lake against ledger, contributions and facts (PIPELINE=… FROM=2026-11-22T14:00 TO=… PATIENCE=120 SHOW=20 JSON=1)
	@[ -x $(VENV)/python ] || { echo "Nothing is set up here: make run" >&2; exit 2; }; $(LOCAL) verify \
	  $(if $(PIPELINE),--pipeline "$(PIPELINE)") $(if $(FROM),--from "$(FROM)") $(if $(TO),--to "$(TO)") \
	  $(if $(PATIENCE),--patience "$(PATIENCE)") $(if $(SHOW),--lines "$(SHOW)") $(if $(JSON),--json)

housekeeping: ## remove what nothing needs any more (DRY=1: only count it; KEEP="batches=30 demo_events=2", in days)
	@$(LOCAL) housekeeping $(if $(DRY),--dry-run) $(if $(KEEP),--keep $(KEEP))

test: setup ## run the tests, all of them in two processes (ARGS="-k merge")
	@$(UV) pip install -q --python $(VENV)/python -r tests/requirements.txt
	@$(VENV)/python -m pytest $(or $(ARGS),--numprocesses 2 --dist loadfile --no-loadscope-reorder)

lint: setup ## check style and formatting
	@$(VENV)/ruff check . && $(VENV)/ruff format --check .

clean: ## remove local data and logs (FORCE=1: without asking; ALL=1: also environment and jars)
	@[ -x $(VENV)/python ] || { rm -rf .local; exit 0; }; $(LOCAL) clean $(if $(FORCE),--force) $(if $(ALL),--all)

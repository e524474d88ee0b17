# Minutemark on one machine. `make` alone lists the targets.

SHELL := /bin/bash
PYTHON3 ?= python3
VENV := .local/venv/bin
LOCAL := $(VENV)/python -m local
MINUTEMARK := ./minutemark
# The commands of include/commands.py and their aliases. `lineage` is missing: its target below also derives the lineage.
COMMANDS := import replay-csv ingest schema verify held rejected release accept reprocess replay housekeeping query bigquery sql dbt-sources
UV := .local/tools/uv/bin/uv
INSTALLED = [ -x $(VENV)/python ] || { echo "Not installed yet. Run: make setup" >&2; exit 2; }
# supervisord deletes its pid file when it ends. It may still run when its Python is missing, such as after a system upgrade.
STATE = $(or $(MINUTEMARK_STATE),.local)
MAY_RUN = [ -e "$(STATE)/run/supervisord.pid" ]
CANNOT_STOP = { echo "The stack may be running, but the Python environment that stops it is missing. Run: make setup && make stop" >&2; exit 2; }

# Options of targets. Those that are set only in the environment are ignored: they are there by chance, as NAME is on WSL.
OPTION_NAMES := ALL ARGS CLUSTER COLUMN DAYS DETACH EVENTS FILE FORCE FROM JSON KEEP NAME PARTS PIPELINE ROUNDS ROWS RUNS SEED SOAK START STRICT TO VIEWS WAREHOUSE
$(foreach name,$(OPTION_NAMES),$(if $(filter environment,$(origin $(name))),$(eval undefine $(name))))

# Variables of the command line (make run AIRFLOW_PORT=8081) reach the commands as environment variables.
export AIRFLOW_PORT CASSANDRA_PORT CASSANDRA_STORAGE_PORT MARIADB_PORT POSTGRES_PORT KAFKA_PORT KAFKA_CONTROLLER_PORT SUPERSET_PORT JUPYTER_PORT BIGQUERY_PORT
ifdef EVENTS
export MINUTEMARK_DEMO_EVENTS := $(EVENTS)
endif

ifdef WAREHOUSE
export MINUTEMARK_WAREHOUSE := $(WAREHOUSE)
endif

# These commands use the project's Python, whatever the calling shell has set.
unexport PYTHONPATH PYTHONHOME

.DEFAULT_GOAL := help
.PHONY: $(COMMANDS) help setup run services dashboards notebook tableau stop status logs cloud-function lineage pipeline latency bench page-bench volume shop-file faults cluster rehearse test lint lint-page docs outdated clean

help: ## list the targets
	@sed -nE 's/^([a-z-]+):.*## (.*)/\1\t\2/p' $(MAKEFILE_LIST) | awk -F '\t' '{ n = split($$2, part, " [|] "); printf "  %-15s%s\n", $$1, part[1]; if (n > 1) printf "%-19s%s\n", "", part[2] }'
	@echo
	@echo "Commands, also as ./minutemark COMMAND (--help describes the options):"
	@$(PYTHON3) -m local.command_list
	@echo
	@echo "  Ports (saved in .local/ports): AIRFLOW_PORT=8080 CASSANDRA_PORT=9042 CASSANDRA_STORAGE_PORT=7000"
	@echo "  MARIADB_PORT=3306 POSTGRES_PORT=15432 (Airflow's metadata) KAFKA_PORT=9092 KAFKA_CONTROLLER_PORT=9093"
	@echo "  SUPERSET_PORT=8088 JUPYTER_PORT=8888 BIGQUERY_PORT=9050 (its emulator)"
	@echo "  To use your own MySQL, set AIRFLOW_CONN_WAREHOUSE_ETL and _BI (and _ADMIN for set-up)."
	@echo "  To use your own Cassandra, set AIRFLOW_CONN_LAKE_READER and _WRITER (and _ADMIN for set-up)."
	@echo "  To use your own Spark or Kafka, set AIRFLOW_CONN_SPARK_DEFAULT or AIRFLOW_CONN_KAFKA_DEFAULT."
	@echo "  To run without Kafka, set MINUTEMARK_INGEST= (empty). Producers then write to the lake directly."

# Variables on make's command line are options of the command. MINUTEMARK_FROM_MAKE lists them, so that variables of the
# environment are ignored.
# In the environment, this name too is there by chance.
OPTIONS =
$(COMMANDS): export MINUTEMARK_FROM_MAKE = $(foreach name,$(.VARIABLES),$(if $(filter command,$(origin $(name))),$(name)))
$(COMMANDS):
	@$(MINUTEMARK) $@ $(OPTIONS)
housekeeping: OPTIONS = $(foreach pair,$(KEEP),--keep-$(subst _,-,$(subst =, ,$(pair)))) # KEEP="batches=30 demo_events=2"

setup: ## install missing OS packages, the Python environment and the jars
	@command -v $(PYTHON3) >/dev/null || { echo "$(PYTHON3) not found. Install Python 3.12 or 3.11, or set PYTHON3=…" >&2; exit 2; }
	@$(PYTHON3) -m local.bootstrap

run: setup ## start everything and show the last runs until Ctrl-C | DETACH=1 (return after the first run), EVENTS=5000 (demo events a minute), WAREHOUSE=mysql (remembered)
	@$(LOCAL) run $(if $(DETACH),--detach)

services: setup ## start only the stores and write .local/env, for `astro dev start --standalone`
	@$(LOCAL) services

dashboards: ## start Apache Superset with the boards on the running warehouse; the first start installs it (700 MB)
	@$(INSTALLED); $(LOCAL) dashboards

notebook: ## start JupyterLab on the stores of the running stack, until Ctrl-C; the first start installs it (600 MB)
	@$(INSTALLED); $(LOCAL) notebook

tableau: ## write the views for BI tools to a Tableau extract | FILE=minutemark.hyper (FROM=2026-11-22T14:00 TO=… VIEWS="ecommerce.bi_sales …")
	@$(INSTALLED); $(LOCAL) tableau --file="$(or $(FILE),minutemark.hyper)" \
	  --views="$(VIEWS)" --from="$(FROM)" --to="$(TO)"

stop: ## stop everything that `make run` and `make services` started
	@if [ -x $(VENV)/python ]; then $(LOCAL) stop; \
	elif $(MAY_RUN); then $(CANNOT_STOP); \
	else echo "Not installed yet: nothing to stop."; fi

status: ## show processes, memory, ports and the freshness of each pipeline | JSON=1
	@$(INSTALLED); $(LOCAL) status $(if $(JSON),--json)

logs: ## follow the logs | NAME=scheduler (only this one)
	@$(INSTALLED); $(LOCAL) logs $(if $(NAME),--name "$(NAME)")

cloud-function: ## write the source folder of the Cloud Function that loads hours into BigQuery, for `gcloud functions deploy`
	@$(INSTALLED); $(LOCAL) cloud-function

lineage: ## derive the lineage of all columns after a change | COLUMN=recruitment.events.spend_hour (print where it comes from)
ifdef COLUMN
	@$(MINUTEMARK) lineage "$(COLUMN)"
else
	@$(INSTALLED); $(UV) pip install -q --python $(VENV)/python -r tests/requirements.txt
	@$(VENV)/python -m tests.lineage.derive
endif

pipeline: ## create a new pipeline from a working skeleton | NAME=turnover
	@$(INSTALLED); $(LOCAL) pipeline --name="$(NAME)"

latency: ## show the seconds from tick to merge of the last scheduled runs | PIPELINE=recruitment RUNS=30
	@$(INSTALLED); $(VENV)/python -m bench.minutes $(if $(RUNS),--runs $(RUNS)) $(if $(PIPELINE),--dag $(PIPELINE)_minute)

bench: setup ## measure a run over one minute with 10 thousand to 10 million rows in the lake, on throw-away stores | ROWS="…" ROUNDS=10 PARTS="minute classic poll catch-up"
	@$(UV) pip install -q --python $(VENV)/python -r bench/requirements.txt
	@$(VENV)/python -m bench.flat_cost $(if $(ROWS),--rows $(ROWS)) $(if $(ROUNDS),--rounds $(ROUNDS)) $(if $(PARTS),--parts $(PARTS))

page-bench: setup ## measure how fast the Pipelines page answers with a year of minutes, on throw-away stores
	@$(VENV)/python -m bench.page_year

volume: setup ## measure how fast a file is imported, merged and verified, on throw-away stores | FILE=2019-Nov.csv.gz (PIPELINE=ecommerce)
	@$(VENV)/python -m bench.volume --file "$(FILE)" $(if $(PIPELINE),--pipeline "$(PIPELINE)")

shop-file: setup ## generate a file of shop events with the distributions of the public data set | FILE=2019-Nov.csv.gz ROWS=10000000 (START=2019-11-01 DAYS=30 SEED=1)
	@$(VENV)/python -m bench.shop_file --file="$(FILE)" --rows="$(ROWS)" $(if $(START),--start="$(START)") $(if $(DAYS),--days="$(DAYS)") \
	  $(if $(SEED),--seed="$(SEED)")

faults: setup ## run the fault-injection suite on a throw-away stack | NAME="…" (only these faults), CLUSTER=1 (on a cluster like that of `make cluster`), STRICT=1 (fail if a fault cannot be injected), SOAK=60 (random order for 60 minutes), SEED=…, WAREHOUSE=mysql
	@$(VENV)/python -m tests.faults $(NAME) $(if $(CLUSTER),--cluster) $(if $(STRICT),--strict) $(if $(SOAK),--soak $(SOAK)) $(if $(SEED),--seed $(SEED))

cluster: setup ## start a throw-away cluster with demo traffic, until Ctrl-C: 3 nodes of Cassandra and Kafka, a warehouse with a replica, Spark, Celery
	@$(VENV)/python -m local.cluster

rehearse: setup ## run the services of docker-compose.override.yml without Docker until both pipelines are fresh | KEEP=1 (keep them running)
	@$(VENV)/python -m local.servers.mysql
	@KEEP="$(KEEP)" $(VENV)/python -m tests.rehearsal

test: setup ## run the test suite in two processes | ARGS="-k merge" (only these tests)
	@$(PYTHON3) -m local.bootstrap --for-tests
	@$(UV) pip install -q --python $(VENV)/python -r tests/requirements.txt
	@$(VENV)/python -m local.servers.mysql
	@$(VENV)/python -m local.servers.bigquery_emulator
	@$(VENV)/python -m local.servers.redis
	@$(VENV)/python -m include.spark.warm_start || true
	@$(VENV)/python -m pytest $(or $(ARGS),--numprocesses 2 --dist loadfile --no-loadscope-reorder)

lint: setup ## check style, formatting and types
	@$(UV) pip install -q --python $(VENV)/python -r tests/requirements.txt
	@$(VENV)/ruff check . && $(VENV)/ruff format --check . && $(VENV)/ty check --quiet
	@if command -v npx >/dev/null; then $(MAKE) --no-print-directory lint-page; else echo "npx not found: scripts of the Pipelines page are not checked. To check them, install Node.js."; fi

lint-page: ## check style and formatting of the Pipelines page's scripts with Biome; needs npx
	@npx --yes @biomejs/biome@2.6.8 ci --log-level=error

docs: setup ## build the documentation as a site in .local/docs/site, and check its links
	@$(VENV)/python -m local.docs_site

outdated: setup ## list pinned packages, locks and jars that have newer versions
	@$(VENV)/python -m local.outdated

clean: ## delete local data and logs | FORCE=1 (without confirmation), ALL=1 (also the Python environment and the jars)
	@if [ -x $(VENV)/python ]; then $(LOCAL) clean $(if $(FORCE),--force) $(if $(ALL),--all); \
	elif $(MAY_RUN); then $(CANNOT_STOP); \
	elif [ -d "$(STATE)/data" ] && [ -z "$(FORCE)" ]; then echo "$(STATE)/data has data. To delete it, run: make clean FORCE=1" >&2; exit 2; \
	else rm -rf $(if $(and $(ALL),$(filter .local,$(STATE))),.local,"$(STATE)"/{data,airflow,logs,run,env}); fi

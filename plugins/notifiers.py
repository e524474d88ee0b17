"""Alert channels: the log always, and a webhook, Slack or SMTP if their connection is defined.

Channels are notified in parallel and each within a time limit, so that one that hangs or fails blocks neither the others
nor the task. A notifier of this module never raises.
"""

from __future__ import annotations

import dataclasses
import html
import threading
import time
from collections.abc import Callable

from airflow.sdk import BaseNotifier, Context

from include import connections
from include.connections import ConnectionMissing, Endpoint, endpoint
from include.notice import STARTED, Notice

WEBHOOK = "minutemark_webhook"
SLACK = "minutemark_slack"
SMTP = "minutemark_smtp"
PATIENCE = 12.0  # seconds for all channels together: Airflow ends a DAG callback's process after 50
_TIMED_OUT = "timed_out"  # Airflow's reason for a run that took longer than its DAG allows
_SHORTEST_SECRET = 6  # redacting shorter ones would also hide ordinary words


class ChannelUnusable(RuntimeError):
    """A connection is defined, but something else is missing; the message says what."""


class Notify(BaseNotifier):
    """Sends one notice. `reached` is true if a channel accepted it, or if no channel is defined: then the log is enough."""

    def __init__(self, notice: Notice) -> None:
        super().__init__()
        self.notice = notice
        self.reached = False

    def notify(self, context: Context) -> None:
        try:
            self.reached = _notify(self.notice, self.log)
        except Exception:
            self.log.exception("A notice could not be sent: %s", self.notice.title)


class NotifyFailedRun(BaseNotifier):
    """Notifies of a failed run, as on_failure_callback of a DAG.

    Of consecutive failed runs, it sends the first, and then the first that starts in each hour. It only logs the others.
    """

    def notify(self, context: Context) -> None:
        try:
            notice = failed_run(context)
            if _is_repeated(context):
                self.log.error("%s\n(Not sent again: the previous run failed within the same hour.)", notice.text)
            else:
                _notify(notice, self.log)
        except Exception:
            self.log.exception("A notice of a failed run could not be sent.")


def failed_run(context: Context) -> Notice:
    """The notice of a DAG's failed run, from the context of its callback, which may have no task."""
    task = context.get("ti")
    which = f", in task {task.task_id}" if task else ""
    reason = f" ({context['reason']})" if context.get("reason") else ""
    first_step = (
        "Read the log of the unfinished task. If it has none, check that workers take tasks, and that its pool has free slots. "
        "Then clear the run"
        if context.get("reason") == _TIMED_OUT
        else "Open the log of the failed task: it says where it failed, why, and what to do. Then clear the task"
    )
    return Notice(
        subject=context["dag"].dag_id,
        problem="failed",
        state=STARTED,
        found=f"Run {context['run_id']} failed{which}{reason}.",
        remedy=f"{first_step}, or leave it to the next run if the DAG has a schedule.",
        link=task.log_url if task else None,
    )


def _is_repeated(context: Context) -> bool:
    """Whether the previous run failed too, and started in the same hour. False if unknown: two notices are better than none.

    The logical dates of a backfill's runs may be hours apart although the runs follow each other within minutes.
    """
    task, run = context.get("ti"), context.get("dag_run")
    if task is None or run is None or run.start_date is None:
        return False
    try:
        previous = task.get_previous_dagrun()
    except Exception:
        return False
    if not has_failed(previous) or previous.start_date is None:
        return False
    return f"{previous.start_date:%Y-%m-%d %H}" == f"{run.start_date:%Y-%m-%d %H}"


def has_failed(run) -> bool:
    """Whether a run, as get_previous_dagrun() returns it, failed."""
    return run is not None and str(getattr(run.state, "value", run.state)) == "failed"


def _notify(notice: Notice, log) -> bool:
    """Notify every defined channel; True if one of them accepted it, or if none is defined."""
    notice = _without_secrets(notice)
    log.warning("%s", notice.text)
    sent: list[str] = []
    failed: dict[str, str] = {}
    threads = [_start(target, notice, sent, failed) for target in _targets(failed)]
    deadline = time.monotonic() + PATIENCE
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
        if thread.is_alive():
            failed.setdefault(thread.name, f"no answer within {PATIENCE:.0f} s")
    for conn_id, why in sorted(dict(failed).items()):  # a copy: a late thread may still add to it
        log.error("Not sent through %s: %s", conn_id, why)
    return bool(sent) or not failed


def _start(target: Endpoint, notice: Notice, sent: list[str], failed: dict[str, str]) -> threading.Thread:
    def run() -> None:
        try:
            CHANNELS[target.conn_id](target, notice)
            sent.append(target.conn_id)
        except Exception as error:
            why = f"{type(error).__name__}: {error}"
            failed[target.conn_id] = why.replace(target.password, "***") if target.password else why

    thread = threading.Thread(target=run, name=target.conn_id, daemon=True)
    thread.start()
    return thread


def _targets(failed: dict[str, str]) -> list[Endpoint]:
    """The channels that are defined. A connection that cannot be read is a failure, not a missing channel."""
    targets = []
    for conn_id in CHANNELS:
        try:
            targets.append(endpoint(conn_id))
        except ConnectionMissing:
            continue
        except Exception as error:
            failed[conn_id] = f"the connection cannot be read ({type(error).__name__})"
    return targets


def _without_secrets(notice: Notice) -> Notice:
    """The text may be a driver's error message: the passwords of the stores are removed from it."""
    text = notice.found
    for name in (value for key, value in vars(connections).items() if key.isupper() and isinstance(value, str)):
        try:
            password = endpoint(name).password
        except Exception:  # not defined or not readable here: then no error text can contain it
            continue
        if password and len(password) >= _SHORTEST_SECRET:
            text = text.replace(password, "***")
    return dataclasses.replace(notice, found=text)


def _webhook(target: Endpoint, notice: Notice) -> None:
    from include.webhook import post

    post(target, notice.as_json())


def _slack(target: Endpoint, notice: Notice) -> None:
    """Slack's incoming webhooks. The message is not rendered: an error text is not a template."""
    try:
        from airflow.providers.slack.notifications.slack_webhook import SlackWebhookNotifier
    except ImportError:
        raise ChannelUnusable(_install(target.conn_id, "slack")) from None
    SlackWebhookNotifier(slack_webhook_conn_id=target.conn_id, text=notice.text, timeout=10).notify({})


def _smtp(target: Endpoint, notice: Notice) -> None:
    """A mail to extra `to`, from extra `from_email` or else the login."""
    try:
        from airflow.providers.smtp.notifications.smtp import SmtpNotifier
    except ImportError:
        raise ChannelUnusable(_install(target.conn_id, "smtp")) from None
    recipients = target.extra.get("to")
    if not recipients:
        raise ChannelUnusable(
            f'Connection {target.conn_id} names no recipient: add {{"to": "ops@example.org"}} to its extra.'
        )
    SmtpNotifier(
        smtp_conn_id=target.conn_id,
        to=recipients,
        from_email=target.extra.get("from_email") or target.login,
        subject=notice.title,
        html_content=f"<pre>{html.escape(notice.text)}</pre>",
    ).notify({})


def _install(conn_id: str, provider: str) -> str:
    return (
        f"Connection {conn_id} is defined, but its provider is not installed. Add "
        f"apache-airflow-providers-{provider} to requirements.txt and install it or rebuild the image, or remove the connection."
    )


CHANNELS: dict[str, Callable[[Endpoint, Notice], None]] = {WEBHOOK: _webhook, SLACK: _slack, SMTP: _smtp}

"""Alert channels over real sockets: a webhook's receiver and a mail server on loopback, and channels that are broken."""

from __future__ import annotations

import http.server
import json
import socket
import socketserver
import sys
import threading
import time
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest

from include.connections import WAREHOUSE_ETL, endpoint
from include.notice import RESOLVED, STARTED, Notice
from tests import airflow_home  # noqa: F401  (before Airflow)

NOTICE = Notice(
    "recruitment", "stale", STARTED, "A change waits for 200 s.", "Open the run.", since=datetime(2026, 3, 1, 12, 0, 5)
)
TEXT = (
    "Minutemark · Problem: recruitment is stale\nA change waits for 200 s.\n"
    "Since 2026-03-01 12:00:05 UTC\nWhat to do: Open the run."
)


class Receiver(http.server.ThreadingHTTPServer):
    """Answers each request with the next of `answers` (the last answer repeatedly), and keeps the requests."""

    daemon_threads = True

    def __init__(self, *answers: int) -> None:
        self.answers = list(answers)
        self.requests = []
        self.released = threading.Event()
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/hooks/secret-path"

    def serve_forever(self, poll_interval: float = 0.02) -> None:
        """Poll often, because every test waits for shutdown()."""
        super().serve_forever(poll_interval)


class _Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.requests.append((self.path, self.headers.get("Authorization"), body))
        answer = self.server.answers.pop(0) if len(self.server.answers) > 1 else self.server.answers[0]
        if answer == 0:  # no answer
            self.server.released.wait(30)
            return
        self.send_response(answer)
        if answer == 302:
            self.send_header("Location", "/elsewhere")
        self.end_headers()

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_) -> None:
        """Keeps the test's output clean."""


class MailServer(socketserver.ThreadingTCPServer):
    """Answers the SMTP commands that one mail needs."""

    daemon_threads = True

    def __init__(self) -> None:
        self.mails = []
        super().__init__(("127.0.0.1", 0), _MailHandler)


class _MailHandler(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        self.wfile.write(b"220 ready\r\n")
        for line in self.rfile:
            word = line.split()[0].upper()
            if word == b"DATA":
                self.wfile.write(b"354 go\r\n")
                self.server.mails.append(b"".join(iter(self.rfile.readline, b".\r\n")).decode())
            self.wfile.write(b"221 bye\r\n" if word == b"QUIT" else b"250 ok\r\n")
            if word == b"QUIT":
                return


@pytest.fixture
def serve():
    """Runs a server until the end of the test."""
    running = []

    def start(server):
        threading.Thread(target=server.serve_forever, daemon=True).start()
        running.append(server)
        return server

    yield start
    for server in running:
        if isinstance(server, Receiver):
            server.released.set()
        server.shutdown()
        server.server_close()


@pytest.fixture
def read_log(capsys):
    """Returns what Airflow has logged so far."""
    output = []

    def read() -> str:
        output.append("".join(capsys.readouterr()))
        return "".join(output)

    return read


@pytest.fixture
def connect(monkeypatch):
    """Defines a connection for the test."""

    def define(conn_id: str, **fields) -> None:
        monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", json.dumps({"conn_type": "http", **fields}))

    return define


def notify(notice: Notice = NOTICE) -> bool:
    from plugins.notifiers import Notify

    notifier = Notify(notice)
    notifier({})
    return notifier.reached


def test_without_a_channel_the_notice_is_logged(read_log):
    assert notify() is True
    assert TEXT in read_log()


def test_a_webhook_gets_exactly_the_message(serve, connect):
    receiver = serve(Receiver(200))
    connect("minutemark_webhook", host=receiver.url, password="token")
    assert notify() is True
    assert receiver.requests == [
        (
            "/hooks/secret-path",
            "Bearer token",
            {
                "text": TEXT,
                "title": "Minutemark · Problem: recruitment is stale",
                "subject": "recruitment",
                "problem": "stale",
                "state": "begun",
                "found": "A change waits for 200 s.",
                "remedy": "Open the run.",
                "since": "2026-03-01T12:00:05Z",
                "until": None,
                "link": None,
            },
        )
    ]


def test_the_address_of_a_webhook_may_be_given_in_parts(serve, connect):
    receiver = serve(Receiver(204))
    connect(
        "minutemark_webhook",
        host="127.0.0.1",
        port=receiver.server_port,
        schema="http",
        extra=json.dumps({"path": "/x"}),
    )
    assert notify() is True
    assert [(path, token) for path, token, _ in receiver.requests] == [("/x", None)]


def test_a_notice_of_a_resolved_problem_has_no_remedy():
    notice = Notice(
        "recruitment", "stale", RESOLVED, "Last found: x", "Open the run.", datetime(2026, 3, 1), datetime(2026, 3, 2)
    )
    assert notice.text == (
        "Minutemark · Resolved: recruitment is stale\nLast found: x\nSince 2026-03-01 00:00:00 UTC until 2026-03-02 00:00:00 UTC"
    )


def test_a_failing_receiver_is_retried(serve, connect):
    receiver = serve(Receiver(503, 429, 200))
    connect("minutemark_webhook", host=receiver.url)
    assert notify() is True
    assert len(receiver.requests) == 3


@pytest.mark.parametrize(
    ("answer", "tries", "message"),
    [
        (404, 1, "returned 404 Not Found. Correct its host"),
        (302, 1, "returned 302 Found"),  # not followed: the POST would become a GET, which finds a page
        (500, 3, "returned 500 Internal Server Error. Check that its host is right and that the receiver is up"),
    ],
)
def test_a_receiver_that_refuses_is_named_without_its_url_or_token(serve, connect, read_log, answer, tries, message):
    receiver = serve(Receiver(answer))
    connect("minutemark_webhook", host=receiver.url, password="secret-token")
    assert notify() is False
    assert len(receiver.requests) == tries
    assert f"Not sent through minutemark_webhook: WebhookFailed: Connection minutemark_webhook {message}" in read_log()
    assert "secret" not in read_log()


@pytest.mark.parametrize(
    "fields",
    [
        {"host": "file:///etc/hostname"},
        {"host": ""},
        {"host": "http://[secret/"},
        {"host": "http://127.0.0.1:1/secret"},
        {"host": "http://127.0.0.1:1/secret with blanks"},
        {"host": "http://127.0.0.1:1/", "password": "secret\ntoken"},
    ],
)
def test_a_webhook_that_cannot_be_used_is_logged_and_raises_nothing(connect, read_log, fields):
    connect("minutemark_webhook", **fields)
    assert notify() is False
    assert "Not sent through minutemark_webhook: WebhookFailed" in read_log()
    assert "secret" not in read_log()


def test_a_channel_that_hangs_does_not_block_the_others(serve, connect, monkeypatch, read_log):
    from plugins import notifiers

    monkeypatch.setattr(notifiers, "PATIENCE", 1.0)
    hanging, mails = serve(Receiver(0)), serve(MailServer())
    connect("minutemark_webhook", host=hanging.url)
    connect_mail(connect, mails)
    started_at = time.monotonic()
    assert notify() is True
    assert time.monotonic() - started_at < 5
    assert "Not sent through minutemark_webhook: no answer within 1 s" in read_log()
    assert len(mails.mails) == 1


def connect_mail(connect, mails: MailServer, **extra) -> None:
    settings = {
        "disable_ssl": True,
        "disable_tls": True,
        "to": "ops@example.org",
        "from_email": "etl@example.org",
    } | extra
    connect(
        "minutemark_smtp", conn_type="smtp", host="127.0.0.1", port=mails.server_address[1], extra=json.dumps(settings)
    )


def test_a_mail_goes_to_the_recipients_of_the_connection(serve, connect):
    import base64
    from email import message_from_string
    from email.header import decode_header, make_header

    mails = serve(MailServer())
    connect_mail(connect, mails)
    assert notify(Notice("recruitment", "stale", STARTED, "<b> & {{ var.value.secret }}")) is True
    [mail] = map(message_from_string, mails.mails)
    assert (mail["To"], mail["From"]) == ("ops@example.org", "etl@example.org")
    assert str(make_header(decode_header(mail["Subject"]))) == "Minutemark · Problem: recruitment is stale"
    [body] = [part for part in mail.walk() if part.get_content_type() == "text/html"]
    assert "&lt;b&gt; &amp; {{ var.value.secret }}" in base64.b64decode(body.get_payload()).decode()


def test_a_mail_without_a_recipient_is_refused_with_a_hint(serve, connect, read_log):
    connect_mail(connect, serve(MailServer()), to="")
    assert notify() is False
    assert '"to": "ops@example.org"' in read_log()


def test_a_provider_that_is_not_installed_is_named(connect, read_log, monkeypatch):
    monkeypatch.setitem(sys.modules, "airflow.providers.slack.notifications.slack_webhook", None)
    connect("minutemark_slack", conn_type="slackwebhook", password="secret/token")
    assert notify() is False
    assert "Add apache-airflow-providers-slack to requirements.txt" in read_log()
    assert "secret/token" not in read_log()


def test_an_unreadable_connection_is_not_taken_for_a_missing_one(read_log, monkeypatch):
    from plugins import notifiers

    def fail(conn_id):
        if conn_id == notifiers.SLACK:
            raise TimeoutError("Airflow's API")
        return endpoint(conn_id)

    monkeypatch.setattr(notifiers, "endpoint", fail)
    assert notify() is False
    assert "Not sent through minutemark_slack: the connection cannot be read" in read_log()


def test_no_message_contains_the_password_of_a_store(serve, connect, read_log):
    receiver = serve(Receiver(200))
    connect("minutemark_webhook", host=receiver.url)
    connect(WAREHOUSE_ETL, conn_type="mysql", host="db", password="hunter2!")
    assert notify(Notice("recruitment", "failing", STARTED, "jdbc:mysql://db?password=hunter2! refused")) is True
    assert receiver.requests[0][2]["found"] == "jdbc:mysql://db?password=*** refused"
    assert "hunter2!" not in read_log()


def failed_context(previous: str | None = None, hours_ago: float = 0.02, **more) -> dict:
    from datetime import timedelta

    started = datetime(2026, 3, 1, 12, 30, tzinfo=UTC)
    # Runs of a backfill by hours: however far apart they start, their logical dates are an hour apart.
    previous_run = previous and SimpleNamespace(
        state=previous,
        start_date=started - timedelta(hours=hours_ago),
        logical_date=datetime(2025, 7, 1, 5, tzinfo=UTC),
    )
    return {
        "dag": SimpleNamespace(dag_id="recruitment_minute"),
        "run_id": "scheduled__1",
        "dag_run": SimpleNamespace(start_date=started, logical_date=datetime(2025, 7, 1, 6, tzinfo=UTC)),
        "ti": SimpleNamespace(
            task_id="check_staging", log_url="http://airflow/log", get_previous_dagrun=lambda: previous_run
        ),
        "reason": "task_failure",
        **more,
    }


@pytest.mark.parametrize(
    ("context", "sent"),
    [
        (failed_context(), 1),
        (failed_context("success"), 1),
        (failed_context("failed"), 0),  # the previous run was reported, within this hour
        (failed_context("failed", hours_ago=1), 1),  # a reminder
        (failed_context("failed", ti=None), 1),  # without a task: the run timed out before it started
    ],
)
def test_the_first_of_consecutive_failed_runs_in_each_hour_is_reported(serve, connect, context, sent):
    from plugins.notifiers import NotifyFailedRun

    receiver = serve(Receiver(200))
    connect("minutemark_webhook", host=receiver.url)
    notifier = NotifyFailedRun()
    notifier.notify(context)
    assert len(receiver.requests) == sent


def test_a_failed_run_is_reported_with_its_step_and_its_log(serve, connect):
    from plugins.notifiers import failed_run

    notice = failed_run(failed_context())
    assert notice.title == "Minutemark · Problem: recruitment_minute failed"
    assert notice.found == "Run scheduled__1 failed, in task check_staging (task_failure)."
    assert "Open the log of the failed task" in notice.remedy
    assert notice.text.endswith("http://airflow/log")


def test_the_notice_of_a_run_that_timed_out_does_not_point_to_a_failed_task():
    from plugins.notifiers import failed_run

    notice = failed_run(failed_context(reason="timed_out"))
    assert notice.found == "Run scheduled__1 failed, in task check_staging (timed_out)."
    assert notice.remedy.startswith(
        "Read the log of the unfinished task. If it has none, check that workers take tasks"
    )
    assert "failed task" not in notice.remedy


def test_a_failing_notifier_raises_nothing(connect, read_log):
    from airflow.sdk import DAG

    from plugins.notifiers import NotifyFailedRun

    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # the port is taken, and nobody listens
        connect("minutemark_webhook", host=f"http://127.0.0.1:{unused.getsockname()[1]}/")
        assert notify() is False
        NotifyFailedRun()(failed_context(dag=DAG("recruitment_minute")))
        NotifyFailedRun()({})
    assert read_log().count("Not sent through minutemark_webhook") == 2
    assert "A notice of a failed run could not be sent" in read_log()

"""The server's address, its password, and another database than SQLite: a real PostgreSQL."""

import base64
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import needs
import pytest
import tiny

from flows.running.home import AUTH, loopback
from flows.ui import near

PASSWORD = "admin:a secret, 'quoted' $HOME"


def ui(where, *words, **settings):
    env = tiny.flow_environment(**settings)
    return subprocess.run([sys.executable, "-m", "flows.ui", *words], cwd=where, env=env, capture_output=True, text=True)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_this_machine_alone_reaches_these(host):
    assert loopback(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.4", "example.org", "localhost.example.org", "127.1", ""])
def test_others_may_reach_these(host):
    assert not loopback(host)


@pytest.mark.parametrize(
    ("host", "url"), [("0.0.0.0", "127.0.0.1"), ("::", "[::1]"), ("::1", "[::1]"), ("localhost", "localhost")]
)
def test_a_host_in_a_url(host, url):
    assert near(host) == url


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--host", "0.0.0.0"], "--host: '0.0.0.0' can be reached from other machines, and whoever reaches the UI can run"),
        (["--host", "::"], f"set {AUTH}=USER:PASSWORD first"),
        (["--keep", "0"], "--keep: 0 should be between 1 and 36500 days"),
        (["--port", "70000"], "--port: 70000 should be between 1 and 65535"),
    ],
)
def test_what_it_will_not_start_is_one_line_and_starts_nothing(tmp_path, words, said):
    where = tiny.clone(tmp_path)
    done = ui(where, "start", *words)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert said in line
    assert not list((where / ".prefect").glob("*.json")), "nothing runs"


def as_postgres():
    """The user that PostgreSQL runs as, which must not be root."""
    name = needs.POSTGRES_USER
    return {"user": name, "group": name, "extra_groups": []} if os.geteuid() == 0 else {}


@pytest.fixture(scope="module")
def postgres():
    """A PostgreSQL of this test, on a port and in a folder of its own; its URL for Prefect."""
    binaries = needs.postgres()
    where = Path(tempfile.mkdtemp(prefix="rectiflow-postgres-"))  # pytest's own folders are closed to other users
    data, port = where / "data", tiny.free_port()
    if os.geteuid() == 0:
        shutil.chown(where, needs.POSTGRES_USER, needs.POSTGRES_USER)

    def call(name, *words):
        done = subprocess.run([binaries[name], *words], cwd="/", capture_output=True, text=True, **as_postgres())
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    call("initdb", "-D", str(data), "-U", "prefect", "-A", "trust", "-E", "UTF8", "--no-sync")
    settings = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories='' -c fsync=off"
    call("pg_ctl", "-D", str(data), "-w", "-l", str(data / "log"), "-o", settings, "start")
    try:
        yield lambda sql: call("psql", "-h", "127.0.0.1", "-p", str(port), "-U", "prefect", "-Atc", sql, "postgres"), port
    finally:
        call("pg_ctl", "-D", str(data), "-m", "immediate", "stop")
        shutil.rmtree(where)


@pytest.fixture(scope="module")
def server(tmp_path_factory, postgres):
    """The UI of a clone, with a password, and its database in PostgreSQL."""
    where, (_, database) = tiny.clone(tmp_path_factory.mktemp("user")), postgres
    settings = {
        AUTH: PASSWORD,
        "PREFECT_SERVER_SERVICES_DB_VACUUM_LOOP_SECONDS": "1",  # an hour otherwise
        "PREFECT_SERVER_DATABASE_CONNECTION_URL": f"postgresql+asyncpg://prefect@127.0.0.1:{database}/postgres",
    }
    started = ui(where, "start", "--keep", "7", "--port", str(port := tiny.free_port()), **settings)
    assert started.returncode == 0, started.stderr
    yield where, f"http://127.0.0.1:{port}"
    assert ui(where, "stop").returncode == 0


def ask(url, body=None, password=None):
    token = {"Authorization": "Basic " + base64.b64encode(password.encode()).decode()} if password else {}
    data = None if body is None else json.dumps(body).encode()
    with urlopen(Request(url, data, {"Content-Type": "application/json", **token}), timeout=60) as answer:
        return json.loads(answer.read() or b"null")


def test_without_the_password_nothing_is_answered(server):
    _, url = server
    for password in (None, "admin:wrong", "admin:"):
        for path, body in (("/api/flow_runs/filter", {}), ("/api/admin/version", None)):
            with pytest.raises(HTTPError, match="401"):
                ask(url + path, body, password)
    assert ask(f"{url}/api/flow_runs/filter", {}, PASSWORD) == []


def test_a_triggered_run_is_carried_out_by_a_worker_with_the_password_and_kept_in_postgresql(server, postgres):
    _, url = server
    sql, _ = postgres
    deployment = ask(f"{url}/api/deployments/name/compare/compare", None, PASSWORD)
    body = {"name": "kept", "parameters": {"revisions": ["no-such"]}, "state": {"type": "SCHEDULED"}}
    run = ask(f"{url}/api/deployments/{deployment['id']}/create_flow_run", body, PASSWORD)["id"]

    def ended():
        return ask(f"{url}/api/flow_runs/{run}", None, PASSWORD)["state_type"] in ("COMPLETED", "FAILED", "CRASHED")

    tiny.wait(ended, 120)
    query = "select state_type, message from flow_run join flow_run_state s on s.id = state_id where flow_run.name = 'kept'"
    state, message = sql(query).strip().split("|")
    assert state == "FAILED"
    assert message.startswith("'no-such' is neither a git revision nor an experiment")


def test_a_flow_of_the_shell_writes_to_the_running_server(server, postgres):
    where, _ = server
    sql, _ = postgres
    done = tiny.flow(where, "check", **{AUTH: PASSWORD})
    assert done.returncode == 0, done.stdout
    assert sql("select count(*) from task_run where name = 'check' and state_type = 'COMPLETED'").strip() == "1"


def test_a_flow_of_the_shell_without_the_password_is_not_served(server):
    done = tiny.flow(server[0], "check")
    assert done.returncode != 0
    assert "401" in done.stdout


def test_the_password_is_in_no_file(server):
    where, _ = server
    secret = PASSWORD.partition(":")[2].encode()
    encoded = base64.b64encode(PASSWORD.encode())
    files = [path for path in (where / ".prefect").rglob("*") if path.is_file()]
    assert {"running.json", "address"} <= {path.name for path in files}
    assert not [path for path in files if secret in (content := path.read_bytes()) or encoded in content]


def test_runs_that_ended_before_the_days_that_are_kept_are_deleted_and_others_stay(server, postgres):
    _, url = server
    sql, _ = postgres
    flow = ask(f"{url}/api/flows/", {"name": "dated"}, PASSWORD)["id"]
    body = {"flow_id": flow, "state": {"type": "COMPLETED"}}
    runs = {days: ask(f"{url}/api/flow_runs/", body, PASSWORD)["id"] for days in (0, 6, 8, 40)}
    for days, run in runs.items():
        sql(f"update flow_run set end_time = now() - interval '{days} days' where id = '{run}'")

    def kept():
        found = ask(f"{url}/api/flow_runs/filter", {"flows": {"id": {"any_": [flow]}}}, PASSWORD)
        return {days for days, run in runs.items() if run in {one["id"] for one in found}}

    tiny.wait(lambda: kept() == {0, 6}, 60)


def test_a_worker_of_a_server_elsewhere_needs_its_address_and_is_healthy(server, tmp_path):
    where = tiny.clone(tmp_path / "elsewhere")
    done = ui(where, "worker")
    assert done.returncode == 1
    assert done.stderr == "error: worker: set PREFECT_API_URL to the API of the server that it should work for\n"
    command = [sys.executable, "-m", "flows.ui", "worker", "--pool", "gpu"]
    settings = {"PREFECT_API_URL": f"{server[1]}/api", "PREFECT_API_AUTH_STRING": PASSWORD}
    settings["PREFECT_WORKER_WEBSERVER_PORT"] = str(port := tiny.free_port())
    with subprocess.Popen(command, cwd=where, env=tiny.flow_environment(**settings)) as worker:

        def healthy():
            try:
                return urlopen(f"http://127.0.0.1:{port}/health", timeout=5).status == 200
            except OSError:
                assert worker.poll() is None
                return False

        tiny.wait(healthy, 120)
        worker.terminate()

"""The UI as its users meet it: a form in a real browser, runs side by side, cancelling, and what is left afterwards."""

import json
import sys
import time
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import needs
import psutil
import pytest
import tiny
from playwright.sync_api import Page, expect, sync_playwright

PATIENCE = 240


class UI:
    """The running UI of a clone."""

    def __init__(self, where: Path, url: str) -> None:
        self.where, self.url = where, url

    def api(self, path: str, body: Any = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = Request(f"{self.url}/api{path}", data, {"Content-Type": "application/json"})
        for rest in range(20, -1, -1):
            try:
                with urlopen(request, timeout=60) as answer:
                    return json.loads(answer.read() or b"null")
            except HTTPError as error:  # the server asks to come again while its database is busy
                if error.code != 503 or not rest:
                    raise
                time.sleep(1)
        raise AssertionError

    def deployment(self, name: str = "experiment/cpu") -> dict[str, Any]:
        return self.api(f"/deployments/name/{name}")

    def start(self, name: str, **parameters: Any) -> str:
        body = {"name": name, "parameters": parameters, "state": {"type": "SCHEDULED"}}
        return self.api(f"/deployments/{self.deployment()['id']}/create_flow_run", body)["id"]

    def state(self, run: str) -> dict[str, Any]:
        return self.api(f"/flow_runs/{run}")["state"]

    def ended(self, run: str) -> dict[str, Any]:
        tiny.wait(lambda: self.state(run)["type"] in ("COMPLETED", "FAILED", "CRASHED", "CANCELLED"), PATIENCE)
        return self.state(run)

    def experiments(self) -> dict[str, Any]:
        shown = json.loads(tiny.run(self.where, "dvc", "exp", "show", "-A", "--json").stdout)
        found = [e for commit in shown for e in commit["experiments"] or []]
        return {e["name"]: e["revs"][0]["data"]["metrics"] for e in found}

    def stages(self) -> list[psutil.Process]:
        """The stage processes of runs in this clone's workspaces."""
        found = []
        for process in psutil.process_iter(["name", "cwd"]):
            inside = str(process.info["cwd"] or "").startswith(str(self.where / ".prefect/workspaces"))
            if inside and process.info["name"].startswith("stages."):
                found.append(process)
        return found

    def left_over(self) -> list[Path]:
        return list((self.where / ".prefect/workspaces").glob("*"))


@pytest.fixture(scope="module")
def ui(tmp_path_factory):
    """The UI of a clone in which everything was computed and committed, with an edit that is not."""
    where = tiny.computed(tmp_path_factory)
    (where / "README.md").write_text("an edit of the user\n")
    port = tiny.free_port()
    try:
        done = tiny.run(where, sys.executable, "-m", "flows.ui", "start", "--port", str(port))
        assert done.returncode == 0, done.stdout + done.stderr
        yield UI(where, f"http://127.0.0.1:{port}")
    finally:
        tiny.run(where, sys.executable, "-m", "flows.ui", "stop")


@pytest.fixture(scope="module")
def page():
    """A page of a real browser."""
    found = needs.browser()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        opened = browser.new_page(viewport={"width": 1300, "height": 1400})
        opened.set_default_timeout(60_000)
        yield opened
        browser.close()


def test_the_form_offers_choices_titles_descriptions_and_defaults(ui):
    fields = ui.deployment()["parameter_openapi_schema"]["properties"]
    assert fields["datasets"]["items"]["enum"] == ["bimodal", "mine"]
    assert fields["methods"]["items"]["enum"] == ["icfm", "otcfm", "realnvp"]
    for name, field in fields.items():
        assert field["title"] != name, name
        assert field["description"], name
        assert "default" in field, name


WRONG = [{"datasets": ["nonsense"]}, {"rounds": -1}, {"seeds": ["one"]}, {"overrides": ["lr"]}, {"stepz": 3}]


@pytest.mark.parametrize("wrong", WRONG)
def test_the_server_refuses_wrong_values_and_says_which(ui, wrong):
    with pytest.raises(OSError, match="409") as refused:
        ui.start("wrong", **wrong)
    said = refused.value.read().decode()
    (item,) = wrong.items()
    assert any(str(part).strip("[]'") in said for part in item), said


def test_a_run_filled_in_in_the_browser_completes_and_shows_numbers_and_figure(ui, page):
    # What loads late draws the form anew, without what was typed.
    page.goto(f"{ui.url}/deployments/deployment/{ui.deployment()['id']}/run", wait_until="networkidle")
    page.wait_for_function("document.querySelector('input[type=text]')?.value")  # the form makes up a name when it is ready
    page.locator("input[type=text]").first.fill("browser-run")
    field = page.locator(".schema-form-property", has_text="Overrides").last
    field.get_by_role("button", name="Add item").click()
    field.locator("textarea").fill("methods.otcfm.training={lr: 0.004}")
    expect(page.locator("input[type=text]").first).to_have_value("browser-run")
    run = submitted(ui, page, "browser-run")
    assert run["parameters"]["overrides"] == ["methods.otcfm.training={lr: 0.004}"]
    assert ui.ended(run["id"])["type"] == "COMPLETED", ui.state(run["id"])

    page.goto(f"{ui.url}/runs/flow-run/{run['id']}")
    page.get_by_text("Task Runs", exact=True).last.click()
    page.get_by_text("train@mine-otcfm-round0").first.wait_for()
    page.get_by_text("Cached").first.wait_for()
    states = {task["name"]: task["state"]["name"] for task in ui.api("/task_runs/filter", of_run(run["id"]))}
    assert states["train@bimodal-icfm-round0"] == "Cached"
    assert states["train@mine-otcfm-round0"] == "Completed"

    made = {a["key"]: a["id"] for a in ui.api("/artifacts/filter", of_run(run["id"])) if a["key"]}
    page.goto(f"{ui.url}/artifacts/artifact/{made['metrics']}")
    page.get_by_text("bimodal icfm, round 1").wait_for()
    page.get_by_text("dvc exp apply browser-run").first.wait_for()
    page.goto(f"{ui.url}/artifacts/artifact/{made['difference']}")
    page.get_by_text("otcfm, round 0").first.wait_for()
    page.goto(f"{ui.url}/artifacts/artifact/{made['figure']}")
    page.wait_for_function("[...document.images].some(i => i.src.startsWith('data:image/png') && i.naturalWidth > 100)")


def submitted(ui: UI, page: Page, name: str) -> dict[str, Any]:
    """Press Submit, again where nothing comes of it: a server whose database is busy refuses, and the page says to retry."""
    for _ in range(3):
        page.get_by_role("button", name="Submit").click()
        end = time.monotonic() + 20
        while time.monotonic() < end:
            if made := [run for run in runs(ui) if run["name"] == name]:
                return made[0]
            time.sleep(0.3)
    raise AssertionError(f"no run {name!r} came of it; the page says: {page.locator('body').inner_text()}")


def of_run(run: str) -> dict[str, Any]:
    return {"flow_runs": {"id": {"any_": [run]}}}


def runs(ui: UI) -> list[dict[str, Any]]:
    return ui.api("/flow_runs/filter", {})


def test_three_runs_at_once_are_three_experiments_and_the_tree_stays_as_it_is(ui):
    before = tiny.git(ui.where, "status", "--porcelain")
    params = [
        {"seeds": [0, 3], "rounds": 0},
        {"overrides": ["methods.otcfm.training={steps: 50}"]},
        {"datasets": ["mine"], "overrides": ["training.ema=0.5"]},
    ]
    started = {f"at-once-{k}": ui.start(f"at-once-{k}", **given) for k, given in enumerate(params)}
    for name, run in started.items():
        assert ui.ended(run)["type"] == "COMPLETED", (name, ui.state(run))
    metrics = ui.experiments()
    assert all("reports/metrics.json" in metrics[name] for name in started)
    values = {name: metrics[name]["reports/metrics.json"]["data"] for name in started}
    assert set(values["at-once-0"]["bimodal"]["icfm"]) == {"round0"}
    assert set(values["at-once-2"]) == {"mine"}
    assert values["at-once-1"]["mine"] != values["at-once-0"]["mine"]
    assert tiny.git(ui.where, "status", "--porcelain") == before
    assert (ui.where / "README.md").read_text() == "an edit of the user\n"
    assert ui.left_over() == []


def test_a_mistaken_override_fails_in_one_line_before_any_stage(ui):
    state = ui.ended(run := ui.start("mistaken", overrides=["training.lr=abc"]))
    assert state["type"] == "FAILED"
    assert "training.lr" in state["message"]
    assert "abc" in state["message"]
    assert ui.api("/task_runs/filter", of_run(run)) == []
    assert "mistaken" not in ui.experiments()
    assert ui.left_over() == []


def test_a_failed_stage_leaves_its_log_and_what_needs_it_is_not_run(ui):
    run = ui.start("diverging", overrides=["methods.otcfm.training={lr: 1.0e+9, clip: 1.0e+30}"])
    assert ui.ended(run)["type"] == "FAILED"
    tasks = {task["name"]: task for task in ui.api("/task_runs/filter", of_run(run))}
    assert tasks["train@mine-otcfm-round0"]["state"]["type"] == "FAILED"
    assert {tasks[f"{s}@mine-otcfm-round0"]["state"]["name"] for s in ("sample", "evaluate")} == {"NotReady"}
    assert tasks["evaluate@bimodal-icfm-round1"]["state"]["type"] == "COMPLETED"
    which = {"logs": {"task_run_id": {"any_": [tasks["train@mine-otcfm-round0"]["id"]]}}}
    # They come in batches.
    tiny.wait(lambda: any("diverged" in line["message"] for line in ui.api("/logs/filter", which)), 30)
    assert "diverging" not in ui.experiments()


def slow(ui: UI, name: str) -> str:
    run = ui.start(name, datasets=["bimodal"], overrides=["training.steps=2000000"])
    tiny.wait(lambda: [p for p in ui.stages() if p.name() == "stages.train"], PATIENCE)
    return run


def test_cancelling_ends_the_stages_within_ten_seconds(ui):
    run = slow(ui, "cancelled")
    ui.api(f"/flow_runs/{run}/set_state", {"state": {"type": "CANCELLING", "name": "Cancelling"}})
    tiny.wait(lambda: not ui.stages(), 10)
    assert ui.ended(run)["type"] == "CANCELLED"


def test_a_killed_run_leaves_no_stage_and_the_next_run_removes_its_workspace(ui):
    slow(ui, "killed")
    for stage in ui.stages():
        flow = stage.parents()[1]  # the first is the one that it was forked from
        if flow.pid > 1:
            flow.kill()
    tiny.wait(lambda: not ui.stages(), 10)
    assert ui.ended(ui.start("afterwards"))["type"] == "COMPLETED"
    assert ui.left_over() == []
    results = tiny.git(ui.where, "show", "HEAD:reports/metrics.json")
    assert ui.experiments()["afterwards"]["reports/metrics.json"]["data"] == json.loads(results)

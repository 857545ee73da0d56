"""What the page says of its making: all that follows from the inputs, and nothing of when, where and at which revision."""

import html
import re
import sys
from hashlib import sha256

import pytest
import tiny

from stages.report.page import PACKAGES

PAGE = "reports/index.html"


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    return tiny.computed(tmp_path_factory)


def cells(text: str, title: str) -> list[list[str]]:
    """The rows of the table under a title, as text."""
    part = text.partition(f"<h3>{title}</h3>")[2].partition("</table>")[0].partition("<tbody>")[2]
    rows = [re.findall(r"<td>(.*?)</td>", row) for row in part.split("</tr>")]
    return [[html.unescape(re.sub("<[^>]*>", "", cell)) for cell in row] for row in rows if row]


def digest(content: bytes) -> str:
    return sha256(content).hexdigest()[:16]


def test_weights_data_and_code_stand_with_the_digests_of_their_files(project):
    text = (project / PAGE).read_text()
    models = {name: rest for name, *rest in cells(text, "Models")}
    assert set(models) == {"bimodal-icfm-round0", "bimodal-icfm-round1", "mine-otcfm-round0"}
    for name, (weights, _) in models.items():
        assert weights == digest((project / f"data/train/{name}/model.safetensors").read_bytes())
    data = dict(cells(text, "Data"))
    assert {name.split("/")[2] for name in data} == {"bimodal", "mine"}
    assert all(found == digest((project / name).read_bytes()) for name, found in data.items())
    stamps = {name: found for name, found, _ in cells(text, "Code")}
    assert stamps == {path.name: digest(path.read_bytes()) for path in (project / "data/code").iterdir()}
    pins = dict(cells(text, "Pinned versions"))
    assert all(f"{name}=={version}" in (project / "constraints.txt").read_text() for name, version in pins.items())
    assert {"torch", "numpy"} <= set(pins)
    assert all(f"<td>{name}</td>" in text for name in PACKAGES)


def test_the_parameters_of_a_model_are_those_it_was_trained_with(project):
    models = {name: text for name, _, text in cells((project / PAGE).read_text(), "Models")}
    for said in ('"steps": 60', '"width": 16', '"name": "linear"', '"data": "couple/mine-exact"'):
        assert said in models["mine-otcfm-round0"]
    assert '"data": "reflow/bimodal-icfm-round1"' in models["bimodal-icfm-round1"]


def test_revision_edits_time_and_host_change_no_byte(project):
    before = (project / PAGE).read_bytes()
    (project / "notes.txt").write_text("a file that git does not know")
    tiny.git(project, "commit", "-q", "--allow-empty", "-m", "another revision")
    elsewhere = tiny.environment() | {"TZ": "Asia/Tokyo", "HOSTNAME": "elsewhere", "USER": "somebody", "PYTHONHASHSEED": "7"}
    command = ["env", *(f"{name}={value}" for name, value in elsewhere.items()), sys.executable, "-m", "stages.report"]
    done = tiny.run(project, *command)
    assert done.returncode == 0, done.stderr
    assert (project / PAGE).read_bytes() == before
    assert tiny.git(project, "rev-parse", "HEAD").strip()[:7] not in before.decode()
    assert str(project) not in before.decode()

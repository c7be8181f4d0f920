"""What people do in the UI, done with mouse and keyboard: the nightly schedule, a run from its form, a repair."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import expect

from spin.core.config import load_config
from spin.core.config_identity import config_to_json
from spin.core.layout import RunsRoot
from spin.core.store import hash_file
from tests.browser.pages import Pages
from tests.live.serving import TINY

pytestmark = pytest.mark.browser


def test_the_nightly_evaluation_is_scheduled_and_fires_and_can_be_switched_off(pages: Pages) -> None:
    pages.open_deployment("evaluate/nightly")
    switch = pages.main.get_by_role("switch", name="toggle Every minute")
    expect(switch).to_be_checked()
    fired = pages.main.get_by_role("listitem").filter(has_text="auto-scheduled").filter(has_text="Completed")
    expect(fired.first).to_be_visible()
    switch.click()
    expect(switch).not_to_be_checked()
    pages.open("runs")
    pages.follow("evaluate newest run newest")
    expect(pages.main.get_by_text("Completed", exact=True)).to_be_visible()
    details = pages.tab("Details")
    expect(details).to_contain_text("no run has a checkpoint yet")
    expect(details).to_contain_text("auto-scheduled")


def test_a_wrong_value_stays_in_the_form_with_a_message(pages: Pages) -> None:
    before = runs_started(pages)
    pages.open_form("spin-diffusion/run")
    pages.field("Iterations").fill("1000")
    pages.main.get_by_role("button", name="Submit", exact=True).click()
    said = "field => field.validationMessage"
    assert pages.field("Iterations").evaluate(said) == "Value must be less than or equal to 99."
    pages.field("Iterations").fill("1")
    pages.field("Name of the run").fill("two words")
    assert pages.submit() == 409
    expect(pages.page.get_by_text("Validation failed for field 'run_name'")).to_be_visible()
    assert pages.page.url.endswith("/run")
    assert runs_started(pages) == before


def runs_started(pages: Pages) -> int:
    return int(pages.server.post("/flow_runs/count", {"deployments": {"name": {"any_": ["run"]}}}))


def test_a_run_is_started_from_its_form_and_shows_what_it_made(pages: Pages, tiny: Path) -> None:
    pages.open_form("spin-diffusion/run")
    pages.field("Name of the run").fill("from-the-form")
    pages.field("Seed").fill("3")
    pages.choose("Executor", "local")
    pages.field("Images in a shard").fill("12")
    pages.field("Config file").fill(str(tiny))
    pages.add_item("train.micro_batch_size=4")
    assert pages.submit() == 201
    run = pages.follow("from-the-form")
    assert pages.ends(run) == "Completed"

    config = json.loads((pages.server.root / "from-the-form" / "run.json").read_text())["config"]
    assert (config["iterations"], config["run"]["seed"], config["execution"]["executor"]) == (1, 3, "local")
    assert (config["sampling"]["shard_size"], config["train"]["micro_batch_size"]) == (12, 4)
    pages.open_artifact("from-the-form-story")
    expect(pages.main.get_by_role("heading", name="Run from-the-form")).to_be_visible()
    expect(pages.main).to_contain_text("Finished. 2 of 2 stages are done (base, SPIN 1).")
    pages.open_run(run)
    pages.open_artifact("from-the-form-scores")
    rows = pages.main.get_by_role("row")
    expect(rows).to_have_count(4)
    assert [rows.nth(n).inner_text().split("\t")[0].strip() for n in range(4)] == ["model", "data", "base", "SPIN 1"]
    pages.open_run(run)
    pages.open_artifact("from-the-form-sheet")
    with Image.open(RunsRoot(pages.server.root).run("from-the-form").contact_sheet) as sheet:
        assert pages.picture_width() == sheet.width


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """TINY as a config file, for the field that takes one."""
    config = load_config("miniature", overrides=TINY)
    file = tmp_path / "tiny.yaml"
    file.write_text(json.dumps(config_to_json(config)))  # JSON is YAML
    return file


def test_a_shard_that_failed_is_made_by_the_button_retry_and_the_run_finishes(pages: Pages, tiny: Path) -> None:
    samples = RunsRoot(pages.server.root).run("repaired").iteration(1).samples
    pages.server.fault.write_text(str(samples(1)))
    pages.open_form("spin-diffusion/run")
    pages.field("Name of the run").fill("repaired")
    pages.field("Seed").fill("3")  # data and base are those of the run before
    pages.choose("Executor", "workers")
    pages.field("Attempts at a shard").fill("1")
    pages.field("Config file").fill(str(tiny))
    assert pages.submit() == 201
    run = pages.follow("repaired")
    assert pages.ends(run) == "Failed"
    message = pages.tab("Details").get_by_text("shard 1; cause:")
    expect(message).to_contain_text("shard-00001.parquet: cannot write: No space left on device")
    expect(message).to_contain_text("press Retry on 'sample k=1 shards 00-02/03'")
    others = {shard: hash_file(samples(shard)) for shard in (0, 2)}

    pages.server.fault.unlink()
    pages.tab("Subflow Runs")
    pages.follow("k=1")
    pages.tab("Subflow Runs")
    child = pages.follow("sample k=1 shards 00-02/03")
    expect(pages.main.get_by_text("Failed", exact=True).first).to_be_visible()
    assert pages.press_retry() in (200, 201)
    assert pages.ends(child, attempt=2) == "Completed"
    assert {shard: hash_file(samples(shard)) for shard in (0, 2)} == others
    assert samples(1).exists()

    pages.open_run(run)
    assert pages.press_retry() in (200, 201)
    assert pages.ends(run, attempt=2) == "Completed"
    assert len(pages.server.children(name="sample k=1 shards")) == 1
    expect(pages.tab("Artifacts").get_by_role("heading", name="repaired-story").first).to_be_visible()

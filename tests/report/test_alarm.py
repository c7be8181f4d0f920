"""One judge up, another down: told everywhere. Both up, or neither certain: silence."""

import numpy as np
import pytest

from spin.core import schema
from spin.report.alarm import FALL, alarms
from spin.report.reading import read_run
from spin.report.request import ReportRequest
from spin.report.room import run
from spin.report.scoring import score_rows
from tests.report.conftest import commit_rows

EVEN = np.arange(16.0) + 60
NOISE = np.tile([0.5, -0.5], 8)


@pytest.fixture
def raised(builder):
    """Alarms after overwriting the scores of SPIN 1 against an even SFT start."""
    builder.stages = ("base", "sft", "iteration-01")
    builder.build()

    def ask(diversity_of_set=None, per_prompt=None, **gains):
        own = {} if per_prompt is None else {"diversity": per_prompt}
        builder.write_scores("sft", dict.fromkeys([*gains, *own], EVEN))
        builder.write_scores("iteration-01", {judge: EVEN + gain for judge, gain in (gains | own).items()})
        if diversity_of_set is not None:
            for stage, value in zip(("sft", "iteration-01"), diversity_of_set, strict=True):
                rows = [{"metric": "diversity", "value": value, "images": 16}]
                commit_rows(builder.evaluation(stage).set_metrics, schema.SET_METRICS, rows, "set-metrics")
        rows = score_rows(read_run(runs_root=builder.root, run=builder.name))
        return [alarm for alarm in alarms(rows) if alarm.model == "SPIN 1" and alarm.opponent == "SFT"]

    return ask


def test_a_judge_that_rises_while_another_falls_raises_the_alarm_once(raised):
    (alarm,) = raised(alignment=-1, aesthetic=0.85)
    assert alarm.against == ("previous", "start")
    assert alarm.short == "Reward-hacking alarm: aesthetic up, alignment down."
    assert alarm.whole == (
        "SPIN 1 gains on SFT on aesthetic by +0.85 [0.85, 0.85], "
        "but falls behind it on alignment by \u22121.00 [\u22121.00, \u22121.00]."
    )


def test_gains_alone_and_losses_alone_and_uncertain_ones_are_no_alarm(raised):
    assert raised(alignment=1, aesthetic=1) == []
    assert raised(alignment=-1, aesthetic=-1) == []
    assert raised(alignment=NOISE, aesthetic=1) == []


def test_a_fall_of_diversity_beyond_the_threshold_is_an_alarm(raised):
    (alarm,) = raised(alignment=0, aesthetic=1, diversity_of_set=(10.0, 10 * (1 - FALL) - 0.01))
    assert dict(alarm.fallen) == {"diversity": "5 % (10.00 to 9.49)"}
    assert raised(alignment=0, aesthetic=1, diversity_of_set=(10.0, 10 * (1 - FALL) + 0.01)) == []
    assert raised(alignment=0, aesthetic=0, diversity_of_set=(10.0, 5.0)) == []  # nothing was won by it


def test_diversity_per_prompt_is_asked_by_its_interval(raised):
    spread = {"alignment": 0, "aesthetic": 1, "diversity_of_set": (10.0, 5.0)}
    assert raised(**spread, per_prompt=NOISE) == []  # the whole set falls by half, its prompts do not
    (alarm,) = raised(**spread, per_prompt=-0.1)
    assert dict(alarm.fallen) == {"diversity": "\u22120.10 [\u22120.10, \u22120.10]"}


def test_the_alarm_stands_in_verdict_story_and_page(builder):
    builder.stages = ("base", "sft")
    builder.build()
    builder.write_scores("base", {"alignment": EVEN, "aesthetic": EVEN})
    builder.write_scores("sft", {"alignment": EVEN - 1, "aesthetic": EVEN + 1})
    told = run(ReportRequest(builder.root, builder.name))
    said = "Reward-hacking alarm: aesthetic up, alignment down."
    assert told.verdict.endswith(said)
    assert "## Reward-hacking alarm\n\n- SFT gains on base on aesthetic by +1.00" in told.story
    page = told.page.read_text("utf-8")
    assert "Reward-hacking alarm" in page.split("<main>")[0]
    assert "SFT gains on base on aesthetic by +1.00" in page

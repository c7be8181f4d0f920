"""The server's automations are replaced only where they say something else."""

from __future__ import annotations

from collections.abc import Sequence

from prefect.events.schemas.automations import AutomationCore, EventTrigger

from flows.automations import _content, _crashes


def expecting(words: Sequence[str]) -> AutomationCore:
    automation = next(iter(_crashes()))
    assert isinstance(automation.trigger, EventTrigger)
    trigger = automation.trigger.model_copy(update={"expect": set(words)})
    return automation.model_copy(update={"trigger": trigger})


def test_the_order_in_which_a_process_keeps_its_sets_is_no_difference() -> None:
    """It hangs on the process's hash seed; an automation that is replaced forgets the silence that it has counted."""
    after = next(word for word in map(str, range(1000)) if list({"beat", word}) != list({word, "beat"}))
    one, other = expecting(["beat", after]), expecting([after, "beat"])
    assert one.model_dump(mode="json") != other.model_dump(mode="json")
    assert _content(one) == _content(other)


def test_other_words_are_a_difference() -> None:
    assert _content(expecting(["beat"])) != _content(expecting(["Completed"]))

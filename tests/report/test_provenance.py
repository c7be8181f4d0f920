import pytest

from spin.report.provenance import config_lines, kind_of, lineage, time_shares, time_spent
from spin.report.reading import read_run


def test_seconds_are_summed_by_kind_of_work(finished_run):
    spent = time_spent(read_run(runs_root=finished_run.root, run="miniature"))
    # 3 x 8 s sampling, 4 x 7 s training, 5 x 5.5 s evaluation
    assert [(kind, seconds) for kind, seconds, _ in time_shares(spent)] == [
        ("sampling", 24.0), ("training", 28.0), ("evaluation", 27.5),
    ]  # fmt: skip
    assert sum(share for *_, share in time_shares(spent)) == pytest.approx(1)
    assert next(row.rate for row in spent if row.kind == "sampling") == 384 / 8


def test_tasks_are_known_by_their_names():
    kinds = [kind_of(name) for name in ("prepare", "sampling", "sample_shard", "train", "evaluate", "gate")]
    assert kinds == ["preparation", "sampling", "sampling", "training", "evaluation", "other"]


def test_lineage_names_what_each_model_was_made_from(finished_run):
    links = lineage(read_run(runs_root=finished_run.root, run="miniature"))
    assert [(link.label, link.made_from) for link in links][:4] == [
        ("data", ""), ("base", ""), ("SFT", "base + data"), ("SPIN 1", "SFT + data"),
    ]  # fmt: skip


def test_config_is_written_line_by_line():
    config = {"iterations": 3, "train": {"flip": False, "lr": 3e-5}, "data": {"path": None}}
    assert list(config_lines(config)) == [
        ("iterations", "3"), ("train.flip", "false"), ("train.lr", "3e-05"), ("data.path", "null"),
    ]  # fmt: skip

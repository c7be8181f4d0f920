"""One clear line, one exit code, and a way through pickle (Prefect sends exceptions between processes)."""

import pickle

import pytest

from spin.core.errors import ArtifactError, ConfigError, DataError, SpinError, TrainingError

KINDS = [SpinError, ConfigError, DataError, ArtifactError, TrainingError]


def test_an_error_says_where_what_and_one_way_out():
    error = ArtifactError("shard 7 holds 61 of 64 images", where="a.parquet", fix="sample it again")
    assert str(error) == "a.parquet: shard 7 holds 61 of 64 images; sample it again"


@pytest.mark.parametrize(
    ("where", "fix", "line"),
    [(None, None, "bad"), ("here", None, "here: bad"), (None, "mend it", "bad; mend it")],
)
def test_place_and_fix_may_be_left_out(where, fix, line):
    assert str(SpinError("bad", where=where, fix=fix)) == line


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_exits_with_2(kind):
    assert issubclass(kind, SpinError)
    assert kind("bad").exit_code == 2


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_survives_pickle(kind):
    error = pickle.loads(pickle.dumps(kind("bad", where="here", fix="mend it")))
    assert (type(error), str(error)) == (kind, "here: bad; mend it")

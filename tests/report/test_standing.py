"""How artifacts stand is read off their manifests; each kind of damage has its own word."""

from __future__ import annotations

from pathlib import Path

import pytest

from spin.core.layout import RunsRoot, manifest_path
from spin.core.schema import add_digests
from spin.core.store import commit, read_manifest
from spin.report.standing import Artifacts, Standing, differing, whole_digest


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    path = tmp_path / "run" / "file.bin"
    commit(path, lambda target: target.write_bytes(b"four"), kind="test", identity={"from": "a"})
    return path


def look(path: Path, *, hash_bytes: bool = False) -> Standing:
    return Artifacts(RunsRoot(path.parents[1]), hash_bytes=hash_bytes).look(path)


def test_a_whole_artifact_has_digest_identity_and_a_path_below_the_root(artifact: Path) -> None:
    found, manifest = look(artifact, hash_bytes=True), read_manifest(artifact)
    assert manifest is not None
    assert found == Standing("run/file.bin", manifest.content_digest, "", {"from": "a"})


def test_each_damage_has_its_word(artifact: Path) -> None:
    artifact.write_bytes(b"five")
    assert look(artifact).broken == ""  # of the same size: only its bytes tell
    assert look(artifact, hash_bytes=True).broken == "bytes differ from the manifest"
    artifact.write_bytes(b"longer")
    assert look(artifact).broken == "is damaged"
    artifact.unlink()
    assert look(artifact).broken == "is missing"
    assert look(artifact).digest is not None  # the manifest still tells which file it was
    manifest_path(artifact).write_text("{}")
    assert look(artifact).broken == "manifest is damaged"
    manifest_path(artifact).unlink()
    assert look(artifact).broken == "is missing"
    artifact.write_bytes(b"four")
    assert look(artifact).broken == "has no manifest"


def test_digests_that_nobody_knows_do_not_differ() -> None:
    assert differing("other", "a" * 64, "b" * 64) == (f"other: {'a' * 12}, not {'b' * 12}",)
    assert differing("other", "a", "a") == differing("other", None, "a") == differing("other", "a", None) == ()


def test_the_digest_of_shards_is_that_of_their_union_and_none_where_one_is_unknown() -> None:
    shards = [Standing("a", "01"), Standing("b", "02")]
    assert whole_digest(shards) == add_digests(["01", "02"])
    assert whole_digest([*shards, Standing("c", None)]) is None
    assert whole_digest([]) is None

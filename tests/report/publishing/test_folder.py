"""A published folder is whole or not there, and what others put into it stays."""

from __future__ import annotations

from pathlib import Path

import pytest

from spin.core.errors import ArtifactError, ConfigError
from spin.report.publishing.folder import Piece, others, refuse_place, write_folder

CARD = "# A card\n"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    (folder / "unet").mkdir(parents=True)
    (folder / "unet" / "weights.safetensors").write_bytes(b"weights")
    (folder / "unet" / "config.json").write_text("{}")
    return folder


def pieces(source: Path) -> list[Piece]:
    files = sorted(path for path in source.rglob("*") if path.is_file())
    return [Piece(path.relative_to(source).as_posix(), path, link=path.suffix == ".safetensors") for path in files]


def test_large_files_are_links_and_small_ones_copies(source: Path, tmp_path: Path) -> None:
    into = tmp_path / "deep" / "into"
    written = write_folder(into, pieces(source), {"recipe.yaml": b"x"}, card=CARD)
    assert written == ("README.md", "recipe.yaml", "unet/config.json", "unet/weights.safetensors")
    assert (into / "unet" / "weights.safetensors").samefile(source / "unet" / "weights.safetensors")
    assert not (into / "unet" / "config.json").samefile(source / "unet" / "config.json")
    assert sorted(path.name for path in into.iterdir()) == ["README.md", "recipe.yaml", "unet"]
    assert (into / "README.md").read_text().startswith(CARD)
    assert [path.name for path in into.parent.iterdir()] == ["into"]  # no draft is left


def test_a_second_call_replaces_what_the_first_wrote_and_keeps_the_rest(source: Path, tmp_path: Path) -> None:
    into = tmp_path / "into"
    write_folder(into, pieces(source), {"old.yaml": b"old"}, card=CARD)
    (into / "LICENCE.md").write_text("ours")
    (into / "notes" / "deep").mkdir(parents=True)
    (into / "notes" / "deep" / "a.txt").write_text("a")
    (into / "link").symlink_to("LICENCE.md")
    (source / "unet").rename(source / "transformer")
    refuse_place(into)
    written = write_folder(into, pieces(source), {}, card="# Another\n")
    assert written == ("README.md", "transformer/config.json", "transformer/weights.safetensors")
    assert [path.name for path in others(into)] == ["LICENCE.md", "link", "notes"]
    names = ["LICENCE.md", "README.md", "link", "notes", "transformer"]
    assert sorted(path.name for path in into.iterdir()) == names
    assert (into / "notes" / "deep" / "a.txt").read_text() == "a"
    assert (into / "link").is_symlink()
    refuse_place(into)


def test_new_and_empty_folders_are_good(tmp_path: Path) -> None:
    refuse_place(tmp_path / "new")
    (tmp_path / "empty").mkdir()
    refuse_place(tmp_path / "empty")


def test_other_folders_files_and_edited_cards_are_refused(source: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"{source}: holds other files; name a new folder"):
        refuse_place(source)
    with pytest.raises(ConfigError, match="is a file, not a folder"):
        refuse_place(source / "unet" / "config.json")
    into = tmp_path / "into"
    write_folder(into, pieces(source), {}, card=CARD)
    card = into / "README.md"
    card.write_text(card.read_text().replace("A card", "My card"))
    with pytest.raises(ConfigError, match=r"README\.md: the card has been edited by hand, which is not overwritten"):
        refuse_place(into)
    card.write_text("# Somebody's own\n")
    with pytest.raises(ConfigError, match="holds other files"):
        refuse_place(into)


def test_a_failure_leaves_the_folder_as_it_was(source: Path, tmp_path: Path) -> None:
    into = tmp_path / "into"
    write_folder(into, pieces(source), {}, card=CARD)
    before = sorted(into.rglob("*"))
    with pytest.raises(ArtifactError, match="into: cannot write: No such file"):
        write_folder(into, [*pieces(source), Piece("unet/gone.json", source / "gone.json")], {}, card="# New\n")
    assert sorted(into.rglob("*")) == before
    assert (into / "README.md").read_text().startswith(CARD)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["into", "source"]

"""Pushes a published folder to the Hugging Face hub: the one place of a run that talks to somebody else's machine."""

from __future__ import annotations

import glob
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Literal

from spin.core.errors import ConfigError
from spin.report.publishing.licences import Licence

_REPOSITORY: Final = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")

Kind = Literal["model", "dataset"]


def refuse_push(repository: str, unknown: tuple[Licence, ...]) -> None:
    """What stands in the way of a push, before anything is written: its name, a licence nobody stated, no login."""
    from huggingface_hub import constants, get_token

    where = f"--push-to-hub {repository[:100]}"
    if not _REPOSITORY.fullmatch(repository):
        raise ConfigError("is no name of a repository", where=where, fix="name OWNER/NAME")
    if unknown:
        missing = "; ".join(f"{each.of}: {each.told} ({each.source})" for each in unknown)
        keys = " ".join(f"--set {each.key}=LICENCE" for each in unknown)
        raise ConfigError(f"nothing is pushed without a licence: {missing}", where=where, fix=keys)
    if constants.HF_HUB_OFFLINE:
        raise ConfigError("the hub is switched off by HF_HUB_OFFLINE", where=where, fix="unset it")
    if get_token() is None:
        raise ConfigError("nobody is logged in to the hub", where=where, fix="hf auth login, or export HF_TOKEN")


def push(folder: Path, repository: str, *, files: Sequence[str], kind: Kind, private: bool, message: str) -> str:
    """Upload files of a folder; returns the repository's address.

    Args:
        files: their names in it; nothing else that lies there is sent.
        private: of a repository that is made by this call; one that is there stays as it is.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    api = HfApi()
    refusals: Any = (*HfHubHTTPError.__bases__, OSError, ValueError)  # its base is httpx's, of whichever version
    try:
        address = api.create_repo(repository, private=private, repo_type=kind, exist_ok=True)
        api.upload_folder(
            repo_id=repository, folder_path=folder, repo_type=kind, commit_message=message,
            allow_patterns=[glob.escape(name) for name in files],
        )  # fmt: skip
    except refusals as error:
        problem = " ".join(str(error).split())[:300] or type(error).__name__
        where, fix = f"--push-to-hub {repository}", f"{folder} is whole: the same command tries again"
        raise ConfigError(f"the hub did not take it: {problem}", where=where, fix=fix) from error
    return str(address)

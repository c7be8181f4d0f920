"""The command line as a user meets it: in this process, or as the installed script."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import pytest

from flows import cli

SCRIPT = Path(sys.executable).parent / "spin-diffusion"
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}


@dataclass(frozen=True)
class Answer:
    code: int
    out: str
    err: str

    @property
    def line(self) -> str:
        """What stands on stderr, which must be one line of a refusal."""
        lines = self.err.strip().splitlines()
        assert self.code == 2, f"exit code {self.code}: {self.err}"
        assert len(lines) == 1, self.err
        assert "Traceback" not in self.err + self.out
        return lines[0]


def type_in(folder: Path, *arguments: str) -> Answer:
    """Give a command in `folder`, in this process; its settings for Prefect do not outlive it."""
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(sys, "argv", ["spin-diffusion", *arguments])
        for name in ("PREFECT_HOME", "PREFECT_PROFILES_PATH"):
            patch.setenv(name, os.environ[name])
        with redirect_stdout(out), redirect_stderr(err):
            try:
                cli.main()
                code = 0
            except SystemExit as ended:
                code = int(ended.code or 0)
    return Answer(code, out.getvalue(), err.getvalue())


def start_script(folder: Path, *arguments: str, timeout_seconds: float = 300) -> Answer:
    """Give a command in `folder` as the installed script, with a Prefect of its own."""
    done = subprocess.run(
        [str(SCRIPT), *arguments],
        cwd=folder,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout_seconds,
    )
    return Answer(done.returncode, done.stdout, done.stderr)

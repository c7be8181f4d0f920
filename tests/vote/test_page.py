"""The page as its traffic: nothing in it tells the models, nothing asks another machine."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from spin.core.errors import ConfigError
from spin.vote import page
from tests.report.conftest import RunBuilder
from tests.vote.conftest import Open

ROOT = Path(__file__).parents[2]


def test_what_is_sent_tells_no_model(enter: Open, built: RunBuilder) -> None:
    booth = enter(prompts=3)
    names = [str(stage[part]) for stage in built.record()["stages"] for part in ("digest", "label", "name")]
    names += [stage["digest"][:12] for stage in built.record()["stages"]]
    for pair in booth.pairs:
        html, progress, key = page.render(booth)
        sent = re.sub(r"base64,[A-Za-z0-9+/=]+", "", html) + progress + key
        assert pair.prompt in html
        assert [name for name in names if name in sent] == []
        booth.vote(key, "left")
    html, progress, key = page.render(booth)
    assert ("All pairs have your vote" in html, key) == (True, "")
    assert "3 of 3" in progress


def test_a_prompt_cannot_bring_markup_along(enter: Open) -> None:
    booth = enter(prompts=1)
    object.__setattr__(booth.pairs[0], "prompt", "<script>alert(1)</script>")
    assert "<script>" not in page.render(booth)[0]


def test_the_page_forbids_other_hosts_and_answers_none(enter: Open) -> None:
    pytest.importorskip("gradio")
    from fastapi.testclient import TestClient

    client = TestClient(page.make_app(enter(prompts=2), 7860), base_url="http://127.0.0.1:7860")
    answer = client.get("/")
    assert answer.status_code == 200
    policy = answer.headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "http" not in policy
    assert re.findall(r'<(?:script|link)[^>]+(?:src|href)="https?://', answer.text) == []
    assert client.get("/", headers={"host": "evil.example"}).status_code == 400
    assert client.get("/docs").status_code == 404
    assert '"analytics_enabled":false' in answer.text


def test_a_taken_port_is_one_line(enter: Open) -> None:
    pytest.importorskip("gradio")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"--port: port {port}: .*; name a free one"):
            page.serve(enter(prompts=1), port, print)


def test_without_gradio_the_way_to_it_is_told(enter: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=re.escape('pip install "spin-diffusion[vote]"')):
        page.serve(enter(prompts=1), 7860, print)


def test_nothing_but_the_served_page_imports_gradio() -> None:
    program = "import sys, flows.cli, flows.voting, spin.vote.page, spin.vote.booth; print('gradio' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout == "False\n", done.stderr

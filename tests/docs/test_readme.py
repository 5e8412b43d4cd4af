"""The README's code blocks are run as they stand, in an empty folder, against the real product."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from core.environment import ROOT

BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
THE_TWO_COMMANDS = ["make up\n", "make test\n"]


def blocks(page: Path) -> list[tuple[str, str]]:
    return BLOCK.findall(page.read_text())


def run(block: tuple[str, str], folder: Path, settings: dict[str, str]) -> str:
    language, code = block
    command = [sys.executable, "-c", code] if language == "python" else ["bash", "-euo", "pipefail", "-c", code]
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(command, cwd=folder, env={**os.environ, **settings, "PATH": path}, capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 0, f"{code}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def test_the_first_screen_is_the_two_commands():
    first = [code for _, code in blocks(ROOT / "README.md")][:2]
    assert first == THE_TWO_COMMANDS
    targets = (ROOT / "Makefile").read_text()
    assert re.search(r"^up:", targets, re.MULTILINE)
    assert re.search(r"^test:", targets, re.MULTILINE)


def test_every_block_of_the_readme_runs(product, tmp_path):
    settings = {"SIGNALBOX_URL": product.console_url, "SIGNALBOX_KEY": product.admin_key}
    runnable = [block for block in blocks(ROOT / "README.md") if block[1] not in THE_TWO_COMMANDS]
    printed = [run(block, tmp_path, settings) for block in runnable]
    assert len(printed) == 2
    heading, answer = printed[-1].splitlines()[-2:]
    assert heading.split() == ["ROW", "LABEL", "P(0)", "P(1)", "P(2)"]
    assert answer.split()[:2] == ["0", "0"]
    after = (ROOT / "docs" / "tutorial" / "first-model.md").read_text()
    (trained,) = [block for block in BLOCK.findall(after) if block[0] == "python"]
    run(trained, tmp_path, settings)
    _, _, rest = after.partition("## Ask it with curl")
    told = [run(block, tmp_path, settings) for block in BLOCK.findall(rest) if block[0] == "sh"]
    assert [line.split()[0] for line in told[-1].splitlines()] == ["REVISION", "6", "5", "4", "3", "2", "1"]


def test_every_relative_link_of_the_documentation_leads_somewhere():
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), ROOT / "SECURITY.md", ROOT / "CHANGELOG.md"]
    missing = [
        f"{page.relative_to(ROOT)}: {link}"
        for page in pages
        for link in re.findall(r"\]\((?!https?:|#|mailto:)([^)#\s]+)", page.read_text())
        if not (page.parent / link).exists()
    ]
    assert missing == []

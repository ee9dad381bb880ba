"""What is typed to install more of thaw, by where it was installed from."""

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

import thaw
from thaw.runtime import installed
from thaw.runtime.installed import install_command, requirement

GIT = {"url": "https://example.org/thaw", "vcs_info": {"vcs": "git", "commit_id": "0123abc"}}
WHEEL = {"url": "file:///home/me/thaw-0.1.0-py3-none-any.whl", "archive_info": {}}
CHECKOUT = {"url": "file:///home/me/my%20thaw", "dir_info": {"editable": True}}


def came_from(monkeypatch, *origins: dict | None) -> None:
    texts = [json.dumps(origin) if origin else None for origin in origins]
    found = [SimpleNamespace(read_text=lambda _, text=text: text) for text in texts]
    monkeypatch.setattr(installed, "distributions", lambda name: found)


@pytest.mark.parametrize(
    ("origin", "command", "line"),
    [
        (
            GIT,
            'pip install "thaw[ray] @ git+https://example.org/thaw@0123abc"',
            "thaw @ git+https://example.org/thaw@0123abc",
        ),
        (WHEEL, f'pip install "thaw[ray] @ {WHEEL["url"]}"', f"thaw @ {WHEEL['url']}"),
        (CHECKOUT, 'pip install -e "/home/me/my thaw[ray]"', "-e file:///home/me/my%20thaw"),
    ],
)
def test_more_of_thaw_comes_from_where_thaw_came_from(monkeypatch, origin, command, line):
    came_from(monkeypatch, None, origin)  # the first is the egg-info of a checkout
    assert (install_command("ray"), requirement()) == (command, line)


def test_in_the_checkout_that_is_installed_it_is_here(monkeypatch, tmp_path):
    came_from(monkeypatch, {"url": tmp_path.as_uri(), "dir_info": {"editable": True}})
    monkeypatch.chdir(tmp_path)
    assert (install_command(), install_command("ray")) == ("pip install -e .", 'pip install -e ".[ray]"')


def test_without_a_record_it_is_the_checkout_of_the_code_or_else_the_index(monkeypatch, tmp_path):
    came_from(monkeypatch)
    assert requirement() == f"-e {Path(thaw.__file__).parents[1].as_uri()}"
    monkeypatch.setattr(installed.thaw, "__file__", str(tmp_path / "thaw/__init__.py"))
    assert (install_command("ray"), requirement()) == ('pip install "thaw[ray]"', f"thaw=={thaw.__version__}")


def test_pip_takes_the_requirement(tmp_path):
    file = tmp_path / "requirements.txt"
    file.write_text(f"{requirement()}\n")
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--dry-run",
        "--no-deps",
        "--no-build-isolation",
        "-r",
        str(file),
    ]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert f"thaw-{thaw.__version__}" in result.stdout

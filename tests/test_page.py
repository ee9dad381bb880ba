"""The template of `dvc plots show`'s page: the drawing code that it carries is the one that DVC's own page loads."""

import hashlib
import importlib.util
import re
from pathlib import Path

from dvc_render.vega import VegaRenderer

PLOTS = Path(__file__).parent.parent / ".dvc/plots"
spec = importlib.util.spec_from_file_location("make_page", PLOTS / "make_page.py")
make_page = importlib.util.module_from_spec(spec)
spec.loader.exec_module(make_page)


def test_the_template_holds_the_scripts_as_they_were_published():
    page = (PLOTS / "page.html").read_text(encoding="utf-8")
    scripts = re.findall(r"<script>/\* (\S+) (\S+) \*/\n(.*?)</script>", page, re.DOTALL)
    found = tuple((package, version, hashlib.sha256(code.encode()).hexdigest()) for package, version, code in scripts)
    assert found == make_page.SCRIPTS


def test_the_scripts_are_of_the_versions_that_dvcs_own_page_loads():
    loaded = re.findall(r"npm/([a-z-]+)@([0-9.]+)", VegaRenderer.SCRIPTS)
    assert loaded == [(package, version) for package, version, _ in make_page.SCRIPTS]


def test_all_but_the_scripts_is_what_make_page_writes():
    page = (PLOTS / "page.html").read_text(encoding="utf-8")
    start, end = make_page.PAGE.split("LICENSE")[0], make_page.PAGE.split("SCRIPTS")[1]
    assert page.startswith(start)
    assert page.endswith(end)

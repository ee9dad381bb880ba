"""What CI alone holds: files that are made from others are up to date."""

import shutil

import pytest

from tools.committed import PAGES, ROOT, outdated


@pytest.mark.slow
@pytest.mark.parametrize("name", ["params.yaml", *PAGES])
def test_a_file_that_was_changed_is_named(tmp_path, name):
    (tmp_path / "docs").mkdir()
    for file in ("params.yaml", *PAGES):
        shutil.copy(ROOT / file, tmp_path / file)
    before = outdated(tmp_path)
    text = (tmp_path / name).read_text(encoding="utf-8")
    (tmp_path / name).write_text(text.replace("backbone", "backbones", 1), encoding="utf-8")
    assert [line.split()[0] for line in outdated(tmp_path) if line not in before] == [name]

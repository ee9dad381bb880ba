"""tools.seeded_faults: each fault still has its place in the code."""

import shutil

import pytest

from tests.helpers.project import ROOT
from tools.seeded_faults import FAULTS, seed


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_can_be_seeded(name, tmp_path):
    fault = FAULTS[name]
    file = tmp_path / "thaw" / fault.file
    file.parent.mkdir(parents=True)
    shutil.copy(ROOT / "thaw" / fault.file, file)
    seed(fault, tmp_path)
    assert file.read_text(encoding="utf-8") != (ROOT / "thaw" / fault.file).read_text(encoding="utf-8")


def test_there_are_25_faults_in_each_package_that_decides_numbers():
    assert len(FAULTS) == 25
    packages = {fault.file.split("/")[0] for fault in FAULTS.values()}
    assert packages >= {"backbones", "data", "datasets", "evaluation", "extraction", "network", "training"}

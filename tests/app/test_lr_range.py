"""What trials of learning rates suggest."""

import numpy as np

from thaw.app.lr_range import Trial, draw_trials, suggestion

NOT_FINITE = Trial(1.0, np.nan, np.nan)


def test_the_highest_accuracy_is_suggested_and_of_equals_the_lowest_loss():
    found = [Trial(0.001, 0.7, 0.9), Trial(0.01, 0.8, 0.7), Trial(0.1, 0.8, 0.6), NOT_FINITE]
    assert suggestion(found).rate == 0.1


def test_the_chart_leaves_out_what_was_not_finite(tmp_path):
    draw_trials(tmp_path / "a.png", "head", [Trial(0.1, 0.5, 1.0), NOT_FINITE])
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")

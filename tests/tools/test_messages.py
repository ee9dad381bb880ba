"""docs/messages.md: what it shows is what commands say."""

import pytest

from tests.config.test_params import CONF
from thaw.config.compose import compose
from thaw.config.load import check_params
from thaw.errors import ParamError
from thaw.stage import TABLES
from tools.messages import message, override, shown


@pytest.mark.slow
@pytest.mark.parametrize("bad", shown(), ids=repr)
def test_a_message_of_the_page_is_that_of_its_value_typed(bad):
    with pytest.raises(ParamError) as caught:
        check_params(compose([*bad.base, override(bad)], CONF), TABLES)
    assert str(caught.value) == message(bad)

"""Where a stage listens."""

import pytest

from mycoswarm.base.errors import SetupError
from mycoswarm.stage.lifetime import _listen


def test_an_address_that_cannot_be_listened_on_is_left_out_as_long_as_another_can() -> None:
    listeners, hosts = _listen(("127.0.0.1", "192.0.2.1", "127.0.0.2"))
    try:
        assert hosts == ("127.0.0.1", "127.0.0.2")
        assert len({listener.getsockname()[1] for listener in listeners}) == 1
    finally:
        for listener in listeners:
            listener.close()


@pytest.mark.parametrize("hosts", [(), ("192.0.2.1",)])
def test_without_any_address_it_is_an_error(hosts: tuple[str, ...]) -> None:
    with pytest.raises(SetupError):
        _listen(hosts)

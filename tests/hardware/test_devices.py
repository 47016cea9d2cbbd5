"""The real child with the real llama.cpp: started as the daemon starts it, never imported here."""

import pytest

from mycoswarm.hardware.listing import list_devices

pytestmark = pytest.mark.slow


def test_the_child_lists_at_least_the_cpu() -> None:
    listing = list_devices(limit_s=60)
    assert listing.reason is None
    assert "cpu" in [device.kind for device in listing.devices or ()]

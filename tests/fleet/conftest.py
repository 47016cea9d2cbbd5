"""One fleet of real daemons for the tests that leave it as they found it; others start their own."""

from collections.abc import Iterator

import pytest

from mycoswarm.cli.fleet import Fleet


@pytest.fixture(scope="session")
def fleet() -> Iterator[Fleet]:
    """A coordinator and two workers, enrolled."""
    with Fleet(workers=2) as running:
        running.find()
        running.enrol()
        yield running


@pytest.fixture
def own_fleet() -> Iterator[Fleet]:
    """The same, for one test that breaks it."""
    with Fleet(workers=2) as running:
        running.enrol()
        yield running

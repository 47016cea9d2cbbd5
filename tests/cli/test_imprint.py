"""`licenses`: what it says where there is nothing inside; the packed program's own are looked at by build/smoke."""

from click.testing import CliRunner

from mycoswarm.cli.entry import main


def test_a_checkout_says_that_it_holds_nothing_of_others() -> None:
    done = CliRunner().invoke(main, ["licenses"])
    assert done.exit_code == 1 and "not the packed program" in done.output

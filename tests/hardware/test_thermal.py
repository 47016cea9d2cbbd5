from pathlib import Path

from mycoswarm.hardware.thermal import read_temperature_celsius


def test_the_hottest_believable_zone_counts(tmp_path: Path) -> None:
    for number, text in enumerate(["41000", "63500", "-274000", "2147483647", "warm"]):
        (tmp_path / f"sys/class/thermal/thermal_zone{number}").mkdir(parents=True)
        (tmp_path / f"sys/class/thermal/thermal_zone{number}/temp").write_text(text)
    assert read_temperature_celsius(tmp_path) == 63.5


def test_no_sensor_is_unknown(tmp_path: Path) -> None:
    assert read_temperature_celsius(tmp_path) is None

"""How hot the machine is: a small board without a fan slows down long before it fails."""

from pathlib import Path

from mycoswarm.hardware.root import list_names, read_number

# A sensor that is not connected reads far outside what silicon survives.
_COLDEST_CELSIUS, _HOTTEST_CELSIUS = -40.0, 150.0


def read_temperature_celsius(root: Path) -> float | None:
    """The hottest zone of /sys/class/thermal in degrees Celsius; None without a believable sensor."""
    folder = "sys/class/thermal"
    zones = [name for name in list_names(root, folder) if name.startswith("thermal_zone")]
    readings = [read_number(root, f"{folder}/{name}/temp") for name in zones]
    celsius = [reading / 1000 for reading in readings if reading is not None]
    return max((value for value in celsius if _COLDEST_CELSIUS < value < _HOTTEST_CELSIUS), default=None)

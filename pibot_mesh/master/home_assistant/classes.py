"""The device classes, units and state classes of Home Assistant 2026.11: tables, read out of the running program."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

STATE_CLASSES: Final = ("measurement", "measurement_angle", "total", "total_increasing")
_MEASURED: Final = ("measurement",)
_COUNTED: Final = ("total", "total_increasing")
_ENERGY: Final = ("GJ", "GWh", "Gcal", "J", "MJ", "MWh", "Mcal", "TWh", "Wh", "cal", "kJ", "kWh", "kcal", "mWh", "thm")
_PRESSURE: Final = ("Pa", "atm", "bar", "cbar", "hPa", "inHg", "inH₂O", "kPa", "mPa", "mbar", "mmHg", "psi")
_VOLUME: Final = ("CCF", "L", "MCF", "fl. oz.", "ft³", "gal", "mL", "m³")
_TEMPERATURE: Final = ("°C", "°F", "K")
_DATA: Final = (
    *("bit", "kbit", "Mbit", "Gbit", "B", "kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB"),
    *("KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB", "YiB"),
)
_BINARY: Final = (
    *("battery", "battery_charging", "carbon_monoxide", "cold", "connectivity", "door", "garage_door", "gas"),
    *("glass_break", "heat", "light", "lock", "moisture", "motion", "moving", "occupancy", "opening", "plug"),
    *("power", "presence", "problem", "running", "safety", "smoke", "sound", "tamper", "update", "vibration", "window"),
)


@dataclass(frozen=True, slots=True)
class SensorClass:
    """The units that a class goes with (None among them: without one; None: any), and the state classes it may have."""

    units: tuple[str | None, ...] | None
    state_classes: tuple[str, ...]


SENSOR: Final[Mapping[str, SensorClass]] = {
    "absolute_humidity": SensorClass(("g/m³", "mg/m³"), _MEASURED),
    "apparent_power": SensorClass(("VA", "kVA", "mVA"), _MEASURED),
    "aqi": SensorClass((None,), _MEASURED),
    "area": SensorClass(("ac", "cm²", "ft²", "ha", "in²", "km²", "mi²", "mm²", "m²", "yd²"), STATE_CLASSES),
    "atmospheric_pressure": SensorClass(_PRESSURE, _MEASURED),
    "battery": SensorClass(("%",), _MEASURED),
    "blood_glucose_concentration": SensorClass(("mg/dL", "mmol/L"), _MEASURED),
    "carbon_dioxide": SensorClass(("ppm",), _MEASURED),
    "carbon_monoxide": SensorClass(("mg/m³", "ppb", "ppm", "μg/m³"), _MEASURED),
    "conductivity": SensorClass(("S/cm", "mS/cm", "μS/cm"), _MEASURED),
    "current": SensorClass(("A", "mA", "μA"), _MEASURED),
    "data_rate": SensorClass(
        ("B/s", "GB/s", "Gbit/s", "GiB/s", "KiB/s", "MB/s", "Mbit/s", "MiB/s", "bit/s", "kB/s", "kbit/s"), _MEASURED
    ),
    "data_size": SensorClass(_DATA, STATE_CLASSES),
    "distance": SensorClass(("cm", "ft", "in", "km", "m", "mi", "mm", "nmi", "yd"), STATE_CLASSES),
    "duration": SensorClass(("d", "h", "min", "ms", "s", "μs"), STATE_CLASSES),
    "energy": SensorClass(_ENERGY, _COUNTED),
    "energy_distance": SensorClass(("Wh/km", "kWh/100km", "km/kWh", "mi/kWh"), _MEASURED),
    "energy_storage": SensorClass(_ENERGY, _MEASURED),
    "frequency": SensorClass(("GHz", "Hz", "MHz", "kHz", "mHz"), _MEASURED),
    "gas": SensorClass(("CCF", "L", "MCF", "ft³", "m³"), _COUNTED),
    "humidity": SensorClass(("%",), _MEASURED),
    "illuminance": SensorClass(("lx",), _MEASURED),
    "irradiance": SensorClass(("BTU/(h⋅ft²)", "W/m²"), _MEASURED),
    "moisture": SensorClass(("%",), _MEASURED),
    "monetary": SensorClass(None, ("total",)),
    "nitrogen_dioxide": SensorClass(("ppb", "ppm", "μg/m³"), _MEASURED),
    "nitrogen_monoxide": SensorClass(("ppb", "μg/m³"), _MEASURED),
    "nitrous_oxide": SensorClass(("μg/m³",), _MEASURED),
    "ozone": SensorClass(("ppb", "ppm", "μg/m³"), _MEASURED),
    "ph": SensorClass((None,), _MEASURED),
    "pm1": SensorClass(("μg/m³",), _MEASURED),
    "pm10": SensorClass(("μg/m³",), _MEASURED),
    "pm25": SensorClass(("μg/m³",), _MEASURED),
    "pm4": SensorClass(("μg/m³",), _MEASURED),
    "power": SensorClass(("GW", "MW", "TW", "W", "kW", "mW"), _MEASURED),
    "power_factor": SensorClass(("%", None), _MEASURED),
    "precipitation": SensorClass(("cm", "in", "mm"), STATE_CLASSES),
    "precipitation_intensity": SensorClass(("in/d", "in/h", "mm/d", "mm/h"), _MEASURED),
    "pressure": SensorClass(_PRESSURE, _MEASURED),
    "radon": SensorClass(("Bq/m³", "pCi/L"), _MEASURED),
    "reactive_energy": SensorClass(("kvarh", "varh"), _COUNTED),
    "reactive_power": SensorClass(("kvar", "mvar", "var"), _MEASURED),
    "signal_strength": SensorClass(("dB", "dBm"), _MEASURED),
    "sound_pressure": SensorClass(("dB", "dBA"), _MEASURED),
    "speed": SensorClass(
        ("Beaufort", "ft/s", "in/d", "in/h", "in/s", "km/h", "kn", "m/min", "m/s", "mm/d", "mm/h", "mm/s", "mph"),
        _MEASURED,
    ),
    "sulphur_dioxide": SensorClass(("ppb", "μg/m³"), _MEASURED),
    "temperature": SensorClass(_TEMPERATURE, _MEASURED),
    "temperature_delta": SensorClass(_TEMPERATURE, _MEASURED),
    "volatile_organic_compounds": SensorClass(("mg/m³", "μg/m³"), _MEASURED),
    "volatile_organic_compounds_parts": SensorClass(("ppb", "ppm"), _MEASURED),
    "voltage": SensorClass(("MV", "V", "kV", "mV", "μV"), _MEASURED),
    "volume": SensorClass(_VOLUME, _COUNTED),
    "volume_flow_rate": SensorClass(
        ("L/h", "L/min", "L/s", "ft³/min", "gal/d", "gal/h", "gal/min", "mL/s", "m³/h", "m³/min", "m³/s"), _MEASURED
    ),
    "volume_storage": SensorClass(_VOLUME, _MEASURED),
    "water": SensorClass(("CCF", "L", "MCF", "ft³", "gal", "m³"), _COUNTED),
    "weight": SensorClass(("g", "kg", "lb", "mg", "oz", "st", "μg"), ("measurement", "total", "total_increasing")),
    "wind_direction": SensorClass(("°",), ("measurement_angle",)),
    "wind_speed": SensorClass(("Beaufort", "ft/s", "in/s", "km/h", "kn", "m/min", "m/s", "mm/s", "mph"), _MEASURED),
}
"""Of sensors that are numbers. A number entity has the same ones, with the same units."""
WITHOUT_NUMBER: Final = ("date", "enum", "timestamp", "uptime")
"""Of sensors that are no numbers: without unit and state class."""
OTHERS: Final[Mapping[str, tuple[str, ...]]] = {
    "binary_sensor": _BINARY,
    "switch": ("outlet", "switch"),
    "button": ("identify", "restart", "update"),
    "event": ("button", "doorbell", "motion"),
    "update": ("firmware",),
}
"""The classes of each other platform that has some."""
SAME_UNITS: Final[Mapping[str, str]] = {
    "\u00b5Sv/h": "μSv/h",
    "\u00b5S/cm": "μS/cm",
    "\u00b5V": "μV",
    "\u00b5g/ft³": "μg/ft³",
    "\u00b5g/m³": "μg/m³",
    "\u00b5mol/s⋅m²": "μmol/s⋅m²",
    "\u00b5g": "μg",
    "\u00b5s": "μs",
    "mVAr": "mvar",
    "VAr": "var",
    "kVAr": "kvar",
    "VArh": "varh",
    "kVArh": "kvarh",
}
"""Units that Home Assistant reads as other ones: the micro sign (U+00B5) as the Greek letter."""

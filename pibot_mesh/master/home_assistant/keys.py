"""The keys of Home Assistant's discovery payloads, as release 2026.11 knows them: tables, read out of the program."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

ROOT: Final[Mapping[str, str]] = {
    "avty": "availability",
    "avty_mode": "availability_mode",
    "avty_t": "availability_topic",
    "avty_tpl": "availability_template",
    "cdevs": "child_devices",
    "cmd_t": "command_topic",
    "cmps": "components",
    "dev": "device",
    "e": "encoding",
    "msg_exp_int": "message_expiry_interval",
    "o": "origin",
    "pl_avail": "payload_available",
    "pl_not_avail": "payload_not_available",
    "qos": "qos",
    "stat_t": "state_topic",
}
"""The keys that may stand at the root of a device's payload: short → long. Any other one drops the device."""

SHARED: Final = frozenset(ROOT.values()) - {"child_devices", "components", "device", "origin"}
"""What components take from the root where they do not have it themselves."""

DEVICE: Final[Mapping[str, str]] = {
    "cns": "connections",
    "cu": "configuration_url",
    "hw": "hw_version",
    "ids": "identifiers",
    "mdl": "model",
    "mdl_id": "model_id",
    "mf": "manufacturer",
    "name": "name",
    "sa": "suggested_area",
    "sn": "serial_number",
    "sw": "sw_version",
    "via_device": "via_device",
}
"""The keys of ``dev``."""

ORIGIN: Final[Mapping[str, str]] = {"name": "name", "sw": "sw_version", "url": "support_url"}
"""The keys of ``o``."""

AVAILABILITY: Final[Mapping[str, str]] = {
    "t": "topic",
    "pl_avail": "payload_available",
    "pl_not_avail": "payload_not_available",
    "val_tpl": "value_template",
}
"""The keys of an item of ``availability``."""

COMPONENT: Final[Mapping[str, str]] = {
    **{short: long for short, long in ROOT.items() if long in SHARED},
    "bri_cmd_t": "brightness_command_topic",
    "bri_cmd_tpl": "brightness_command_template",
    "bri_scl": "brightness_scale",
    "bri_stat_t": "brightness_state_topic",
    "bri_val_tpl": "brightness_value_template",
    "clrm_stat_t": "color_mode_state_topic",
    "clr_temp_cmd_t": "color_temp_command_topic",
    "clr_temp_stat_t": "color_temp_state_topic",
    "cmd_tpl": "command_template",
    "def_ent_id": "default_entity_id",
    "dev_cla": "device_class",
    "dir_cmd_t": "direction_command_topic",
    "dir_stat_t": "direction_state_topic",
    "dsp_prc": "display_precision",
    "ent_cat": "entity_category",
    "evt_typ": "event_types",
    "exp_aft": "expire_after",
    "fx_cmd_t": "effect_command_topic",
    "fx_stat_t": "effect_state_topic",
    "hs_cmd_t": "hs_command_topic",
    "hs_stat_t": "hs_state_topic",
    "ic": "icon",
    "json_attr_t": "json_attributes_topic",
    "json_attr_tpl": "json_attributes_template",
    "l_ver_t": "latest_version_topic",
    "l_ver_tpl": "latest_version_template",
    # Home Assistant knows neither of these any more; the rules say so.
    "obj_id": "object_id",
    "off_dly": "off_delay",
    "on_cmd_type": "on_command_type",
    "ops": "options",
    "osc_cmd_t": "oscillation_command_topic",
    "osc_stat_t": "oscillation_state_topic",
    "p": "platform",
    "pct_cmd_t": "percentage_command_topic",
    "pct_cmd_tpl": "percentage_command_template",
    "pct_stat_t": "percentage_state_topic",
    "pct_val_tpl": "percentage_value_template",
    "pr_mode_cmd_t": "preset_mode_command_topic",
    "pr_mode_stat_t": "preset_mode_state_topic",
    "rgb_cmd_t": "rgb_command_topic",
    "rgb_cmd_tpl": "rgb_command_template",
    "rgb_stat_t": "rgb_state_topic",
    "rgb_val_tpl": "rgb_value_template",
    "rgbw_cmd_t": "rgbw_command_topic",
    "rgbw_stat_t": "rgbw_state_topic",
    "rgbww_cmd_t": "rgbww_command_topic",
    "rgbww_stat_t": "rgbww_state_topic",
    "spd_rng_max": "speed_range_max",
    "spd_rng_min": "speed_range_min",
    "stat_cla": "state_class",
    "stat_val_tpl": "state_value_template",
    "sug_dsp_prc": "suggested_display_precision",
    "uniq_id": "unique_id",
    "unit_of_meas": "unit_of_measurement",
    "val_tpl": "value_template",
    "whit_cmd_t": "white_command_topic",
    "xy_cmd_t": "xy_command_topic",
    "xy_stat_t": "xy_state_topic",
}
"""The keys of a component that the rules look at, of all platforms."""

ENTITIES: Final = frozenset(
    (
        *("alarm_control_panel", "binary_sensor", "button", "camera", "climate", "cover", "date", "datetime"),
        *("device_tracker", "event", "fan", "humidifier", "image", "infrared", "lawn_mower", "light", "lock", "notify"),
        *("number", "scene", "select", "sensor", "siren", "switch", "text", "time", "update", "vacuum", "valve"),
        "water_heater",
    )
)
PLATFORMS: Final = ENTITIES | {"device_automation", "tag"}
"""Every platform that a component may have; only those of `ENTITIES` need a unique id."""

REQUIRED: Final[Mapping[str, tuple[str, ...]]] = {
    "binary_sensor": ("state_topic",),
    "button": ("command_topic",),
    "event": ("state_topic", "event_types"),
    "fan": ("command_topic",),
    "light": ("command_topic",),
    "notify": ("command_topic",),
    "number": ("command_topic",),
    "select": ("command_topic", "options"),
    "sensor": ("state_topic",),
    "switch": ("command_topic",),
    "text": ("command_topic",),
    "update": ("state_topic",),
}
"""What a component of each platform that we use must have."""

OPTIMISTIC: Final = frozenset(("fan", "light", "number", "select", "switch"))
"""The platforms that guess their state where they have no state topic."""

_BOTH: Final = ("state_topic", "command_topic")
_LIGHT: Final = ("brightness", "color_temp", "effect", "hs", "rgb", "rgbw", "rgbww", "xy")
_FAN: Final = ("direction", "oscillation", "percentage", "preset_mode")

TOPICS: Final[Mapping[str, tuple[str, ...]]] = {
    "binary_sensor": ("state_topic",),
    "button": ("command_topic",),
    "event": ("state_topic",),
    "fan": (*_BOTH, *(f"{aspect}_{topic}" for aspect in _FAN for topic in _BOTH)),
    "light": (
        *(*_BOTH, "color_mode_state_topic", "white_command_topic"),
        *(f"{aspect}_{topic}" for aspect in _LIGHT for topic in _BOTH),
    ),
    "notify": ("command_topic",),
    "number": _BOTH,
    "select": _BOTH,
    "sensor": ("state_topic",),
    "switch": _BOTH,
    "text": _BOTH,
    "update": (*_BOTH, "latest_version_topic"),
}
"""The topics that a component of each platform may have, beside those of `SHARED_TOPICS`. It passes over others."""

SHARED_TOPICS: Final = ("availability_topic", "json_attributes_topic")

COUNTS: Final[Mapping[str, Mapping[str, int]]] = {
    "binary_sensor": {"expire_after": 0, "off_delay": 0},
    "light": {"brightness_scale": 1},
    "sensor": {"expire_after": 0, "suggested_display_precision": 0},
    "update": {"display_precision": 0},
}
"""The keys of each platform that are a whole number, and the least that it may be."""

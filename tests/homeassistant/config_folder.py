"""The configuration folder of a Home Assistant that starts without questions, with an account and a broker."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
import time
from pathlib import Path
from typing import Any, Final

from pibot_mesh.config.settings import BrokerSettings

_YEAR_S: Final = 365 * 86_400
_MADE_AT: Final = "2026-01-01T00:00:00+00:00"
_CONFIGURATION: Final = """\
homeassistant:
  name: Test
  time_zone: UTC
  unit_system: metric
  country: DE
  language: en
  currency: EUR
  latitude: 52.5
  longitude: 13.4
  elevation: 30
"""


def write_config(folder: Path, *, http_port: int, broker: BrokerSettings, extra: str = "") -> str:
    """Write the folder, and return a token for the API of the Home Assistant that is started with it.

    Its web server listens on *http_port* of the loopback interface, and its MQTT speaks to *broker* by MQTT 5, as a
    user who clicked through its dialogs would have it. *extra* are further lines of ``configuration.yaml``.
    """
    storage = folder / ".storage"
    storage.mkdir(parents=True, exist_ok=True)
    (folder / "configuration.yaml").write_text(_CONFIGURATION + extra, encoding="utf-8")
    token_id, key = secrets.token_hex(16), secrets.token_hex(64)
    _store(storage, "auth", (1, 1), _account(token_id, key))
    _store(storage, "onboarding", (4, 1), {"done": ["user", "core_config", "analytics", "integration"]})
    _store(storage, "http", (3, 1), _web_server(http_port))
    _store(storage, "core.config_entries", (1, 5), {"entries": [_mqtt(broker)]})
    return _token(token_id, key)


def _store(storage: Path, name: str, version: tuple[int, int], content: dict[str, Any]) -> None:
    major, minor = version
    text = json.dumps({"version": major, "minor_version": minor, "key": name, "data": content})
    (storage / name).write_text(text, encoding="utf-8")


def _account(token_id: str, key: str) -> dict[str, Any]:
    user = secrets.token_hex(16)
    return {
        "users": [
            {
                "id": user,
                "group_ids": ["system-admin"],
                "is_owner": True,
                "is_active": True,
                "name": "Test",
                "system_generated": False,
                "local_only": False,
            }
        ],
        "groups": [
            {"id": "system-admin", "name": "Administrators"},
            {"id": "system-users", "name": "Users"},
            {"id": "system-read-only", "name": "Read Only"},
        ],
        "credentials": [],
        "refresh_tokens": [
            {
                "id": token_id,
                "user_id": user,
                "client_id": None,
                "client_name": "test",
                "client_icon": None,
                "token_type": "long_lived_access_token",
                "created_at": _MADE_AT,
                "access_token_expiration": 10.0 * _YEAR_S,
                "token": secrets.token_hex(64),
                "jwt_key": key,
                "last_used_at": None,
                "last_used_ip": None,
                "expire_at": None,
                "credential_id": None,
                "version": "2026.11.0",
            }
        ],
    }


def _web_server(port: int) -> dict[str, Any]:
    return {
        "stable": {
            "server_host": ["127.0.0.1"],
            "server_port": port,
            "cors_allowed_origins": [],
            "login_attempts_threshold": -1,
            "ip_ban_enabled": False,
            "ssl_profile": "intermediate_v6",
            "use_x_frame_options": True,
            "created_at": _MADE_AT,
            "error": None,
            "error_message": None,
        },
        "pending": None,
        "yaml_migration_done": True,
    }


def _mqtt(broker: BrokerSettings) -> dict[str, Any]:
    status = {"topic": "homeassistant/status", "qos": 0, "retain": False}
    return {
        "entry_id": "pibotmqtt00000000000000000000000",
        "domain": "mqtt",
        "title": "Mosquitto",
        "version": 2,
        "minor_version": 1,
        "source": "user",
        "unique_id": None,
        "disabled_by": None,
        "pref_disable_new_entities": False,
        "pref_disable_polling": False,
        "discovery_keys": {},
        "subentries": [],
        "created_at": _MADE_AT,
        "modified_at": _MADE_AT,
        "data": {"broker": broker.host, "port": broker.port, "protocol": "5"},
        "options": {
            "discovery": True,
            "discovery_prefix": "homeassistant",
            "birth_message": {**status, "payload": "online"},
            "will_message": {**status, "payload": "offline"},
        },
    }


def _token(token_id: str, key: str) -> str:
    """A long-lived access token, as Home Assistant makes them: a JWT, signed by HMAC-SHA256 (RFC 7519)."""
    now = int(time.time())
    claims = [{"alg": "HS256", "typ": "JWT"}, {"iss": token_id, "iat": now, "exp": now + 10 * _YEAR_S}]
    signed = ".".join(_base64(json.dumps(each, separators=(",", ":")).encode()) for each in claims)
    return f"{signed}.{_base64(hmac.digest(key.encode(), signed.encode(), hashlib.sha256))}"


def _base64(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()

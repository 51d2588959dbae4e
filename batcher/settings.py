"""The only reader of the environment and of ``batcher.toml``.

Order, strongest first: command-line overrides, ``BATCHER_*`` variables, the TOML file, the defaults below.
The TOML file is the one that ``--config`` or ``BATCHER_CONFIG`` names, else ``batcher.toml`` in the working
folder, else ``batcher.toml`` in ``BATCHER_HOME``.
"""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Final, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, Field, SecretStr, ValidationError, field_validator
from pydantic_core import ErrorDetails
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from batcher.errors import ConfigurationError, KeyValueError
from batcher.settings_tables import ModelSettings, ProviderSettings, QualitySettings, RoutingSettings

__all__ = (
    "AlertRule",
    "ModelSettings",
    "ProviderSettings",
    "QualitySettings",
    "RoutingSettings",
    "Settings",
    "broker_fault",
    "child_environment",
    "default_home",
    "find_config",
    "folder_kept_out",
    "load_settings",
    "split_urls",
    "unknown_variables",
)

_PREFIX: Final = "BATCHER_"
_SAFE_PATH: Final = {"PYTHONSAFEPATH": "1"}
_SHARED_LIMITS: Final = ("redis://", "rediss://", "unix://")

AlertRule = Literal[
    "cap_50",
    "cap_80",
    "cap_100",
    "over_cap",
    "over_reservation",
    "vendor_higher",
    "invalid_rate",
    "error_spike",
    "job_done",
    "job_failed",
    "job_stalled",
    "accuracy",
    "prices_old",
    "digest",
]
"""What ``[alert_rules]`` may name."""


class Settings(BaseSettings):
    """Everything a user can set. ``docs/configuration.md`` is generated from this class."""

    model_config = SettingsConfigDict(
        env_prefix=_PREFIX, extra="forbid", nested_model_default_partial_update=True
    )

    home: Path = Field(
        default_factory=lambda: default_home(),  # noqa: PLW0108 - defined below
        description="Folder of the store and of model weights. Default: the user's data folder.",
    )
    database_url: SecretStr | None = Field(
        None, description="SQLAlchemy URL of the store. Default: SQLite at HOME/batcher.db."
    )
    broker_url: SecretStr | None = Field(
        None, description="Celery broker URL. Unset: submit runs the work itself."
    )
    env_file: Path | None = Field(None, description="A file of NAME=value lines to read keys from.")
    time_zone: str = Field(
        "UTC",
        description="IANA zone whose calendar day the daily cap counts, and that times are shown in,"
        " e.g. Europe/Berlin.",
    )
    concurrency: int = Field(64, ge=1, le=10_000, description="Calls in flight at most, per process.")
    chunk_items: int = Field(64, ge=1, le=10_000, description="Items that a worker leases at a time.")
    lease_s: float = Field(
        60, ge=1, description="Seconds after which an unrenewed lease is given to another."
    )
    call_timeout_s: float = Field(120, gt=0, description="Wall-clock limit of one call, seconds.")
    max_attempts: int = Field(6, ge=1, le=100, description="Calls for one item at most, per rung.")
    max_elapsed_s: float = Field(
        3600, gt=0, description="Seconds of calls and back-off after which an item is given up."
    )
    max_file_mb: float = Field(20, gt=0, description="Larger files are rejected, megabytes.")
    confirm_above_usd: float = Field(
        1.0,
        ge=0,
        description="On a terminal, submit asks before it may spend more than this; in cron it never asks.",
    )
    grace_s: float = Field(
        120, ge=0, description="Seconds that a stopping worker waits for its calls in flight."
    )
    metrics_port: int | None = Field(
        None, ge=1, le=65_000, description="Where a worker process answers Prometheus; the next ones follow."
    )
    alert_urls: Annotated[list[SecretStr], NoDecode] = Field(
        [],
        description="Where alerts go besides the log: URLs as apprise reads them, for mail, Slack, webhooks"
        " and the rest. In the variable, or its line of env_file, separated by commas or line feeds.",
    )
    alert_valid_floor: float = Field(
        0.5, ge=0, le=1, description="Alert when fewer of a model's last 50 first answers fit the schema."
    )
    alert_error_share: float = Field(
        0.2,
        gt=0,
        le=1,
        description="Alert when such a share of a model's calls of five minutes fails, far more than before.",
    )
    alert_failed_share: float = Field(
        0.1, gt=0, le=1, description="Alert when such a share of a job's ended items has failed."
    )
    alert_stalled_s: float = Field(
        900,
        ge=1,
        description="Alert when a running job has not moved for so many seconds, and says no reason.",
    )
    alert_prices_days: int = Field(
        90, ge=1, description="Alert when the prices of a model in use are older than so many days."
    )
    alert_rules: dict[AlertRule, bool] = Field(
        default_factory=dict, description="[alert_rules] RULE = true or false."
    )
    quality: QualitySettings = Field(default_factory=QualitySettings, description="[quality] table.")
    routing: RoutingSettings = Field(default_factory=RoutingSettings, description="[routing] table.")
    tiers: dict[str, list[str]] = Field(
        default_factory=dict, description="[tiers] NAME = [models], first choice first."
    )
    providers: dict[str, ProviderSettings] = Field(
        default_factory=dict, description="[providers.NAME] tables."
    )
    models: dict[str, ModelSettings] = Field(default_factory=dict, description="[models.NAME] tables.")
    local_models: dict[str, str] = Field(
        default_factory=dict, description="[local_models] NAME = path of a GGUF file for the local tier."
    )

    @field_validator("alert_urls", mode="before")
    @classmethod
    def _separate_urls(cls, value: Any) -> Any:
        return split_urls(value) if isinstance(value, str) else value

    @field_validator("broker_url")
    @classmethod
    def _readable_broker(cls, value: SecretStr | None) -> SecretStr | None:
        if value is None or not value.get_secret_value():
            return None
        if fault := broker_fault(value.get_secret_value()):
            raise ValueError(f"{fault}. It looks like redis://:PASSWORD@HOST:6379/0")
        return value

    @field_validator("home", "env_file")
    @classmethod
    def _possible_path(cls, value: Path | None) -> Path | None:
        if value is not None and "\0" in str(value):
            raise ValueError("a path cannot hold the character U+0000")
        return value

    @field_validator("time_zone")
    @classmethod
    def _known_zone(cls, value: str) -> str:
        from zoneinfo import ZoneInfo

        try:
            ZoneInfo(value)
        except (KeyError, ValueError, OSError) as error:
            raise ValueError(f"{value!r} is not an IANA time zone, like Europe/Berlin") from error
        return value

    def store_url(self) -> str:
        """The SQLAlchemy URL of the store, password included: never log it."""
        if self.database_url is not None:
            return self.database_url.get_secret_value()
        return f"sqlite:///{self.home / 'batcher.db'}"

    def limiter_url(self) -> str | None:
        """Where the shared rate limiter is: the broker, if that is a Redis; None for one in this process."""
        url = self.broker_url.get_secret_value() if self.broker_url else ""
        return url if url.startswith(_SHARED_LIMITS) else None

    def alert_targets(self) -> list[str]:
        """The URLs that alerts go to, passwords and all: never log them."""
        urls = [url.get_secret_value().strip() for url in self.alert_urls]
        urls = urls or split_urls(self.secret(f"{_PREFIX}ALERT_URLS") or "")
        return list(dict.fromkeys(filter(None, urls)))

    def secret(self, name: str) -> str | None:
        """The value of an environment variable, or of its line in ``env_file``; None if unset or empty."""
        value = os.environ.get(name)
        if not value and self.env_file is not None:
            value = _read_env_file(self.env_file).get(name)
        return value or None

    def key(self, name: str) -> str | None:
        """A provider's key: a ``secret`` that an HTTP header can carry.

        Raises:
            KeyValueError: if it holds what no header can; it names the variable, and no part of the key.
        """
        value = self.secret(name)
        if value and (fault := _key_fault(value)):
            raise KeyValueError(f"The key in {name} holds {fault}, which no key does. Set it again without")
        return value


def load_settings(config: Path | None = None, **overrides: Any) -> Settings:
    """Read the settings.

    Args:
        config: the TOML file to read; None searches (see the module's docstring).
        overrides: fields set on the command line; None values are ignored.

    Raises:
        ConfigurationError: if the file is missing, is not TOML, or a value does not fit.
    """
    given = {name: value for name, value in overrides.items() if value is not None}
    path = config or find_config(given.get("home"))
    toml = _read_toml(path) if path else {}

    class _WithFile(Settings):
        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - passed by name
            file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            return init_settings, env_settings, InitSettingsSource(settings_cls, toml)

    try:
        return _WithFile(**given)
    except ValidationError as error:
        raise ConfigurationError(_describe(error, path)) from None


def child_environment(settings: Settings, **fields: Any) -> dict[str, str]:
    """The environment of a child process that is to have these settings, and others for some fields.

    What came from the command line or a file named there is passed on as variables.
    """
    given = {"home": settings.home, "database_url": settings.database_url} | fields
    environment = dict(os.environ) | _SAFE_PATH
    for name, value in given.items():
        plain = value.get_secret_value() if isinstance(value, SecretStr) else value
        environment.pop(_PREFIX + name.upper(), None)
        if plain is not None:
            environment[_PREFIX + name.upper()] = str(plain)
    return environment


@contextmanager
def folder_kept_out() -> Iterator[None]:
    """Let no Python that is started meanwhile look for modules in the working folder: it is the user's."""
    before = {name: os.environ.get(name) for name in _SAFE_PATH}
    os.environ.update(_SAFE_PATH)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def find_config(home: Path | str | None = None) -> Path | None:
    """The TOML file in force, or None."""
    named = os.environ.get("BATCHER_CONFIG")
    if named:
        return Path(named)
    for folder in (Path.cwd(), Path(home or os.environ.get("BATCHER_HOME") or default_home())):
        if (folder / "batcher.toml").exists():
            return folder / "batcher.toml"
    return None


def split_urls(text: str) -> list[str]:
    """URLs that stand in one text. A comma ends one only where another begins: it may be a part of a URL."""
    return [url.strip() for url in re.split(r"\s*[\n,]\s*(?=[A-Za-z0-9]+://)|\n", text) if url.strip()]


def broker_fault(url: str) -> str:
    """What is wrong with a broker's URL, in words that hold no part of it; "" if nothing is."""
    if not re.match(r"[A-Za-z][\w+.:-]*://", url):
        return "it is no URL: it has no scheme, like redis://"
    if not url.startswith(_SHARED_LIMITS):
        return ""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return "its host or port cannot be read: percent-encode what a password has of / ? # @ :"
    if parts.scheme == "unix":
        return "" if parts.path else "it names no socket"
    if not parts.hostname:
        return "it names no host"
    return "" if re.fullmatch(r"/?\d*", parts.path) else "what follows the port is no database's number"


def unknown_variables() -> list[str]:
    """What to say about ``BATCHER_*`` variables that nothing reads."""
    known = [*(name.upper() for name in Settings.model_fields), "CONFIG"]
    given = sorted(name.removeprefix(_PREFIX) for name in os.environ if name.startswith(_PREFIX))
    return [
        f"The variable {_PREFIX}{name} is read by nothing{_meant(name, known, _PREFIX)}"
        for name in given
        if name not in known
    ]


def default_home() -> Path:
    """The user's data folder for batcher (``XDG_DATA_HOME`` is honoured)."""
    base = os.environ.get("XDG_DATA_HOME")
    return (Path(base) if base else Path.home() / ".local" / "share") / "batcher"


def _key_fault(key: str) -> str:
    """What of a key cannot be sent, in words that hold no part of it; "" if all of it can."""
    if "\r" in key or "\n" in key:
        return "a line end"
    if re.search(r"[\x00-\x1f\x7f]", key):
        return "a control character"
    return "" if key.isascii() else "a character that is not ASCII"


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(
            f"Cannot read {path}: {error.strerror}. Write one with: batcher init"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} is not TOML: {error}") from error


def _read_env_file(path: Path) -> dict[str, str]:
    from dotenv import dotenv_values

    if not path.is_file():
        raise ConfigurationError(f"The env_file {path} does not exist. Create it or unset BATCHER_ENV_FILE")
    return {name: value for name, value in dotenv_values(path).items() if value}


def _describe(error: ValidationError, path: Path | None) -> str:
    """Name the setting and what is wrong with it; values are left out, because they may be secrets."""
    lines = [f"{'.'.join(str(part) for part in fault['loc'])}: {_fault(fault)}" for fault in error.errors()]
    where = f"in {path} or in BATCHER_* variables" if path else "in BATCHER_* variables"
    return f"Settings {where} do not fit:\n  " + "\n  ".join(lines)


def _fault(fault: ErrorDetails) -> str:
    if fault["type"] != "extra_forbidden":
        return fault["msg"].removeprefix("Value error, ")
    tables: dict[str | int, type[BaseModel]] = {"models": ModelSettings, "providers": ProviderSettings}
    *within, name = fault["loc"]
    table = tables.get(within[0], Settings) if within else Settings
    return f"there is no such setting{_meant(str(name), list(table.model_fields))}"


def _meant(name: str, known: Sequence[str], prefix: str = "") -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {prefix}{close[0]}?" if close else ""

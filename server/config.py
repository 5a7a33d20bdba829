"""Settings, read from the environment once (PROTOCOL 1). The only module that reads it."""

import ipaddress
import os
import re
import secrets
from collections.abc import Callable, Mapping
from email.utils import parseaddr
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import msgspec

DEFAULT_DATA_DIR = Path(".fourtalk")
# ED-12.
DEFAULT_PORT = 8000
# The sender of mail that is only written down.
NOBODY = "fourtalk <nobody@localhost>"

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class ConfigError(Exception):
    """A variable of the environment is unknown or malformed; the message names it."""


class LiveKit(msgspec.Struct, frozen=True):
    """Where the media server is and how it is trusted."""

    url: str | None
    """http(s) address of its API; None: no media server, media is `peer`."""
    api_key: str | None
    api_secret: str | None

    @property
    def ws_url(self) -> str | None:
        """Return the address that clients connect to."""
        return None if self.url is None else re.sub(r"^http", "ws", self.url)


class Stripe(msgspec.Struct, frozen=True):
    """How people pay."""

    api_key: str | None
    """None: test payments, which move no money."""
    webhook_secrets: tuple[str, ...]
    """Any of them may have signed a webhook."""


class Smtp(msgspec.Struct, frozen=True):
    """A server that takes mail."""

    host: str
    port: int
    username: str | None
    password: str | None
    is_tls: bool
    """From the first byte on; otherwise a server that offers it is asked for it."""


class MailSettings(msgspec.Struct, frozen=True):
    """How people get mail."""

    smtp: Smtp | None
    """None: mail is written into the data dir and sent to nobody."""
    sender: str
    """`name <address>` or an address."""


class Settings(msgspec.Struct, frozen=True):
    """Everything that can be configured. Frozen: nothing may change it after the start."""

    data_dir: Path
    database_url: str | None
    """None: PostgreSQL from its wheel, in the data dir."""
    redis_url: str | None
    """None: Valkey from its wheel, in the data dir."""
    livekit: LiveKit
    livekit_bin: str | None
    """A livekit-server to start when no URL is configured."""
    stripe: Stripe
    mail: MailSettings
    secret_key: str
    """Signs access tokens and quotes; at least 32 characters."""
    public_url: str
    """Base of share links and the first allowed origin."""
    allowed_origins: tuple[str, ...]
    geoip_db: Path | None
    trusted_proxies: tuple[Network, ...]
    rate_limits: bool
    makes_client: bool
    """The browser client is made at the start if a source has changed."""
    log_level: str


class Variable(msgspec.Struct, frozen=True):
    """One variable: its name, default and meaning, as `serve --help` and the README list them."""

    name: str
    default: str
    meaning: str


VARIABLES = (
    Variable("DATABASE_URL", "embedded", "PostgreSQL 16 or newer; without it one is started in the data dir"),
    Variable(
        "REDIS_URL", "embedded", "Valkey or Redis 7 or newer; without it one is started in the data dir"
    ),
    Variable("LIVEKIT_URL", "none", "media server, http(s) or ws(s); without it media is peer to peer"),
    Variable("LIVEKIT_API_KEY", "none", "key of the media server; verifies its webhooks"),
    Variable("LIVEKIT_API_SECRET", "none", "secret of the media server"),
    Variable(
        "FOURTALK_LIVEKIT_BIN",
        "livekit-server on PATH",
        "a LiveKit server to start when LIVEKIT_URL is not set",
    ),
    Variable("STRIPE_API_KEY", "none", "secret key of Stripe; without it people pay with test payments"),
    Variable(
        "STRIPE_WEBHOOK_SECRET",
        "none",
        "comma-separated: verifies Stripe's webhooks; two while one is being changed",
    ),
    Variable(
        "SMTP_URL",
        "none",
        "smtp(s)://user:password@host:port; without it mail is written to `mails` in the data dir, and not sent",
    ),
    Variable("MAIL_FROM", "none", "whom mail comes from, `Name <address>`; needed with SMTP_URL"),
    Variable("FOURTALK_DATA_DIR", ".fourtalk", "folder of the embedded servers and the generated secret"),
    Variable(
        "FOURTALK_WEB", "on", "`off`: serve the browser client as it is, without making it anew at the start"
    ),
    Variable("FOURTALK_LOG_LEVEL", "info", "debug, info, warning or error"),
    Variable(
        "FOURTALK_ALLOWED_ORIGINS", "PUBLIC_URL", "comma-separated origins of browsers that may connect"
    ),
    Variable(
        "SECRET_KEY", "made once, kept in the data dir", "at least 32 characters; signs tokens and quotes"
    ),
    Variable("PUBLIC_URL", "the address served", "base of share links and QR codes"),
    Variable("GEOIP_DB", "none", "country file, MaxMind-shaped or flat; without it nobody is nearby"),
    Variable("TRUSTED_PROXIES", "none", "comma-separated networks whose X-Forwarded-For is believed"),
    Variable("RATE_LIMITS", "on", "`off` for load tests only"),
)


def set_metrics_folder(folder: Path) -> None:
    """Name the folder in which workers share their numbers; prometheus_client reads it from the environment only."""
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(folder)


def from_env(
    environ: Mapping[str, str] | None = None, *, data_dir: Path | None = None, port: int = DEFAULT_PORT
) -> Settings:
    """Read the settings; `data_dir` (the command line's) wins over the environment's.

    `port` is what the server listens on: without PUBLIC_URL, people reach it on this machine by it.

    Raises:
        ConfigError: A variable is malformed, or an unknown `FOURTALK_*` is set.
    """
    env = dict(os.environ if environ is None else environ)
    known = {variable.name for variable in VARIABLES}
    for name in env:
        if name.startswith("FOURTALK_") and name not in known:
            raise ConfigError(f"{name} is not a setting of fourtalk; `fourtalk serve --help` lists them")
    folder = data_dir or Path(env.get("FOURTALK_DATA_DIR") or DEFAULT_DATA_DIR)
    public_url = _read(env, "PUBLIC_URL", _http_url, None)
    local = tuple(f"http://{host}:{port}" for host in ("127.0.0.1", "localhost"))
    origins = _read(env, "FOURTALK_ALLOWED_ORIGINS", _origins, None)
    return Settings(
        data_dir=folder,
        database_url=_read(
            env, "DATABASE_URL", _scheme("postgresql", "postgres", "postgresql+asyncpg"), None
        ),
        redis_url=_read(env, "REDIS_URL", _scheme("redis", "rediss", "unix"), None),
        livekit=_livekit(env),
        livekit_bin=_read(env, "FOURTALK_LIVEKIT_BIN", _program, None),
        stripe=_stripe(env),
        mail=_mail(env),
        secret_key=_read(env, "SECRET_KEY", _secret, None) or _kept_secret(folder),
        public_url=public_url or local[0],
        allowed_origins=origins or ((_origin(public_url),) if public_url else local),
        geoip_db=_read(env, "GEOIP_DB", _file, None),
        trusted_proxies=_read(env, "TRUSTED_PROXIES", _networks, ()),
        rate_limits=_read(env, "RATE_LIMITS", _one_of("on", "off"), "on") == "on",
        makes_client=_read(env, "FOURTALK_WEB", _one_of("on", "off"), "on") == "on",
        log_level=_read(env, "FOURTALK_LOG_LEVEL", _one_of("debug", "info", "warning", "error"), "info"),
    )


def _read(env: Mapping[str, str], name: str, parse: Callable[[str], Any], default: Any) -> Any:
    text = env.get(name, "").strip()
    if not text:
        return default
    try:
        return parse(text)
    except ValueError as error:
        raise ConfigError(f"{name} is not valid: {error}") from None


def _livekit(env: Mapping[str, str]) -> LiveKit:
    url = _read(env, "LIVEKIT_URL", _media_url, None)
    key, secret = env.get("LIVEKIT_API_KEY") or None, env.get("LIVEKIT_API_SECRET") or None
    if (key is None) != (secret is None):
        raise ConfigError("LIVEKIT_API_KEY and LIVEKIT_API_SECRET go together; one of them is missing")
    if url is not None and key is None:
        raise ConfigError("LIVEKIT_API_KEY is missing: LIVEKIT_URL needs a key and a secret")
    return LiveKit(url, key, secret)


def _stripe(env: Mapping[str, str]) -> Stripe:
    key = _read(env, "STRIPE_API_KEY", _stripe_key, None)
    secrets_ = _read(env, "STRIPE_WEBHOOK_SECRET", _webhook_secrets, ())
    if key is not None and not secrets_:
        # With an empty secret anybody could sign.
        raise ConfigError(
            "STRIPE_WEBHOOK_SECRET is missing: STRIPE_API_KEY needs it to believe Stripe's webhooks"
        )
    return Stripe(key, secrets_)


def _mail(env: Mapping[str, str]) -> MailSettings:
    smtp = _read(env, "SMTP_URL", _smtp, None)
    sender = _read(env, "MAIL_FROM", _mailbox, None)
    if smtp is not None and sender is None:
        raise ConfigError("MAIL_FROM is missing: SMTP_URL needs to know whom mail comes from")
    return MailSettings(smtp, sender or NOBODY)


def _kept_secret(folder: Path) -> str:
    """Return the secret of the data dir, made on first use, so that tokens survive a restart."""
    path = folder / "secret"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        kept = path.read_text().strip()
        if len(kept) < 32:
            raise ConfigError(
                f"SECRET_KEY: the kept secret in {path} is damaged; remove it or set SECRET_KEY"
            ) from None
        return kept
    with os.fdopen(fd, "w") as file:
        made = secrets.token_urlsafe(48)
        file.write(made)
    return made


def _scheme(*schemes: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if "://" not in text or text.split("://", 1)[0] not in schemes:
            raise ValueError(f"it must begin with {' or '.join(f'{scheme}://' for scheme in schemes)}")
        return text

    return parse


def _http_url(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise ValueError("it must be an http:// or https:// address")
    return text.rstrip("/")


def _media_url(text: str) -> str:
    return _http_url(re.sub(r"^ws", "http", text))


def _smtp(text: str) -> Smtp:
    like = "it must be like smtp://user:password@host:587 or smtps://user:password@host:465"
    parts = urlsplit(text)
    try:
        port = parts.port
    except ValueError:
        # Not chained: its words may have a part of the password in them.
        raise ValueError(like) from None
    if (
        parts.scheme not in ("smtp", "smtps")
        or not parts.hostname
        or text.partition("://")[2] != parts.netloc
    ):
        raise ValueError(like)
    if (parts.username is None) != (parts.password is None):
        raise ValueError("user and password go together; one of them is missing")
    # RFC 6409 and RFC 8314: where mail is handed in, without and with TLS from the first byte on.
    port = port or (465 if parts.scheme == "smtps" else 587)
    username, password = (None if one is None else unquote(one) for one in (parts.username, parts.password))
    return Smtp(parts.hostname, port, username, password, parts.scheme == "smtps")


def _mailbox(text: str) -> str:
    if not re.fullmatch(r"[^\s@<>\"]+@[^\s@<>\"]+", parseaddr(text)[1]):
        raise ValueError("it must be like `Name <name@example.org>`")
    return text


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def _origins(text: str) -> tuple[str, ...]:
    return tuple(_origin(_http_url(part.strip())) for part in text.split(",") if part.strip())


def _networks(text: str) -> tuple[Network, ...]:
    return tuple(ipaddress.ip_network(part.strip()) for part in text.split(",") if part.strip())


def _file(text: str) -> Path:
    path = Path(text)
    if not path.is_file():
        raise ValueError(f"there is no file {path}")
    return path


def _program(text: str) -> str:
    if not os.access(text, os.X_OK):
        raise ValueError(f"{text} is not a program that can be run")
    return text


def _secret(text: str) -> str:
    if len(text) < 32:
        raise ValueError("it must have at least 32 characters")
    return text


def _stripe_key(text: str) -> str:
    if not re.fullmatch(r"(sk|rk)_(test|live)_\w+", text, re.ASCII):
        raise ValueError("it must begin with sk_test_, sk_live_, rk_test_ or rk_live_")
    return text


def _webhook_secrets(text: str) -> tuple[str, ...]:
    found = tuple(part.strip() for part in text.split(","))
    if any(len(part) < 16 for part in found):
        raise ValueError("each secret must have at least 16 characters")
    return found


def _one_of(*choices: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in choices:
            raise ValueError(f"it must be {' or '.join(choices)}")
        return text

    return parse

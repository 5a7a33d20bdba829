"""Settings: every variable is read once, and a wrong one stops the start with its name."""

from pathlib import Path

import pytest

from server import config


def test_defaults_need_no_environment(tmp_path: Path) -> None:
    settings = config.from_env({}, data_dir=tmp_path)

    assert settings.database_url is None
    assert settings.livekit.url is None
    assert settings.public_url == "http://127.0.0.1:8000"
    assert settings.allowed_origins == ("http://127.0.0.1:8000", "http://localhost:8000")
    assert settings.rate_limits is True


def test_links_lead_to_the_port_that_is_served(tmp_path: Path) -> None:
    settings = config.from_env({}, data_dir=tmp_path, port=9123)

    assert settings.public_url == "http://127.0.0.1:9123"
    assert settings.allowed_origins == ("http://127.0.0.1:9123", "http://localhost:9123")


def test_public_url_is_the_only_origin_unless_more_are_named(tmp_path: Path) -> None:
    env = {"PUBLIC_URL": "https://talk.example/app"}
    more = env | {"FOURTALK_ALLOWED_ORIGINS": "https://a.example, https://b.example/x"}

    assert config.from_env(env, data_dir=tmp_path).allowed_origins == ("https://talk.example",)
    assert config.from_env(more, data_dir=tmp_path).allowed_origins == (
        "https://a.example",
        "https://b.example",
    )


def test_secret_is_made_once_and_kept(tmp_path: Path) -> None:
    first = config.from_env({}, data_dir=tmp_path)

    second = config.from_env({}, data_dir=tmp_path)

    assert first.secret_key == second.secret_key
    assert (tmp_path / "secret").stat().st_mode & 0o077 == 0


def test_damaged_kept_secret_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("short")

    with pytest.raises(config.ConfigError, match="SECRET_KEY"):
        config.from_env({}, data_dir=tmp_path)


def test_livekit_url_may_be_a_websocket_address(tmp_path: Path) -> None:
    env = {"LIVEKIT_URL": "wss://media.example", "LIVEKIT_API_KEY": "k", "LIVEKIT_API_SECRET": "s"}

    livekit = config.from_env(env, data_dir=tmp_path).livekit

    assert (livekit.url, livekit.ws_url) == ("https://media.example", "wss://media.example")


def test_key_and_secret_without_a_url_are_fine(tmp_path: Path) -> None:
    env = {"LIVEKIT_API_KEY": "k", "LIVEKIT_API_SECRET": "s"}

    livekit = config.from_env(env, data_dir=tmp_path).livekit

    assert (livekit.url, livekit.api_key) == (None, "k")


def test_without_a_key_of_stripe_there_are_test_payments(tmp_path: Path) -> None:
    stripe = config.from_env({}, data_dir=tmp_path).stripe

    assert (stripe.api_key, stripe.webhook_secrets) == (None, ())


def test_two_secrets_are_believed_while_one_is_changed(tmp_path: Path) -> None:
    env = {"STRIPE_API_KEY": "sk_test_1", "STRIPE_WEBHOOK_SECRET": "whsec_of_yesterday, whsec_of_tomorrow"}

    stripe = config.from_env(env, data_dir=tmp_path).stripe

    assert stripe.webhook_secrets == ("whsec_of_yesterday", "whsec_of_tomorrow")


def test_a_key_of_stripe_without_a_secret_stops_the_start(tmp_path: Path) -> None:
    # Whoever signs with an empty secret would be believed.
    with pytest.raises(config.ConfigError, match="STRIPE_WEBHOOK_SECRET is missing"):
        config.from_env({"STRIPE_API_KEY": "sk_live_1"}, data_dir=tmp_path)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DATABASE_URL", "mysql://x"),
        ("DATABASE_URL", "nonsense"),
        ("REDIS_URL", "http://x"),
        ("LIVEKIT_URL", "ftp://x"),
        ("LIVEKIT_URL", "ws://host"),
        ("LIVEKIT_API_KEY", "alone"),
        ("SECRET_KEY", "short"),
        ("STRIPE_API_KEY", "pk_test_publishable"),
        ("STRIPE_API_KEY", "sk_prod_1"),
        ("STRIPE_WEBHOOK_SECRET", "short"),
        ("STRIPE_WEBHOOK_SECRET", "whsec_long_enough_to_be_one,"),
        ("PUBLIC_URL", "example.com"),
        ("GEOIP_DB", "/nowhere/at-all.mmdb"),
        ("TRUSTED_PROXIES", "10.0.0.0/99"),
        ("RATE_LIMITS", "maybe"),
        ("FOURTALK_LOG_LEVEL", "loud"),
        ("FOURTALK_LIVEKIT_BIN", "/nowhere/livekit"),
        ("FOURTALK_UNKNOWN", "1"),
    ],
)
def test_malformed_value_stops_the_start_and_names_the_variable(
    tmp_path: Path, name: str, value: str
) -> None:
    with pytest.raises(config.ConfigError, match=name.replace("LIVEKIT_API_KEY", "LIVEKIT_API_SECRET")[:12]):
        config.from_env({name: value}, data_dir=tmp_path)

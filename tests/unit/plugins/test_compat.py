"""Links and storages written for vcon-server run unchanged."""

from __future__ import annotations

import sys
import threading
from types import ModuleType
from typing import Any

import orjson
import pytest

from conserver.config import model as config
from conserver.errors import ConfigError, Rejected
from conserver.plugins import loader as plugins
from conserver.plugins.compat import OldStorage, old_lib, open_documents
from conserver.plugins.compat.old_redis import Client, VconRedis
from conserver.plugins.compat.old_vcon import Vcon as OldVcon
from conserver.plugins.loader import LoadedLink
from conserver.vcon.document import Vcon
from storage import contract
from storage.contract import Document, Stored, Unavailable

RAW = orjson.dumps({"uuid": "u-1", "created_at": "2026-01-01T00:00:00Z", "dialog": []})

LINK = """
from lib.logging_utils import init_logger
from lib.metrics import increment_counter
from lib.vcon_redis import VconRedis
from redis_mgr import redis
from settings import VCON_REDIS_EXPIRY, HOSTNAME
import vcon

logger = init_logger(__name__)
default_options = {"tag": "old", "again": False}

def run(vcon_uuid, link_name, opts=default_options):
    store = VconRedis()
    found = store.get_vcon(vcon_uuid)
    found.add_tag(link_name, opts["tag"])
    found.add_analysis(type="note", dialog=0, vendor="me", body={"n": 1})
    store.store_vcon(found)
    increment_counter("counted", attributes={"a": 1})
    redis.rpush("next", vcon_uuid)
    redis.expire(f"vcon:{vcon_uuid}", VCON_REDIS_EXPIRY)
    return vcon_uuid
"""


class Context:
    """A link's context that notes the effects."""

    uuid = "u-1"

    def __init__(self) -> None:
        self.pushes: list[tuple[str, str | None]] = []
        self.expiry_s: int | None = None

    def push(self, list_name: str, uuid: str | None = None) -> None:
        self.pushes.append((list_name, uuid))

    def expire(self, seconds: int) -> None:
        self.expiry_s = seconds


def link(module: str, options: str = "{}") -> LoadedLink:
    text = f"links: {{x: {{module: {module}, options: {options}}}}}"
    chains = "chains: {c: {links: [x], ingress_lists: [i]}}"
    return plugins.load(config.parse(f"{text}\n{chains}", {})).links["x"]


def run(loaded: LoadedLink, raw: bytes = RAW) -> tuple[Vcon | None, Context]:
    context: Any = Context()
    return loaded.run(Vcon.parse(raw), loaded.options, context), context


def test_a_link_of_vcon_server(write: Any) -> None:
    """It finds its document, changes it, and its effects are collected; Redis is not asked."""
    vcon, context = run(link(write(LINK), "{tag: new}"))
    assert vcon is not None
    assert vcon.changed
    assert vcon.tags == {"x": "new"}
    assert vcon.analysis[0]["body"] == '{"n": 1}'
    assert "parties" not in vcon.view
    assert context.pushes == [("next", "u-1")]
    assert context.expiry_s == 3600


def test_options_merge_over_its_defaults(write: Any) -> None:
    """vcon-server replaced them; here what is not said keeps its default."""
    assert link(write(LINK), "{again: true}").options == {"tag": "old", "again": True}


@pytest.mark.parametrize("answer", ["None", "False", "''"])
def test_a_falsy_answer_stops_the_chain(write: Any, answer: str) -> None:
    """As in vcon-server: nothing further happens to the item."""
    module = write(f"def run(vcon_uuid, link_name, opts): return {answer}")
    assert run(link(module))[0] is None


def test_a_look_is_no_change(write: Any) -> None:
    """Reading and storing what was read leaves the vCon's bytes as they came."""
    module = write(
        "from lib.vcon_redis import VconRedis\n"
        "def run(vcon_uuid, link_name, opts):\n"
        "    VconRedis().store_vcon(VconRedis().get_vcon(vcon_uuid))\n"
        "    return True\n"
    )
    vcon, _ = run(link(module))
    assert vcon is not None
    assert vcon.dump() == RAW


def test_another_vcon_cannot_follow(write: Any) -> None:
    """An item is one vCon from its first to its last link."""
    module = write("def run(vcon_uuid, link_name, opts): return 'another'")
    with pytest.raises(Rejected, match="another vCon"):
        run(link(module))


def test_what_is_nested_too_deeply_for_a_module_is_rejected(write: Any) -> None:
    """Another attempt would not help."""
    deep = b'{"uuid": "u-1", "meta": ' + b"[" * 300 + b"]" * 300 + b"}"
    with pytest.raises(Rejected, match="cannot be written as JSON"):
        run(link(write("def run(vcon_uuid, link_name, opts): return True")), deep)
    storage = OldStorage("s", ModuleType("never_called"), {})
    (outcome,) = storage.save_many([Document("u-1", deep, 1)])
    assert isinstance(outcome, contract.Rejected)
    assert "cannot be written as JSON" in outcome.reason


def test_what_a_link_raises_passes_through(write: Any) -> None:
    """The chain counts it as a failed attempt; the document stays as it was."""
    module = write(
        "from redis_mgr import get_client\n"
        "def run(vcon_uuid, link_name, opts):\n"
        "    get_client().json().set(f'vcon:{vcon_uuid}', '$', {'uuid': vcon_uuid})\n"
        "    raise RuntimeError('no')\n"
    )
    vcon = Vcon.parse(RAW)
    context: Any = Context()
    loaded = link(module)
    with pytest.raises(RuntimeError, match="no"):
        loaded.run(vcon, loaded.options, context)
    assert vcon.dump() == RAW
    assert open_documents.find("u-1") is None


def test_a_name_without_stand_in_is_told(write: Any) -> None:
    """What vcon-server has and we do not is an error of the configuration, by name."""
    module = write("from lib.nothing import x\ndef run(vcon_uuid, link_name, opts): return x")
    with pytest.raises(ConfigError, match=r"needs `lib\.nothing` of vcon-server"):
        link(module)


def test_whoever_looks_through_the_loaded_modules_is_not_fooled(write: Any) -> None:
    """Modules that know every name say of themselves only what is true."""
    link(write("import settings, lib.metrics\ndef run(vcon_uuid, link_name, opts): return True"))
    for name in ("settings", "lib.metrics"):
        module = sys.modules[name]
        assert getattr(module, "__file__", None) is None
        assert getattr(module, "__wrapped__", None) is None


def test_a_storage_of_vcon_server(write: Any) -> None:
    """`save` finds the document that is stored; one that raises waits, and harms no other."""
    module = write(
        "from lib.vcon_redis import VconRedis\n"
        "default_options = {'kept': {}}\n"
        "def save(vcon_uuid, opts=default_options):\n"
        "    found = VconRedis().get_vcon(vcon_uuid)\n"
        "    if found.subject == 'bad': raise OSError('disk full')\n"
        "    opts['kept'][vcon_uuid] = found.to_dict()\n"
        "def get(vcon_uuid, opts): return opts['kept'].get(vcon_uuid)\n"
        "def delete(vcon_uuid, opts): return opts['kept'].pop(vcon_uuid, None) is not None\n"
    )
    chains = "chains: {c: {storages: [s], ingress_lists: [i]}}"
    text = f"storages: {{s: {{module: {module}}}}}\n{chains}"
    storage = plugins.load(config.parse(text, {})).storages["s"].make()
    storage.open()
    documents = [
        Document("u-1", orjson.dumps({"uuid": "u-1", "subject": "good"}), 1),
        Document("u-2", orjson.dumps({"uuid": "u-2", "subject": "bad"}), 1),
    ]
    assert storage.save_many(documents) == [Stored(), Unavailable("OSError: disk full")]
    assert orjson.loads(storage.get("u-1") or b"null")["subject"] == "good"
    assert storage.get("u-2") is None
    assert storage.delete("u-1")
    assert not storage.delete("u-1")
    storage.ready()
    storage.close()


def test_threads_have_their_own_documents() -> None:
    """Two threads that work on one uuid do not meet; a thread of the module's finds the last."""
    seen: dict[str, Any] = {}
    both = threading.Barrier(2, timeout=60)

    def work(name: str) -> None:
        with open_documents.open_document("u", {"uuid": "u", "by": name}, None):
            both.wait()
            seen[name] = VconRedis().get_vcon("u").subject  # type: ignore[union-attr]
            seen[f"{name}-by"] = VconRedis().get_vcon_dict("u")["by"]  # type: ignore[index]
            both.wait()

    threads = [threading.Thread(target=work, args=(name,)) for name in ("a", "b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == {"a": None, "a-by": "a", "b": None, "b-by": "b"}
    with open_documents.open_document("u", {"uuid": "u", "by": "c"}, None):
        helper = threading.Thread(
            target=lambda: seen.update(helper=Client().json().get("vcon:u")["by"])
        )
        helper.start()
        helper.join()
    assert seen["helper"] == "c"


def test_the_lent_document_by_every_name() -> None:
    """GET, SET, JSON.GET, JSON.SET, TTL, EXISTS, PERSIST: all act on the open document."""
    client = Client()
    with open_documents.open_document("u", {"uuid": "u"}, None) as opened:
        client.set("vcon:u", '{"uuid": "u", "n": 1}')
        assert orjson.loads(client.get("vcon:u") or "") == {"uuid": "u", "n": 1}
        assert client.json().get("vcon:u", "$") == [{"uuid": "u", "n": 1}]
        assert client.json().get("vcon:u", ".") == {"uuid": "u", "n": 1}
        client.json().set("vcon:u", ".", {"uuid": "u", "n": 2})
        assert client.ttl("vcon:u") == -1
        assert client.exists("vcon:u") == 1
        assert client.expire("vcon:u", 5) is True
        assert client.persist("vcon:u") is False
        assert opened.changed
        assert opened.content == {"uuid": "u", "n": 2}


def test_the_old_class() -> None:
    """Its helpers read old and new spellings and write what that class wrote."""
    vcon = OldVcon({"uuid": "u", "parties": [{"tel": "1", "meta": {"role": "agent"}}]})
    vcon.add_tag("a", "b:c")
    vcon.add_tag("d", 1)
    assert vcon.get_tag("a") == "b:c"
    assert vcon.get_tag("z") is None
    assert vcon.tags == {"purpose": "tags", "body": '["a:b:c", "d:1"]', "encoding": "json"}
    vcon.add_attachment(body=[1], type="extra")
    assert vcon.decoded_body(vcon.find_attachment_by_type("extra")) == [1]
    vcon.add_analysis(type="t", dialog=0, vendor="v", body="x", extra={"product": "p"})
    assert vcon.find_analysis_by_type("t") == {
        "type": "t",
        "dialog": 0,
        "vendor": "v",
        "body": "x",
        "encoding": "none",
        "product": "p",
    }
    assert vcon.find_party_index("meta.role", "agent") == 0
    assert vcon.find_party_index("meta.role.x", "agent") is None
    vcon.add_dialog({"type": "text", "n": 1})
    assert vcon.find_dialog("n", 1) == {"type": "text", "n": 1}
    vcon.parties = []
    assert vcon.to_dict()["parties"] == []
    assert vcon.uuid == "u"
    assert vcon.subject is None
    assert OldVcon.build_from_json(vcon.dumps()).hash == vcon.hash
    assert OldVcon.build_new().uuid[14] == "8"
    with pytest.raises(ValueError, match="encoding must be one of"):
        vcon.add_attachment(type="t", body="x", encoding="hex")
    with pytest.raises(ValueError, match="Expecting property name"):
        vcon.add_attachment(type="t", body="{", encoding="json")


@pytest.mark.parametrize(
    "tags",
    [
        {"type": "tags", "body": '["category:1"]'},
        {"type": "tags", "body": '["category:1"]', "encoding": "none"},
        {"type": "tags", "body": '["category:1"]', "encoding": "json"},
        {"purpose": "tags", "body": ["category:1"], "encoding": "json"},
        {"purpose": "tags", "body": {"category": 1}},
        {"purpose": "tags", "body": '{"category": 1}'},
    ],
)
def test_the_old_class_reads_tags_as_ours_does(tags: dict[str, Any]) -> None:
    """adapter-1: whatever their label, and no tag is taken apart into its characters."""
    vcon = OldVcon({"uuid": "u", "attachments": [None, tags]})
    assert vcon.get_tag("category") == "1"
    vcon.add_tag("alpha", "alpha")
    ours = Vcon.parse(vcon.to_json().encode())
    assert ours.tag_texts() == ["category:1", "alpha:alpha"]
    assert len(ours.attachments) == 2


def test_the_old_class_leaves_tags_alone_that_it_cannot_read() -> None:
    vcon = OldVcon({"uuid": "u", "attachments": [{"type": "tags", "body": "vip"}]})
    vcon.add_tag("a", "b")
    assert vcon.attachments[0] == {"type": "tags", "body": "vip"}
    assert vcon.get_tag("a") == "b"


def test_the_old_class_decodes_bodies_as_ours_does() -> None:
    """JSON under any label; plain text that is labelled json is no error."""
    assert OldVcon.decoded_body({"body": '{"a": 1}'}) == {"a": 1}
    assert OldVcon.decoded_body({"body": "NO REVIEW", "encoding": "json"}) == "NO REVIEW"
    assert OldVcon.decoded_body({"body": "AQID", "encoding": "base64url"}) == "AQID"


def test_the_old_class_adds_nothing_that_is_not_there() -> None:
    """adapter-3: modules see all lists, and what they hand on is the document as it is."""
    full: dict[str, Any] = {"uuid": "u", "analysis": None, "parties": [], "x": 1}
    vcon = OldVcon({})
    documents: list[dict[str, Any]] = [{"uuid": "u"}, full]
    for document in documents:
        vcon = OldVcon(document)
        assert vcon.analysis == []
        assert vcon.find_analysis_by_type("t") is None
        assert list(vcon.to_dict().items()) == list(document.items())
    vcon.add_analysis(type="t", dialog=0, vendor="v", body="x")
    assert len(vcon.to_dict()["analysis"]) == 1


def test_a_storage_of_vcon_server_gets_the_document_as_it_is(write: Any) -> None:
    module = write(
        "from lib.vcon_redis import VconRedis\n"
        "default_options = {'kept': {}}\n"
        "def save(vcon_uuid, opts=default_options):\n"
        "    opts['kept'][vcon_uuid] = VconRedis().get_vcon(vcon_uuid).to_dict()\n"
        "def get(vcon_uuid, opts): return opts['kept'].get(vcon_uuid)\n"
    )
    chains = "chains: {c: {storages: [s], ingress_lists: [i]}}"
    text = f"storages: {{s: {{module: {module}}}}}\n{chains}"
    storage = plugins.load(config.parse(text, {})).storages["s"].make()
    storage.open()
    assert storage.save_many([Document("u-1", RAW, 1)]) == [Stored()]
    assert orjson.loads(storage.get("u-1") or b"null") == orjson.loads(RAW)


def test_a_link_that_uses_everything_of_lib(write: Any) -> None:
    """adapter-2: filters, queue, dialog bodies, older vCons, usage reports."""
    module = write(
        "from lib.ai_usage import send_ai_usage_data_for_tracking\n"
        "from lib.dialog_body import decode_inline_dialog_body\n"
        "from lib.links.filters import is_included, randomly_execute_with_sampling\n"
        "from lib.queue import VconQueue\n"
        "from lib.vcon_egress_compat import to_configured_legacy, to_legacy\n"
        "from lib.vcon_redis import VconRedis\n"
        "from dlq_utils import get_ingress_list_dlq_name\n"
        "def run(vcon_uuid, link_name, opts):\n"
        "    vcon = VconRedis().get_vcon(vcon_uuid)\n"
        "    rule = {'section': 'attachments', 'type': 'tags', 'includes': 'vip:yes'}\n"
        "    assert not is_included({'only_if': rule}, vcon)\n"
        "    vcon.add_tag('vip', 'yes')\n"
        "    assert is_included({'only_if': rule}, vcon) and is_included({}, vcon)\n"
        "    assert randomly_execute_with_sampling({})\n"
        "    assert get_ingress_list_dlq_name('a') == 'DLQ:a'\n"
        "    assert decode_inline_dialog_body({'body': 'aGk', 'encoding': 'base64url'}) == b'hi'\n"
        "    legacy = to_legacy(vcon.to_dict(), '0.0.1')\n"
        "    assert legacy['attachments'][0]['type'] == 'tags', legacy\n"
        "    assert legacy['attachments'][0]['body'] == ['vip:yes'], legacy\n"
        "    assert to_configured_legacy(legacy) is legacy\n"
        "    send_ai_usage_data_for_tracking(vcon_uuid, 1, 2, 'tokens', 't', '', '', 'm')\n"
        "    VconQueue().enqueue('next', vcon_uuid)\n"
        "    VconQueue().set_vcon_ttl(vcon_uuid, 60)\n"
        "    return vcon_uuid\n"
    )
    vcon, context = run(link(module))
    assert vcon is not None
    assert vcon.dump() == RAW
    assert context.pushes == [("next", "u-1")]
    assert context.expiry_s == 60


def test_the_client_of_openai_needs_its_package(
    write: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is missing when the configuration is checked, and not in the first call."""
    monkeypatch.setitem(sys.modules, "openai", None)  # As where it is not installed.
    module = write(
        "from lib.openai_client import get_openai_client\n"
        "def run(vcon_uuid, link_name, opts): return get_openai_client(opts)\n"
    )
    with pytest.raises(ConfigError, match="needs the module `openai`"):
        link(module)


@pytest.mark.parametrize(
    ("options", "vendor"),
    [
        ({}, "openai"),
        ({"AZURE_OPENAI_ENDPOINT": "https://a", "AZURE_OPENAI_API_KEY": "k"}, "azure"),
        ({"model": "claude-3"}, "anthropic"),
        ({"model": "vertex_ai/gemini-2"}, "google"),
        ({"model": "unknown"}, "litellm"),
    ],
)
def test_the_vendor_that_options_name(options: dict[str, str], vendor: str) -> None:
    if "model" in options:
        options = {**options, "LITELLM_PROXY_URL": "http://l", "LITELLM_MASTER_KEY": "k"}
    assert old_lib.get_vendor_from_opts(options) == vendor

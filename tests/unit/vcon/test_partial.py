"""What a long transcription keeps in its vCon on the way."""

from __future__ import annotations

from conserver.links.transcribe import Options, transcribe
from conserver.vcon import partial
from conserver.vcon.document import Vcon
from tests.unit.links.stage import Context
from tests.unit.media.transcription.sounds import FakeEngine
from tests.unit.media.transcription.test_link import recording, vcon_of

KIND = "transcription_progress"


def again(vcon: Vcon) -> Vcon:
    """The vCon as another worker reads it."""
    return Vcon.parse(vcon.dump())


def test_what_was_kept_last_is_found_by_another_worker() -> None:
    vcon = vcon_of(recording(), recording())
    partial.keep(vcon, KIND, {"dialog": 0}, {"answers": {"0": 1}}, "conserver")
    partial.keep(vcon, KIND, {"dialog": 0}, {"answers": {"0": 1, "1": 2}}, "conserver")
    partial.keep(vcon, KIND, {"dialog": 1}, {"answers": {}}, "conserver")
    found = again(vcon)
    assert partial.kept(found, KIND, {"dialog": 0}) == {"answers": {"0": 1, "1": 2}}
    assert len(found.analysis) == 2
    partial.forget(found, KIND, {"dialog": 0})
    assert partial.kept(found, KIND, {"dialog": 0}) is None
    assert partial.kept(found, KIND, {"dialog": 1}) == {"answers": {}}


def test_the_link_hands_it_to_the_engine_checkpoints_it_and_takes_it_out() -> None:
    class Keeping(FakeEngine):
        def transcribe(self, channels, listening, following):  # type: ignore[no-untyped-def]
            seen.append(following.kept)
            following.keep({"answers": {"0": 1}})
            kept.append(partial.kept(again(vcon), KIND, {"dialog": 0}))
            return super().transcribe(channels, listening, following)

    seen: list[object] = []
    kept: list[object] = []
    vcon = vcon_of(recording())
    partial.keep(vcon, KIND, {"dialog": 0}, {"answers": {}}, "conserver")
    context = Context()
    transcribe(vcon, Options(model="tiny"), context, Keeping().open)
    assert seen == [{"answers": {}}]
    assert kept == [{"answers": {"0": 1}}]
    assert context.checkpoints == 2
    assert [analysis["type"] for analysis in vcon.analysis] == ["transcript", "wtf_transcription"]


def test_what_cannot_be_read_is_nothing() -> None:
    vcon = vcon_of(recording())
    vcon.add_analysis({"type": KIND, "dialog": 0, "vendor": "x", "body": "{"})
    assert partial.kept(vcon, KIND, {"dialog": 0}) is None

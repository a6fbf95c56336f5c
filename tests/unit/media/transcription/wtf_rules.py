"""What draft-howe-vcon-wtf-extension-02 demands of a body, as far as it can be broken."""

from __future__ import annotations

from typing import Any


def check_wtf(body: dict[str, Any]) -> None:
    """Assert the draft's rules."""
    transcript, metadata = body["transcript"], body["metadata"]
    assert set(transcript) == {"text", "language", "duration", "confidence"}
    assert {"created_at", "processed_at", "provider", "model"} <= set(metadata)
    assert metadata["provider"] == metadata["provider"].lower()
    words = body.get("words", [])
    for entry in [*body["segments"], *words]:
        assert entry["end"] > entry["start"] >= 0
        assert 0 <= entry["confidence"] <= 1
        assert entry["text"] == entry["text"].strip()
        assert set(entry) <= {"id", "start", "end", "text", "confidence", "speaker", "words"}
    assert [entry["id"] for entry in body["segments"]] == list(range(len(body["segments"])))
    assert [entry["id"] for entry in words] == list(range(len(words)))
    assert [word for entry in body["segments"] for word in entry.get("words", [])] == list(
        range(len(words))
    )
    for key, speaker in body.get("speakers", {}).items():
        assert key == str(speaker["id"])
        mine = [entry["id"] for entry in body["segments"] if entry["speaker"] == speaker["id"]]
        assert speaker["segments"] == mine
        assert 0 <= speaker["confidence"] <= 1
    assert 0 <= body["quality"]["silence_ratio"] <= 1

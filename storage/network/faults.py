"""Faults of the network settings: proxies, no_proxy, certificates."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Fault:
    """One unusable setting: its name (a variable or an option), what is wrong, and a hint."""

    name: str
    message: str
    hint: str = ""
    is_option: bool = False

    @property
    def said(self) -> tuple[str, str]:
        """The message and the hint."""
        return self.message, self.hint

    def __str__(self) -> str:
        return f"{self.name}: {self.message}" + (f" ({self.hint})" if self.hint else "")


class NetworkSettingsError(ValueError):
    """Network settings cannot be used; `faults` has all reasons."""

    def __init__(self, faults: Iterable[Fault]) -> None:
        self.faults = tuple(faults)
        super().__init__("; ".join(map(str, self.faults)))

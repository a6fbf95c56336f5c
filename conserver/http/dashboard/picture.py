"""Draws the chains of a configuration: lists -> links -> storages -> lists.

This module computes all positions; the template only writes them as SVG. The widths of texts are
generous estimates, because the server does not know the browser's font.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from conserver.config.model import ChainConfig, Config

_CHAR, _PAD = 7.4, 22.0
_HEIGHT, _ROW = 36.0, 44.0
_GAP, _LINK_GAP, _BAND, _HEAD = 56.0, 26.0, 34.0, 30.0
_LEAST = 70.0


@dataclass(frozen=True, slots=True)
class Node:
    """A box. kind: list, link or storage. to: the chain that takes from the list; "" for none."""

    kind: str
    name: str
    under: str
    x: float
    y: float
    width: float
    to: str = ""

    @property
    def height(self) -> float:
        """The height, the same for all boxes."""
        return _HEIGHT

    @property
    def left(self) -> tuple[float, float]:
        """The point where incoming lines end."""
        return self.x, self.y + _HEIGHT / 2

    @property
    def right(self) -> tuple[float, float]:
        """The point where outgoing lines begin."""
        return self.x + self.width, self.y + _HEIGHT / 2


@dataclass(slots=True)
class Band:
    """The drawing of one chain. y: of its title. lines: SVG paths."""

    name: str
    enabled: bool
    y: float
    nodes: list[Node] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Picture:
    """All chains below each other. heads: (x, text) of the columns. said: the chains in words."""

    width: float
    height: float
    heads: Sequence[tuple[float, str]]
    bands: Sequence[Band]
    said: str


def picture(config: Config) -> Picture:
    """The picture of a configuration."""
    chains = list(config.chains.items())
    lists_x = 0.0
    links_x = _widest(name for _, chain in chains for name in chain.ingress_lists) + _GAP
    ends = [links_x + _links_width(config, chain) for _, chain in chains]
    storages_x = max(ends, default=links_x) + _GAP
    storages = max(
        (_box_width(config, "storage", name) for _, chain in chains for name in chain.storages),
        default=_LEAST,
    )
    lists_out_x = storages_x + storages + _GAP
    out = _widest(_label(config, name) for _, chain in chains for name in chain.egress_lists)
    y = _HEAD
    bands = []
    for name, chain in chains:
        band = Band(name, chain.enabled, y + 14)
        _fill(band, config, chain, y + _BAND - 8, (lists_x, links_x, storages_x, lists_out_x))
        bands.append(band)
        y += _BAND + _ROW * max(1, *map(len, _columns(chain)))
    heads = [(lists_x, "lists"), (links_x, "links"), (storages_x, "storages")]
    said = "; ".join(_said(name, chain) for name, chain in chains)
    heads.append((lists_out_x, "lists"))
    return Picture(round(lists_out_x + out + 2), round(y + 4), heads, bands, said)


def _columns(chain: ChainConfig) -> tuple[list[str], list[str], list[str]]:
    return chain.ingress_lists, chain.storages, chain.egress_lists


def _width(text: str) -> float:
    return max(round(len(text) * _CHAR + _PAD), _LEAST)


def _widest(texts: Iterable[str]) -> float:
    return max(map(_width, texts), default=_LEAST)


def _label(config: Config, name: str) -> str:
    """The label of an egress list: its name, and the chain that takes from it."""
    to = config.ingress.get(name)
    return f"{name} → {to}" if to else name


def _links_width(config: Config, chain: ChainConfig) -> float:
    widths = [_box_width(config, "link", name) + _LINK_GAP for name in chain.links]
    return sum(widths) - _LINK_GAP if widths else 0.0


def _box_width(config: Config, kind: str, name: str) -> float:
    return max(_width(name), _under_width(_module(config, kind, name)))


def _under_width(module: str) -> float:
    """The width of the small text below a name."""
    return round(len(module) * _CHAR * 0.85 + _PAD) if module else 0.0


def _fill(
    band: Band, config: Config, chain: ChainConfig, y: float, xs: tuple[float, float, float, float]
) -> None:
    """The boxes and lines of one chain, from `y` downwards."""
    rows = max(1, *map(len, _columns(chain)))

    def column(kind: str, names: Sequence[str], x: float) -> list[Node]:
        first = y + (rows - len(names)) * _ROW / 2
        found = []
        for n, name in enumerate(names):
            to = config.ingress.get(name, "") if kind == "list" and x > 0 else ""
            width = _width(_label(config, name)) if to else _box_width(config, kind, name)
            module = _module(config, kind, name)
            found.append(Node(kind, name, module, x, first + n * _ROW, width, to))
        return found

    came, stored, out = (
        column("list", chain.ingress_lists, xs[0]),
        column("storage", chain.storages, xs[2]),
        column("list", chain.egress_lists, xs[3]),
    )
    x, middle = xs[1], y + (rows - 1) * _ROW / 2
    links = []
    for name in chain.links:
        module = _module(config, "link", name)
        width = _box_width(config, "link", name)
        links.append(Node("link", name, module, x, middle, width))
        x += width + _LINK_GAP
    band.nodes = [*came, *links, *stored, *out]
    begin = links[0].left if links else (xs[1], middle + _HEIGHT / 2)
    end = links[-1].right if links else begin
    join = (xs[3] - _GAP / 2, middle + _HEIGHT / 2)
    lines = [(one.right, begin) for one in came]
    lines += [(one.right, two.left) for one, two in pairwise(links)]
    lines += [(end, one.left) for one in stored]
    if out:
        lines += [(one.right, join) for one in stored] or [(end, join)]
        lines += [(join, one.left) for one in out]
    band.lines = [_line(*line) for line in lines]


def _module(config: Config, kind: str, name: str) -> str:
    if kind == "list":
        return ""
    one = config.links.get(name) if kind == "link" else config.storages.get(name)
    return one.module if one is not None and one.module.rpartition(".")[2] != name else ""


def _line(begin: tuple[float, float], end: tuple[float, float]) -> str:
    (x1, y1), (x2, y2) = begin, end
    if y1 == y2:
        return f"M{x1:g} {y1:g}H{x2:g}"
    middle = (x1 + x2) / 2
    return f"M{x1:g} {y1:g}C{middle:g} {y1:g} {middle:g} {y2:g} {x2:g} {y2:g}"


def _said(name: str, chain: ChainConfig) -> str:
    parts = [", ".join(names) for names in (chain.ingress_lists, chain.links) if names]
    parts += [", ".join(names) for names in (chain.storages, chain.egress_lists) if names]
    return f"{name}: {' to '.join(parts)}"

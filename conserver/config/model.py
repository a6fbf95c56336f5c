"""The models of the configuration file: links, storages, chains, and keys of partners.

1. Loads YAML in vcon-server's grammar with Conserver's additions, and inserts environment
   variables: `${NAME}`, `${NAME:-default}`, and `$${` for a literal `${`.
2. Validates the whole file and reports all problems together: path, line, invalid value, allowed
   values, and a suggestion.
3. Warns of entries of vcon-server that Conserver does not use, so that an existing file loads.

The resulting Config is frozen. In the daemon only the supervisor reads the file; it passes the
Config to its children. plugins/loader.py checks whether modules exist and accept their options.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PrivateAttr,
    SecretStr,
    ValidationError,
    model_validator,
)

from conserver.config import doubts
from conserver.config.ages import TimeText
from conserver.config.data import check_references, drop_ignored, entries, texts
from conserver.config.file import expand, read_text, read_yaml, with_lines
from conserver.config.names import ListName, PluginName, Section
from conserver.config.rates import Rate
from conserver.config.schedules import ScheduleConfig
from conserver.config.validation import join_path, problems_of
from conserver.errors import ConfigError, Problem
from conserver.telemetry.redact import hide_everywhere, secret_values


def _check_module_name(name: str) -> str:
    if not all(part.isidentifier() for part in name.split(".")):
        raise ValueError(
            f"must be a module such as `links.tag` or `my_package.my_link`, not `{name}`"
        )
    return name


def _empty_if_null(value: object) -> object:
    return {} if value is None else value


def _no_lists_if_null(value: object) -> object:
    return [] if value is None else value


def _as_keys(value: object) -> object:
    """The keys of one list. Empty keys, which unset variables leave, are dropped."""
    if isinstance(value, str):
        value = [value]
    if isinstance(value, list) and all(isinstance(key, str) for key in value):
        return [key.strip() for key in value if key.strip()]
    raise ValueError("must be a key or a list of keys, as texts")


IngressKeys = Annotated[list[SecretStr], BeforeValidator(_as_keys)]
ModuleName = Annotated[str, AfterValidator(_check_module_name)]
Options = Annotated[dict[str, Any], BeforeValidator(_empty_if_null)]
Weight = Annotated[int, Field(ge=1, le=1000)]
Priority = Literal["high", "normal", "low"]
Burst = Annotated[int, Field(ge=1, le=100_000)]
LimitSeconds = Annotated[float, TimeText, Field(gt=0, allow_inf_nan=False)]


class LinkConfig(Section):
    """One link: a module and its options."""

    module: ModuleName = Field(
        description="The module that does the work: `links.tag`, `my_package.my_link`."
    )
    options: Options = Field(default={}, repr=False, description="The options of the module.")
    rate: Rate | None = Field(
        default=None,
        description="How often it runs at most, over all workers and hosts: `100/min`, `5/s`.",
    )
    rate_burst: Burst | None = Field(
        default=None,
        description="How many runs may begin at once after a pause; by default those of a second.",
    )
    soft_timeout_s: LimitSeconds | None = Field(
        default=None,
        description="The time in which the link should end; it can ask how much is left.",
    )
    hard_timeout_s: LimitSeconds | None = Field(
        default=None,
        description="After this time the worker is killed; the death counts against the item.",
    )


class StorageConfig(Section):
    """One storage: a module and its options."""

    module: ModuleName = Field(
        description="The module that stores: `storage.postgres`, `my_package.my_store`."
    )
    options: Options = Field(default={}, repr=False, description="The options of the module.")


class ChainConfig(Section):
    """One chain: the lists that it serves, its links and storages, and its limits."""

    links: list[PluginName] = Field(
        default=[], description="The links, in order, by their names under `links`."
    )
    storages: list[PluginName] = Field(
        default=[],
        description="The storages for the result, by their names under `storages`; in parallel.",
    )
    ingress_lists: Annotated[list[ListName], BeforeValidator(_no_lists_if_null)] = Field(
        default=[], description="The Redis lists to serve; each belongs to one chain."
    )
    list_weights: dict[ListName, Weight] = Field(
        default={},
        description="The share of each ingress list if several have items waiting; 1 for a list "
        "that is not named. Without `list_weights` they are served in strict order.",
    )
    priorities: dict[Priority, ListName] = Field(
        default={},
        description="Which of `ingress_lists` a submission with the priority high, normal or low "
        "goes to.",
    )
    egress_lists: list[ListName] = Field(
        default=[], description="The Redis lists that get the uuid when all storages have the vCon."
    )
    enabled: bool = Field(default=True, description="0 or false: the chain's lists are not served.")
    timeout: LimitSeconds | None = Field(
        default=None, description="vcon-server's name for `soft_timeout_s`."
    )
    soft_timeout_s: LimitSeconds | None = Field(
        default=None, description="The time in which all links of an item together should end."
    )
    hard_timeout_s: LimitSeconds | None = Field(
        default=None,
        description="After this time, summed over all links, the worker is killed.",
    )
    retries: Annotated[int, Field(ge=0)] = Field(
        default=5,
        description="How often an item is retried after a link failed, before it is dead-lettered.",
    )
    max_deliveries: Annotated[int, Field(ge=1)] = Field(
        default=3,
        description="After how many counted deaths of its worker an item is dead-lettered. A first "
        "death of unknown cause is not counted, because another item may have caused it: an item "
        "that always kills its worker is dead-lettered after one death more.",
    )
    backoff_s: LimitSeconds = Field(
        default=2.0,
        description="The wait before the second attempt; it doubles, with jitter, from there.",
    )
    backoff_max_s: LimitSeconds = Field(
        default=600.0, description="The longest wait between two attempts."
    )
    give_up_s: LimitSeconds = Field(
        default=86_400.0,
        description="How long after its first claim an item may wait for an unreachable storage or "
        "a link that raised Retry; then it is dead-lettered.",
    )
    rate: Rate | None = Field(
        default=None,
        description="How many items begin their links at most, over all workers and hosts.",
    )
    rate_burst: Burst | None = Field(
        default=None,
        description="How many items may begin at once after a pause; by default those of a second.",
    )
    concurrency: Annotated[int, Field(ge=1)] | None = Field(
        default=None, description="The most items of the chain that one worker runs at once."
    )
    weight: Weight = Field(
        default=1, description="The chain's share of a worker if several chains have items waiting."
    )
    supported_extensions: list[str] = Field(
        default=[], description="The `critical` vCon extensions that the chain's links understand."
    )

    @property
    def usual_lists(self) -> list[str]:
        """The chain's ingress lists; the one for the priority `normal` comes first."""
        usual = self.priorities.get("normal")
        others = [name for name in self.ingress_lists if name != usual]
        return others if usual is None else [usual, *others]

    @model_validator(mode="after")
    def _check_limits(self) -> Self:
        if self.timeout is not None and self.soft_timeout_s is None:
            # Copied here, so that all other code uses one name only. object.__setattr__, because
            # the model is frozen.
            object.__setattr__(self, "soft_timeout_s", self.timeout)
        if (
            self.soft_timeout_s
            and self.hard_timeout_s
            and self.hard_timeout_s < self.soft_timeout_s
        ):
            raise ValueError("hard_timeout_s must not be less than soft_timeout_s (or timeout)")
        if self.backoff_max_s < self.backoff_s:
            raise ValueError("backoff_max_s must not be less than backoff_s")
        for field, names in (
            ("list_weights", self.list_weights),
            ("priorities", self.priorities.values()),
        ):
            for name in names:
                if name not in self.ingress_lists:
                    raise ValueError(f"{field} names `{name}`, which is not one of ingress_lists")
        return self


class Config(Section):
    """The validated file. `warnings` lists entries that have no effect."""

    links: dict[str, LinkConfig] = Field(default={}, description="The links by name.")
    storages: dict[str, StorageConfig] = Field(default={}, description="The storages by name.")
    chains: dict[str, ChainConfig] = Field(default={}, description="The chains by name.")
    ingress_auth: dict[ListName, IngressKeys] = Field(
        default={}, repr=False, description="Keys of partners who may push, by list."
    )
    schedules: dict[str, ScheduleConfig] = Field(
        default={}, description="Actions at fixed times, by name."
    )
    models: dict[str, str] = Field(
        default={}, description="The chain behind each model name that OpenAI's clients may use."
    )
    _warnings: tuple[Problem, ...] = PrivateAttr(default=())

    @property
    def warnings(self) -> tuple[Problem, ...]:
        """Problems that do not prevent a start, such as entries without effect."""
        return self._warnings

    @property
    def secrets(self) -> list[str]:
        """The secrets of all options."""
        options = [link.options for link in self.links.values()]
        options += [storage.options for storage in self.storages.values()]
        return [*secret_values(options), *secret_values(list(self.ingress_auth.values()))]

    @property
    def enabled_chains(self) -> dict[str, ChainConfig]:
        """The enabled chains by name, in the order of the file."""
        return {name: chain for name, chain in self.chains.items() if chain.enabled}

    @property
    def ingress(self) -> dict[str, str]:
        """Ingress list -> name of its chain, for enabled chains, in the order of the file."""
        return {
            list_name: name
            for name, chain in self.enabled_chains.items()
            for list_name in chain.ingress_lists
        }

    @property
    def enabled_schedules(self) -> dict[str, ScheduleConfig]:
        """The enabled schedules by name, in the order of the file."""
        return {name: one for name, one in self.schedules.items() if one.enabled}

    @property
    def egress(self) -> dict[str, str]:
        """Egress list -> name of a chain that pushes to it, for enabled chains."""
        return {
            list_name: name
            for name, chain in self.enabled_chains.items()
            for list_name in chain.egress_lists
        }

    @property
    def used_links(self) -> dict[str, LinkConfig]:
        """The links that enabled chains name."""
        used = {name for chain in self.enabled_chains.values() for name in chain.links}
        return {name: link for name, link in self.links.items() if name in used}

    @property
    def used_storages(self) -> dict[str, StorageConfig]:
        """The storages that enabled chains name."""
        used = {name for chain in self.enabled_chains.values() for name in chain.storages}
        return {name: storage for name, storage in self.storages.items() if name in used}


def load(path: str | Path, environ: Mapping[str, str]) -> Config:
    """Read and validate the file.

    Raises:
        ConfigError: all problems; also a file that cannot be read.
    """
    return parse(read_text(path), environ, str(path))


def parse(text: str, environ: Mapping[str, str], source: str = "the configuration") -> Config:
    """Validate the text of a configuration file; `source` is its name in error messages.

    Raises:
        ConfigError: all problems.
    """
    data, problems = read_yaml(text, source)
    warnings = list(drop_ignored(data))
    data = {key: {} if value is None else value for key, value in data.items()}
    data = expand(data, environ, "", problems)
    problems += check_references(data)
    config = None
    try:
        config = Config.model_validate(data)
    except ValidationError as error:
        problems += problems_of(error, Config, data)
    if problems or config is None:
        raise ConfigError(with_lines(problems, text), source)
    warnings += doubts.of(config)
    config._warnings = tuple(with_lines(warnings, text))
    return config


def usable_part(path: str | Path, environ: Mapping[str, str]) -> Config:
    """The valid links and storages of an invalid file that a chain names.

    `load` has reported the problems of the file. With this part, `conserver check` can report
    problems of modules and options in the same run.

    Raises:
        ConfigError: the file cannot be read or is not YAML.
    """
    data, _ = read_yaml(read_text(path), str(path))
    deque(drop_ignored(data), maxlen=0)  # `load` has reported these warnings.
    named = {
        (section, name)
        for _, chain in entries(data, "chains")
        for section in ("links", "storages")
        for _, name in texts(chain, section)
    }
    missing: list[Problem] = []
    links: dict[str, LinkConfig] = {}
    storages: dict[str, StorageConfig] = {}
    for section, name in sorted(named):
        entry = dict(entries(data, section)).get(name)
        whole = expand(entry, environ, join_path(section, [name]), missing)
        with suppress(ValidationError):
            if section == "links":
                links[name] = LinkConfig.model_validate(whole)
            else:
                storages[name] = StorageConfig.model_validate(whole)
    chain = ChainConfig(links=list(links), storages=list(storages), ingress_lists=["any"])
    return Config(links=links, storages=storages, chains={"any": chain})


def hide_secrets_of(config: Config) -> None:
    """Hide the secrets of all options in the output of this process and of its children."""
    hide_everywhere(config.secrets)

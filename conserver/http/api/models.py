"""/v1/models: shows the chains that transcribe as models, for OpenAI's clients.

A model's name is one of:

    chain/<name>   a chain with a link that transcribes
    any name       that `models` in config.yml assigns to a chain
    whisper-1      the first chain that transcribes, unless `models` assigns the name
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel

from conserver.config.model import ChainConfig, Config
from conserver.config.validation import suggest
from conserver.http.api.auth import token_of
from conserver.http.api.context import Context, context_of
from conserver.http.api.problems import ProblemError
from conserver.operations.tokens import Token

router = APIRouter(prefix="/v1/models", tags=["openai"])

DEFAULT = "whisper-1"
_PREFIX = "chain/"

# The last part of the module name of links that transcribe: Conserver's, and vcon-server's.
_TRANSCRIBING = frozenset(
    "transcribe deepgram_link groq_whisper hugging_face_whisper openai_transcribe".split()
)


@dataclass(frozen=True, slots=True)
class Model:
    """A model's name, its chain, and the chain's ingress list."""

    name: str
    chain: str
    list: str


def models_of(config: Config, token: Token) -> dict[str, Model]:
    """The models that a token may use, by name."""
    chains = config.enabled_chains
    hearing = [name for name, chain in chains.items() if _transcribes(config, chain)]
    named = {_PREFIX + name: name for name in hearing}
    if hearing:
        named[DEFAULT] = hearing[0]
    named |= {name: chain for name, chain in config.models.items() if chain in chains}
    found = {}
    for name, chain in named.items():
        usable = [one for one in chains[chain].usual_lists if token.may_use(one)]
        if usable:
            found[name] = Model(name, chain, usable[0])
    return found


def _transcribes(config: Config, chain: ChainConfig) -> bool:
    modules = (config.links[name].module for name in chain.links)
    return any(module.rpartition(".")[2] in _TRANSCRIBING for module in modules)


def lists_that_transcribe(config: Config) -> list[str]:
    """The lists of all chains that transcribe, or that `models` names."""
    chains = config.enabled_chains
    named = {name for name, chain in chains.items() if _transcribes(config, chain)}
    named |= set(config.models.values()) & chains.keys()
    return [one for name in chains if name in named for one in chains[name].ingress_lists]


def model_named(context: Context, token: Token, name: str) -> Model:
    """The model of that name. Raises ProblemError: 404."""
    known = models_of(context.config, token)
    if name in known:
        return known[name]
    if not known:
        why = "no chain here transcribes (or none that this token may use)"
    else:
        why = suggest(name, known) or f"there are {', '.join(list(known)[:10])}"
    raise ProblemError(
        404, f"the model `{name[:80]}` does not exist: {why}", "model-not-found", param="model"
    )


class ModelView(BaseModel):
    """One model, in OpenAI's form."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str = "conserver"


class ModelPage(BaseModel):
    """All models."""

    object: Literal["list"] = "list"
    data: list[ModelView]


def _view(context: Context, name: str) -> ModelView:
    """The view of a model. Its `created` is the time of the last change of the configuration."""
    path = Path(context.settings.config_file)
    created_s = path.stat().st_mtime if path.is_file() else 0
    return ModelView(id=name, created=int(created_s))


@router.get("", summary="The models that may be used")
def list_models(request: Request, token: Annotated[Token, Depends(token_of)]) -> ModelPage:
    """Lists the models in OpenAI's form."""
    context = context_of(request)
    return ModelPage(data=[_view(context, name) for name in models_of(context.config, token)])


@router.get("/{model:path}", summary="One model")
def show_model(
    request: Request, model: str, token: Annotated[Token, Depends(token_of)]
) -> ModelView:
    """Shows one model. Its name may contain slashes."""
    context = context_of(request)
    return _view(context, model_named(context, token, model).name)

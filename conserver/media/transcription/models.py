"""Finds the files of a model.

A model is a folder with a Whisper model converted for CTranslate2, or the name of one in the hub's
cache on this machine: a size ("small", "large-v3-turbo") or an id ("owner/name"). An existing
folder takes precedence. Nothing is downloaded unless `local_files_only` is false.
"""

from __future__ import annotations

import os
from pathlib import Path

from conserver.errors import ConserverError, Retry
from conserver.media.transcription.engine import Model

_FILES = ("config.json", "model.bin", "tokenizer.json")


class ModelMissingError(ConserverError):
    """The model's files are not on this machine; the message names the places searched."""


def check_name(model: Model) -> None:
    """Check the name of a model without the network.

    Raises:
        ModelMissingError: the folder is incomplete or missing, or the size does not exist.
    """
    folder = Path(model.name).expanduser()
    if folder.is_dir():
        missing = [name for name in _FILES if not (folder / name).is_file()]
        if missing:
            raise ModelMissingError(
                f"{folder} is no Whisper model converted for CTranslate2: "
                f"it lacks {', '.join(missing)}"
            )
    elif model.name.startswith((".", "~", os.sep)) or model.name.count("/") > 1:
        raise ModelMissingError(
            f"there is no folder {folder} (looked in {Path.cwd()}) with a model"
        )
    elif "/" not in model.name:
        from faster_whisper import available_models

        if model.name not in available_models():
            raise ModelMissingError(
                f"the model {model.name!r} is neither a folder (looked in {Path.cwd()}) "
                f"nor a size: {', '.join(available_models())}"
            )


def find_model(model: Model) -> str:
    """The folder with the model's files.

    Raises:
        ModelMissingError: it is not on this machine, and downloads are not allowed.
        Retry: the download failed.
    """
    check_name(model)
    folder = Path(model.name).expanduser()
    return str(folder) if folder.is_dir() else _find_in_hub_cache(model)


def _find_in_hub_cache(model: Model) -> str:
    from faster_whisper import download_model
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return str(
            download_model(
                model.name, local_files_only=model.local_files_only, cache_dir=model.cache_dir
            )
        )
    except LocalEntryNotFoundError as error:
        if not model.local_files_only:
            raise Retry(reason=f"the model {model.name} cannot be fetched: {error}") from error
        where = model.cache_dir or "the hub's cache folder of this user"
        raise ModelMissingError(
            f"the model {model.name!r} is neither a folder (looked in {Path.cwd()}) nor in "
            f"{where}; fetch it beforehand, or set local_files_only: false to let workers fetch it"
        ) from error
    except (HfHubHTTPError, OSError) as error:
        raise Retry(reason=f"the model {model.name} cannot be fetched: {error}") from error

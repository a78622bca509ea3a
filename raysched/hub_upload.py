"""Folders to the Hugging Face hub: the way out of the one door that `hub` is."""

from __future__ import annotations

from pathlib import Path

from raysched import hub
from raysched.errors import MissingError, StudyError


def push(folder: Path, repo: str, *, private: bool) -> str:
    """Upload a folder's files as one commit to a model repository, which is made where there is none; its address.

    The token comes from the environment (`HF_TOKEN`) or from where the hub's own tools keep it.

    Raises:
        StudyError: no name that a repository can have.
        MissingError: the hub cannot be reached, or does not let this user write there.
    """
    from huggingface_hub import HfApi

    if not hub.REPOSITORY.fullmatch(repo):
        raise StudyError(f"a name on the hub must have the form owner/name, but got {repo!r}", key="--push")
    if hub.offline():
        raise MissingError("HF_HUB_OFFLINE is set", key="--push", hint="unset it, or leave --push out")
    api = HfApi(endpoint=hub.endpoint())
    try:
        api.create_repo(repo, private=private, exist_ok=True)
        commit = api.upload_folder(repo_id=repo, folder_path=folder, commit_message="Adapter exported by raysched")
    except Exception as error:  # whatever the library and the network raise, in the user's words
        told = hub.explained(error, repo, "model", None)
        hint = "set HF_TOKEN to a token that may write there; what was exported stays in its folder"
        raise MissingError(told.what, key="--push", hint=hint) from error
    return str(commit.commit_url)

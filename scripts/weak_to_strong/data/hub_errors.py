"""What huggingface_hub says when it gives no repository, for data sets and models alike."""

from __future__ import annotations

import re

from weak_to_strong.jobs.secret_values import hide_secrets

COMMIT = re.compile(r"[0-9a-f]{40}")
OFFLINE_FIX = "where there is no network, fetch the file elsewhere and name it by `path`"


def explain_hub_error(error: Exception, name: str, revision: str) -> str | None:
    """One line that says why the Hub did not give a repository; None for errors of other kinds."""
    from huggingface_hub import errors

    if isinstance(error, errors.GatedRepoError):
        return f"{name} is gated: accept its terms on the Hub, then `hf auth login` or set HF_TOKEN"
    if isinstance(error, errors.RevisionNotFoundError):
        return f"{name} has no revision {revision}"
    if isinstance(error, errors.RepositoryNotFoundError):
        return f"{name} is not on the Hub, or is private and HF_TOKEN is not set"
    if isinstance(error, errors.RemoteEntryNotFoundError):
        return f"no such file in {name} at {revision}"
    if isinstance(error, errors.HFValidationError):
        return f"{name!r} is not a name that the Hub can have"
    # OSError includes offline mode and a full disk.
    if isinstance(error, (errors.HTTPError, OSError)):
        detail = hide_secrets(" ".join(str(error).split()))[:200]
        return f"cannot fetch {name} from the Hub ({detail}); {OFFLINE_FIX}"
    return None

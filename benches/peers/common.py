"""Functions that the Python peers share: a workspace, and messages to the bench."""

import os
import sys

import openhands.tools  # noqa: F401  (defines the actions and observations)
import openhands.tools.apply_patch  # noqa: F401
import openhands.tools.gemini  # noqa: F401
import openhands.tools.glob  # noqa: F401
import openhands.tools.grep  # noqa: F401
import openhands.tools.planning_file_editor  # noqa: F401
from openhands.sdk import RemoteConversation
from openhands.sdk.workspace import RemoteWorkspace


def workspace(url: str) -> RemoteWorkspace:
    return RemoteWorkspace(
        host=url, working_dir="/fake", api_key=os.environ.get("OPENHANDS_KEY")
    )


def attach(workspace: RemoteWorkspace, id: str, callbacks=()) -> RemoteConversation:
    return RemoteConversation.attach(
        workspace, id, callbacks=list(callbacks), visualizer=None
    )


def say(word: str, answer: object = "") -> None:
    print(word, answer, flush=True)


def wait_for(what: str) -> str:
    line = sys.stdin.readline()
    if not line:
        raise SystemExit(f"nobody says {what} any more")
    return line.strip()


def leave() -> None:
    """Exits at once, because closing each socket would wait five seconds for its thread."""
    sys.stdout.flush()
    os._exit(0)

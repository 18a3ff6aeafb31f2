"""Starts and stops a server with DockerWorkspace, when the bench says so.

The second argument is "limits" if the limit `nofile` is requested, as the client always does.
"""

import os
import sys

sys.path.append(os.environ["OPENHANDS_WORKSPACE"])

from openhands.workspace.docker import workspace as module  # noqa: E402

execute = module.execute_command


def without_limits(command: list[str], *arguments, **options):
    if command[:2] == ["docker", "run"]:
        at = command.index("--ulimit")
        command = command[:at] + command[at + 2 :]
    return execute(command, *arguments, **options)


def say(word: str, answer: object = "") -> None:
    print(word, answer, flush=True)


image, limits = sys.argv[1:]
if limits != "limits":
    module.execute_command = without_limits
# Otherwise the server would download a list of prices.
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
forward = ["LITELLM_LOCAL_MODEL_COST_MAP"]
say("up")
sys.stdin.readline()
try:
    server = module.DockerWorkspace(
        server_image=image, forward_env=forward, detach_logs=False
    )
except RuntimeError as error:
    if limits != "limits" or "rlimit" not in str(error):
        raise
    say("started", "refused")
    sys.exit(0)
say("started", server._container_id)
sys.stdin.readline()
server.cleanup()
say("stopped")

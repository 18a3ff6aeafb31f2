"""Prints the verdicts of commands, replies of a model and whole events."""

import json
import sys

from openhands.sdk.hooks.config import HookConfig, HookDefinition, HookType
from openhands.sdk.hooks.executor import HookExecutor
from openhands.sdk.hooks.manager import HookManager
from openhands.sdk.hooks.types import HookEvent


def shown(result):
    return [
        result.success, result.blocked, result.exit_code, result.reason, result.additional_context,
        result.error is not None, result.stdout[:200], result.stderr[:200],
    ]


def command(executor, line):
    # Only these are meant to exceed their limit, however busy the machine is.
    limit = 2 if line.startswith("sleep") else 60
    event = HookEvent(event_type="Stop", session_id="s", working_dir=executor.working_dir)
    return shown(executor.execute(HookDefinition(command=line, timeout=limit), event))


def event(directory, name, lines):
    hooks = [{"hooks": [{"command": line, "timeout": 60}]} for line in lines]
    manager = HookManager(HookConfig.model_validate({name: hooks}), directory, "s")
    context = None
    match name:
        case "PreToolUse":
            goes_on, results = manager.run_pre_tool_use("terminal", {"command": "ls"})
        case "PostToolUse":
            goes_on, results = True, manager.run_post_tool_use("terminal", {}, {})
        case "UserPromptSubmit":
            goes_on, context, results = manager.run_user_prompt_submit("hi")
        case "SessionStart":
            goes_on, results = True, manager.run_session_start()
        case "SessionEnd":
            goes_on, results = True, manager.run_session_end()
        case "Stop":
            goes_on, results = manager.run_stop("agent_finished")
    return [goes_on, context, manager.get_blocking_reason(results), [shown(result) for result in results]]


asked = json.load(sys.stdin)
directory = asked["dir"]
executor = HookExecutor(working_dir=directory)
print(json.dumps({
    "commands": [command(executor, line) for line in asked["commands"]],
    "replies": [
        shown(executor._parse_decision(reply, "Stop", HookType(kind)))
        for kind in ["prompt", "agent"] for reply in asked["replies"]
    ],
    "events": [event(directory, *each) for each in asked["events"]],
}))

"""Prints which configurations the server accepts, and which of them are equal."""

import json
import random
import sys

from openhands.sdk.hooks.config import HOOK_EVENT_FIELDS, HookConfig

KEYS = [
    *sorted(HOOK_EVENT_FIELDS), "PreToolUse", "PostToolUse", "UserPromptSubmit", "SessionStart",
    "SessionEnd", "Stop", "preToolUse", "Pre_tool_use", "Pre_Tool_Use", "STOP", "Stpo", "pre-tool-use",
]
TEXTS = ["x", "./check.sh", "", " ", "é\n", None, 5, True, ["x"]]
NUMBERS = [
    60, 1, 0, -5, 60.0, 60.5, 1e3, "60", " 7 ", "7.0", "7.5", "+7", "-7", "1_000", "1__0", "_1", "1e3", "0x1",
    "soon", "", ".0", "7.", "007", True, False, None, [], {},
]
SWITCHES = [
    True, False, 0, 1, 2, -1, 1.0, 0.0, 0.5, "true", "FALSE", "yes", "No", "on", "Off", "1", "0", "t", "f",
    "Y", "n", "maybe", "", " true", None, [],
]
KINDS = ["command", "prompt", "agent", "wasm", "Command", "", None, 1]
TOOLS = [[], ["terminal"], ["a", "b"], [1], [None], "terminal", None, {}]
MATCHERS = ["*", "", "terminal", "/a|b/", "/[/", None, 5, []]


def mostly(rng, likely, pool):
    return rng.choice(likely) if rng.random() < 0.8 else rng.choice(pool)


def hook(rng):
    kind = mostly(rng, ["command", "prompt", "agent"], KINDS)
    made = {}
    if kind != "command" or rng.random() < 0.5:
        made["type"] = kind
    wanted = {"command": "command", "prompt": "prompt", "agent": "system_prompt"}.get(kind, "command")
    if rng.random() < 0.9:
        made[wanted] = mostly(rng, ["x", "./check.sh"], TEXTS)
    for key in ["command", "prompt", "system_prompt", "name"]:
        if key not in made and rng.random() < 0.08:
            made[key] = rng.choice(TEXTS)
    for key, likely, pool in [
        ("timeout", [5, 60], NUMBERS), ("max_iterations", [3, 7], NUMBERS),
        ("async", [True, False], SWITCHES), ("async_", [True], SWITCHES), ("tools", [["terminal"]], TOOLS),
    ]:
        if rng.random() < 0.25 and not (key == "async_" and "async" in made):
            made[key] = rng.choice(pool) if rng.random() < 0.5 else rng.choice(likely)
    return made


def config(rng):
    made = {}
    for _ in range(rng.choice([0, 1, 1, 1, 2])):
        matchers = []
        for _ in range(rng.choice([0, 1, 1, 2])):
            matcher = {"hooks": [hook(rng) for _ in range(rng.choice([0, 1, 1, 2]))]}
            if rng.random() < 0.6:
                matcher["matcher"] = mostly(rng, ["*", "terminal"], MATCHERS)
            matchers.append(matcher)
        made[mostly(rng, KEYS[:12], KEYS)] = matchers if rng.random() < 0.95 else rng.choice([None, {}, "x", 1])
    return {"hooks": made} if rng.random() < 0.2 else made


def dropped(made):
    """Adds a key that the server ignores, if it ignores keys there."""
    for matchers in made.get("hooks", made).values():
        for matcher in matchers or []:
            matcher["hoks"] = []
            return made
    return None


def read(text):
    try:
        return HookConfig.model_validate(json.loads(text))
    except Exception:
        return None


def same(one, other):
    one, other = read(one), read(other)
    return one is not None and one == other


asked = json.load(sys.stdin)
if "pairs" in asked:
    print(json.dumps([same(*pair) for pair in asked["pairs"]]))
    sys.exit()
rng = random.Random(asked["seed"])
texts = [*asked["table"], *(json.dumps(config(rng)) for _ in range(asked["count"]))]
table = [[text, read(text) is not None] for text in texts]
extra = []
for text, taken in table:
    if taken and (made := dropped(json.loads(text))):
        extra.append(json.dumps(made))
assert all(read(text) for text in extra)
print(json.dumps({"table": table, "dropped": extra}))

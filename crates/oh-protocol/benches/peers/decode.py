"""Reads events with the Python SDK for benches/decode.rs."""

import json
import sys
import time

import openhands.tools  # noqa: F401  (defines the actions and observations)
import openhands.tools.apply_patch  # noqa: F401
import openhands.tools.gemini  # noqa: F401
import openhands.tools.glob  # noqa: F401
import openhands.tools.grep  # noqa: F401
import openhands.tools.planning_file_editor  # noqa: F401
from openhands.sdk.event import Event

lines = open(sys.argv[1], encoding="utf-8").read().splitlines()
# Client tools get separate classes when they are registered, so there is nothing to read here.
lines = [line for line in lines if "ClientAction_" not in line and '"ClientTool"' not in line]
for turn in sys.stdin:
    passes = int(turn)
    begun = time.perf_counter()
    for _ in range(passes):
        for line in lines:
            Event.model_validate(json.loads(line))
    print(passes * len(lines) / (time.perf_counter() - begun), flush=True)

"""The main job on the Python SDK: examples/local_agent_server.rs, written as its users would.

The server is started with the same settings, and polled as often as a patient program would.
"""

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

from openhands.sdk import LLM, RemoteConversation
from openhands.sdk.event import ConversationStateUpdateEvent, HookExecutionEvent
from openhands.sdk.hooks import HookConfig, HookDefinition, HookMatcher
from openhands.sdk.workspace import RemoteWorkspace
from openhands.tools.preset.default import get_default_agent

TASK = (
    "Create test_broken.py with a function that has a syntax error on purpose. "
    "Then finish. If the file does not compile, correct it and finish again."
)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Server:
    def __init__(self) -> None:
        self.root = tempfile.mkdtemp()
        self.workspace = os.path.join(self.root, "workspace")
        os.mkdir(self.workspace)
        self.key = secrets.token_hex(32)
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        settings = {
            "OH_SESSION_API_KEYS_0": self.key,
            "OH_SECRET_KEY": secrets.token_hex(32),
            "OH_CONVERSATIONS_PATH": os.path.join(self.root, "conversations"),
            "OH_BASH_EVENTS_DIR": os.path.join(self.root, "bash_events"),
            "OH_WORKSPACE_PATH": self.workspace,
            "OH_PERSISTENCE_DIR": os.path.join(self.root, "persistence"),
            "TMUX_TMPDIR": self.root,
            "TZ": "UTC",
            "OH_ENABLE_VSCODE": "false",
            "OH_PRELOAD_TOOLS": "false",
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
            "OPENHANDS_SUPPRESS_BANNER": "1",
        }
        # A slow start of the user's shell could lose the agent's first command.
        passed = {"PATH": os.environ["PATH"], "HOME": self.root}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "openhands.agent_server"]
            + ["--host", "127.0.0.1", "--port", str(port)],
            env={**passed, **settings},
            cwd=self.workspace,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        while True:
            if self.process.poll() is not None:
                sys.exit("the server ended")
            try:
                urllib.request.urlopen(f"{self.url}/ready", timeout=5).close()
                return
            except OSError:
                time.sleep(0.05)

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(timeout=30)
        shutil.rmtree(self.root, ignore_errors=True)


def llm(model: str, usage: str) -> LLM:
    return LLM(
        model=model,
        api_key=os.environ["LLM_API_KEY"],
        base_url=os.environ["LLM_BASE_URL"],
        usage_id=usage,
        num_retries=1,
    )


server = Server()
try:
    workspace = RemoteWorkspace(
        host=server.url, working_dir=server.workspace, api_key=server.key
    )
    out = workspace.execute_command("pwd")
    print(f"$ {out.command} (exit {out.exit_code}): {out.stdout.strip()}")

    hook = HookDefinition(command=os.environ["OPENHANDS_HOOK"], timeout=60)
    executions = []

    def on_event(event) -> None:
        print(event)
        if isinstance(event, HookExecutionEvent):
            executions.append(event)

    conversation = RemoteConversation(
        agent=get_default_agent(llm=llm(os.environ["LLM_MODEL"], "agent"), cli_mode=True),
        workspace=workspace,
        callbacks=[on_event],
        hook_config=HookConfig(stop=[HookMatcher(hooks=[hook])]),
        visualizer=None,
    )
    conversation.send_message(TASK)
    conversation.run()
    title = conversation.generate_title(
        llm=llm(os.environ["LLM_TITLE_MODEL"], "title"), max_length=60
    )
    conversation.set_title(title)
    print(f"title: {title}")
    for event in executions:
        print(f"hook {event.hook_command}: exit {event.exit_code}, blocked {event.blocked}")
        print(f"  feedback: {event.stderr}")
    events = list(conversation.state.events)
    print(f"{len(events)} events of the kinds {sorted({type(e).__name__ for e in events})}")
    for event in events[-10:]:
        print(f"  {event.timestamp} {type(event).__name__}")
    for event in events:
        if isinstance(event, ConversationStateUpdateEvent):
            print(f"  state {event.key}: {str(event.value)[:100]}")
    metrics = conversation.conversation_stats.get_combined_metrics()
    print(f"status {conversation.state.execution_status}, cost ${metrics.accumulated_cost:.4f}")
    check = workspace.execute_command("python3 -m py_compile test_broken.py")
    conversation.delete_on_close = True
    conversation.close()
    if check.exit_code != 0:
        sys.exit(f"it does not compile: {check.stderr}")
    if [event.blocked for event in executions] != [True, False]:
        sys.exit("the Stop hook should have denied, then allowed")
finally:
    server.stop()

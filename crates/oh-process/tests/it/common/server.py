# Imitates the server: starts in milliseconds, answers the requests of a start, and misbehaves as
# STAND_IN says.
import json
import os
import queue  # a project may have one of its own
import signal
import socket
import subprocess
import sys
import time

mode, _, detail = os.environ.get("STAND_IN", "").partition(":")
host = sys.argv[sys.argv.index("--host") + 1]
port = int(sys.argv[sys.argv.index("--port") + 1])
# Like the real server: the environment overrides the file.
with open(os.environ["OPENHANDS_AGENT_SERVER_CONFIG_PATH"]) as file:
    config = json.load(file)
key = os.environ.get("OH_SESSION_API_KEYS_0") or config["session_api_keys"][0]
secret_key = config["secret_key"]
dormant = os.environ.get("OH_DEFERRED_INIT") == "true"

if mode == "exit":
    print("about to fail", file=sys.stderr)
    sys.exit(int(detail))
if mode == "fail-once" and not os.path.exists(detail):
    open(detail, "w").close()
    sys.exit(3)
if mode == "silent":
    time.sleep(600)
if mode == "after":
    while not os.path.exists(detail):
        time.sleep(0.01)
if mode == "flood":
    line = b"x" * 1023 + b"\n"
    for _ in range(20 * 1024):
        os.write(2, line)
if mode == "invalid":
    os.write(2, b"caf\xe9 \xff\n")
if mode == "tell":
    print(json.dumps({"levelname": "ERROR", "name": "telltale", "message": "key " + key}), file=sys.stderr)
    print("plain " + secret_key + " " + os.environ["TOKEN"])
    sys.stdout.flush()
def facts():
    with open("/proc/self/status") as file:
        status = dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)
    with open("/proc/self/oom_score_adj") as file:
        oom = int(file.read())
    with open("/proc/self/environ", "rb") as file:
        environ = file.read().decode()
    import resource

    umask = os.umask(0)
    os.umask(umask)
    return {
        "env": dict(os.environ),
        "environ": environ,
        "cwd": os.getcwd(),
        "argv": sys.argv[1:],
        "path": sys.path,
        "blocked": int(status["SigBlk"], 16),
        "ignored": int(status["SigIgn"], 16),
        "umask": umask,
        "nice": os.getpriority(os.PRIO_PROCESS, 0),
        "oom": oom,
        "files": resource.getrlimit(resource.RLIMIT_NOFILE)[0],
        "core": resource.getrlimit(resource.RLIMIT_CORE)[0],
        "descriptors": sorted(int(name) for name in os.listdir("/proc/self/fd")),
        "encoding": sys.getfilesystemencoding(),
    }


if mode == "environment":
    with open(detail, "w") as file:
        json.dump(facts(), file)
if mode == "publishes":
    # Like the real server, for its own tools, which read the environment.
    os.environ["OH_SESSION_API_KEYS_0"] = key
    os.environ["PLAIN"] = "plain"
    os.environ.setdefault("SESSION_API_KEY", key)
    found = os.getenv("OH_SESSION_API_KEYS_0"), os.path.expandvars("$SESSION_API_KEY")
    assert found == (key, key) and "SESSION_API_KEY" in os.environ
    assert os.environ.pop("SESSION_API_KEY") == key and "SESSION_API_KEY" not in os.environ
    os.environ["SESSION_API_KEY"] = key
    show = [sys.executable, "-c", "import os; print(dict(os.environ))"]
    with open(detail, "a") as file:
        for environ in (None, dict(os.environ), {**os.environ}, os.environ.copy(), os.environ):
            subprocess.run(show, env=environ, stdout=file, check=True)
        file.flush()
        os.system("env >>" + detail)
        os.waitpid(os.posix_spawn("/usr/bin/env", ["env"], os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, file.fileno(), 1)]), 0)
        os.waitpid(os.spawnv(os.P_NOWAIT, "/bin/sh", ["sh", "-c", "env >>" + detail]), 0)
    with open(detail + ".done", "w"):
        pass
if mode == "graceful":

    def goodbye(*_):
        with open(detail, "w") as file:
            file.write("paused")
        os._exit(0)

    signal.signal(signal.SIGTERM, goodbye)
if mode == "browser":
    # Like the browser's library when it is imported.
    downloads = "/tmp/browser-use-downloads-" + os.environ["TAG"][:8]
    os.mkdir(downloads)
    with open(downloads + "/file", "w") as file:
        file.write("downloaded")
if mode == "captured":
    import telltale

    with open(detail, "w") as file:
        json.dump(telltale.facts(), file)
if mode == "dotenv":
    import dotenv

    dotenv.load_dotenv()
    from dotenv.main import load_dotenv

    load_dotenv()
if mode == "fail-first" and not os.path.exists(detail):
    open(detail, "w").close()
    sys.exit(5)
if mode == "closes":
    os.close(1)
    os.close(2)
if mode == "forks" and os.fork():
    os._exit(0)
if mode == "stubborn":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
if mode in ("daemon", "stubborn"):
    # Leaves the group, the session and the parent, and clears the environment.
    script = 'import os,time\nif os.fork(): os._exit(0)\nos.setsid()\nif os.fork(): os._exit(0)\ntime.sleep(600)'
    subprocess.run([sys.executable, "-c", script, "daemon-of-" + os.environ["TAG"]], env={})
    subprocess.Popen(["sleep", "600"], start_new_session=True)

listener = socket.socket()
listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
try:
    listener.bind((host, port))
    listener.listen(64)
except OSError as error:
    print(error, file=sys.stderr)
    sys.exit(3)


def answer(line, headers, body):
    global dormant, key
    if line.startswith("GET /ready"):
        return 200, {}
    if line.startswith("GET /server_info"):
        if mode == "dies-at-version":
            print("about to die", file=sys.stderr)
            sys.stderr.flush()
            os._exit(7)
        return 200, {"version": os.environ.get("STAND_IN_VERSION", "1.58.2")}
    if line.startswith("POST /api/init"):
        if headers.get("x-init-api-key") != secret_key:
            return 401, {"detail": "Unauthorized"}
        request = json.loads(body)
        if "no_such_field" in request:
            return 422, {"detail": []}
        if not dormant:
            return 400, {"detail": "server already in state: ready"}
        if mode == "init":
            with open(detail, "w") as file:
                file.write(body.decode())
        dormant = False
        key = (request.get("session_api_keys") or [key])[0]
        return 200, {"state": "ready"}
    if dormant:
        return 503, {"detail": "dormant"}
    if mode == "open":
        return 200, 0
    if headers.get("x-session-api-key") != key:
        return 401, {"detail": "Unauthorized"}
    if line.startswith("GET /api/die"):
        os._exit(7)
    return 200, 0


while True:
    connection, _ = listener.accept()
    with connection:
        data = b""
        while b"\r\n\r\n" not in data:
            chunk = connection.recv(65536)
            if not chunk:
                break
            data += chunk
        head, _, body = data.partition(b"\r\n\r\n")
        if not head:
            continue
        lines = head.decode().split("\r\n")
        headers = {}
        for header in lines[1:]:
            name, _, value = header.partition(":")
            headers[name.strip().lower()] = value.strip()
        while len(body) < int(headers.get("content-length", 0)):
            body += connection.recv(65536)
        status, value = answer(lines[0], headers, body)
        payload = json.dumps(value).encode()
        connection.sendall(
            b"HTTP/1.1 %d X\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
            % (status, len(payload))
            + payload
        )

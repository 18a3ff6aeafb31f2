# Runs in a container: imports the server's modules once, and starts servers that are forked from
# there. The engine passes orders of the owner on stdin, and reports on stdout. Both are lines of
# JSON. Other output is on stderr. The scripts of a local server's template and keeper are in the
# same directory.
#
#   {"id", "port", "host", "env", "config", "workspace"}  start a server
#                               -> {"id", "pid"} or {"id", "refused"}; {"id", "line"} for each line
#                                  of its output; last {"id", "exit", "others"}
#   {"id", "read"}      the server has read its configuration: wipe it
#   {"id", "end"}       SIGTERM; after this many seconds, kill everything that the server started
#   {"begin"}           import the modules with this time limit  -> {"ready"} or {"failed"}
#
# A template that has ended is replaced when the next server is started. SIGTERM ends all servers,
# and then this process.
import array
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading

HERE = os.path.dirname(os.path.abspath(__file__))
CONFIG = "OPENHANDS_AGENT_SERVER_CONFIG_PATH"
# Each server has its own directory for these. The template has some too, which modules may keep.
DIRECTORIES = {
    "OH_CONVERSATIONS_PATH": "conversations",
    "OH_BASH_EVENTS_DIR": "bash_events",
    "OH_PERSISTENCE_DIR": "persistence",
    "OH_CONVERSATION_WORKTREE_ROOT": "worktrees",
    "TMUX_TMPDIR": "tmux",
    "TMPDIR": "tmp",
}
FORK_LIMIT = 20  # seconds
LINE = 65536  # bytes of a line that are passed on at once

writing = threading.Lock()


class Refused(Exception):
    """Why a server cannot be started."""


class Terminated(BaseException):
    """SIGTERM was received."""


def say(**report):
    line = json.dumps(report).encode() + b"\n"
    with writing:
        sys.stdout.buffer.write(line)
        sys.stdout.buffer.flush()


def script(name):
    with open(os.path.join(HERE, name), "rb") as file:
        return file.read()


def send(channel, order, payload=b"", descriptors=()):
    data = order + b"%08x" % len(payload) + payload
    rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))
    sent = channel.sendmsg([data], [rights] if descriptors else [])
    channel.sendall(data[sent:])


def start_directory(root):
    """Returns the working directory of a process. Empty, because modules are also found there."""
    return os.path.join(root, "start")


def variables(root):
    """Returns the variables of a process with this directory, and creates what they name."""
    own = {name: os.path.join(root, part) for name, part in DIRECTORIES.items()}
    for directory in [*own.values(), start_directory(root)]:
        os.mkdir(directory, 0o700)
    return {**os.environ, **own, CONFIG: "/proc/self/fd/3", "TZ": "UTC"}


class Template:
    """The process that has imported the modules."""

    def __init__(self):
        self.lock, self.process, self.channel, self.begun = threading.Lock(), None, None, {}

    def start(self, limit):
        """Starts the process, and returns its report. Call this with the lock."""
        root = tempfile.mkdtemp(prefix="openhands-template-")
        try:
            self.channel, theirs = socket.socketpair()
            with theirs:
                own = {**variables(root), "OPENHANDS_RS_ROOM": "x" * 16384}
                command = [sys.executable, "-I", "-u", "-X", "utf8", "-c", script("loader.py").decode()]
                cwd = start_directory(root)
                self.process = subprocess.Popen(
                    [*command, "x" * 1024], stdin=theirs, stdout=sys.stderr, env=own, cwd=cwd
                )
            text = script("template.py")
            self.channel.sendall(b"%08d" % len(text) + text)
            parts = [script("keeper.py"), script("launch.py")]
            parts += [SCRIPTS["modules"].encode(), SCRIPTS["libraries"].encode(), root.encode()]
            send(self.channel, b"m", b"".join(part + b"\0" for part in parts))
            self.channel.settimeout(limit)
            answer = b""
            while not answer.endswith(b"\n"):
                part = self.channel.recv(65536)
                if not part:
                    raise Refused("the template ended while it imported the server's modules")
                answer += part
            self.channel.settimeout(None)
            answer = json.loads(answer)
            if "error" in answer:
                raise Refused("cannot create a template of the server: " + answer["error"])
            return answer
        except socket.timeout:
            self.process.kill()
            raise Refused("the template was not ready within %g s" % limit) from None
        finally:
            shutil.rmtree(root, ignore_errors=True)

    def begin(self, limit):
        with self.lock:
            self.limit = limit
            return self.start(limit)

    def fork(self):
        """Returns the socket of a keeper that was forked."""
        with self.lock:
            if self.process.poll() is not None:
                self.start(self.limit)
            ours, theirs = socket.socketpair()
            with theirs:
                try:
                    send(self.channel, b"f", b"", [theirs.fileno()])
                except OSError:
                    raise Refused("the template ended while it forked the server") from None
            # Forking takes some 20 ms. A process that hangs is replaced.
            ours.settimeout(FORK_LIMIT)
            reports = ours.makefile("rb")
            try:
                first = reports.readline()
            except OSError:
                first = b"no the template did not fork in time"
            ours.settimeout(None)
            if not first.startswith(b"up "):
                # Such a process is useless, or ended.
                self.process.kill()
                self.process.wait()
                why = first.decode(errors="replace").removeprefix("no ").strip()
                raise Refused(why or "the template ended while it forked the server")
            return ours, reports


class Server:
    """A server, and the keeper that ends everything that the server started."""

    def __init__(self, order):
        self.id, self.order, self.channel, self.ending = order["id"], order, None, threading.Event()

    def run(self):
        reported = {}
        try:
            reported = self.serve()
        except (Refused, OSError, ValueError) as why:
            say(id=self.id, refused=str(why) or type(why).__name__)
        else:
            say(id=self.id, **reported)
        finally:
            servers.pop(self.id, None)

    def serve(self):
        order, self.order = self.order, None
        root = tempfile.mkdtemp(prefix="openhands-server-")
        try:
            own = {**variables(root), "OH_WORKSPACE_PATH": order["workspace"], **order["env"]}
            ours, reports = template.fork()
        except BaseException:
            shutil.rmtree(root, ignore_errors=True)
            raise
        with ours, reports:
            send(ours, b"D", root.encode())
            record = os.path.join(root, "browser")
            send(ours, b"b", record.encode())
            launch = script("launch.py").decode()
            command = [sys.executable, "-I", "-u", "-X", "utf8", "-c", launch, record]
            command += ["--host", order["host"], "--port", str(order["port"])]
            pairs = [name + "=" + value for name, value in own.items()]
            words = [start_directory(root), "", order["config"], str(len(pairs)), *pairs, *command]
            payload = b"".join(os.fsencode(word) + b"\0" for word in words)
            pipes = [os.pipe(), os.pipe()]
            readers = [threading.Thread(target=self.follow, args=(ends[0],)) for ends in pipes]
            try:
                send(ours, b"r", payload, [ends[1] for ends in pipes])
            finally:
                for ends in pipes:
                    os.close(ends[1])
                for reader in readers:
                    reader.start()
            self.channel = ours
            if self.ending.is_set():
                self.order_keeper(b"k")
            reported = {"exit": -9, "others": 0}
            for report in reports:
                word, *numbers = report.decode().split()
                if word == "pid":
                    say(id=self.id, pid=int(numbers[0]))
                elif word == "fail":
                    raise Refused(os.strerror(int(numbers[0])))
                elif word == "exit":
                    reported = {"exit": int(numbers[0]), "others": int(numbers[1])}
                    break
            self.channel = None
            for reader in readers:
                reader.join()
            # The keeper removes the directory, and then ends.
            send(ours, b"q")
            reports.read()
            return reported

    def follow(self, pipe):
        with open(pipe, "rb") as lines:
            while line := lines.readline(LINE):
                say(id=self.id, line=line.decode(errors="replace").rstrip("\n"))

    def order_keeper(self, order):
        channel = self.channel
        if channel:
            try:
                send(channel, order)
            except OSError:
                pass

    def end(self, grace):
        self.ending.set()
        if grace:
            self.order_keeper(b"t")
            timer = threading.Timer(grace, self.order_keeper, [b"k"])
            timer.daemon = True
            timer.start()
        else:
            self.order_keeper(b"k")


def follow_orders():
    for line in sys.stdin.buffer:
        order = json.loads(line)
        if "begin" in order:
            try:
                say(ready=template.begin(order["begin"]))
            except (Refused, OSError) as why:
                say(failed=str(why))
        elif "config" in order:
            server = servers[order["id"]] = Server(order)
            threading.Thread(target=server.run, daemon=True).start()
        elif server := servers.get(order["id"]):
            if "read" in order:
                server.order_keeper(b"w")
            else:
                server.end(order["end"])


def terminate(*_):
    raise Terminated


template, servers = Template(), {}
with open(os.path.join(HERE, "scripts.json")) as file:
    SCRIPTS = json.load(file)
signal.signal(signal.SIGTERM, terminate)
try:
    follow_orders()
    while True:
        signal.pause()
except Terminated:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    for server in list(servers.values()):
        server.end(3600)
    while servers:
        threading.Event().wait(0.02)

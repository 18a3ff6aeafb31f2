# Imports the server's modules once, then forks a keeper for each server on request. A keeper forks
# the server, so both share this process's memory. Serves no requests and reads no keys.
#
# The owner sends this script over a socket, which is this process's stdin, and then messages in
# the format of keeper.py:
#
#   m  the keeper's script, how the server is launched, the modules whose imports are imported,
#      libraries to import if they are installed, and the directory that holds this process's
#      directories, separated by NUL
#                          -> one line of JSON: the variables read by imports, or the error
#   f  fork a keeper whose socket is the passed descriptor. The keeper reports "up PID" there; a
#      rejection is reported there as "no REASON"
#
# The end of the socket means that the owner has ended. Keepers do not depend on this process.
import ast
import atexit
import ctypes
import fcntl
import gc
import importlib
import importlib.util
import json
import os
import pathlib
import posix
import signal
import socket
import sys
import threading
import time
import traceback
import types

CONFIG = "OPENHANDS_AGENT_SERVER_CONFIG_PATH"
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")
SIGNALS = range(1, 65)


class ReadsConfiguration(ImportError):
    """Stops the import of a module that reads the configuration. Each server imports it."""


class Refused(Exception):
    """The reason why no server can be forked."""


def receive(channel):
    """Returns the next message and its descriptors, or None at the end of the socket."""
    descriptors, parts, wanted = [], b"", 9
    while len(parts) < wanted:
        data, extra, _, _ = channel.recvmsg(min(wanted - len(parts), 1 << 16), 256)
        for _, _, value in extra:
            for at in range(0, len(value) - 3, 4):
                descriptors.append(int.from_bytes(value[at : at + 4], sys.byteorder))
        if not data:
            return None
        parts += data
        if wanted == 9 and len(parts) == 9:
            wanted += int(parts[1:], 16)
    return parts[:1], parts[9:], descriptors


def tasks():
    """Returns the ids of this process's threads, including those not started by Python."""
    return sorted(int(name) for name in posix.listdir("/proc/self/task"))


class Imports:
    """Imports modules and records the variables, directories and threads that they depend on."""

    def __init__(self):
        self.read, self.skipped, self.thread = set(), [], None
        self.begun = time.time(), time.monotonic()

    def run(self, modules, libraries):
        with self.watched():
            for module in modules:
                self.import_all(module)
            for library in libraries:
                self.import_one(library, (), None)
        self.ended = time.time(), time.monotonic()

    def watched(self):
        """Records each variable that is read, and the module that starts a thread."""
        import contextlib
        import importlib.machinery

        environ, loader = type(os.environ), importlib.machinery.SourceFileLoader
        get, iterate, load = environ.__getitem__, environ.__iter__, loader.exec_module

        def noted_get(variables, name):
            # Iterating over all variables does not mean that this one is used.
            if sys._getframe(1).f_code.co_name != "__iter__":
                if name == CONFIG:
                    raise ReadsConfiguration("the configuration is read at import")
                self.read.add(name)
            return get(variables, name)

        def noted_iterate(variables):
            frame = sys._getframe(1)
            while frame and frame.f_globals.get("__name__") in ("os", "collections.abc", "_collections_abc"):
                frame = frame.f_back
            if frame and frame.f_globals.get("__name__") == "urllib.request":
                self.read.update(PROXIES, map(str.lower, PROXIES))
            return iterate(variables)

        def noted_load(found, module):
            load(found, module)
            # The innermost module comes first.
            if self.thread is None and len(tasks()) > 1:
                self.thread = module.__name__

        @contextlib.contextmanager
        def watched():
            environ.__getitem__, environ.__iter__, loader.exec_module = noted_get, noted_iterate, noted_load
            try:
                yield
            finally:
                environ.__getitem__, environ.__iter__, loader.exec_module = get, iterate, load

        return watched()

    def import_all(self, name):
        """Imports everything that a module imports at its top level, but not the module."""
        try:
            spec = importlib.util.find_spec(name)
        except ImportError:
            spec = None
        if spec is None or not spec.origin or not os.path.isfile(spec.origin):
            return
        with open(spec.origin, "rb") as file:
            tree = ast.parse(file.read(), spec.origin)
        for statement in tree.body:
            if isinstance(statement, ast.Import):
                for alias in statement.names:
                    self.import_one(alias.name, (), name)
            elif isinstance(statement, ast.ImportFrom) and statement.module and not statement.level:
                self.import_one(statement.module, [alias.name for alias in statement.names], name)

    def import_one(self, name, members, wanted_by):
        if name == wanted_by or name in self.roots:
            return
        try:
            module = importlib.import_module(name)
            for member in members:
                if member != "*" and not hasattr(module, member):
                    importlib.import_module(name + "." + member)
        except ImportError as error:
            # The start of a server shows whether the library is needed.
            self.skipped.append("%s: %s" % (name, error))

    roots = ()


class Captured:
    """Values of this process that modules have stored: directories, identity and clock. Each server
    gets new ones."""

    def __init__(self, imports, places):
        # The longest first, because one may contain another.
        self.places = sorted(places.items(), key=lambda place: -len(place[1]))
        self.paths, self.texts, self.times, self.pids = [], [], [], []
        for value in gc.get_objects():
            if isinstance(value, pathlib.PurePath) and (place := self.place(str(value))):
                self.paths.append((value, *place))
        for module in list(sys.modules.values()):
            names = getattr(module, "__dict__", None)
            if module is sys.modules["__main__"] or type(names) is not dict:
                continue
            for name, value in list(names.items()):
                if type(value) is str and (place := self.place(value)):
                    self.texts.append((names, name, *place))
                elif type(value) is float and not value.is_integer():
                    for clock, now in enumerate((time.time, time.monotonic)):
                        if imports.begun[clock] <= value <= imports.ended[clock]:
                            self.times.append((names, name, now))
                elif type(value) is int and value == posix.getpid() and "pid" in name.lower():
                    self.pids.append((names, name))
        for path, place, rest in self.paths:
            before = str(path)
            self.move(path, "/moved" + rest)
            moved = str(path) == "/moved" + rest and path == type(path)("/moved" + rest)
            self.move(path, before)
            if not moved:
                raise Refused("a path of this process (%s) cannot be changed" % place)

    def place(self, text):
        for name, root in self.places:
            if text == root or text.startswith(root + "/"):
                return name, text[len(root) :]
        return None

    @staticmethod
    def move(path, text):
        """Changes an existing path object in place, for every module that holds it."""
        new = type(path)(text)
        for kind in type(path).__mro__:
            for slot in getattr(kind, "__slots__", ()):
                if slot in ("__weakref__", "__dict__"):
                    continue
                try:
                    setattr(path, slot, getattr(new, slot))
                except AttributeError:
                    try:
                        delattr(path, slot)
                    except AttributeError:
                        pass

    def renew(self, places):
        for path, name, rest in self.paths:
            self.move(path, places[name].rstrip("/") + rest)
        for names, key, name, rest in self.texts:
            names[key] = places[name].rstrip("/") + rest
        for names, key, now in self.times:
            names[key] = now()
        for names, key in self.pids:
            names[key] = posix.getpid()
        if "tempfile" in sys.modules:
            sys.modules["tempfile"].tempdir = None
        if "multiprocessing.process" in sys.modules:
            process = sys.modules["multiprocessing.process"]
            process.current_process().authkey = os.urandom(32)


def fingerprint(modules):
    """Returns a value that identifies the state of an environment: its interpreter, the installed
    packages, and the server's files."""

    def facts(path):
        try:
            status = posix.stat(path)
            return path, status.st_ino, status.st_mtime_ns, status.st_size
        except OSError:
            return path, None

    found = [facts(sys.executable)]
    for directory in sys.path:
        try:
            names = sorted(posix.listdir(directory))
        except OSError:
            names = []
        found.append((directory, tuple(name for name in names if name != "__pycache__")))
        found += [facts(directory + "/" + name) for name in names if name.endswith(".dist-info")]
    for name in modules:
        # Found without its loader, which caches earlier results.
        path = os.path.join(package_directory(name), name.rpartition(".")[2] + ".py")
        found.append(facts(path))
    return found


def package_directory(name):
    package = sys.modules.get(name.rpartition(".")[0])
    paths = list(getattr(package, "__path__", ()))
    return paths[0] if paths else ""


def area(first):
    """Returns where the kernel stores this process's arguments (first=45) or variables (47)."""
    with open("/proc/self/stat", "rb") as file:
        fields = file.read().rpartition(b")")[2].split()
    return int(fields[first]), int(fields[first + 1])


def show(first, parts):
    """Shows these arguments in the process table, as far as they fit."""
    begin, end = area(first)
    room = end - begin
    text = b""
    for part in parts:
        if len(text) + len(part) + 1 < room:
            text += part + b"\0"
    if begin and room > 0:
        ctypes.memmove(begin, text.ljust(room, b"\0"), room)


class Template:
    def __init__(self):
        self.channel = socket.socket(fileno=posix.dup(0))
        null = posix.open("/dev/null", posix.O_RDWR)
        posix.dup2(null, 0)
        posix.close(null)
        try:
            posix.setsid()
        except OSError:
            pass

    def prepare(self, payload):
        keeper, launch, modules, libraries, root = payload.split(b"\0")[:5]
        root = os.fsdecode(root) + "/"
        self.modules = modules.decode().split()
        self.keeper = types.ModuleType("keeper")
        exec(compile(keeper, "keeper.py", "exec"), self.keeper.__dict__)
        self.keeper.settle()
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        self.launch = compile(launch, "launch.py", "exec")
        # During imports the socket is not read, so its end is a signal that ends this process.
        number = self.channel.fileno()
        flags = fcntl.fcntl(number, fcntl.F_GETFL)
        fcntl.fcntl(number, fcntl.F_SETOWN, posix.getpid())
        fcntl.fcntl(number, fcntl.F_SETFL, flags | os.O_ASYNC)
        if not select_open(self.channel):
            posix._exit(0)
        # Like the launch: no variables from files in directories above the libraries.
        try:
            import dotenv
            import dotenv.main

            dotenv.load_dotenv = dotenv.main.load_dotenv = lambda *_, **__: False
        except ImportError:
            pass
        imports = Imports()
        imports.roots = tuple(self.modules)
        imports.run(self.modules, libraries.decode().split())
        self.single(imports.thread)
        places = {name: value for name, value in os.environ.items() if value.startswith(root)}
        places[""] = posix.getcwd()
        gc.collect()
        self.captured = Captured(imports, places)
        self.fingerprint = fingerprint(self.modules)
        posix.chdir("/")
        show(45, [os.fsencode(sys.executable), b"(template of agent servers)"])
        # Garbage collection would write to each object, and so copy the shared memory.
        gc.disable()
        gc.freeze()
        for number_ in self.keeper.IGNORED + (signal.SIGIO,):
            signal.signal(number_, signal.SIG_IGN)
        # The kernel reaps keepers that have ended.
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        fcntl.fcntl(number, fcntl.F_SETFL, flags)
        return {
            "read": sorted(imports.read),
            "places": sorted(filter(None, places)),
            "modules": len(sys.modules),
            "skipped": imports.skipped,
        }

    def single(self, module=None):
        """Rejects a fork if there is more than one thread, because a fork copies only one."""
        found = tasks()
        if len(found) == 1:
            return
        names = []
        known = {thread.native_id: thread for thread in threading.enumerate()}
        for task in found:
            if task == posix.getpid():
                continue
            if task in known:
                target = getattr(known[task], "_target", None)
                place = getattr(target, "__module__", None) or type(known[task]).__module__
                names.append("%s (of module %s)" % (known[task].name, place))
            else:
                try:
                    with open("/proc/self/task/%d/comm" % task) as file:
                        names.append("%s (not of Python)" % file.read().strip())
                except OSError:
                    names.append("number %d" % task)
        by = ", started while module %s was imported" % module if module else ""
        raise Refused("the template has more than one thread: %s%s" % (", ".join(names), by))

    def fork(self, number):
        pid = -1
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        try:
            if fingerprint(self.modules) != self.fingerprint:
                raise Refused("the environment has changed since the template was started")
            self.single()
            pid = posix.fork()
            if pid == 0:
                self.become_keeper(number)
        except Refused as why:
            # Later forks would fail too, so the owner starts another template.
            self.refuse(number, str(why))
            posix._exit(1)
        except (OSError, MemoryError) as error:
            self.refuse(number, "cannot fork: %s" % error)
        finally:
            if pid == 0:
                posix._exit(1)
            posix.close(number)
            signal.pthread_sigmask(signal.SIG_SETMASK, ())

    def refuse(self, number, why):
        try:
            posix.write(number, ("no %s\n" % why.replace("\n", " ")).encode(errors="replace"))
        except OSError:
            pass

    def become_keeper(self, number):
        try:
            # From now on their numbers belong to other files.
            self.channel.detach()
            if number != 0:
                posix.dup2(number, 0)
            show(45, [os.fsencode(sys.executable), b"(keeper of an agent server)"])
            self.keeper.main(self.begin)
        except BaseException:
            traceback.print_exc()

    def begin(self, command, variables):
        """Runs the server in the process that a keeper has forked. Never returns."""
        code = 1
        try:
            # Like the interpreter's own start.
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            for number in (signal.SIGPIPE, signal.SIGXFSZ):
                signal.signal(number, signal.SIG_IGN)
            os.environ.clear()
            os.environb.update(variables)
            time.tzset()
            at = command.index(b"-c") + 2
            arguments = list(map(os.fsdecode, command[at:]))
            show(45, [command[0], b"-m", b"openhands.agent_server", *command[at + 1 :]])
            show(47, [name + b"=" + value for name, value in reversed(variables.items())])
            self.captured.renew({**os.environ, "": posix.getcwd()})
            main = types.ModuleType("__main__")
            sys.modules["__main__"] = main
            sys.argv = ["-c", *arguments]
            sys.orig_argv = [os.fsdecode(command[0]), *sys.argv]
            gc.enable()
            exec(self.launch, main.__dict__)
            code = 0
        except SystemExit as end:
            if end.code is None:
                code = 0
            elif isinstance(end.code, int):
                code = end.code & 0xFF
            else:
                print(end.code, file=sys.stderr)
        except KeyboardInterrupt:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            signal.raise_signal(signal.SIGINT)
        except BaseException:
            traceback.print_exc()
        finally:
            try:
                threading._shutdown()
                atexit._run_exitfuncs()
                sys.stdout.flush()
                sys.stderr.flush()
            except BaseException:
                traceback.print_exc()
            finally:
                posix._exit(code)

    def serve(self):
        message = receive(self.channel)
        if message is None:
            return
        try:
            answer = self.prepare(message[1])
        except Refused as why:
            answer = {"error": str(why), "final": True}
        except BaseException as error:
            traceback.print_exc()
            answer = {"error": "%s: %s" % (type(error).__name__, error), "final": False}
        try:
            self.channel.sendall(json.dumps(answer).encode() + b"\n")
            while "error" not in answer and (message := receive(self.channel)):
                for number in message[2]:
                    self.fork(number)
        except OSError:
            pass


def select_open(channel):
    """Returns whether the other end of a socket exists."""
    import select

    poll = select.poll()
    poll.register(channel.fileno(), 0)
    return not poll.poll(0)


template = Template()
template.serve()
posix._exit(0)

# Runs one command at a time for its owner, and ends every process with the owner. Contains nothing
# about servers.
#
# The owner sends this script over a socket, which is this process's stdin, and then messages: one
# letter, the payload's length as eight hexadecimal digits, the payload. Descriptors come with the
# letter. Reports go back as lines:
#
#   r  run a command (see `run`); stdout and stderr are passed    -> "pid N" or "fail ERRNO",
#                                                                   later "exit CODE OTHERS_KILLED"
#   t  SIGTERM to the command's process group
#   k  kill the command and everything it started
#   w  wipe the command's configuration, which has been read
#   l  hold these descriptors (locks) until this process ends
#   d  remove this path if the owner dies        D  remove this path in any case
#   b  remove the browser directories that this file lists, at the end of each command
#   g  after the owner's death, give the command this many milliseconds to exit
#   e  run this script now, and its function `end` last of all             -> "ran SAID"
#      SAID is the script's variable `said`, one line
#   q  kill everything and quit
#
# A template process (template.py) forks keepers that run their commands without exec.
#
# The end of the socket means that the owner has ended, in any way. Private C modules are used
# where the public ones would add milliseconds to every start.
import posix
import select
import sys
import time

import _signal as signal
import _socket

LINUX = sys.platform == "linux"
IGNORED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
CONFIG = 3  # the descriptor under which the command finds its configuration
STATUS = 10  # the descriptor that reports a failure of exec
BROWSER = b"/tmp/browser-use-downloads-"


def prctl(option, value):
    try:
        import _ctypes

        function = _ctypes.dlsym(_ctypes.dlopen(None, 0), "prctl")
        return _ctypes.call_function(function, (option, value, 0, 0, 0))
    except Exception:
        import ctypes

        return ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def parents():
    """Yields (pid, parent) of every visible process."""
    if LINUX:
        for name in posix.listdir("/proc"):
            if name.isdigit():
                try:
                    with open("/proc/" + name + "/stat", "rb") as file:
                        # The name in parentheses may contain parentheses and blanks.
                        yield int(name), int(file.read().rpartition(b")")[2].split()[1])
                except (OSError, ValueError, IndexError):
                    pass
    else:
        import subprocess

        listing = subprocess.run(["ps", "-axo", "pid=,ppid="], capture_output=True).stdout
        for line in listing.splitlines():
            pid, parent = line.split()
            yield int(pid), int(parent)


def descendants():
    children = {}
    for pid, parent in parents():
        children.setdefault(parent, []).append(pid)
    found, todo = [], [posix.getpid()]
    while todo:
        new = children.get(todo.pop(), [])
        found += new
        todo += new
    return found


def remove(path):
    """Removes a file, or a directory of this user with its contents. Follows no link."""
    try:
        status = posix.lstat(path)
        if status.st_uid != posix.geteuid():
            return
        if status.st_mode & 0o170000 != 0o040000:
            posix.unlink(path)
            return
        # A directory that is not writable cannot be emptied.
        posix.chmod(path, 0o700)
        for name in posix.listdir(path):
            remove(path + b"/" + name)
        posix.rmdir(path)
    except (OSError, RecursionError):
        pass


def remove_all(paths):
    for path in paths:
        for _ in range(3):  # what is being killed may still have been writing
            remove(path)
            try:
                posix.lstat(path)
            except OSError:
                break
        else:
            import shutil  # takes longer to load, and knows more of odd trees

            shutil.rmtree(path, ignore_errors=True)


def remove_browser_directories(record):
    try:
        with open(record, "rb") as file:
            paths = file.read().splitlines()
        posix.unlink(record)
    except OSError:
        return
    for path in paths:
        # The agent can also write the record, but must not choose which paths are removed.
        name = path[len(BROWSER):]
        if path.startswith(BROWSER) and name.isalnum():
            remove(path)


def settle():
    """Resets, in the child, the attributes inherited from the owner to those of a service."""
    for number in range(1, 65):
        try:
            signal.signal(number, signal.SIG_DFL)
        except (OSError, ValueError):
            pass
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    # Never more permissive than the owner's, and never writable by everybody.
    posix.umask(posix.umask(0o077) & 0o077 | 0o002)
    try:
        import resource

        for name in ("NOFILE", "FSIZE", "CPU", "AS", "DATA"):
            limit = getattr(resource, "RLIMIT_" + name)
            hard = resource.getrlimit(limit)[1]
            soft = hard
            if name == "NOFILE" and (hard == resource.RLIM_INFINITY or hard > 65536):
                soft = 65536
            resource.setrlimit(limit, (soft, hard))
        # A core dump would contain keys.
        resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    except (ImportError, OSError, ValueError, AttributeError):
        pass
    try:
        nice = posix.getpriority(posix.PRIO_PROCESS, 0)
        if nice < 0:
            posix.setpriority(posix.PRIO_PROCESS, 0, 0)
    except (OSError, AttributeError):
        pass
    if LINUX:
        try:
            if posix.sched_getscheduler(0) in (posix.SCHED_FIFO, posix.SCHED_RR):
                posix.sched_setscheduler(0, posix.SCHED_OTHER, posix.sched_param(0))
        except (OSError, AttributeError):
            pass
        try:
            with open("/proc/self/oom_score_adj", "r+") as file:
                if int(file.read()) < 0:
                    file.write("0")
        except (OSError, ValueError):
            pass


def write_all(descriptor, data):
    """Writes everything, also if the owner has limited the size of files."""
    while data:
        try:
            data = data[posix.write(descriptor, data) :]
        except OSError as failure:
            if failure.errno != 27:  # EFBIG
                raise
            import resource

            soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
            if soft == hard:
                raise
            resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))


class Keeper:
    def __init__(self, begin=None):
        # Runs the command if this process was forked from one that has imported it.
        self.begin = begin
        self.locks, self.remove_if_orphaned, self.remove_at_end = [], [], []
        self.record, self.grace, self.end = b"", 0, None
        self.leader, self.ended, self.config = 0, None, -1
        self.others = set()
        self.pid = posix.getpid()
        self.channel = _socket.socket(fileno=posix.dup(0))
        null = posix.open("/dev/null", posix.O_RDWR)
        for standard in (0, 1):
            posix.dup2(null, standard)
        for number in IGNORED:
            signal.signal(number, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        self.woken, wake = posix.pipe()
        posix.set_blocking(self.woken, False)
        posix.set_blocking(wake, False)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        if LINUX:
            # PR_SET_CHILD_SUBREAPER: a process that outlives its parent becomes our child.
            if prctl(36, 1) != 0:
                raise OSError("prctl(PR_SET_CHILD_SUBREAPER) failed")
        self.report(b"up %d\n" % self.pid)
        posix.dup2(null, 2)

    def report(self, line):
        try:
            self.channel.sendall(line)
        except OSError:
            pass

    def receive(self):
        """Returns the next message, or None at the end of the socket."""
        descriptors, parts, wanted = [], b"", 9
        try:
            while len(parts) < wanted:
                data, extra, _, _ = self.channel.recvmsg(wanted - len(parts), 256)
                for _, _, value in extra:
                    for at in range(0, len(value) - 3, 4):
                        descriptors.append(int.from_bytes(value[at : at + 4], sys.byteorder))
                if not data:
                    return None
                parts += data
                if wanted == 9 and len(parts) == 9:
                    wanted += int(parts[1:], 16)
        except (OSError, ValueError):
            return None
        return parts[:1], parts[9:], descriptors

    def run(self, payload, output):
        """Starts a command: directory, path and text of its configuration, number of variables,
        variables, command and arguments, all ended by NUL."""
        directory, path, config, count, *rest = payload.split(b"\0")[:-1]
        variables = dict(entry.split(b"=", 1) for entry in rest[: int(count)])
        command = rest[int(count) :]
        self.wipe()
        if config:
            if LINUX:
                # In memory and without a name, so no file can be found or left behind.
                self.config = posix.memfd_create("configuration", 0)
            else:
                self.config = posix.open(path, posix.O_RDWR | posix.O_CREAT | posix.O_TRUNC, 0o600)
            write_all(self.config, config)
        failed, failing = posix.pipe()
        self.ended, self.others = None, set()
        try:
            self.leader = posix.fork()
        except OSError:
            for descriptor in (*output, failed, failing):
                posix.close(descriptor)
            raise
        if self.leader == 0:
            error = 0
            try:
                posix.setpgid(0, 0)
                if LINUX:
                    prctl(1, 9)  # PR_SET_PDEATHSIG: SIGKILL when the keeper is killed
                    if posix.getppid() != self.pid:
                        posix._exit(127)
                settle()
                # In this order, so that no descriptor replaces one that is still needed.
                for standard, descriptor in zip((1, 2), output):
                    posix.dup2(descriptor, standard)
                first = CONFIG
                if config and LINUX:
                    posix.dup2(self.config, CONFIG)
                    first += 1
                if failing != STATUS:
                    posix.dup2(failing, STATUS, inheritable=False)
                posix.closerange(first, STATUS)
                posix.closerange(STATUS + 1, 1 << 20)
                posix.chdir(directory)
                if self.begin:
                    posix.close(STATUS)
                    self.begin(command, variables)
                posix.execve(command[0], command, variables)
            except OSError as failure:
                error = failure.errno or 5
            finally:
                try:
                    posix.write(STATUS, b"%d" % error)
                finally:
                    posix._exit(127)
        posix.close(failing)
        for descriptor in output:
            posix.close(descriptor)
        try:
            posix.setpgid(self.leader, self.leader)
        except OSError:
            pass
        # Ends when the command has started, because that closes the other end.
        error = posix.read(failed, 16)
        posix.close(failed)
        if error:
            self.finish(quiet=True)
            self.report(b"fail %s\n" % error)
        else:
            self.report(b"pid %d\n" % self.leader)

    def wipe(self):
        if self.config >= 0:
            posix.ftruncate(self.config, 0)
            posix.lseek(self.config, 0, 0)
            posix.write(self.config, b"{}")
            posix.close(self.config)
            self.config = -1

    def terminate(self):
        if self.leader and self.ended is None:
            try:
                posix.killpg(self.leader, signal.SIGTERM)
            except OSError:
                pass

    def reap(self):
        """Reaps ended children. Returns False when no child is left."""
        while True:
            try:
                pid, status = posix.waitpid(-1, posix.WNOHANG)
            except ChildProcessError:
                return False
            if pid == 0:
                return True
            if pid == self.leader:
                self.ended = posix.waitstatus_to_exitcode(status)

    def wait(self, seconds):
        """Waits for a signal."""
        select.select([self.woken], [], [], seconds)
        try:
            posix.read(self.woken, 4096)
        except OSError:
            pass

    def sweep(self):
        for _ in range(5000):  # some 10 s; who does not die of SIGKILL by then hangs in the kernel
            if not self.reap():
                return
            for pid in descendants():
                try:
                    posix.kill(pid, 9)
                except OSError:
                    continue
                if pid != self.leader:
                    self.others.add(pid)
            self.wait(0.002)

    def finish(self, quiet=False):
        """Ends the remaining processes of the command and reports how it ended."""
        self.sweep()
        self.wipe()
        if self.record:
            remove_browser_directories(self.record)
        if self.leader and not quiet:
            code = -9 if self.ended is None else self.ended
            self.report(b"exit %d %d\n" % (code, len(self.others)))
        self.leader, self.ended = 0, None

    def orphaned(self):
        """Gives the command time to exit after the owner has ended."""
        if self.leader and self.grace:
            self.terminate()
            deadline = time.monotonic() + self.grace / 1000
            while self.reap() and self.ended is None:
                left = deadline - time.monotonic()
                if left <= 0:
                    break
                self.wait(left)
        self.finish()
        remove_all(self.remove_if_orphaned)

    def handle(self, order, payload, descriptors):
        if order == b"r":
            try:
                self.run(payload, descriptors)
            except OSError as failure:
                # No process, memory or descriptor is available, so this process continues.
                self.finish(quiet=True)
                self.report(b"fail %d\n" % (failure.errno or 5))
        elif order == b"t":
            self.terminate()
        elif order == b"k":
            self.finish()
        elif order == b"w":
            self.wipe()
            for descriptor in descriptors:  # the owner waits until they are closed
                posix.close(descriptor)
        elif order == b"l":
            self.locks += descriptors
        elif order == b"d":
            self.remove_if_orphaned.append(payload)
        elif order == b"D":
            self.remove_at_end.append(payload)
        elif order == b"b":
            self.record = payload
        elif order == b"g":
            self.grace = int(payload)
        elif order == b"e":
            scope = {}
            exec(compile(payload, "<sent>", "exec"), scope)
            self.end = scope["end"]
            self.report(b"ran %s\n" % scope.get("said", "").encode())

    def serve(self):
        """Follows orders until the end. Returns whether the owner has ended."""
        poll = select.poll()
        poll.register(self.channel.fileno(), select.POLLIN)
        poll.register(self.woken, select.POLLIN)
        while True:
            for descriptor, _ in poll.poll():
                if descriptor == self.woken:
                    self.wait(0)
                    continue
                message = self.receive()
                if message is None:
                    self.orphaned()
                    return True
                if message[0] == b"q":
                    self.finish()
                    return False
                self.handle(*message)
            if self.leader:
                self.reap()
                if self.ended is not None:
                    self.finish()
            else:
                self.reap()


def main(begin=None):
    # Descriptors that the owner did not intend to pass on.
    posix.closerange(3, 1 << 20)
    try:
        posix.setsid()
    except OSError:
        pass
    keeper = Keeper(begin)
    orphaned = keeper.serve()
    if keeper.end:
        keeper.end(orphaned)
    remove_all(keeper.remove_at_end)
    posix._exit(0)  # the interpreter's own tidying up would cost milliseconds of every end


if __name__ == "__main__":
    main()

# Stands between the owner and one command; knows nothing of servers.
#
# Started as: python -I -S -c THIS DOOMED COMMAND ARGUMENT...  with a socket as its stdin.
# Orders from the owner, one byte each: t = SIGTERM to the command's group, k = kill everything.
# Reports to the owner, one line each: "pid N", "fail ERRNO", "exit CODE OTHERS_KILLED".
#
# The end of the socket means that the owner is gone, however it went: everything is killed and
# the directory DOOMED (when not empty) removed. Private C modules are used where the public ones
# would cost milliseconds of every start.
import posix
import select
import sys

import _signal as signal

LINUX = sys.platform == "linux"
IGNORED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
INHERITED = (signal.SIGPIPE, signal.SIGXFSZ)  # Python itself ignores these


def prctl(option, value):
    try:
        import _ctypes

        function = _ctypes.dlsym(_ctypes.dlopen(None, 0), "prctl")
        return _ctypes.call_function(function, (option, value, 0, 0, 0))
    except Exception:
        import ctypes

        return ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def parents():
    """Yields (pid, parent) of every process that can be seen."""
    if LINUX:
        for name in posix.listdir("/proc"):
            if name.isdigit():
                try:
                    with open("/proc/" + name + "/stat", "rb") as file:
                        # The name in parentheses may itself hold parentheses and blanks.
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


def order(channel):
    try:
        return posix.read(channel, 64)
    except OSError:
        return b""


def main():
    doomed, command = sys.argv[1], sys.argv[2:]
    try:
        posix.setsid()
    except OSError:
        pass
    channel = posix.dup(0)
    null = posix.open("/dev/null", posix.O_RDWR)
    posix.dup2(null, 0)
    for number in IGNORED:
        signal.signal(number, signal.SIG_IGN)
    woken, wake = posix.pipe()
    posix.set_blocking(woken, False)
    posix.set_blocking(wake, False)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    if LINUX:
        prctl(36, 1)  # PR_SET_CHILD_SUBREAPER: who outlives its parent becomes ours
    keeper = posix.getpid()

    leader = posix.fork()
    if leader == 0:
        try:
            posix.setpgid(0, 0)
            if LINUX:
                prctl(1, 9)  # PR_SET_PDEATHSIG: SIGKILL when the keeper is killed
                if posix.getppid() != keeper:
                    posix._exit(127)
            for number in IGNORED + INHERITED:
                signal.signal(number, signal.SIG_DFL)
            posix.execv(command[0], command)
        except OSError as error:
            posix.write(channel, b"fail %d\n" % error.errno)
        finally:
            posix._exit(127)
    for output in (1, 2):
        posix.dup2(null, output)
    try:
        posix.setpgid(leader, leader)
    except OSError:
        pass

    ended = None
    others = set()

    def reap():
        """Takes the dead in; False when no child is left."""
        nonlocal ended
        while True:
            try:
                pid, status = posix.waitpid(-1, posix.WNOHANG)
            except ChildProcessError:
                return False
            if pid == 0:
                return True
            if pid == leader:
                ended = posix.waitstatus_to_exitcode(status)

    def sweep():
        for _ in range(5000):  # some 10 s; who does not die of SIGKILL by then hangs in the kernel
            if not reap():
                return
            for pid in descendants():
                try:
                    posix.kill(pid, 9)
                except OSError:
                    continue
                if pid != leader:
                    others.add(pid)
            select.select([woken], [], [], 0.002)
            try:
                posix.read(woken, 4096)
            except OSError:
                pass

    def report(line):
        try:
            posix.write(channel, line)
        except OSError:
            pass

    report(b"pid %d\n" % leader)
    orphaned = False
    poll = select.poll()
    poll.register(channel, select.POLLIN)
    poll.register(woken, select.POLLIN)
    while ended is None:
        for descriptor, _ in poll.poll():
            if descriptor == woken:
                try:
                    posix.read(woken, 4096)
                except OSError:
                    pass
                continue
            orders = order(channel)
            orphaned = not orders
            if orphaned or b"k" in orders:
                sweep()
            elif b"t" in orders:
                try:
                    posix.killpg(leader, signal.SIGTERM)
                except OSError:
                    pass
        reap()
        if orphaned:
            break
    sweep()
    if doomed and orphaned:
        import shutil

        shutil.rmtree(doomed, ignore_errors=True)
    report(b"exit %d %d\n" % (-9 if ended is None else ended, len(others)))


main()
posix._exit(0)  # the interpreter's own tidying up would cost milliseconds of every end

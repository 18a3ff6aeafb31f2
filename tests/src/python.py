# Imports the server's packages once, and runs each program in a fork of this process. A request is a
# line of JSON with a program and its input. The answer is a line with the program's last line, or
# its error. The end of stdin means that the owner has ended.
import atexit
import io
import json
import os
import shutil
import sys
import tempfile
import traceback


def run(request):
    """Answers a request in a fork. Never returns."""
    atexit._clear()
    sys.stdin, sys.stdout = io.StringIO(request["input"]), io.StringIO()
    try:
        try:
            exec(compile(request["program"], "program", "exec"), {"__name__": "__main__"})
        except SystemExit as end:
            if end.code:
                raise
        answer = {"line": sys.stdout.getvalue().splitlines()[-1]}
    except BaseException:
        answer = {"error": traceback.format_exc()}
    atexit._run_exitfuncs()
    say(answer)
    os._exit(0)


def say(answer):
    answers.write(json.dumps(answer) + "\n")
    answers.flush()


# Programs that a request starts must not read the next request, or write an answer.
requests, answers = os.fdopen(os.dup(0)), os.fdopen(os.dup(1), "w")
with open(os.devnull, "r+") as null:
    os.dup2(null.fileno(), 0)
    os.dup2(null.fileno(), 1)
# One of the packages writes a configuration into the home directory when it is imported.
os.environ["HOME"] = tempfile.mkdtemp()
atexit.register(shutil.rmtree, os.environ["HOME"], ignore_errors=True)
try:
    import openhands.sdk
    import openhands.tools.preset.default
except BaseException:
    say({"error": traceback.format_exc()})
    sys.exit(1)
for line in requests:
    child = os.fork()
    if child == 0:
        run(json.loads(line))
    _, status = os.waitpid(child, 0)
    if status:
        say({"error": "ended with status %d" % status})

import os, runpy, sys
record, make = sys.argv.pop(1), os.mkdir
def mkdir(path, *rest, **named):
    make(path, *rest, **named)
    if os.fspath(path)[:27] == "/tmp/browser-use-downloads-":
        with open(record, "a") as file: print(os.fspath(path), file=file)
os.mkdir = mkdir
try:
    import dotenv, dotenv.main
    dotenv.load_dotenv = dotenv.main.load_dotenv = lambda *_, **__: False
except ImportError: pass
runpy.run_module("openhands.agent_server", run_name="__main__", alter_sys=True)

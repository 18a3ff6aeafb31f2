import os, runpy, sys
record, make = sys.argv.pop(1), os.mkdir
def mkdir(path, *rest, **named):
    make(path, *rest, **named)
    if os.fspath(path)[:27] == "/tmp/browser-use-downloads-":
        with open(record, "a") as file: print(os.fspath(path), file=file)
os.mkdir = mkdir
class Environ(type(os.environ)):
    def __getitem__(self, name): return keys[name] if name in keys else super().__getitem__(name)
    def __setitem__(self, name, value):
        if "SESSION_API_KEY" in name: keys[name] = value
        else: super().__setitem__(name, value)
    def __delitem__(self, name):
        if name in keys: del keys[name]
        else: super().__delitem__(name)
keys, os.environ.__class__ = {}, Environ
try:
    import dotenv, dotenv.main
    dotenv.load_dotenv = dotenv.main.load_dotenv = lambda *_, **__: False
except ImportError: pass
runpy.run_module("openhands.agent_server", run_name="__main__", alter_sys=True)

import atexit, os
def _tidy(make=os.mkdir):
    def mkdir(path, *rest, **named):
        make(path, *rest, **named)
        if os.fspath(path).startswith('/tmp/browser-use-downloads-'):
            atexit.register(os.rmdir, path)
    os.mkdir = mkdir
_tidy()

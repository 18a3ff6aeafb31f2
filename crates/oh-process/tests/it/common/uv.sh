#!/bin/sh
# Imitates uv: "fetches" the imitated interpreter into its directory of Pythons, creates
# environments with it and "installs". Logs its arguments to PLACE/uv-calls. The index has a
# certificate that only the system trusts. Leaves a lock in TMPDIR, as uv does.
PATH=/usr/bin:/bin
echo "$*" >>PLACE/uv-calls
[ "$1" = --version ] || [ "$UV_SYSTEM_CERTS" = true ] || { echo "UnknownIssuer" >&2; exit 2; }
managed=$UV_PYTHON_INSTALL_DIR/cpython-3.13/bin/python3
case "$1 $2" in
"--version ") echo "uv 0.13.0" ;;
"python find") [ -x "$managed" ] && echo "$managed" ;;
"python install")
    [ "$(cat PLACE/mode)" != slow-python ] || sleep 600
    mkdir -p "$(dirname "$managed")" && cp PLACE/python-of-uv "$managed" && chmod 755 "$managed"
    ;;
venv*)
    # venv --no-project --python PYTHON ROOT
    mkdir -p "$5/bin" && cp "$4" "$5/bin/python3"
    ;;
"pip install") touch "$(dirname "$5")/installed" "$TMPDIR/uv-setuptools.lock" ;;
*) exit 2 ;;
esac

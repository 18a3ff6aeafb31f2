#!/bin/sh
# Imitates an interpreter: creates environments from copies of itself, and "installs" as the file
# `mode` next to the first copy says. Runs the real interpreter for everything else.
here=PLACE
base=$(dirname "$0")
case "$2 $3" in
"-m venv")
    mkdir -p "$4/bin"
    echo "$$" >>"$here/venvs"
    [ "$(cat "$here/mode")" != slow-venv ] || sleep 600
    cp "$0" "$4/bin/python3"
    exit
    ;;
"-m pip")
    echo "$$" >>"$here/installs"
    mode=$(cat "$here/mode")
    case "$mode" in
    slow) sleep 600 ;;
    full) echo "OSError: [Errno 28] No space left on device" >&2 && exit 1 ;;
    esac
    sleep 0.3
    touch "$base/installed"
    exit
    ;;
*agent_server.api*)
    echo "$$" >>"$here/imports"
    case "$(cat "$here/mode")" in
    slow-import) sleep 600 ;;
    bad-import) echo "TypeError: Query() got an unexpected keyword argument" >&2 && exit 1 ;;
    esac
    exit
    ;;
*find_spec*)
    server=null missing='["agent-server"]'
    [ ! -e "$base/installed" ] || server='"1.58.2"' missing='[]'
    echo "{\"version\": [3, 13, 1], \"executable\": \"$0\", \"venv\": true, \"server\": $server, \"missing\": $missing}"
    exit
    ;;
esac
exec REAL "$@"

#!/bin/sh
# A Stop hook: the agent may not finish while a Python file of the workspace does not compile.
# Exit code 2 denies, and stderr is the feedback for the agent.
# The server starts hooks in the workspace and names it; otherwise the current directory is used.
cd "${OPENHANDS_PROJECT_DIR:-.}" || exit 1
python=$(command -v python3 || command -v python) || {
    echo "no Python to check with" >&2
    exit 1
}
find . -name .git -prune -o -name .venv -prune -o -name '*.py' -type f -print | sort | {
    failed=0
    while IFS= read -r file; do
        # Compiled in memory, so no file is left in the workspace.
        "$python" -c '
import sys
name = sys.argv[1]
try:
    with open(name, "rb") as file:
        compile(file.read(), name, "exec")
except (SyntaxError, ValueError) as error:
    sys.exit(f"{name} does not compile: {error}")
' "$file" >&2 || failed=2
    done
    exit "$failed"
}

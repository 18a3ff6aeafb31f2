# Removes the containers that a server has created for its conversations, with the same program that
# the server uses. A keeper runs `end` after the server has ended. The constants DOCKER, VARIABLES,
# PATHS and SETTLED come before this text.
import hashlib
import subprocess
import time

LIMIT = 600  # seconds for an engine that is down or restarting
# Seconds in which a container may appear that was requested from the engine before the server ended
CREATION, CREATION_OWNED = 30, 1


def docker(*arguments):
    """Returns the output of a successful command."""
    result = subprocess.run(
        [DOCKER, *arguments],
        env=VARIABLES,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        timeout=60,
        check=True,
    )
    return result.stdout.decode()


def end(orphaned):
    # The label that the server gives to its containers.
    owner = hashlib.sha256("\0".join(PATHS).encode()).hexdigest()[:24]
    label = "label=ai.openhands.runtime-owner=" + owner
    creation = 0 if SETTLED else CREATION if orphaned else CREATION_OWNED
    begun = time.monotonic()
    pause = 0.1
    while True:
        passed = time.monotonic() - begun
        try:
            found = docker("ps", "--all", "--quiet", "--filter", label).split()
            if found:
                docker("rm", "--force", "--volumes", *found)
            elif passed >= creation:
                return
        except (OSError, ValueError, subprocess.SubprocessError):
            if passed > LIMIT:
                return
        time.sleep(pause)
        pause = min(2 * pause, 1)

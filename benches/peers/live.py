"""Follows conversations like `live` of clients/subjects.rs, with RemoteConversation."""

import sys
import threading

from common import attach, leave, say, wait_for, workspace

url, path, count, readers = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
ids = open(path, encoding="utf-8").read().split()
remote = workspace(url)
finished = threading.Semaphore(0)


def callback():
    seen = -1  # The first is the snapshot that says the socket is there.

    def on_event(event):
        nonlocal seen
        seen += 1
        if seen == count:
            finished.release()

    return on_event


say("up")
wait_for("go")
conversations = [attach(remote, id, [callback() for _ in range(readers)]) for id in ids]
say("ready")
for _ in range(len(ids) * readers):
    finished.acquire()
say("done")
wait_for("end")
for conversation in conversations:
    if len(conversation.state.events) < count:  # It keeps the snapshot too.
        sys.exit("a mirror holds other events than it was sent")
leave()

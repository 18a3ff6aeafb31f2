"""Measures attaching to a whole conversation with RemoteConversation."""

import sys

from common import attach, leave, say, wait_for, workspace

url, id, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
remote = workspace(url)
say("up")
wait_for("go")
conversation = attach(remote, id)
events = len(conversation.state.events)
say("done")
wait_for("end")
if events < count:  # It keeps the snapshot too.
    sys.exit(f"attached to {events} events")
leave()

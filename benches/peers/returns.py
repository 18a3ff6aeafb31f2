"""Runs a given number of times with RemoteConversation, and prints when each run returned."""

import sys
import time

from common import attach, leave, say, wait_for, workspace

conversation = attach(workspace(sys.argv[1]), sys.argv[2])
say("up")
while wait_for("go") == "go":
    conversation.run()
    say("returned", time.time())
leave()

//! The end of a server, and its return.

use std::sync::atomic::Ordering;

use crate::fake::{
    agent,
    state::{lock::lock, stored::Stored, subscriber::Ending, world::World},
};

impl World {
    /// Stops the server: with a code, pauses running conversations and closes sockets; without one,
    /// cuts everything.
    pub(crate) fn go_down(&self, code: Option<u16>) {
        self.down.store(true, Ordering::SeqCst);
        let ending = match code {
            Some(code) => Ending::Close(code, "Service restart".to_owned()),
            None => Ending::Cut,
        };
        self.end_sockets(&ending);
        for conversation in self.conversations() {
            agent::stop(self, &conversation, code.is_some());
        }
    }

    /// Restarts the server. Running conversations get an error, and settings that were changed at
    /// run time are reset when a conversation is loaded.
    pub(crate) fn come_up(&self, keep: bool) {
        if !keep {
            self.forget_conversations();
            self.bash.forget();
            *lock(&self.stored) = Stored::default();
        }
        for conversation in self.conversations() {
            {
                let mut inner = conversation.lock();
                inner.unloaded = true;
                inner.ready = false;
            }
            if conversation.status() == "running" {
                conversation.set_status("error");
                agent::restarted(&conversation);
            }
        }
        self.down.store(false, Ordering::SeqCst);
    }
}

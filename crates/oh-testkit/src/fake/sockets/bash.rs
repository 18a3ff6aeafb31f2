//! The socket of commands and their output.

use super::line::{Delivered, Line, Over};
use crate::fake::state::subscriber::Item;

impl Line {
    pub(super) async fn bash(&mut self, all: bool) -> Delivered {
        let Some((before, subscriber, mut items)) = self.world.bash.subscribe() else {
            let reason = "Too many bash event connections".to_owned();
            return Err(Over::Close(1013, reason));
        };
        if all {
            for raw in before {
                self.bare(&raw, &subscriber).await?;
            }
            self.flush(&subscriber).await?;
        }
        let mut batch = Vec::new();
        loop {
            self.wait(None, &subscriber, &mut items, &mut batch, false)
                .await?;
            for item in batch.drain(..) {
                if let Item::Durable { frame, .. } = &item {
                    self.bare(&frame.event(), &subscriber).await?;
                }
                subscriber.took(&item);
            }
            self.flush(&subscriber).await?;
        }
    }
}

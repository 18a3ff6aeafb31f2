//! Taking a conversation away: all the server has on disk of it, as a zip file. Knows no
//! workspace.

use std::time::Duration;

use bytes::Bytes;
use futures_core::Stream;
use futures_util::StreamExt;
use http::StatusCode;
use oh_protocol::{Call, calls::files};
use oh_transport::Body;

use crate::{Conversation, Error, Result};

/// How much of it [`Conversation::trajectory`] holds.
const LIMIT: usize = 1 << 30;
/// What the server says of a file that went while it was to be sent.
const REMOVED: StatusCode = StatusCode::INTERNAL_SERVER_ERROR;
/// How often more it is asked then, and how long after.
const TRIES: u32 = 3;
const PAUSE: Duration = Duration::from_millis(100);

impl Conversation {
    /// All the server has on disk of it, as a zip file: events, state, settings; secrets are
    /// masked in it (`GET /api/file/download-trajectory/{conversation_id}`).
    ///
    /// # Errors
    ///
    /// When the server does not have it any more, cannot be asked, or it is larger than 1 GiB:
    /// [`trajectory_stream`](Self::trajectory_stream) has no limit.
    pub async fn trajectory(&self) -> Result<Bytes> {
        let body = self.open_trajectory().await?.collect(LIMIT).await;
        body.map_err(|error| Error::transport(self.id(), "download the trajectory", error))
    }

    /// The same, piece by piece as it comes, however large.
    ///
    /// ```no_run
    /// # use futures_util::TryStreamExt;
    /// # async fn keep(conversation: &oh_conversation::Conversation) -> Result<(), Box<dyn std::error::Error>> {
    /// use std::io::Write;
    ///
    /// let mut file = std::fs::File::create("conversation.zip")?;
    /// let mut pieces = conversation.trajectory_stream().await?;
    /// while let Some(piece) = pieces.try_next().await? {
    ///     file.write_all(&piece)?;
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// When the server does not have it any more or cannot be asked; the stream, when the
    /// connection breaks or stands still.
    pub async fn trajectory_stream(
        &self,
    ) -> Result<impl Stream<Item = Result<Bytes>> + Send + Unpin + use<>> {
        let id = self.id();
        let failed = move |error| Error::transport(id, "download the trajectory", error);
        Ok(self
            .open_trajectory()
            .await?
            .map(move |piece| piece.map_err(failed)))
    }

    /// The server writes one file for all who ask, and removes it after each: who asks while it
    /// is removed gets a 500, and has it a moment later.
    async fn open_trajectory(&self) -> Result<Body> {
        let failed = |error| Error::transport(self.id(), "download the trajectory", error);
        let call = files::Trajectory::new(self.id());
        let mut tries = 0;
        loop {
            let request = call.request().map_err(|error| failed(error.into()))?;
            let answer = self.client().stream(request, Body::empty()).await;
            let answer = self.client().accepted(answer.map_err(failed)?).await;
            match answer {
                Err(error) if error.status() == Some(REMOVED) && tries < TRIES => {
                    tries += 1;
                    tokio::time::sleep(PAUSE).await;
                }
                answer => return Ok(answer.map_err(failed)?.into_body()),
            }
        }
    }
}

//! Exporting a conversation: everything that the server has on disk for it, as a zip file.

use std::time::Duration;

use bytes::Bytes;
use futures_core::Stream;
use futures_util::StreamExt;
use http::StatusCode;
use oh_protocol::{Call, calls::files};
use oh_transport::Body;

use crate::{Error, EventLog, Request, Result};

/// The maximum size for [`EventLog::trajectory`].
const LIMIT: usize = 1 << 30;
/// The status that the server returns if its file was removed before it could be sent.
const REMOVED: StatusCode = StatusCode::INTERNAL_SERVER_ERROR;
/// How often the request is repeated in that case, and the delay.
const TRIES: u32 = 3;
const PAUSE: Duration = Duration::from_millis(100);

impl EventLog {
    /// Downloads everything that the server has on disk for the conversation, as a zip file:
    /// events, state and settings, with secrets masked
    /// (`GET /api/file/download-trajectory/{conversation_id}`).
    ///
    /// # Errors
    ///
    /// Returns an error if the server no longer has the conversation, if the request fails, or if
    /// the file is larger than 1 GiB: [`trajectory_stream`](Self::trajectory_stream) has no limit.
    pub fn trajectory(&self) -> Request<Bytes> {
        let this = self.clone();
        Request::new(async move {
            let body = this.open_trajectory().await?.collect(LIMIT).await;
            body.map_err(|error| {
                Error::transport(this.conversation.id(), "download the trajectory", error)
            })
        })
    }

    /// Downloads the same zip file as a stream, without a size limit.
    ///
    /// ```no_run
    /// # use futures_util::TryStreamExt;
    /// # async fn keep(conversation: &oh_conversation::Conversation) -> Result<(), Box<dyn std::error::Error>> {
    /// use std::io::Write;
    ///
    /// let mut file = std::fs::File::create("conversation.zip")?;
    /// let mut pieces = conversation.log().trajectory_stream().await?;
    /// while let Some(piece) = pieces.try_next().await? {
    ///     file.write_all(&piece)?;
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns an error if the server no longer has the conversation, or the request fails. The
    /// stream yields an error if the connection breaks or stalls.
    pub fn trajectory_stream(
        &self,
    ) -> Request<impl Stream<Item = Result<Bytes>> + Send + Unpin + use<>> {
        let this = self.clone();
        Request::new(async move {
            let id = this.conversation.id();
            let failed = move |error| Error::transport(id, "download the trajectory", error);
            let body = this.open_trajectory().await?;
            Ok(body.map(move |piece| piece.map_err(failed)))
        })
    }

    /// Opens the download, with retries. The server uses one file for all requests and removes it
    /// after each, so a concurrent request may get a 500; it succeeds a moment later.
    async fn open_trajectory(&self) -> Result<Body> {
        let failed =
            |error| Error::transport(self.conversation.id(), "download the trajectory", error);
        let call = files::Trajectory::new(self.conversation.id());
        let mut tries = 0;
        loop {
            let request = call.request().map_err(|error| failed(error.into()))?;
            let answer = self
                .conversation
                .client()
                .stream(request, Body::empty())
                .await;
            let answer = self
                .conversation
                .client()
                .accepted(answer.map_err(failed)?)
                .await;
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

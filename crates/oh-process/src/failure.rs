//! The error type of a server that was started, for this crate and for `oh-sandbox`.

/// Defines `Error`, with the end and the last output of the process that failed, for the
/// `ErrorKind` in scope. The parameter is the documentation of the type.
#[doc(hidden)]
#[macro_export]
macro_rules! server_error {
    ($(#[$doc:meta])+) => {
        type Source = ::std::sync::Arc<dyn ::std::error::Error + Send + Sync>;

        $(#[$doc])+
        #[derive(Clone)]
        pub struct Error(Box<Inner>);

        #[derive(Clone)]
        struct Inner {
            kind: ErrorKind,
            context: String,
            exit: Option<ExitReport>,
            log_tail: Vec<String>,
            source: Option<Source>,
        }

        impl Error {
            /// Returns what failed.
            pub fn kind(&self) -> ErrorKind {
                self.0.kind
            }

            /// Returns how the server or its container ended, if it did.
            pub fn exit(&self) -> Option<&ExitReport> {
                self.0.exit.as_ref()
            }

            /// Returns the last lines that were written, oldest first, without secrets.
            pub fn log_tail(&self) -> &[String] {
                &self.0.log_tail
            }

            pub(crate) fn new(kind: ErrorKind, context: impl Into<String>) -> Self {
                Self(Box::new(Inner {
                    kind,
                    context: context.into(),
                    exit: None,
                    log_tail: Vec::new(),
                    source: None,
                }))
            }

            pub(crate) fn with_source(
                mut self,
                source: impl Into<Box<dyn ::std::error::Error + Send + Sync>>,
            ) -> Self {
                self.0.source = Some(source.into().into());
                self
            }

            pub(crate) fn with_exit(mut self, exit: ExitReport) -> Self {
                self.0.exit = Some(exit);
                self
            }

            pub(crate) fn with_log_tail(mut self, lines: Vec<String>) -> Self {
                self.0.log_tail = lines;
                self
            }

            /// Creates the error of a failed request to the server. Keeps the kind of the transport
            /// error.
            pub(crate) fn transport(
                context: impl Into<String>,
                source: ::oh_transport::Error,
            ) -> Self {
                let kind = ::oh_transport::same_kind!(source.kind(); NotFound);
                Self::new(kind, context).with_source(source)
            }

            /// Returns the message and the reason. If the process ended or the port is taken, the
            /// message is already the reason, and the source only shows how that was noticed.
            fn with_reason(&self) -> String {
                let mut message = self.0.context.clone();
                match (&self.0.exit, &self.0.source, self.0.kind) {
                    (Some(exit), ..) => message += &format!(" ({exit})"),
                    (None, Some(source), kind) if kind != ErrorKind::PortTaken => {
                        let reason = ::oh_protocol::reason::of(&**source);
                        ::oh_protocol::reason::append(&mut message, &reason);
                    }
                    _ => {}
                }
                message
            }
        }

        impl ::std::fmt::Display for Error {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                // A server, an engine or an installer may have written what controls a terminal.
                f.write_str(&::oh_protocol::printable(&self.with_reason()))?;
                if !self.0.log_tail.is_empty() {
                    f.write_str("; last output:")?;
                    // Keeps the message readable; `log_tail` returns all lines.
                    let skipped = self.0.log_tail.len().saturating_sub(12);
                    for line in &self.0.log_tail[skipped..] {
                        write!(f, "\n  {}", ::oh_protocol::printable(line))?;
                    }
                }
                Ok(())
            }
        }
    };
}

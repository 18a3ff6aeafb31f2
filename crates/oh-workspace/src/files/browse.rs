//! Directories: creating and listing them.

use futures_core::Stream;
use oh_protocol::calls::files::{
    CreateDirectory, GetHome, Home, SearchSubdirs, Subdirectory, SubdirectoryPage,
};
use oh_transport::WorkspaceHandle;

use super::refused;
use crate::{
    Error, ErrorKind, Request, Result, Workspace, command::excerpt, helper::helper, shell::quoted,
};

/// A listing of the directories in a directory, by name: see [`Workspace::subdirectories`].
#[derive(Debug, Clone)]
#[must_use = "a search does nothing until it is read"]
pub struct Subdirectories {
    workspace: Workspace,
    path: String,
    hidden: bool,
    page_size: u32,
}

impl Subdirectories {
    /// Includes directories whose names begin with a dot.
    pub fn with_hidden(mut self) -> Self {
        self.hidden = true;
        self
    }

    /// Sets how many directories are fetched per request, 1 to 100. Default 100.
    pub fn page_size(mut self, directories: u32) -> Self {
        self.page_size = directories;
        self
    }

    /// Returns all directories as a stream, which fetches each page when it is needed.
    pub fn stream(self) -> impl Stream<Item = Result<Subdirectory>> + Send {
        // The next page to fetch, if any, and the rest of the current page.
        let state = (Some(None), Vec::new().into_iter(), self);
        futures_util::stream::try_unfold(state, |(mut next, mut items, search)| async move {
            loop {
                if let Some(item) = items.next() {
                    return Ok(Some((item, (next, items, search))));
                }
                let Some(page_id) = next.take() else {
                    return Ok(None);
                };
                let page = search.page(page_id).await?;
                items = page.items.into_iter();
                next = page.next_page_id.map(Some);
            }
        })
    }

    /// Returns all directories.
    ///
    /// # Errors
    ///
    /// Returns an error if there is no such directory, or the request fails.
    pub async fn all(self) -> Result<Vec<Subdirectory>> {
        let mut all = Vec::new();
        let mut stream = std::pin::pin!(self.stream());
        while let Some(item) = futures_util::StreamExt::next(&mut stream).await {
            all.push(item?);
        }
        Ok(all)
    }

    async fn page(&self, page_id: Option<String>) -> Result<SubdirectoryPage> {
        let path = self.workspace.path(&self.path)?;
        let mut search = SearchSubdirs::new(&path)
            .limit(self.page_size)
            .include_hidden(self.hidden);
        if let Some(page_id) = page_id {
            search = search.page_id(page_id);
        }
        let found = self.workspace.client().call(&search).await;
        found.map_err(|error| refused("cannot list the directory", &path, error))
    }
}

/// Creates a directory and its missing parents with a command.
async fn create_by_command(workspace: &Workspace, path: &str) -> Result<()> {
    let line = format!("LC_ALL=C mkdir -p -- {}", quoted(path));
    let helper = helper(workspace).await;
    let made = helper.execute(line).cwd("/").await?;
    if made.success() {
        return Ok(());
    }
    let why = made.stderr().trim();
    let kind = match why {
        why if why.contains("Permission denied") => ErrorKind::PermissionDenied,
        why if why.contains("No space left") => ErrorKind::NoSpace,
        _ => ErrorKind::InvalidPath,
    };
    let message = format!("cannot create the directory: {}", excerpt(why, 200));
    Err(Error::new(kind, message).at(path))
}

impl Workspace {
    /// Creates a directory and its missing parents. An existing directory is left unchanged.
    ///
    /// # Errors
    ///
    /// Returns [`ErrorKind::InvalidPath`](crate::ErrorKind::InvalidPath) if a file is in the way,
    /// [`ErrorKind::PermissionDenied`](crate::ErrorKind::PermissionDenied) without permission, and
    /// another error if the request fails.
    pub fn create_directory(&self, path: impl AsRef<str>) -> Request<()> {
        let path = path.as_ref().to_owned();
        let this = self.clone();
        Request::new(async move {
            let path = this.path(&path)?;
            let create = CreateDirectory::new(&path).scope(this.scope());
            let created = this.client().call(&create).await;
            let failed = |error| refused("cannot create the directory", &path, error);
            match created.map_err(failed) {
                // Servers before 1.43 have no endpoint for it.
                Err(error) if error.kind() == ErrorKind::Unsupported => {
                    create_by_command(&this, &path).await
                }
                created => created,
            }
        })
    }

    /// Returns the home directory of the server's user, and suggested directories to browse.
    ///
    /// # Errors
    ///
    /// Returns an error if the request fails.
    pub fn home(&self) -> Request<Home> {
        let this = self.clone();
        Request::new(async move {
            let home = this.client().call(&GetHome::new()).await;
            home.map_err(|error| refused("cannot determine the home directory", "~", error))
        })
    }

    /// Lists the directories in a directory, by name. Files and symbolic links are omitted.
    pub fn subdirectories(&self, path: impl Into<String>) -> Subdirectories {
        Subdirectories {
            workspace: self.clone(),
            path: path.into(),
            hidden: false,
            page_size: 100,
        }
    }
}

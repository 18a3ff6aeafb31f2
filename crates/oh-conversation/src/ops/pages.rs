//! A stream of the items of pages, each of which is requested when it is needed.

use std::{collections::VecDeque, future::Future, pin::Pin};

use futures_core::Stream;

use crate::Result;

/// The items of all pages. A failed request is the last item.
pub(super) type Items<T> = Pin<Box<dyn Stream<Item = Result<T>> + Send>>;

/// A page: the items that the caller wants, and the id of the next page.
pub(super) type Page<T> = (Vec<T>, Option<String>);

/// A source of pages.
pub(super) trait Pages: Send + 'static {
    /// An item of a page.
    type Item: Send;

    /// Requests a page. `page_id` is `None` for the first page.
    fn page(
        &mut self,
        page_id: Option<String>,
    ) -> impl Future<Output = Result<Page<Self::Item>>> + Send;
}

enum Next {
    Page(Option<String>),
    End,
}

/// Returns the items of all pages.
pub(super) fn items<P: Pages>(pages: P) -> Items<P::Item> {
    let state = (pages, VecDeque::new(), Next::Page(None));
    Box::pin(futures_util::stream::unfold(state, next))
}

type State<P> = (P, VecDeque<<P as Pages>::Item>, Next);

async fn next<P: Pages>(
    (mut pages, mut items, mut at): State<P>,
) -> Option<(Result<P::Item>, State<P>)> {
    loop {
        if let Some(item) = items.pop_front() {
            return Some((Ok(item), (pages, items, at)));
        }
        let Next::Page(page_id) = std::mem::replace(&mut at, Next::End) else {
            return None;
        };
        match pages.page(page_id).await {
            Ok((page, next)) => {
                items = page.into();
                at = next.map_or(Next::End, |id| Next::Page(Some(id)));
            }
            Err(error) => return Some((Err(error), (pages, items, Next::End))),
        }
    }
}

//! Texts and plans that several kinds of events contain.

use oh_protocol::event::{Content, ReasoningItem, TaskItem, TaskStatus, ThinkingBlock, text_of};

use crate::{Part, Progress, Task};

/// Returns the content that hooks and skills added for the model.
pub(super) fn added(parts: &[Content]) -> Option<Part> {
    let text = text_of(parts);
    (!text.trim().is_empty()).then(|| Part::Fields(vec![("added context".to_owned(), text)]))
}

/// Returns the reasoning before a message or an action, from the first place that has any.
pub(super) fn thought(
    reasoning: Option<&str>,
    blocks: &[ThinkingBlock],
    item: Option<&ReasoningItem>,
) -> Part {
    let blocks = || {
        let texts: Vec<&str> = blocks
            .iter()
            .filter_map(|block| block.thinking.as_deref())
            .collect();
        texts.join("\n\n")
    };
    let item = || {
        let texts = item.map_or(&[][..], |item| match &item.content {
            Some(content) if !content.is_empty() => content,
            _ => &item.summary,
        });
        let texts: Vec<&str> = texts.iter().map(|text| &**text).collect();
        texts.join("\n\n")
    };
    let text = [reasoning.unwrap_or_default().to_owned(), blocks(), item()];
    let text = text.into_iter().find(|text| !text.trim().is_empty());
    Part::Thought(text.unwrap_or_default())
}

/// Returns a plan as a checklist.
pub(super) fn tasks(items: &[TaskItem]) -> Part {
    let tasks = items.iter().map(|item| {
        let progress = match item.status {
            TaskStatus::Done => Progress::Done,
            TaskStatus::InProgress => Progress::Doing,
            _ => Progress::Todo,
        };
        Task::new(progress, &*item.title).notes(&*item.notes)
    });
    Part::Checklist(tasks.collect())
}

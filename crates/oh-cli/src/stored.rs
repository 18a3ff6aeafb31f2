//! The parts that the commands for a server's stored state share.

use std::io::{self, Write as _};

use openhands::admin::Admin;
use serde::Serialize;

use crate::{
    exit::{Exit, Failure},
    records::clean,
    server::{At, Server},
};

/// The most names to list in a message.
const NAMED: usize = 8;

/// Returns the server that keeps the state: the given one, or the background server.
pub(crate) async fn server(at: &At) -> Result<Server, Failure> {
    let server = match at.url() {
        Some(url) => Some(Server::at(&url).await?),
        None => Server::background().await?,
    };
    server.ok_or_else(|| {
        Exit::Configuration.because(
            "no background server is running: start it with `oh up`, or use --server URL \
             (a private server stores nothing)",
        )
    })
}

/// Returns the administration of that server.
pub(crate) async fn admin(at: &At) -> Result<Admin, Failure> {
    Ok(Admin::of(server(at).await?.client()))
}

/// Returns the failure for a name that the server does not have.
pub(crate) fn unknown(kind: &str, name: &str, known: &[String]) -> Failure {
    let nearest = known
        .iter()
        .map(|known| (strsim::osa_distance(name, known), known))
        .filter(|(mistakes, _)| *mistakes <= 2)
        .min();
    let hint = match (nearest, known) {
        (Some((_, nearest)), _) => format!("did you mean `{nearest}`?"),
        (None, []) => "the server has none".to_owned(),
        (None, known) => {
            let more = match known.len() > NAMED {
                true => ", …",
                false => "",
            };
            let first = &known[..known.len().min(NAMED)];
            format!("the server has {}{more}", first.join(", "))
        }
    };
    Exit::Configuration.because(clean(&format!("no {kind} is called `{name}`: {hint}")))
}

/// Prints each row as a line of JSON.
pub(crate) fn lines<T: Serialize>(rows: impl IntoIterator<Item = T>) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    for row in rows {
        let line = serde_json::to_string(&row)
            .map_err(|error| Exit::Internal.because(error.to_string()))?;
        writeln!(out, "{line}")?;
    }
    Ok(())
}

/// Prints rows in columns.
pub(crate) fn table<const N: usize>(rows: &[[String; N]]) -> Result<(), Failure> {
    let rows: Vec<_> = rows
        .iter()
        .map(|row| row.each_ref().map(|cell| clean(cell)))
        .collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let mut out = io::stdout().lock();
    for row in &rows {
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate() {
            let width = width(column).unwrap_or_default();
            line += &format!("{cell:<width$}  ");
        }
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_name_is_answered_with_the_nearest_one() {
        let known = ["default".to_owned(), "cheap".to_owned()];
        let hint = |name, known: &[String]| unknown("profile", name, known).message;
        assert!(hint("defualt", &known).ends_with("did you mean `default`?"));
        assert!(hint("other", &known).ends_with("the server has default, cheap"));
        assert!(hint("other", &[]).ends_with("the server has none"));
        let many: Vec<_> = (0..20).map(|n| format!("profile-{n}")).collect();
        assert!(hint("other", &many).ends_with("profile-7, …"));
    }
}

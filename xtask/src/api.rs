//! `cargo xtask api`: generates calls of `oh-protocol` and handles of `oh-admin` from the OpenAPI
//! document of the pinned server.
//!
//! The part of the document that is needed is `xtask/api/openapi.json`; an end-to-end test compares
//! it with the server. Names, documentation and decisions are in the plan. A field that only one of
//! the two has is an error.

mod calls;
mod fields;
mod handles;
mod plan;
mod schema;
mod terms;
mod text;
mod types;

use std::{fs, path::PathBuf};

use crate::{Result, cargo};

use plan::MODULES;
use schema::Document;

/// The part of the document that is needed, without texts for people.
const DOCUMENT: &str = "xtask/api/openapi.json";

/// Options of `api`.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Fail if a generated file differs, without changes.
    #[arg(long)]
    check: bool,
    /// Replace the stored part of the document first, from the whole document of a server
    /// (`GET /openapi.json`).
    #[arg(long, value_name = "FILE")]
    document: Option<PathBuf>,
}

pub(crate) fn run(options: &Options) -> Result {
    let stored = cargo::root().join(DOCUMENT);
    if let Some(whole) = &options.document {
        let cut = Document::new(read(whole)?).cut(&operations(), &schemas())?;
        let text = serde_json::to_string_pretty(&cut).map_err(|error| error.to_string())?;
        write(&stored, &format!("{text}\n"))?;
    }
    let document = Document::new(read(&stored)?);
    let mut different = Vec::new();
    for module in MODULES {
        for (path, code) in [
            (
                format!("crates/oh-protocol/src/calls/{}.rs", module.name),
                calls::module(module, &document)?,
            ),
            (
                format!("crates/oh-admin/src/{}.rs", module.name),
                handles::module(module, &document)?,
            ),
        ] {
            let code = text::formatted(&code)?;
            let file = cargo::root().join(&path);
            if fs::read_to_string(&file).is_ok_and(|old| old == code) {
                continue;
            }
            match options.check {
                true => different.push(path),
                false => write(&file, &code)?,
            }
        }
    }
    match different.is_empty() {
        true => Ok(()),
        false => Err(format!(
            "api: run `cargo xtask api`, because these files differ: {}",
            different.join(", ")
        )),
    }
}

/// Checks the generated files, without changes.
pub(crate) fn check() -> Result {
    run(&Options {
        check: true,
        document: None,
    })
}

/// Returns the operations of the plan.
pub(crate) fn operations() -> Vec<&'static str> {
    let calls = MODULES.iter().flat_map(|module| module.calls);
    calls.map(|call| call.operation).collect()
}

fn schemas() -> Vec<&'static str> {
    let types = MODULES.iter().flat_map(|module| module.types);
    types.map(|kind| kind.schema).collect()
}

fn read(path: &std::path::Path) -> Result<serde_json::Value> {
    let text =
        fs::read(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    serde_json::from_slice(&text).map_err(|error| format!("{}: {error}", path.display()))
}

fn write(path: &std::path::Path, text: &str) -> Result {
    fs::write(path, text).map_err(|error| format!("cannot write {}: {error}", path.display()))
}

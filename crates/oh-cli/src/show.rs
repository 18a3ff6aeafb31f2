//! `oh show` and `oh export`.

use std::{
    env,
    fs::File,
    io::{self, BufRead as _, BufReader, BufWriter, Write as _},
    path::Path,
};

use clap::{Args, ValueEnum};
use openhands::{
    Event,
    view::{Detail, Html, Jsonl, Markdown, Printer, Terminal, View},
};

use crate::{
    exit::{Exit, Failure, Outcome},
    records::{self, EVENTS, Place, clean, unusable},
};

/// Returns the view of all commands, which hides the key of the model wherever it occurs.
pub(crate) fn view() -> View {
    match env::var("LLM_API_KEY") {
        Ok(key) if !key.is_empty() => View::new().secret(&key.into()),
        _ => View::new(),
    }
}

#[derive(Args)]
pub(crate) struct Show {
    /// The id of the run, or its beginning.
    id: String,
    /// Show every event with its whole content.
    #[arg(long)]
    full: bool,
    /// Print the record as JSON.
    #[arg(long, conflicts_with = "full")]
    json: bool,
}

/// `oh show`.
pub(crate) fn show(options: &Show) -> Outcome {
    let (path, record) = records::find(&options.id)?;
    if options.json {
        writeln!(io::stdout(), "{}", records::line(&record)?)?;
        return Ok(Exit::Finished);
    }
    let detail = match options.full {
        true => Detail::Full,
        false => Detail::Compact,
    };
    print(&path, &mut Terminal::stdout(view().detail(detail)))?;
    let error = record
        .error
        .map_or(String::new(), |error| format!(": {}", clean(&error)));
    writeln!(io::stdout(), "{}{error}", record.status)?;
    Ok(Exit::Finished)
}

#[derive(Args)]
pub(crate) struct Export {
    /// The id of the run, or its beginning.
    id: String,
    /// The format.
    format: Format,
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    /// A page for a browser, in one file that needs no network.
    Html,
    /// Markdown.
    Md,
    /// Each event as the server sent it, one a line. Hides nothing.
    Jsonl,
}

/// `oh export`: writes the whole run to stdout.
pub(crate) fn export(options: &Export) -> Outcome {
    let (path, _) = records::find(&options.id)?;
    let out = BufWriter::new(io::stdout().lock());
    let view = view().detail(Detail::Full);
    match options.format {
        Format::Html => print(&path, &mut Html::new(out, view)),
        Format::Md => print(&path, &mut Markdown::new(out, view)),
        Format::Jsonl => print(&path, &mut Jsonl::new(out)),
    }?;
    Ok(Exit::Finished)
}

/// Writes the page of a run into its directory.
pub(crate) fn page(place: &Place, title: Option<&str>) -> Result<(), Failure> {
    let mut content = Vec::new();
    let mut page = Html::new(&mut content, view().detail(Detail::Full));
    if let Some(title) = title {
        page = page.title(title);
    }
    print(place.path(), &mut page)?;
    drop(page);
    place.write("trajectory.html", &content)
}

/// Prints the recorded events of a run.
fn print(path: &Path, printer: &mut impl Printer) -> Result<(), Failure> {
    let events = path.join(EVENTS);
    let failed = |error| unusable(&events, &error);
    let file = File::open(&events).map_err(failed)?;
    for line in BufReader::new(file).split(b'\n') {
        // A program that was killed has left part of a line, which is shown as such.
        printer.print(&Event::from_json_lossy(line.map_err(failed)?))?;
    }
    Ok(printer.finish()?)
}

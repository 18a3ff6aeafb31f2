//! `cargo xtask demo`: runs the example of the main job, and draws its output for the README.

use std::{env, fmt::Write, fs, io::Read, process::Stdio};

use clap::Args;

use crate::{Result, cargo};

/// The picture in the README.
const PICTURE: &str = "docs/demo.svg";
/// Size of the drawn terminal in characters.
const COLUMNS: usize = 96;
const ROWS: usize = 34;

#[derive(Args)]
pub(crate) struct Options {
    /// Write the output to `docs/demo.svg`, the picture in the README.
    #[arg(long)]
    picture: bool,
}

/// Builds `examples/local_agent_server.rs` and runs it on a real server.
pub(crate) fn run(options: &Options) -> Result {
    let mut command = cargo::cargo(&[
        "run",
        "--quiet",
        "--package",
        "openhands-examples",
        "--example",
        "local_agent_server",
    ]);
    if !options.picture {
        return cargo::run(command).map(drop);
    }
    let mut child = command
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| format!("cannot run the demo: {error}"))?;
    let mut output = String::new();
    if let Some(stdout) = &mut child.stdout {
        let read = stdout.read_to_string(&mut output);
        read.map_err(|error| format!("cannot read the demo's output: {error}"))?;
    }
    let status = child.wait().map_err(|error| format!("the demo: {error}"))?;
    cargo::say(&output);
    if !status.success() {
        return Err(format!("the demo failed: {status}"));
    }
    let home = env::home_dir().unwrap_or_else(|| "~".into());
    let output = output
        .replace(&cargo::root().display().to_string(), ".")
        .replace(&env::temp_dir().display().to_string(), "/tmp")
        .replace(&home.display().to_string(), "~");
    fs::write(cargo::root().join(PICTURE), svg(&rows(&output)))
        .map_err(|error| format!("cannot write {PICTURE}: {error}"))?;
    cargo::say(&format!("demo: wrote {PICTURE}"));
    Ok(())
}

/// Returns the rows of the terminal: without details and changes of statistics, cut to its width,
/// and without the middle of a long output.
fn rows(output: &str) -> Vec<String> {
    let mut rows: Vec<String> = vec!["$ cargo xtask demo".to_owned()];
    let lines = output.lines().filter(|line| {
        let detail = line.trim().is_empty() || line.starts_with("  ");
        let update = line.contains("StateUpdateEvent") && !line.contains("execution_status");
        !detail && !update
    });
    rows.extend(lines.map(cut));
    if rows.len() > ROWS {
        let left_out = rows.len() - ROWS + 1;
        let begin = ROWS * 2 / 3;
        rows.splice(
            begin..begin + left_out,
            [format!("… {left_out} more lines")],
        );
    }
    rows
}

fn cut(line: &str) -> String {
    if line.chars().count() <= COLUMNS {
        return line.to_owned();
    }
    let mut short: String = line.chars().take(COLUMNS - 1).collect();
    short.push('…');
    short
}

/// Draws the rows as a terminal.
fn svg(rows: &[String]) -> String {
    let (width, height) = (COLUMNS * 8 + 32, rows.len() * 18 + 32);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
         font-family=\"ui-monospace, monospace\" font-size=\"13\">\n\
         <rect width=\"100%\" height=\"100%\" rx=\"8\" fill=\"#1e1e2e\"/>\n"
    );
    for (index, row) in rows.iter().enumerate() {
        let colour = match row {
            row if row.starts_with('$') => "#a6e3a1",
            row if row.contains("DENIED") || row.contains("feedback") => "#f9e2af",
            _ => "#cdd6f4",
        };
        let _ = writeln!(
            svg,
            "<text x=\"16\" y=\"{}\" fill=\"{colour}\" xml:space=\"preserve\">{}</text>",
            index * 18 + 28,
            escaped(row)
        );
    }
    svg.push_str("</svg>\n");
    svg
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_picture_has_a_maximum_size() {
        let output = format!("{}\n  detail\n", "x".repeat(200)).repeat(100);
        let rows = rows(&output);
        assert_eq!(rows.len(), ROWS);
        assert!(rows.iter().all(|row| row.chars().count() <= COLUMNS));
        assert!(rows.iter().any(|row| row.starts_with("… 68 more")));
    }

    #[test]
    fn the_picture_escapes_its_text() {
        let svg = svg(&["a < b & c".to_owned()]);
        assert!(svg.contains(">a &lt; b &amp; c</text>"));
    }
}

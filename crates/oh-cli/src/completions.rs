//! `oh completions` and `oh man`: what a shell and `man` know about this command line.

use std::{
    fs,
    io::{self, Write as _},
    path::PathBuf,
};

use clap::{Args, Command};
use clap_complete::Shell;
use clap_mangen::Man;

use crate::{
    exit::{Exit, Failure, Outcome},
    records::unusable,
    server::note,
};

const NAME: &str = "oh";

#[derive(Args)]
pub(crate) struct Completions {
    /// The shell that reads the script.
    shell: Shell,
}

/// `oh completions`.
pub(crate) fn completions(options: &Completions, command: Command) -> Outcome {
    io::stdout().write_all(&script(options.shell, command))?;
    Ok(Exit::Finished)
}

fn script(shell: Shell, mut command: Command) -> Vec<u8> {
    // The generator panics if a write fails, so it does not write to stdout itself.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, NAME, &mut script);
    script
}

#[derive(Args)]
pub(crate) struct Pages {
    /// Write a page for each command into this directory, which is created. Without it, the page of
    /// `oh` is printed.
    directory: Option<PathBuf>,
}

/// `oh man`.
pub(crate) fn man(options: &Pages, command: Command) -> Outcome {
    let pages = pages(command)?;
    let Some(directory) = &options.directory else {
        let first = pages.into_iter().next().map(|(_, page)| page);
        io::stdout().write_all(&first.unwrap_or_default())?;
        return Ok(Exit::Finished);
    };
    fs::create_dir_all(directory).map_err(|error| unusable(directory, &error))?;
    for (name, page) in &pages {
        let path = directory.join(name);
        fs::write(&path, page).map_err(|error| unusable(&path, &error))?;
    }
    note(&format!(
        "{} pages are in {}",
        pages.len(),
        directory.display()
    ));
    Ok(Exit::Finished)
}

/// Returns the file name and the text of each page. The page of the command itself is the first.
fn pages(command: Command) -> Result<Vec<(String, Vec<u8>)>, Failure> {
    let mut command = command.disable_help_subcommand(true);
    command.build();
    let (mut pages, mut left) = (Vec::new(), vec![command]);
    while let Some(command) = left.pop() {
        let visible = command.get_subcommands().filter(|verb| !verb.is_hide_set());
        left.extend(visible.cloned());
        let man = Man::new(command);
        let (name, mut page) = (man.get_filename(), Vec::new());
        man.render(&mut page)?;
        pages.push((name, page));
    }
    Ok(pages)
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum as _;

    use super::*;

    fn command() -> Command {
        let hidden = Command::new("inner").hide(true);
        let list = Command::new("ls").about("List the things.");
        let things = Command::new("things").subcommand(list);
        Command::new(NAME)
            .subcommand(things)
            .subcommand(hidden)
            .after_help("Exit codes: 0")
    }

    #[test]
    fn each_shell_gets_a_script_with_all_verbs() {
        for shell in Shell::value_variants() {
            let script = String::from_utf8(script(*shell, command())).unwrap();
            assert!(script.contains("things"), "{shell}: {script}");
        }
    }

    #[test]
    fn each_visible_verb_has_a_page() {
        let pages = pages(command()).unwrap();
        let names: Vec<_> = pages.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["oh.1", "oh-things.1", "oh-things-ls.1"]);
        let text = |page: usize| String::from_utf8_lossy(&pages[page].1).into_owned();
        assert!(text(0).contains("Exit codes: 0"), "{}", text(0));
        assert!(text(2).contains("List the things"), "{}", text(2));
    }
}

//! `oh` in a terminal that a person uses.

use std::{
    fs,
    io::{Read as _, Write as _},
    process::Command,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use openhands::testkit::{Script, ScriptedModel, Step};
use portable_pty::{Child, CommandBuilder, MasterPty, PtySize, native_pty_system};
use serde_json::json;

use super::{LONG, oh, on};

/// A command whose end the test decides.
const UNTIL_GO: &str = "until [ -e go ]; do sleep 0.1; done";

/// A program in an emulated terminal.
pub(super) struct Pty {
    master: Box<dyn MasterPty + Send>,
    child: Box<dyn Child + Send + Sync>,
    keyboard: Box<dyn std::io::Write + Send>,
    screen: Arc<Mutex<Emulated>>,
    reader: std::thread::JoinHandle<()>,
    /// The modes of the terminal before the program started.
    modes: String,
}

struct Emulated {
    parser: vt100::Parser,
    raw: String,
}

fn size(columns: u16, rows: u16) -> PtySize {
    PtySize {
        rows,
        cols: columns,
        ..PtySize::default()
    }
}

impl Pty {
    pub(super) fn start(command: &Command, columns: u16, rows: u16) -> Self {
        let pair = native_pty_system().openpty(size(columns, rows)).unwrap();
        let mut builder = CommandBuilder::new(command.get_program());
        builder.args(command.get_args().filter(|argument| *argument != "--json"));
        builder.env_remove("NO_COLOR");
        builder.env("TERM", "xterm-256color");
        for (name, value) in command.get_envs() {
            builder.env(name, value.unwrap());
        }
        builder.cwd(std::env::current_dir().unwrap());
        let modes = format!("{:?}", pair.master.get_termios().unwrap());
        let child = pair.slave.spawn_command(builder).unwrap();
        let screen = Arc::new(Mutex::new(Emulated {
            parser: vt100::Parser::new(rows, columns, 10_000),
            raw: String::new(),
        }));
        let mut output = pair.master.try_clone_reader().unwrap();
        let emulated = Arc::clone(&screen);
        let reader = std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            // Fails when the program has ended.
            while let Ok(count @ 1..) = output.read(&mut bytes) {
                let mut emulated = emulated.lock().unwrap();
                emulated.parser.process(&bytes[..count]);
                emulated.raw += &String::from_utf8_lossy(&bytes[..count]);
            }
        });
        Self {
            keyboard: pair.master.take_writer().unwrap(),
            master: pair.master,
            child,
            reader,
            screen,
            modes,
        }
    }

    fn resize(&self, columns: u16, rows: u16) {
        let mut emulated = self.screen.lock().unwrap();
        self.master.resize(size(columns, rows)).unwrap();
        emulated.parser.screen_mut().set_size(rows, columns);
    }

    pub(super) fn press(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).unwrap();
    }

    /// Returns all lines, also those that have left the screen. Rows that the terminal has wrapped
    /// are one line.
    fn lines(&self) -> Vec<String> {
        let mut emulated = self.screen.lock().unwrap();
        let screen = emulated.parser.screen_mut();
        let (rows, columns) = screen.size();
        let mut all = Vec::new();
        screen.set_scrollback(usize::MAX);
        for above in (1..=screen.scrollback()).rev() {
            screen.set_scrollback(above);
            all.extend(
                screen
                    .rows(0, columns)
                    .next()
                    .map(|row| (row, screen.row_wrapped(0))),
            );
        }
        screen.set_scrollback(0);
        let shown = screen.rows(0, columns).zip(0..rows);
        all.extend(shown.map(|(row, at)| (row, screen.row_wrapped(at))));
        let (mut lines, mut line) = (Vec::new(), String::new());
        for (row, is_wrapped) in all {
            line += &row;
            if !is_wrapped {
                lines.push(std::mem::take(&mut line).trim_end().to_owned());
            }
        }
        while lines.last().is_some_and(String::is_empty) {
            lines.pop();
        }
        lines
    }

    /// Waits until a line contains the text.
    pub(super) fn shows(&self, text: &str) -> String {
        let end = Instant::now() + LONG;
        loop {
            let lines = self.lines();
            if let Some(line) = lines.iter().find(|line| line.contains(text)) {
                return line.clone();
            }
            assert!(Instant::now() < end, "no {text} in {lines:#?}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Waits for the end. Returns the exit code, the lines and the screen.
    pub(super) fn screen_at_end(self) -> (u32, Vec<String>, vt100::Screen) {
        let emulated = Arc::clone(&self.screen);
        let (code, lines, _) = self.end();
        let screen = emulated.lock().unwrap().parser.screen().clone();
        (code, lines, screen)
    }

    /// Waits for the end. Returns the exit code, the lines, and everything that was written.
    pub(super) fn end(mut self) -> (u32, Vec<String>, String) {
        let code = self.child.wait().unwrap().exit_code();
        let modes = format!("{:?}", self.master.get_termios().unwrap());
        assert_eq!(modes, self.modes);
        // The output is complete when the reader has ended.
        let end = Instant::now() + LONG;
        while !self.reader.is_finished() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(10));
        }
        let lines = self.lines();
        let emulated = self.screen.lock().unwrap();
        let screen = emulated.parser.screen();
        assert!(!screen.hide_cursor() && !screen.alternate_screen());
        assert!(!emulated.raw.contains("canary"), "{}", emulated.raw);
        (code, lines, emulated.raw.clone())
    }
}

/// Returns the output of `oh show` to a pipe, and the same lines of the terminal.
fn shown(show: &mut Command, lines: &[String]) -> (Vec<String>, Vec<String>) {
    let started = lines
        .iter()
        .find_map(|line| line.strip_prefix("oh: conversation "));
    let output = show.args(["show", started.unwrap()]).output().unwrap();
    let piped = String::from_utf8(output.stdout).unwrap();
    // The last line is the status of the run.
    let piped = piped.strip_suffix("finished\n").unwrap();
    let printed = lines.iter().filter(|line| !line.starts_with("oh: "));
    (
        piped.lines().map(str::to_owned).collect(),
        printed.cloned().collect(),
    )
}

async fn model(script: Script) -> ScriptedModel {
    ScriptedModel::builder()
        .script(script)
        .start()
        .await
        .unwrap()
}

/// Returns whether a text has colours.
fn has_colors(raw: &str) -> bool {
    raw.split("\x1b[").skip(1).any(|rest| {
        rest.trim_start_matches(|letter: char| letter.is_ascii_digit() || letter == ';')
            .starts_with('m')
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn the_lines_of_a_terminal_are_those_of_a_pipe() {
    let home = openhands_tests::home();
    let server = openhands_tests::server(&home).start().await.unwrap();
    let go = server.workspace_dir().join("go");
    for (columns, rows, color) in [(80, 24, true), (24, 12, false)] {
        let text = "Let me wait for the other one.";
        let wait = Step::call("terminal", json!({"command": UNTIL_GO})).say(text);
        let script = Script::new()
            .step(wait.drip(Duration::from_millis(400)))
            .finish("All done.");
        let model = model(script).await;
        let mut command = oh(home.path(), &model);
        on(&mut command, &server, "Wait.");
        if !color {
            command.env("NO_COLOR", "1");
        }
        let pty = Pty::start(&command, columns, rows);
        pty.shows("terminal  1 s  $");
        if columns == 80 {
            pty.resize(100, 30);
            pty.shows("terminal  2 s  $");
            pty.resize(60, 24);
            pty.shows("terminal  3 s  $");
        }
        fs::write(&go, "").unwrap();
        let (code, lines, raw) = pty.end();
        fs::remove_file(&go).unwrap();
        assert_eq!(code, 0, "{lines:#?}");
        assert_eq!(has_colors(&raw), color);
        // The text was shown before the event that has all of it.
        let area = raw.split("\x1b[?7l").skip(1);
        assert!(
            area.filter(|area| area.starts_with("Let me")).count() > 0,
            "{raw:?}"
        );
        let (piped, printed) = shown(&mut oh(home.path(), &model), &lines);
        assert!(piped.len() > 6, "{piped:#?}");
        match columns {
            80 => assert_eq!(printed, piped),
            // The same text with other line breaks.
            _ => assert_eq!(
                printed.concat().replace(' ', ""),
                piped.concat().replace(' ', "")
            ),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_answers_with_y_and_stops_with_control_c() {
    let home = openhands_tests::home();
    let server = openhands_tests::server(&home).start().await.unwrap();
    let step = |command: &str| Step::call("terminal", json!({"command": command}));
    // Longer than the note that is written over its row of the live area.
    let long = format!("{UNTIL_GO} # {}", "x".repeat(60));
    let script = Script::new()
        .step(step("echo one"))
        .finish("Done.")
        .step(step(&long))
        .forever(|script| script.finish("Done."));
    let model = model(script).await;
    let mut command = oh(home.path(), &model);
    on(&mut command, &server, "Count.").args(["--confirm", "always"]);
    let mut pty = Pty::start(&command, 80, 24);
    let question = "Approve? y, or n, or the reason for a rejection:";
    pty.shows(question);
    pty.press("y\r");
    let (code, lines, _) = pty.end();
    assert_eq!(code, 0, "{lines:#?}");
    let has = |line: &str| lines.iter().any(|shown| shown == line);
    assert!(has(&format!("{question} y")), "{lines:#?}");
    assert!(
        has("  \"command\": \"echo one\",") && has("  one"),
        "{lines:#?}"
    );

    let mut command = oh(home.path(), &model);
    on(&mut command, &server, "Count.");
    let mut pty = Pty::start(&command, 80, 24);
    pty.shows("terminal  1 s  $");
    pty.press("\x03");
    let note = pty.shows("oh: pausing after the current step");
    assert!(note.ends_with("press Ctrl-C again to leave"), "{note}");
    fs::write(server.workspace_dir().join("go"), "").unwrap();
    let (code, lines, _) = pty.end();
    assert_eq!(code, 130, "{lines:#?}");
    let area = lines.iter().any(|line| line.contains(" s  $"));
    assert!(!area, "{lines:#?}");
    let last = lines.last().unwrap();
    let advice = "oh: continue with `oh run --resume ";
    assert!(last.starts_with(advice), "{lines:#?}");
}

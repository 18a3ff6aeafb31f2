//! The picture of `oh run` in the README, drawn from an emulated terminal.

use std::{fmt::Write as _, fs, path::Path};

use openhands::testkit::{Script, ScriptedModel};
use serde_json::json;

use super::{oh, on, terminal::Pty};

const PICTURE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/oh.svg");
/// Set to write the picture instead of comparing it.
const RENEW: &str = "OH_RENEW_PICTURES";
const COLUMNS: u16 = 84;
const ROWS: u16 = 48;
const CREATE: &str = "def greet(name)\n    print(f\"Hello, {name}!\")\n\n\ngreet(\"world\")\n";
/// The colours of a terminal, by their number.
const PALETTE: [&str; 16] = [
    "#45475a", "#f38ba8", "#a6e3a1", "#f9e2af", "#89b4fa", "#cba6f7", "#94e2d5", "#bac2de",
    "#6c7086", "#f38ba8", "#a6e3a1", "#f9e2af", "#89b4fa", "#cba6f7", "#94e2d5", "#cdd6f4",
];

/// Text with one style.
struct Run {
    text: String,
    color: String,
    bold: bool,
}

fn color(color: vt100::Color, dim: bool) -> String {
    match color {
        vt100::Color::Default if dim => "#9399b2".to_owned(),
        vt100::Color::Default => "#cdd6f4".to_owned(),
        vt100::Color::Idx(number) => {
            let named = PALETTE.get(usize::from(number));
            named.copied().unwrap_or("#cdd6f4").to_owned()
        }
        vt100::Color::Rgb(red, green, blue) => format!("#{red:02x}{green:02x}{blue:02x}"),
    }
}

/// Returns the rows of the screen, without empty ones at the end.
fn rows(screen: &vt100::Screen) -> Vec<Vec<Run>> {
    let mut rows: Vec<Vec<Run>> = (0..ROWS)
        .map(|row| {
            let mut runs: Vec<Run> = Vec::new();
            for cell in (0..COLUMNS).filter_map(|column| screen.cell(row, column)) {
                let text = match cell.contents() {
                    "" => " ",
                    text => text,
                };
                let (color, bold) = (color(cell.fgcolor(), cell.dim()), cell.bold());
                match runs.last_mut() {
                    Some(run) if (&run.color, run.bold) == (&color, bold) => run.text += text,
                    _ => runs.push(Run {
                        text: text.to_owned(),
                        color,
                        bold,
                    }),
                }
            }
            if let Some(last) = runs.last_mut() {
                last.text.truncate(last.text.trim_end().len());
            }
            runs
        })
        .collect();
    while rows
        .last()
        .is_some_and(|row| row.iter().all(|run| run.text.trim().is_empty()))
    {
        rows.pop();
    }
    rows
}

fn svg(rows: &[Vec<Run>]) -> String {
    let (width, height) = (usize::from(COLUMNS) * 8 + 32, rows.len() * 18 + 32);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
         font-family=\"ui-monospace, monospace\" font-size=\"13\">\n\
         <rect width=\"100%\" height=\"100%\" rx=\"8\" fill=\"#1e1e2e\"/>\n"
    );
    for (index, row) in rows.iter().enumerate() {
        let y = index * 18 + 28;
        let _ = write!(svg, "<text x=\"16\" y=\"{y}\" xml:space=\"preserve\">");
        for run in row {
            let text = run
                .text
                .replace('&', "&amp;")
                .replace('<', "&lt;")
                .replace('>', "&gt;");
            let bold = match run.bold {
                true => " font-weight=\"bold\"",
                false => "",
            };
            let _ = write!(svg, "<tspan fill=\"{}\"{bold}>{text}</tspan>", run.color);
        }
        svg.push_str("</text>\n");
    }
    svg.push_str("</svg>\n");
    svg
}

/// Returns the text of a picture, without times, which differ from run to run.
fn words(svg: &str) -> Vec<String> {
    let mut text = String::new();
    let mut in_tag = false;
    for letter in svg.chars() {
        match letter {
            '<' => in_tag = true,
            '>' => in_tag = false,
            _ if !in_tag => text.push(letter),
            _ => {}
        }
    }
    let words = text.split_whitespace();
    // Numbers, units of time and separators come and go with the speed of the machine.
    let lasting = words.filter(|word| {
        let number = word.contains(|letter: char| letter.is_ascii_digit());
        !number && !["s", "ms", "s)", "·"].contains(word)
    });
    lasting.map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_picture_in_the_readme_shows_a_real_run() {
    let home = openhands_tests::home();
    let server = openhands_tests::server(&home).start().await.unwrap();
    let work = server.workspace_dir().to_owned();
    let file = work.join("hello.py");
    let path = file.to_str().unwrap();
    let script = Script::new()
        .call(
            "file_editor",
            json!({"command": "create", "path": path, "file_text": CREATE}),
        )
        .finish("hello.py is ready.")
        .call(
            "file_editor",
            json!({
                "command": "str_replace", "path": path,
                "old_str": "def greet(name)\n", "new_str": "def greet(name):\n",
            }),
        )
        .call("terminal", json!({"command": "python3 hello.py"}))
        .finish("hello.py compiles, and greets the world.");
    let model = ScriptedModel::builder()
        .script(script)
        .start()
        .await
        .unwrap();
    let check =
        "python3 -m py_compile hello.py 2>&1 | tail -1 >&2; exit $((2 * (PIPESTATUS[0] != 0)))";
    let hooks =
        json!({"hooks": {"stop": [{"hooks": [{"command": format!("bash -c '{check}'")}]}]}});
    let hooks_file = home.path().join("hooks.json");
    fs::write(&hooks_file, hooks.to_string()).unwrap();

    let mut command = oh(home.path(), &model);
    on(&mut command, &server, "Write hello.py.")
        .arg("--hook")
        .arg(&hooks_file);
    let pty = Pty::start(&command, COLUMNS, ROWS);
    let (code, lines, screen) = pty.screen_at_end();
    assert_eq!(code, 0, "{lines:#?}");
    let id = lines
        .iter()
        .find_map(|line| line.strip_prefix("oh: conversation "))
        .unwrap();
    let mut rows = rows(&screen);
    let shown = |text: &str| {
        text.replace(work.to_str().unwrap(), "/project")
            .replace(id, "4b1c2f0e-8a77-4d5c-9b3e-6f1d20c4a5e8")
    };
    for run in rows.iter_mut().flatten() {
        run.text = shown(&run.text);
    }
    rows.insert(
        0,
        vec![Run {
            text: "$ oh run \"Write hello.py.\" --hook hooks.json".to_owned(),
            color: PALETTE[2].to_owned(),
            bold: false,
        }],
    );
    let drawn = svg(&rows);
    if std::env::var_os(RENEW).is_some() {
        fs::write(PICTURE, &drawn).unwrap();
    }
    assert!(
        Path::new(PICTURE).exists(),
        "set {RENEW} to draw the picture"
    );
    let kept = fs::read_to_string(PICTURE).unwrap();
    assert_eq!(
        words(&kept),
        words(&drawn),
        "set {RENEW} to renew the picture"
    );
    server.shutdown(super::LONG).await.unwrap();
}

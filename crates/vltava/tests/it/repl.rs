//! `vltava jsonata repl` as somebody at a terminal has it: a pseudo-terminal, keys in, a screen out.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use crate::process::binary;

/// How long an answer may take on a busy machine.
const ANSWER_MAX: Duration = Duration::from_secs(60);
const CTRL_C: &str = "\u{3}";
const CTRL_D: &str = "\u{4}";
const UP: &str = "\u{1b}[A";

/// A session on a terminal of its own; killed when dropped.
struct Session {
    keys: File,
    screen: mpsc::Receiver<Vec<u8>>,
    /// What was shown and not yet waited for.
    shown: String,
    child: Child,
}

impl Session {
    /// `state`: the folder of the user's state.
    fn start(state: &Path, arguments: &[&str]) -> Self {
        let controller = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&controller).unwrap();
        unlockpt(&controller).unwrap();
        let terminal = ptsname(&controller, Vec::new()).unwrap().into_string().unwrap();
        // A leader of a session that opens a terminal has it as its own: then Ctrl-C is a signal.
        let child = Command::new("setsid")
            .args(["sh", "-c", "exec <$TERMINAL >$TERMINAL 2>&1; stty rows 40 cols 120; exec \"$@\"", "sh"])
            .arg(binary().get_program())
            .args(["jsonata"])
            .args(arguments)
            .env("TERMINAL", terminal)
            .env("XDG_STATE_HOME", state)
            .env("TERM", "xterm")
            .env("NO_COLOR", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let keys = File::from(controller);
        let mut reader = keys.try_clone().unwrap();
        let (send, screen) = mpsc::channel();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            // An error is the end: nobody has the terminal open any more.
            while let Ok(count @ 1..) = reader.read(&mut buffer) {
                if send.send(buffer[..count].to_vec()).is_err() {
                    return;
                }
            }
        });
        let mut session = Self { keys, screen, shown: String::new(), child };
        session.wait_for("jsonata> ");
        session
    }

    fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
    }

    /// Whether it was shown by then; what stands before it is given, and forgotten.
    fn shows(&mut self, text: &str, within: Duration) -> Option<String> {
        let deadline = Instant::now() + within;
        loop {
            if let Some(at) = self.shown.find(text) {
                let rest = self.shown.split_off(at + text.len());
                return Some(std::mem::replace(&mut self.shown, rest));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            let bytes = self.screen.recv_timeout(left).ok()?;
            self.shown.push_str(&String::from_utf8_lossy(&bytes));
        }
    }

    fn wait_for(&mut self, text: &str) -> String {
        self.shows(text, ANSWER_MAX).unwrap_or_else(|| panic!("{text:?} isn't in {:?}", self.shown))
    }

    /// Types a line; what was answered, up to the next prompt.
    fn ask(&mut self, line: &str) -> String {
        self.press(line);
        self.press("\r");
        // Raw mode ends before the answer, and begins with the next prompt.
        self.wait_for("\u{1b}[?2004l");
        self.wait_for("\u{1b}[?2004h")
    }

    fn leave(mut self) -> ExitStatus {
        self.press(CTRL_D);
        let deadline = Instant::now() + ANSWER_MAX;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "it did not end: {:?}", self.shown);
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_session_from_the_first_key_to_the_last() {
    let dir = tempfile::tempdir().unwrap();
    let sample = dir.path().join("orders.ndjson");
    std::fs::write(&sample, "{\"order\": {\"items\": [{\"name\": \"bolt\"}]}}\n{\"order\": 2}\n").unwrap();
    let mut session = Session::start(dir.path(), &["repl", sample.to_str().unwrap()]);

    // Tab knows functions and fields.
    let answer = session.ask("$uppe\t(or\t.it\t.na\t)");
    assert!(answer.contains("\"BOLT\""), "{answer:?}");
    // What isn't complete goes on in the next line; a variable outlives its line.
    let answer = session.ask("$n := {\r'a': 41\r}");
    assert!(answer.contains("{\"a\":41}"), "{answer:?}");
    let answer = session.ask("$n.a + 1");
    assert!(answer.contains("42"), "{answer:?}");
    let answer = session.ask("nothing");
    assert!(answer.contains("undefined"), "{answer:?}");
    let answer = session.ask("order.items.(1 + name)");
    assert!(answer.contains("error: T2002 at line 1, column 16"), "{answer:?}");
    assert!(answer.contains("  |                ^"), "{answer:?}");
    let answer = session.ask(":input {\"order\": 7}");
    assert!(!answer.contains("error"), "{answer:?}");
    let answer = session.ask("order");
    assert!(answer.contains('7'), "{answer:?}");
    let answer = session.ask(":nope");
    assert!(answer.contains("error: there is no command \":nope\""), "{answer:?}");

    // A line that is cancelled is no line.
    session.press("1 + ");
    session.press(CTRL_C);
    session.wait_for("\u{1b}[?2004l");
    session.wait_for("\u{1b}[?2004h");
    let answer = session.ask("6 * 7");
    assert!(answer.contains("42"), "{answer:?}");

    // Endless but for its budget, which is larger than anybody waits for.
    session.ask(":budget steps=1000000000000 bytes=100000000000 wall=3600000");
    session.press("($f := function($n) { $f($n + 1) }; $f(0))\r");
    session.wait_for("\u{1b}[?2004l");
    let deadline = Instant::now() + ANSWER_MAX;
    loop {
        session.press(CTRL_C);
        if session.shows("error: stopped", Duration::from_millis(100)).is_some() {
            break;
        }
        assert!(Instant::now() < deadline, "{:?}", session.shown);
    }
    // Keys that came too late for the evaluation cancel lines that are empty.
    session.press("'still' & ' here'\r");
    session.wait_for("\"still here\"");
    session.wait_for("\u{1b}[?2004h");
    session.ask(" 'kept from history'");
    assert_eq!(session.leave().code(), Some(0));

    let history = dir.path().join("vltava/jsonata_history");
    assert_eq!(std::fs::metadata(&history).unwrap().permissions().mode() & 0o777, 0o600);
    let lines = std::fs::read_to_string(&history).unwrap();
    assert!(lines.contains("$n := {\\n'a': 41\\n}\n"), "{lines}");
    assert!(!lines.contains("kept from history"), "{lines}");

    // Without an input `eval` begins a session too; what was typed before is there.
    let mut session = Session::start(dir.path(), &["eval", "-e", "20 + 1"]);
    let answer = session.ask(&format!("{UP}{UP}"));
    assert!(answer.contains("\"still here\""), "{answer:?}");
    assert_eq!(session.leave().code(), Some(0));

    let mut session = Session::start(dir.path(), &["eval", "--no-history"]);
    session.ask("'unseen'");
    assert_eq!(session.leave().code(), Some(0));
    assert!(!std::fs::read_to_string(&history).unwrap().contains("unseen"));
}

#[test]
fn without_a_terminal_it_says_what_to_use() {
    let output = binary().args(["jsonata", "repl"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(error.contains("vltava jsonata eval"), "{error}");
}

//! Progress on standard error: one line for each step, also where standard error is a file.

use std::io::{IsTerminal, Write, stderr};
use std::time::{Duration, Instant};

/// Progress display of a program with a known number of steps.
pub struct Progress {
    total: usize,
    done: usize,
    width: usize,
    started: Instant,
    terminal: bool,
}

impl Progress {
    /// The display for steps of these names.
    pub fn new<S: AsRef<str>>(names: &[S]) -> Self {
        let width = names.iter().map(|name| name.as_ref().chars().count()).max().unwrap_or(0);
        Self {
            total: names.len(),
            done: 0,
            width,
            started: Instant::now(),
            terminal: stderr().is_terminal(),
        }
    }

    fn head(&self, name: &str) -> String {
        let digits = self.total.to_string().len();
        format!("[{:digits$}/{}] {name:<width$}", self.done + 1, self.total, width = self.width)
    }

    /// Starts a step. A terminal shows its name while it runs.
    pub fn begin(&mut self, name: &str) {
        self.started = Instant::now();
        if self.terminal {
            self.put(&format!("\r\x1b[2K{} …", self.head(name)));
        }
    }

    /// Shows progress within a step, such as an epoch; only on a terminal, where it is overwritten.
    pub fn within(&self, name: &str, text: &str) {
        if self.terminal {
            self.put(&format!("\r\x1b[2K{} … {text}", self.head(name)));
        }
    }

    /// Ends the step; returns the time that it took.
    pub fn end(&mut self, name: &str, outcome: &str) -> Duration {
        let time = self.started.elapsed();
        let start = if self.terminal { "\r\x1b[2K" } else { "" };
        self.put(&format!("{start}{} {:>8}  {outcome}\n", self.head(name), seconds(time)));
        self.done += 1;
        time
    }

    /// Prints a line outside the steps.
    pub fn note(&self, text: &str) {
        self.put(&format!("{text}\n"));
    }

    fn put(&self, text: &str) {
        // A closed standard error does not stop the program.
        let mut err = stderr().lock();
        let _ = err.write_all(text.as_bytes()).and_then(|()| err.flush());
    }
}

/// Writes a line of progress to standard error; a closed one does not stop the program.
pub fn note(text: &str) {
    let _ = writeln!(stderr().lock(), "{text}");
}

/// Writes to standard output; a closed standard output does not stop the program.
pub fn say(text: &str) {
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
}

/// A time with its unit, in milliseconds below 0.1 s.
pub fn seconds(time: Duration) -> String {
    match time.as_secs_f64() {
        s if s < 0.1 => format!("{:.1} ms", 1e3 * s),
        s => format!("{s:.2} s"),
    }
}

//! Progress on standard error: one line a step, also where standard error is a file.

use std::io::{IsTerminal, Write, stderr};
use std::time::{Duration, Instant};

/// Counts the steps of a program.
pub struct Progress {
    total: usize,
    done: usize,
    width: usize,
    started: Instant,
    terminal: bool,
}

impl Progress {
    /// For the steps of these names.
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

    /// A step begins. On a terminal its name stands there while it runs.
    pub fn begin(&mut self, name: &str) {
        self.started = Instant::now();
        if self.terminal {
            self.put(&format!("\r\x1b[2K{} …", self.head(name)));
        }
    }

    /// Something within a step, such as an epoch: only on a terminal, where it is overwritten.
    pub fn within(&self, name: &str, text: &str) {
        if self.terminal {
            self.put(&format!("\r\x1b[2K{} … {text}", self.head(name)));
        }
    }

    /// The step is done; returns how long it took.
    pub fn end(&mut self, name: &str, outcome: &str) -> Duration {
        let time = self.started.elapsed();
        let start = if self.terminal { "\r\x1b[2K" } else { "" };
        self.put(&format!("{start}{} {:>8}  {outcome}\n", self.head(name), seconds(time)));
        self.done += 1;
        time
    }

    /// A line outside the steps.
    pub fn note(&self, text: &str) {
        self.put(&format!("{text}\n"));
    }

    fn put(&self, text: &str) {
        // a closed standard error is no reason to stop
        let mut err = stderr().lock();
        let _ = err.write_all(text.as_bytes()).and_then(|()| err.flush());
    }
}

/// Says it on standard output; that nobody listens any more is no reason to stop.
pub fn say(text: &str) {
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
}

/// A time as people read it.
pub fn seconds(time: Duration) -> String {
    match time.as_secs_f64() {
        s if s < 0.1 => format!("{:.1} ms", 1e3 * s),
        s => format!("{s:.2} s"),
    }
}

//! Measurement of time and memory, and the JSON line that is printed.

use crate::case::Arguments;
use std::time::Instant;

/// A name and a number of the JSON line; a number that is not finite becomes null.
pub type Field = (&'static str, f64);

/// Seconds of each run of `f`, repeated until the time budget is used.
pub fn time(arguments: &Arguments, mut f: impl FnMut()) -> Vec<f64> {
    let (mut runs, all) = (Vec::new(), Instant::now());
    while runs.len() < arguments.max_reps {
        let start = Instant::now();
        f();
        runs.push(start.elapsed().as_secs_f64());
        if all.elapsed().as_secs_f64() > arguments.budget {
            break;
        }
    }
    runs
}

pub fn median(runs: &[f64]) -> f64 {
    let mut sorted = runs.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => f64::NAN,
        odd if odd % 2 == 1 => sorted[middle],
        _ => 0.5 * (sorted[middle - 1] + sorted[middle]),
    }
}

pub fn statistics(runs: &[f64]) -> Vec<Field> {
    let least = runs.iter().copied().fold(f64::INFINITY, f64::min);
    let most = runs.iter().copied().fold(0.0, f64::max);
    vec![("median_s", median(runs)), ("min_s", least), ("max_s", most), ("reps", runs.len() as f64)]
}

fn status(field: &str) -> f64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with(field));
    line.and_then(|line| line.split_whitespace().nth(1)?.parse::<f64>().ok())
        .map_or(f64::NAN, |kib| kib / 1024.0)
}

/// Peak resident memory above what was resident at the start (MiB); null where the system does not
/// report it.
pub struct Resident(f64);

impl Resident {
    pub fn start() -> Self {
        let _ = std::fs::write("/proc/self/clear_refs", "5");
        Self(status("VmRSS:"))
    }

    pub fn extra(&self) -> f64 {
        status("VmHWM:") - self.0
    }
}

pub fn line(arguments: &Arguments, fields: &[Field]) -> String {
    let text = |name: &str, value: &str| format!("\"{name}\":{}", serde_json::Value::from(value));
    let mut parts = vec![
        text("task", &arguments.task),
        text("peer", &arguments.peer),
        text("case", &arguments.case),
        text("dtype", arguments.dtype.name()),
        format!("\"threads\":{}", arguments.threads),
    ];
    parts.extend(
        fields
            .iter()
            .map(|(name, value)| format!("\"{name}\":{}", serde_json::Value::from(*value))),
    );
    format!("{{{}}}", parts.join(","))
}

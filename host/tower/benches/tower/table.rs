//! The table, printed as it comes about, and written in the end.

use std::time::Duration;

use serde_json::{Value, json};

/// Rows so far.
pub(crate) struct Table {
    rows: Vec<Value>,
}

/// The row that was added last.
pub(crate) struct Row<'a>(&'a mut Value);

impl Table {
    pub(crate) fn new() -> Self {
        println!("{:<72} {:>16}   beside", "what", "median");
        Self { rows: Vec::new() }
    }

    /// One figure.
    pub(crate) fn row(&mut self, what: &str, figure: f64, unit: &str) -> Row<'_> {
        self.rows.push(json!({ "what": what.trim_start(), "figure": figure, "unit": unit }));
        let digits = if figure >= 100.0 { 0 } else { 2 };
        print!("\n{what:<72} {:>16}", format!("{figure:.digits$} {unit}"));
        Row(self.rows.last_mut().unwrap())
    }

    /// The median of some, and between what they lie.
    pub(crate) fn spread(&mut self, what: &str, mut figures: Vec<f64>, unit: &str) -> Row<'_> {
        figures.sort_by(f64::total_cmp);
        let (least, most) = (figures[0], figures[figures.len() - 1]);
        let row = self.row(what, figures[figures.len() / 2], unit);
        if figures.len() == 1 {
            return row;
        }
        (row.0["min"], row.0["max"], row.0["runs"]) = (least.into(), most.into(), figures.len().into());
        let digits = if most >= 100.0 { 0 } else { 2 };
        row.note(&format!("{least:.digits$} to {most:.digits$}"))
    }

    /// Median, 99th percentile and worst of some times.
    pub(crate) fn times(&mut self, what: &str, mut times: Vec<Duration>) -> Row<'_> {
        times.sort();
        let at = |share: f64| millis(times[((times.len() - 1) as f64 * share) as usize]);
        let (p50, p99, max) = (at(0.5), at(0.99), at(1.0));
        let row = self.row(what, p50, "ms");
        (row.0["p99_ms"], row.0["max_ms"], row.0["runs"]) = (p99.into(), max.into(), times.len().into());
        row.note(&format!("p99 {p99:.2} ms, worst {max:.2} ms"))
    }

    /// Rows that another program of the same run has written.
    pub(crate) fn adopt(&mut self, file: &str) {
        let Ok(text) = std::fs::read(folder().join(file)) else { return };
        let rows: Vec<Value> = serde_json::from_slice(&text).unwrap();
        for row in rows {
            let (what, unit) = (row["what"].as_str().unwrap().to_owned(), row["unit"].as_str().unwrap().to_owned());
            self.row(&what, row["figure"].as_f64().unwrap(), &unit).0.as_object_mut().unwrap().extend(row.as_object().unwrap().clone());
        }
    }

    pub(crate) fn write_json(&self, file: &str) {
        println!();
        let machine = json!({
            "processors": std::thread::available_parallelism().map_or(0, usize::from),
            "system": std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim(),
        });
        let file = folder().join(file);
        std::fs::create_dir_all(folder()).unwrap();
        std::fs::write(&file, serde_json::to_vec_pretty(&json!({ "machine": machine, "rows": self.rows })).unwrap()).unwrap();
        println!("written to {}", file.display());
    }
}

impl Row<'_> {
    /// What the figure should come to.
    pub(crate) fn goal(self, goal: &str) -> Self {
        self.0["goal"] = goal.into();
        self.note(&format!("goal: {goal}"))
    }

    /// Something else that was seen.
    pub(crate) fn note(self, note: &str) -> Self {
        print!("   {note}");
        let _ = std::io::Write::flush(&mut std::io::stdout());
        self
    }
}

/// Where figures are written.
fn folder() -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap().join("bench")
}

pub(crate) fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// The median of some times.
pub(crate) fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

/// The time within which 99 of a hundred lie.
pub(crate) fn p99(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[((times.len() - 1) as f64 * 0.99) as usize]
}

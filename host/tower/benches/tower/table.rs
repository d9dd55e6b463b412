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
        println!("{:<58} {:>14}   beside", "what", "figure");
        Self { rows: Vec::new() }
    }

    pub(crate) fn row(&mut self, what: &str, figure: f64, unit: &str) -> Row<'_> {
        self.rows.push(json!({ "what": what, "figure": figure, "unit": unit }));
        let digits = if figure >= 100.0 { 0 } else { 2 };
        print!("\n{what:<58} {:>14}", format!("{figure:.digits$} {unit}"));
        Row(self.rows.last_mut().unwrap())
    }

    /// Median, 99th percentile and worst of some times.
    pub(crate) fn times(&mut self, what: &str, mut times: Vec<Duration>) -> Row<'_> {
        times.sort();
        let at = |share: f64| millis(times[((times.len() - 1) as f64 * share) as usize]);
        let (p50, p99, max) = (at(0.5), at(0.99), at(1.0));
        let row = self.row(what, p50, "ms");
        row.0["p99_ms"] = p99.into();
        row.0["max_ms"] = max.into();
        row.note(&format!("p99 {p99:.2} ms, worst {max:.2} ms"))
    }

    pub(crate) fn write_json(&self) {
        println!();
        let folder = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap().join("bench");
        std::fs::create_dir_all(&folder).unwrap();
        let file = folder.join("tower.json");
        std::fs::write(&file, serde_json::to_vec_pretty(&self.rows).unwrap()).unwrap();
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
        self
    }
}

pub(crate) fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

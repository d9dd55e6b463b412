//! What the terminal can show: colour, width, signs.

use std::io::IsTerminal;

use anstyle::{AnsiColor, Style};
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use crate::api::types::Status;

/// When to colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub(crate) enum ColorWhen {
    /// On a terminal, unless NO_COLOR or TERM=dumb says otherwise.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// How to draw on one of the two streams.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Term {
    /// Whether it is a terminal, so that lines can be drawn again in place.
    pub(crate) live: bool,
    /// Whether to colour.
    pub(crate) color: bool,
    /// No signs beyond ASCII.
    pub(crate) ascii: bool,
    /// Columns.
    pub(crate) width: usize,
    /// Rows.
    pub(crate) height: usize,
}

impl Term {
    /// Standard output.
    pub(crate) fn stdout(when: ColorWhen, ascii: bool) -> Self {
        Self::of(std::io::stdout().is_terminal(), when, ascii)
    }

    /// Standard error.
    pub(crate) fn stderr(when: ColorWhen, ascii: bool) -> Self {
        Self::of(std::io::stderr().is_terminal(), when, ascii)
    }

    fn of(is_terminal: bool, when: ColorWhen, ascii: bool) -> Self {
        let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let color = match when {
            ColorWhen::Always => true,
            ColorWhen::Never => false,
            ColorWhen::Auto => !set("NO_COLOR") && (set("CLICOLOR_FORCE") || is_terminal && !dumb),
        };
        let size = terminal_size::terminal_size();
        // A pipe has no edge at which to cut.
        let size = size.filter(|_| is_terminal);
        let (width, height) = size.map_or((200, 40), |(width, height)| (usize::from(width.0), usize::from(height.0)));
        Self { live: is_terminal && !dumb, color, ascii, width: width.max(40), height: height.max(10) }
    }

    /// The sign of a state.
    pub(crate) fn glyph(&self, status: Status) -> &'static str {
        match (status, self.ascii) {
            (Status::Success, false) => "✓",
            (Status::Failed, false) => "✗",
            (Status::Running, false) => "●",
            (Status::Pending, false) => "◌",
            (Status::Cancelled, false) => "⊘",
            (Status::Skipped, false) => "↷",
            (Status::Success, true) => "+",
            (Status::Failed, true) => "x",
            (Status::Running, true) => "*",
            (Status::Pending, true) => "o",
            (Status::Cancelled, true) => "/",
            (Status::Skipped, true) => "-",
        }
    }

    /// Text in the colour of a state.
    pub(crate) fn tint(&self, status: Status, text: &str) -> String {
        let color = match status {
            Status::Success => AnsiColor::Green,
            Status::Failed => AnsiColor::Red,
            Status::Running => AnsiColor::Cyan,
            Status::Pending => AnsiColor::Yellow,
            Status::Cancelled => AnsiColor::Magenta,
            Status::Skipped => AnsiColor::BrightBlack,
        };
        self.styled(color.on_default(), text)
    }

    /// Text of less weight.
    pub(crate) fn faint(&self, text: &str) -> String {
        self.styled(Style::new().dimmed(), text)
    }

    /// Text of more weight.
    pub(crate) fn bold(&self, text: &str) -> String {
        self.styled(Style::new().bold(), text)
    }

    fn styled(&self, style: Style, text: &str) -> String {
        if self.color && !text.is_empty() { format!("{style}{text}{style:#}") } else { text.to_owned() }
    }

    /// A bar of `cells` cells.
    pub(crate) fn bar(&self, percent: u8, cells: usize) -> String {
        let full = usize::from(percent.min(100)) * cells / 100;
        let (on, off) = if self.ascii { ("#", ".") } else { ("█", "░") };
        on.repeat(full) + &off.repeat(cells - full)
    }
}

/// Text from elsewhere, made fit for one line of a terminal.
pub(crate) fn one_line(text: &str) -> String {
    tower_domain::task::clean(&text.replace(['\n', '\t'], " "), 4_096)
}

/// Cells that a text takes.
pub(crate) fn width(text: &str) -> usize {
    text.width()
}

/// Cut to so many cells, with a sign where something is missing.
pub(crate) fn cut(text: &str, cells: usize, ascii: bool) -> String {
    if text.width() <= cells {
        return text.to_owned();
    }
    let (mut out, mut used) = (String::new(), 0);
    for c in text.chars() {
        let wide = c.width().unwrap_or(0);
        if used + wide >= cells {
            break;
        }
        used += wide;
        out.push(c);
    }
    out.push_str(if ascii { "~" } else { "…" });
    out
}

/// Filled with spaces to so many cells.
pub(crate) fn pad(text: &str, cells: usize) -> String {
    let missing = cells.saturating_sub(text.width());
    format!("{text}{}", " ".repeat(missing))
}

/// Seconds for people.
pub(crate) fn seconds(duration: std::time::Duration) -> String {
    let secs = duration.as_secs_f64();
    match secs {
        _ if secs < 10.0 => format!("{secs:.2}s"),
        _ if secs < 60.0 => format!("{secs:.1}s"),
        _ if secs < 3_600.0 => format!("{}m{:02}s", secs as u64 / 60, secs as u64 % 60),
        _ if secs < 86_400.0 => format!("{}h{:02}m", secs as u64 / 3_600, secs as u64 / 60 % 60),
        _ => format!("{}d{:02}h", secs as u64 / 86_400, secs as u64 / 3_600 % 24),
    }
}

/// Rows in columns that are as wide as what is in them; the last column is cut at the terminal's edge.
pub(crate) fn table(term: &Term, head: &[&str], rows: &[Vec<String>]) -> String {
    let columns = head.len();
    let mut widths: Vec<usize> = head.iter().map(|title| width(title)).collect();
    for row in rows {
        for (index, cell) in row.iter().enumerate().take(columns) {
            widths[index] = widths[index].max(width(cell)).min(64);
        }
    }
    let line = |cells: &[String]| {
        let mut text = String::new();
        for (index, cell) in cells.iter().enumerate().take(columns) {
            if index + 1 == columns {
                let room = if term.live { term.width.saturating_sub(width(&text)).max(10) } else { usize::MAX };
                text.push_str(&cut(cell, room, term.ascii));
            } else {
                text.push_str(&pad(&cut(cell, 64, term.ascii), widths[index] + 2));
            }
        }
        text.trim_end().to_owned()
    };
    let titles: Vec<String> = head.iter().map(|title| (*title).to_owned()).collect();
    let mut out = term.faint(&line(&titles)) + "\n";
    for row in rows {
        out.push_str(&line(row));
        out.push('\n');
    }
    out
}

#[cfg(test)]
pub(crate) const PLAIN: Term = Term { live: false, color: false, ascii: false, width: 100, height: 40 };

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wide_characters_count_as_two_cells() {
        assert_eq!(pad("中文", 6), "中文  ");
        assert_eq!(cut("中文字符", 5, false), "中文…");
        assert_eq!(cut("中文", 4, false), "中文");
        assert_eq!(table(&PLAIN, &["NAME", "N"], &[vec!["财务".into(), "1".into()], vec!["a".into(), "22".into()]]), "NAME  N\n财务  1\na     22\n");
    }

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        assert!(!one_line("a\u{1b}[31mred\nb").contains(['\u{1b}', '\n']));
    }

    #[test]
    fn durations_are_short() {
        let text = |ms| seconds(std::time::Duration::from_millis(ms));
        assert_eq!([text(12), text(12_340), text(75_000), text(7_260_000), text(90_000_000)], ["0.01s", "12.3s", "1m15s", "2h01m", "1d01h"]);
    }
}

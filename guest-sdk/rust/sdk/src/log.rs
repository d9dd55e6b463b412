//! Lines for the task's log, with optional fields that machines can read.
//!
//! ```
//! use command_tower::log;
//!
//! let rows = 12;
//! log::info!("read {rows} rows");
//! log::warn!("slow source, {} ms", 250; source = "quotes", rows = rows);
//! ```
//!
//! The text is as for `format!`; after a semicolon come fields, `name = value`, each value a `serde::Serialize`. A line is
//! cut at 64 KiB.

use serde_json::Value;

use crate::error::bounded;
use crate::host;

/// How much a line matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// For whoever looks for a fault.
    Debug,
    /// What happened.
    Info,
    /// Something that should be looked at some time.
    Warn,
    /// Something that went wrong.
    Error,
}

/// Writes a line at `level`; `fields` is a JSON object, or none.
pub fn write(level: Level, message: impl Into<String>, fields: Option<&Value>) {
    let fields = fields.map(Value::to_string);
    host::log(level, &bounded(message.into()), fields.as_deref());
}

#[doc(hidden)]
#[macro_export]
macro_rules! __log {
    ($level:ident, $format:literal $(, $argument:expr)* $(,)?) => {
        $crate::__private::write($crate::log::Level::$level, ::std::format!($format $(, $argument)*), ::core::option::Option::None)
    };
    ($level:ident, $format:literal $(, $argument:expr)* ; $($name:ident = $value:expr),+ $(,)?) => {
        $crate::__private::write(
            $crate::log::Level::$level,
            ::std::format!($format $(, $argument)*),
            ::core::option::Option::Some(&$crate::__private::serde_json::json!({ $(::core::stringify!($name): $value),+ })),
        )
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __log_debug { ($($line:tt)*) => { $crate::__log!(Debug, $($line)*) }; }
#[doc(hidden)]
#[macro_export]
macro_rules! __log_info { ($($line:tt)*) => { $crate::__log!(Info, $($line)*) }; }
#[doc(hidden)]
#[macro_export]
macro_rules! __log_warn { ($($line:tt)*) => { $crate::__log!(Warn, $($line)*) }; }
#[doc(hidden)]
#[macro_export]
macro_rules! __log_error { ($($line:tt)*) => { $crate::__log!(Error, $($line)*) }; }

/// A line for whoever looks for a fault.
#[doc(inline)]
pub use __log_debug as debug;
/// A line about something that went wrong.
#[doc(inline)]
pub use __log_error as error;
/// A line about what happened.
#[doc(inline)]
pub use __log_info as info;
/// A line about something that should be looked at some time.
#[doc(inline)]
pub use __log_warn as warn;

#[cfg(test)]
mod tests {
    use crate::log::{self, Level};
    use crate::testing::Tower;

    #[test]
    fn fields_follow_a_semicolon() {
        let tower = Tower::new();
        log::info!("plain");
        log::error!("{} of {}", 1, 2; source = "quotes", parts = [1, 2]);
        let lines = tower.log();
        assert_eq!((lines[0].level, lines[0].message.as_str(), &lines[0].fields), (Level::Info, "plain", &None));
        assert_eq!((lines[1].level, lines[1].message.as_str()), (Level::Error, "1 of 2"));
        assert_eq!(lines[1].fields, Some(serde_json::json!({ "source": "quotes", "parts": [1, 2] })));
    }
}

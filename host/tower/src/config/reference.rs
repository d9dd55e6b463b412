//! docs/config.md, from the flags themselves.

use clap::{Arg, Parser};

use super::layers::{Settings, arguments, key, sections};

/// The page.
fn markdown() -> String {
    let mut text = String::from(
        "# Settings\n\n<!-- Made from the code: UPDATE_DOCS=1 cargo test -p command-tower --lib docs -->\n\n\
         A setting is a flag of `tower serve`, an environment variable, or a key of a file; the first of these that has it counts:\n\n\
         1. the flag\n2. the environment variable\n3. `tower.toml` in the folder that the command runs in, beside modules and definitions\n\
         4. `$XDG_CONFIG_HOME/tower/config.toml` (`~/.config` where that is not set)\n5. `/etc/tower/config.toml`\n6. the default\n\n\
         `--config FILE`, or `TOWER_CONFIG`, reads that file instead of the three. `tower config show --origin` says what holds and where it comes\n\
         from. A key that there is not, or a value that is wrong, keeps the server from starting, and is named with its file; so does a\n\
         section that there is not, but for `tower.toml`, which has others. Durations are a\n\
         number and `ms`, `s`, `m`, `h` or `d`; a bare number is seconds. Paths count from the folder that the command runs in.\n\n\
         ```toml\n[server]\nlisten = \"127.0.0.1:8001\"\n\n[host]\nslots = 64\ncancel_grace = \"10s\"\nmount = [\"source=/srv/source\"]\n```\n",
    );
    let arguments = arguments();
    for section in sections() {
        text.push_str(&format!("\n## [{section}]\n\n| key | flag | environment | default | |\n|---|---|---|---|---|\n"));
        for arg in arguments.iter().filter(|arg| key(arg).0 == section) {
            let default = arg.get_default_values().iter().map(|value| value.to_string_lossy()).collect::<Vec<_>>().join(", ");
            let default = if default.is_empty() { "none".to_owned() } else { format!("`{default}`") };
            let environment = arg.get_env().map(|name| format!("`{}`", name.to_string_lossy())).unwrap_or_default();
            let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
            let bounds = bounds(arg).map(|bounds| format!("; {bounds}")).unwrap_or_default();
            let long = arg.get_long().unwrap_or_default();
            text.push_str(&format!("| `{}` | `--{long}` | {environment} | {default} | {help}{bounds} |\n", key(arg).1));
        }
    }
    text
}

/// A number's bounds, as its reader says them when it is given one that is too large for any.
fn bounds(arg: &Arg) -> Option<String> {
    let refused = Settings::try_parse_from(["tower".to_owned(), format!("--{}={}", arg.get_long()?, u32::MAX)]).err()?.to_string();
    let range = refused.split_once("is not in ")?.1.lines().next()?;
    let (least, most) = range.split_once("..=")?;
    Some(format!("{least} to {most}"))
}

#[test]
fn docs_have_every_setting_as_the_code_says_it() {
    let text = markdown();
    assert!(text.contains("| `slots` | `--slots` | `TOWER_SLOTS` | `256` |") && text.contains("1 to 8000"), "{text}");
    crate::docs_are_up_to_date("config.md", &text);
}

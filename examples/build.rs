//! Builds the guests to components, all in one nested cargo, and writes the table that `src/lib.rs` embeds.

use std::env;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio, exit};

#[path = "misbehaving/written.rs"]
mod written;

const TARGET: &str = "wasm32-wasip2";

struct Example {
    name: &'static str,
    guests: &'static [Guest],
    /// Modules that no compiler makes.
    written: Option<Written>,
}

/// Makes modules, by name, from the folder of the contract.
type Written = fn(&Path) -> Vec<(&'static str, Vec<u8>)>;

/// A guest's package is called what its module is called.
struct Guest {
    package: &'static str,
    /// Beneath the example's folder.
    folder: &'static str,
}

const EXAMPLES: &[Example] = &[
    Example { name: "code-survey", guests: &[Guest { package: "survey", folder: "survey" }], written: None },
    Example { name: "daily-report", guests: &[Guest { package: "report", folder: "report" }], written: None },
    Example {
        name: "financial-analysis",
        guests: &[
            Guest { package: "router", folder: "router" },
            Guest { package: "strategy", folder: "strategy" },
            Guest { package: "summary", folder: "summary" },
        ],
        written: None,
    },
    Example { name: "misbehaving", guests: &[Guest { package: "misbehaving", folder: "." }], written: Some(written::modules) },
    Example { name: "monitor", guests: &[Guest { package: "monitor", folder: "." }], written: None },
    Example { name: "notebook", guests: &[Guest { package: "notebook", folder: "." }], written: None },
    Example { name: "probe", guests: &[Guest { package: "probe", folder: "." }], written: None },
];

/// Settings of the outer cargo that the inner one needs as well: where it keeps things, how it reaches the registry, and the
/// job server. Everything else called `CARGO_…` is about the outer build (target, profile, flags, wrappers) and would
/// break or needlessly change the inner one.
const CARGO_SETTINGS_KEPT: &[&str] =
    &["CARGO_HOME", "CARGO_MAKEFLAGS", "CARGO_NET_", "CARGO_HTTP_", "CARGO_REGISTRIES_", "CARGO_REGISTRY_", "CARGO_SOURCE_", "CARGO_TERM_"];

/// Other settings that are about the outer build: clippy's wrapper would check the guests instead of building them.
const OUTER_SETTINGS: &[&str] = &["RUSTFLAGS", "RUSTDOCFLAGS", "RUSTC_WRAPPER", "RUSTC_WORKSPACE_WRAPPER", "RUSTC_LINKER", "CLIPPY_ARGS"];

fn main() {
    let here = PathBuf::from(required("CARGO_MANIFEST_DIR"));
    let root = here.parent().unwrap_or_else(|| fail("the examples have no folder above them")).to_owned();
    let out = PathBuf::from(required("OUT_DIR"));

    watch(&root);
    ensure_target();
    let artifacts = build_guests(&root, &out);
    write_table(&here, &out, &artifacts);
}

/// Everything that a guest is made of. A folder stands for all that is in it.
fn watch(root: &Path) {
    for path in ["wit", "guest-sdk/rust/sdk", "guest-sdk/rust/macros", "Cargo.toml", "Cargo.lock", "rust-toolchain.toml", "examples/build.rs"] {
        println!("cargo::rerun-if-changed={}", root.join(path).display());
    }
    for example in EXAMPLES {
        println!("cargo::rerun-if-changed={}", root.join("examples").join(example.name).display());
    }
    println!("cargo::rerun-if-env-changed=RUSTUP_TOOLCHAIN");
}

/// Asks rustup for the target if it is not there.
fn ensure_target() {
    if target_is_installed() {
        return;
    }
    println!("cargo::warning=installing the Rust target {TARGET}");
    // Its chatter would be taken for instructions to cargo.
    let added = Command::new("rustup").args(["target", "add", TARGET]).stdout(Stdio::null()).status();
    if !added.is_ok_and(|status| status.success()) || !target_is_installed() {
        fail(&format!("the example components need the Rust target {TARGET}, which could not be installed. Run: rustup target add {TARGET}"));
    }
}

fn target_is_installed() -> bool {
    let rustc = required("RUSTC");
    let printed = Command::new(rustc).args(["--print", "target-libdir", "--target", TARGET]).output();
    let Ok(printed) = printed else { return false };
    let folder = PathBuf::from(String::from_utf8_lossy(&printed.stdout).trim());
    let mut files = fs::read_dir(folder).into_iter().flatten().flatten();
    files.any(|file| file.file_name().to_string_lossy().starts_with("libstd-"))
}

/// The folder with the components.
fn build_guests(root: &Path, out: &Path) -> PathBuf {
    let target_dir = out.join("guests");
    let mut cargo = Command::new(required("CARGO"));
    cargo.current_dir(root);
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        let kept = CARGO_SETTINGS_KEPT.iter().any(|kept| text.starts_with(kept));
        if OUTER_SETTINGS.contains(&&*text) || text.starts_with("CARGO") && !kept {
            cargo.env_remove(&name);
        }
    }
    // Also overrides flags from configuration files, so that everyone's components are the same, digest included; paths of this
    // machine do not belong into them either.
    cargo.env("CARGO_ENCODED_RUSTFLAGS", path_flags(root).join("\u{1f}"));
    cargo.args(["build", "--locked", "--profile", "guest", "--target", TARGET, "--target-dir"]).arg(&target_dir);
    for guest in EXAMPLES.iter().flat_map(|example| example.guests) {
        cargo.args(["--package", guest.package]);
    }
    let built = cargo.stdout(Stdio::null()).status();
    match built {
        Ok(status) if status.success() => target_dir.join(TARGET).join("guest"),
        Ok(status) => fail(&format!("the example components do not build ({status}): see above")),
        Err(error) => fail(&format!("cargo could not be started to build the example components: {error}")),
    }
}

fn path_flags(root: &Path) -> Vec<String> {
    let cargo_home = env::var_os("CARGO_HOME").map(PathBuf::from).or_else(|| Some(env::home_dir()?.join(".cargo")));
    let mut flags = vec![format!("--remap-path-prefix={}=command-tower", root.display())];
    // The registry's folder carries a hash of its address, the same for everyone.
    flags.extend(cargo_home.map(|home| format!("--remap-path-prefix={}=cargo", home.display())));
    flags
}

/// Copies the components beside the table that names them, so that a table never speaks of what a later build replaced.
fn write_table(here: &Path, out: &Path, artifacts: &Path) {
    let mut table = String::from("static EXAMPLES: &[Example] = &[\n");
    for Example { name, guests, written } in EXAMPLES {
        let folder = here.join(name);
        let toml = folder.join("tower.toml");
        let readme = folder.join("README.md");
        let _ = writeln!(table, "    Example {{ name: {name:?}, tower_toml: include_str!({toml:?}), readme: include_str!({readme:?}), modules: &[");
        for Guest { package, folder: beneath } in *guests {
            let manifest = folder.join(beneath).join("Cargo.toml");
            if !manifest.is_file() {
                fail(&format!("there is no guest at {}", manifest.display()));
            }
            let built = artifacts.join(package.replace('-', "_")).with_extension("wasm");
            let kept = out.join(package).with_extension("wasm");
            if let Err(error) = fs::copy(&built, &kept) {
                fail(&format!("the component {} cannot be copied: {error}", built.display()));
            }
            let _ = writeln!(table, "        ExampleModule {{ name: {package:?}, wasm: include_bytes!({kept:?}) }},");
        }
        for (module, wasm) in written.map(|make| make(&here.join("../wit"))).unwrap_or_default() {
            let kept = out.join(module).with_extension("wasm");
            if let Err(error) = fs::write(&kept, wasm) {
                fail(&format!("the component {} cannot be written: {error}", kept.display()));
            }
            let _ = writeln!(table, "        ExampleModule {{ name: {module:?}, wasm: include_bytes!({kept:?}) }},");
        }
        table.push_str("    ] },\n");
    }
    table.push_str("];\n");
    if let Err(error) = fs::write(out.join("examples.rs"), table) {
        fail(&format!("the table of examples cannot be written: {error}"));
    }
}

/// What cargo always sets for a build script.
fn required(name: &str) -> String {
    env::var(name).unwrap_or_else(|_| fail(&format!("cargo did not set {name}")))
}

fn fail(message: &str) -> ! {
    println!("cargo::error={message}");
    exit(1)
}

//! `sqlx::migrate!` reads the folder while it expands, and cargo does not know of it.

fn main() {
    println!("cargo:rerun-if-changed=../../migrations");
}

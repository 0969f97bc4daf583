//! The page is embedded: a new one makes a new binary.

fn main() {
    println!("cargo::rerun-if-changed=src/console/web/dist");
    println!("cargo::rerun-if-changed=build.rs");
}

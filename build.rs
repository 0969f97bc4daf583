//! The page is embedded: a new one makes a new binary. The time of the build is the least that a clock may say when
//! signatures are checked.

#[expect(clippy::disallowed_methods, reason = "a build script has no jiff")]
fn main() {
    println!("cargo::rerun-if-changed=src/console/web/dist");
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=Cargo.lock");
    println!("cargo::rerun-if-env-changed=SOURCE_DATE_EPOCH");
    let given = std::env::var("SOURCE_DATE_EPOCH").ok().filter(|text| text.parse::<i64>().is_ok());
    let built = given.unwrap_or_else(|| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        now.map_or(0, |d| d.as_secs()).to_string()
    });
    println!("cargo::rustc-env=AERIE_BUILT_AT={built}");
}

//! Refuses to build a release that is not static: a RUSTFLAGS variable replaces the flags of .cargo/config.toml without a word.
fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let features = std::env::var("CARGO_CFG_TARGET_FEATURE").unwrap_or_default();
    let is_static = features.split(',').any(|feature| feature == "crt-static");
    if !is_static && std::env::var("PROFILE").as_deref() == Ok("release") {
        panic!("release builds must be static: does RUSTFLAGS replace .cargo/config.toml? add -C target-feature=+crt-static");
    }
}

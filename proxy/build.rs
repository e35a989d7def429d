//! Has the linker pack relative relocations (a twentieth of the program) where the C library that is linked in
//! unpacks them at its start: glibc 2.36 or newer. With an older one such a program crashes at once.

use std::env;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let of_target = |name: &str| env::var(format!("CARGO_CFG_TARGET_{name}")).unwrap_or_default();
    let is_static = of_target("FEATURE")
        .split(',')
        .any(|feature| feature == "crt-static");
    if is_static
        && of_target("ENV") == "gnu"
        && env::var("HOST") == env::var("TARGET")
        && glibc().is_some_and(|version| version >= (2, 36))
    {
        println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
}

/// The version of this machine's, by getconf(1): `glibc 2.36`.
fn glibc() -> Option<(u32, u32)> {
    let said = Command::new("getconf")
        .arg("GNU_LIBC_VERSION")
        .output()
        .ok()?;
    let said = String::from_utf8(said.stdout).ok()?;
    let (major, minor) = said.strip_prefix("glibc ")?.trim_end().split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

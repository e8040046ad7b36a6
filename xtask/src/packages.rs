//! Packages of other languages, for baselines and clients: exact versions, installed once into the
//! cache beside the engines. A copy that was cut off never gets its final name.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::engine::{cache, report};

/// A folder whose `node_modules` has these packages (`name@version`), by npm.
pub(crate) fn npm(name: &str, packages: &[&str]) -> Result<PathBuf> {
    install(name, packages, "node_modules", |part| {
        fs::write(part.join("package.json"), "{\"private\": true}\n")?;
        let mut npm = Command::new("npm");
        npm.args(["install", "--no-audit", "--no-fund", "--no-save", "--silent"])
            .args(packages)
            .current_dir(part);
        run(npm, "npm (Node.js) is needed; on Debian: apt-get install npm")
    })
}

/// A folder for `PYTHONPATH` that has these packages (`name==version`), by pip.
pub(crate) fn python(name: &str, packages: &[&str]) -> Result<PathBuf> {
    let home = install(name, packages, "site", |part| {
        let mut pip = Command::new("python3");
        pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--target"])
            .arg(part.join("site"))
            .args(packages);
        run(pip, "python3 with pip is needed; on Debian: apt-get install python3-pip")
    })?;
    Ok(home.join("site"))
}

/// Fills `cache/NAME` once for this very list of packages.
fn install(
    name: &str,
    packages: &[&str],
    content: &str,
    fill: impl Fn(&Path) -> Result<()>,
) -> Result<PathBuf> {
    let home = cache()?.join(name);
    let wanted = packages.join("\n");
    if home.join(content).is_dir() && fs::read_to_string(home.join("packages")).is_ok_and(|had| had == wanted)
    {
        return Ok(home);
    }
    report(&format!("getting {} ...", packages.join(", ")));
    let part = home.with_extension(format!("part.{}", std::process::id()));
    fs::create_dir_all(&part)?;
    fill(&part)?;
    fs::write(part.join("packages"), &wanted)?;
    if home.exists() {
        fs::remove_dir_all(&home)?;
    }
    fs::rename(&part, &home)?;
    Ok(home)
}

fn run(mut command: Command, hint: &'static str) -> Result<()> {
    let status = command.stdin(Stdio::null()).status().context(hint)?;
    ensure!(status.success(), "{command:?} failed: {status}");
    Ok(())
}

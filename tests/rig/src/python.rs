//! Python with one package from PyPI.

use std::path::PathBuf;
use std::process::Command;

use crate::install::{STATE, lock, need};
use crate::process::run;

/// Returns a Python that has this version of a package, in a place of its own that is made once. `module` is a part of
/// the package that can be imported when it is whole.
#[must_use]
pub fn python_with(package: &str, version: &str, module: &str) -> PathBuf {
    need(&[("python3", "python3")]);
    let place = PathBuf::from(format!("{STATE}/{package}-{version}"));
    let _one_at_a_time = lock(&format!("{package}.lock"));
    let python = place.join("bin/python3");
    let works = || {
        let imported = Command::new(&python).args(["-c", &format!("import {module}")]).output();
        imported.is_ok_and(|output| output.status.success())
    };
    if !works() {
        run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&place));
        run(Command::new(place.join("bin/pip")).args([
            "--quiet",
            "install",
            &format!("{package}=={version}"),
        ]));
    }
    python
}

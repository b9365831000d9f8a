//! The configurations in `examples/` are valid unchanged, with the environment that they name.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;

/// The names of the environment variables that a configuration refers to.
fn variables(text: &str) -> BTreeSet<String> {
    let names = text.split("${").skip(1).filter_map(|rest| rest.split('}').next());
    names.filter(|name| !name.contains(':')).map(str::to_owned).collect()
}

/// A value that is valid wherever a variable of this name is used, and of no other variable.
fn value_of(variable: &str) -> String {
    match variable {
        name if name.contains("POSTGRES") => {
            "postgresql://tagway:secret-word@db.example:5432/tagway".to_owned()
        }
        name if name.ends_with("_URL") => "https://service.example".to_owned(),
        name => format!("0123456789abcdef0123456789abcdef{}", name.to_lowercase()),
    }
}

#[test]
fn example_configurations_pass_the_check_without_warnings() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("examples");
    let entries = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
    let files: Vec<PathBuf> =
        entries.filter(|path| path.extension().is_some_and(|it| it == "toml")).collect();
    assert!(files.len() >= 5, "{files:?}");
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        let names = variables(&text);
        let output = Command::new(env!("CARGO_BIN_EXE_tagway"))
            .args(["check", "--config", file.to_str().unwrap()])
            .envs(names.iter().map(|name| (name, value_of(name))))
            .output()
            .unwrap();
        let printed = String::from_utf8_lossy(&output.stdout);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}: {errors}", file.display());
        assert!(!printed.contains("warning"), "{}: {printed}", file.display());
    }
}

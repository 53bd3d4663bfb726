//! The evaluation kit: its data, and its scripts, which run in a Python of their own.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::cli::EvaluateArgs;
use crate::usage::wrong;

/// Glue that runs beside the kit's scripts.
const JUDGE: &str = include_str!("judge.py");
/// Packages of the kit's scripts, by the names that they are imported by and installed by.
const PACKAGES: [(&str, &str); 4] =
    [("numpy", "numpy"), ("pandas", "pandas"), ("scipy", "scipy"), ("sklearn", "scikit-learn")];

/// A kit that is there, with a Python that can run it.
#[derive(Debug)]
pub(crate) struct Kit {
    dir: PathBuf,
    python: PathBuf,
}

impl Kit {
    pub(crate) fn open(args: &EvaluateArgs) -> Result<Kit> {
        let Some(dir) = &args.kit else {
            wrong!(
                "--kit is missing: the directory of the evaluation kit (referee.py, anchors.py, power.py, nab_score.py and data/), which is no \
                 part of this repository; give it by --kit DIR or `make evaluate KIT=DIR`"
            )
        };
        for part in ["referee.py", "anchors.py", "power.py", "nab_score.py", "data"] {
            if !dir.join(part).exists() {
                wrong!(
                    "--kit is {}, in which there is no {part}; an evaluation kit holds referee.py, anchors.py, power.py, nab_score.py and data/",
                    dir.display()
                )
            }
        }
        let dir = dir.canonicalize().with_context(|| dir.display().to_string())?;
        let kit = Kit { dir, python: args.python.clone() };
        kit.check_python()?;
        Ok(kit)
    }

    fn check_python(&self) -> Result<()> {
        let python = self.python.display();
        let modules: Vec<String> =
            PACKAGES.iter().map(|(module, _)| format!("'{module}'")).collect();
        let script = format!(
            "import importlib.util as u; print(*[m for m in ({}) if u.find_spec(m) is None])",
            modules.join(", ")
        );
        let output = match Command::new(&self.python).args(["-c", &script]).output() {
            Ok(output) => output,
            Err(error) => {
                wrong!(
                    "--python is {python}, which cannot be run ({error}); the kit needs Python 3.11 or later"
                )
            }
        };
        if !output.status.success() {
            wrong!(
                "--python is {python}, which fails: {}",
                last_line(&output.stderr).unwrap_or_default()
            )
        }
        let missing = String::from_utf8_lossy(&output.stdout).into_owned();
        let packages: Vec<&str> = PACKAGES
            .iter()
            .filter(|(module, _)| missing.split_whitespace().any(|name| name == *module))
            .map(|(_, package)| *package)
            .collect();
        if !packages.is_empty() {
            wrong!(
                "--python is {python}, which lacks {}; `python3 -m venv venv && venv/bin/pip install -r {}` makes one that does not: \
                 --python venv/bin/python",
                packages.join(", "),
                self.dir.join("requirements.txt").display()
            )
        }
        Ok(())
    }

    /// A file of a set, `events` or `outcomes`: of its development part, where it has parts.
    pub(crate) fn data(&self, set: &str, what: &str) -> PathBuf {
        let of = |part: &str| self.dir.join(format!("data/{set}{part}_{what}.csv.gz"));
        Some(of("_dev")).filter(|path| path.exists()).unwrap_or_else(|| of(""))
    }

    /// The events of a set.
    pub(crate) fn events(&self, set: &str) -> PathBuf {
        self.data(set, "events")
    }

    /// The outcomes of a set.
    pub(crate) fn outcomes(&self, set: &str) -> PathBuf {
        self.data(set, "outcomes")
    }

    /// The series of NAB, as `folder/name.csv`, sorted.
    pub(crate) fn nab_series(&self) -> Result<Vec<String>> {
        let root = self.dir.join("data/nab/data");
        let mut names = Vec::new();
        for folder in entries(&root)? {
            for file in entries(&root.join(&folder))? {
                let name = file.strip_suffix(".gz").unwrap_or(&file);
                if name.ends_with(".csv") {
                    names.push(format!("{folder}/{name}"));
                }
            }
        }
        names.sort();
        Ok(names)
    }

    /// A series of NAB, gzipped.
    pub(crate) fn nab_file(&self, name: &str) -> PathBuf {
        self.dir.join(format!("data/nab/data/{name}.gz"))
    }

    /// SHA-256 of files of the kit, by their names in it.
    pub(crate) fn hashes(&self, names: &[&str]) -> Result<serde_json::Map<String, Value>> {
        let files: Vec<String> =
            names.iter().map(|name| self.dir.join(name).display().to_string()).collect();
        let found = self.judge(&serde_json::json!({"do": "hashes", "files": files}))?;
        let named = names.iter().zip(&files);
        Ok(named.map(|(name, file)| ((*name).to_owned(), found[file].clone())).collect())
    }

    /// One SHA-256 over the bytes of files of the kit, one after the other, under a name for all of them.
    pub(crate) fn combined_hash(&self, name: &str, files: &[String]) -> Result<Value> {
        let files: Vec<String> = files.iter().map(|name| text(&self.dir.join(name))).collect();
        let found = self.judge(&serde_json::json!({"do": "hashes", "files": files, "as": name}))?;
        Ok(serde_json::json!({name: found[name]}))
    }

    /// Asks the glue.
    pub(crate) fn judge(&self, request: &Value) -> Result<Value> {
        let mut request = request.clone();
        request["kit"] = self.dir.display().to_string().into();
        let mut child = Command::new(&self.python)
            .args(["-c", JUDGE])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| self.python.display().to_string())?;
        if let Some(mut input) = child.stdin.take() {
            // A script that ends early says why on standard error.
            drop(input.write_all(request.to_string().as_bytes()));
        }
        let output = child.wait_with_output()?;
        if !output.status.success() {
            let what = &request["name"].as_str().or(request["do"].as_str()).unwrap_or_default();
            bail!(
                "the kit could not judge {what}: {}",
                last_line(&output.stderr).unwrap_or_default()
            );
        }
        serde_json::from_slice(&output.stdout).context("the kit's answer is no JSON")
    }

    /// Runs power.py.
    pub(crate) fn power(&self, arguments: &[&str]) -> Result<()> {
        let output = Command::new(&self.python)
            .args(["-B".as_ref(), self.dir.join("power.py").as_os_str()])
            .args(arguments)
            .output()
            .with_context(|| self.python.display().to_string())?;
        if !output.status.success() {
            bail!(
                "power.py {}: {}",
                arguments.join(" "),
                last_line(&output.stderr).unwrap_or_default()
            );
        }
        Ok(())
    }

    /// Versions of Python and its packages.
    pub(crate) fn versions(&self) -> Result<String> {
        let script = "import sys, importlib.metadata as m; \
                      print(f'Python {sys.version.split()[0]}, numpy {m.version(\"numpy\")}, pandas {m.version(\"pandas\")}')";
        let output = Command::new(&self.python).args(["-c", script]).output()?;
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }
}

/// Names in a directory.
fn entries(dir: &Path) -> Result<Vec<String>> {
    let listed = std::fs::read_dir(dir).with_context(|| dir.display().to_string())?;
    let names = listed.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
    names.collect()
}

fn last_line(text: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(text);
    text.lines().rfind(|line| !line.trim().is_empty()).map(crate::show::plain)
}

/// A path as Python takes it.
pub(crate) fn text(path: &Path) -> String {
    path.display().to_string()
}

//! The Helm chart, rendered by Helm itself.
//!
//! There is no cluster in CI: what Kubernetes would do with a pod (its files, its environment) is done here, and the binary is run with
//! it.

mod objects;
mod pods;
mod values;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use bellwether_tests::bellwether;
use serde_json::Value;

use crate::{array, assert_success, object, root, run, text};

const CHART: &str = "deploy/helm/bellwether";
/// The name of the release, and so of its objects.
const RELEASE: &str = "prod-bellwether";
/// Values that the tests render.
const ALL: [&str; 2] = ["minimal", "full"];

/// Runs Helm, as the harness has it.
fn helm<'a>(arguments: impl IntoIterator<Item = &'a str>) -> Output {
    let harness = root().join("tests/harness/helm-local.sh");
    run(Command::new(harness).arg("run").args(arguments).current_dir(root()))
}

fn fixture(values: &str) -> String {
    format!("tests/fixtures/helm/{values}.yaml")
}

/// `helm template` with values of the tests and further arguments.
fn template(release: &str, chart: &str, values: &str, more: &[&str]) -> Output {
    let file = fixture(values);
    let fixed = ["template", release, chart, "--namespace", "health", "--values", &file];
    helm(fixed.into_iter().chain(more.iter().copied()))
}

/// The objects that a release is made of, hooks included.
struct Release(Vec<Value>);

impl Release {
    fn of(values: &str) -> Release {
        Release::with(values, &[])
    }

    fn with(values: &str, more: &[&str]) -> Release {
        Release::parse(&template(RELEASE, CHART, values, more))
    }

    fn parse(output: &Output) -> Release {
        assert_success(output);
        // What is a line of dashes inside of a document is indented.
        let objects: Vec<Value> = String::from_utf8_lossy(&output.stdout)
            .split("\n---\n")
            .map(|document| serde_yaml_ng::from_str(document).expect("Helm writes YAML"))
            .filter(|object: &Value| !object.is_null())
            .collect();
        assert!(!objects.is_empty(), "nothing was rendered");
        Release(objects)
    }

    fn find(&self, kind: &str, name: &str) -> &Value {
        let mut found = self
            .0
            .iter()
            .filter(|object| object["kind"] == kind && object["metadata"]["name"] == name);
        let object = found.next().unwrap_or_else(|| panic!("no {kind} {name}"));
        assert!(found.next().is_none(), "{kind} {name} is there twice");
        object
    }

    fn of_kind<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Value> {
        self.0.iter().filter(move |object| object["kind"] == kind)
    }

    /// All pods, by their component.
    fn pods(&self) -> BTreeMap<String, Pod<'_>> {
        let templates = self.0.iter().filter(|object| object["spec"]["template"].is_object());
        templates
            .map(|owner| {
                let pod = Pod { release: self, owner, template: &owner["spec"]["template"] };
                (text(&pod.labels()["app.kubernetes.io/component"]).to_owned(), pod)
            })
            .collect()
    }
}

/// A pod of a release, with its one container.
struct Pod<'r> {
    release: &'r Release,
    /// The StatefulSet, Deployment or Job.
    owner: &'r Value,
    template: &'r Value,
}

impl<'r> Pod<'r> {
    fn labels(&self) -> &'r Value {
        &self.template["metadata"]["labels"]
    }

    fn spec(&self) -> &'r Value {
        &self.template["spec"]
    }

    fn container(&self) -> &'r Value {
        let [container] = array(&self.spec()["containers"]) else { panic!("one container a pod") };
        container
    }

    /// The name of the first pod: that of its owner and a number (or, for other owners than a StatefulSet, something random).
    fn name(&self) -> String {
        format!("{}-0", text(&self.owner["metadata"]["name"]))
    }

    fn arguments(&self) -> Vec<&'r str> {
        array(&self.container()["args"]).iter().map(text).collect()
    }

    fn grace_seconds(&self) -> u64 {
        self.spec()["terminationGracePeriodSeconds"].as_u64().expect("a time in seconds")
    }

    /// A volume, or the claim of one.
    fn volume(&self, name: &str) -> &'r Value {
        let claims = self.owner["spec"].get("volumeClaimTemplates").map(array).unwrap_or_default();
        let claim = claims.iter().find(|claim| claim["metadata"]["name"] == name);
        let volumes = array(&self.spec()["volumes"]);
        let volume = volumes.iter().find(|volume| volume["name"] == name);
        assert!(claim.is_none() || volume.is_none(), "volume {name} is there twice");
        claim.or(volume).unwrap_or_else(|| panic!("no volume {name}"))
    }

    /// The environment that Kubernetes makes of it, given what is in Secrets (`name/key`).
    fn environment(&self, secrets: &BTreeMap<&str, &str>) -> BTreeMap<String, String> {
        let mut environment = BTreeMap::new();
        for variable in array(&self.container()["env"]) {
            let source = &variable["valueFrom"];
            let value = if let Some(value) = variable.get("value") {
                expand(text(value), &environment)
            } else if source["fieldRef"]["fieldPath"] == "metadata.name" {
                self.name()
            } else {
                let key = &source["secretKeyRef"];
                let key = format!("{}/{}", text(&key["name"]), text(&key["key"]));
                let value = secrets.get(key.as_str());
                (*value.unwrap_or_else(|| panic!("there is no Secret with {key}"))).to_owned()
            };
            let twice = environment.insert(text(&variable["name"]).to_owned(), value);
            assert!(twice.is_none(), "{variable} is set twice");
        }
        environment
    }

    /// A directory that stands for the root of its file system, with the files of its ConfigMaps. Paths in them lead there, too.
    fn files(&self) -> tempfile::TempDir {
        let root = tempfile::tempdir().expect("a temporary directory");
        for mount in array(&self.container()["volumeMounts"]) {
            let volume = self.volume(text(&mount["name"]));
            let Some(name) = volume["configMap"]["name"].as_str() else { continue };
            // One of the tests' values is not of this release.
            if name == "scorecard" {
                continue;
            }
            let directory = within(&root, text(&mount["mountPath"]));
            fs::create_dir_all(&directory).expect("a temporary directory can be written to");
            for (file, content) in object(&self.release.find("ConfigMap", name)["data"]) {
                let content =
                    text(content).replace("/etc/bellwether/", &within(&root, "/etc/bellwether/"));
                fs::write(Path::new(&directory).join(file), content).expect("a new file");
            }
        }
        root
    }

    /// The binary with arguments in place of the container's, as it would run in it.
    fn command(
        &self,
        arguments: &[&str],
        secrets: &BTreeMap<&str, &str>,
        files: &tempfile::TempDir,
    ) -> Command {
        let placed =
            |value: &str| value.replace("/etc/bellwether/", &within(files, "/etc/bellwether/"));
        let mut command = bellwether(arguments.iter().map(|argument| placed(argument)));
        command.current_dir(files.path()).env_clear();
        for (name, value) in self.environment(secrets) {
            command.env(name, placed(&value));
        }
        command
    }
}

fn within(root: &tempfile::TempDir, path: &str) -> String {
    format!("{}{path}", root.path().display())
}

/// `$(NAME)` of what was defined before, as Kubernetes replaces it.
fn expand(value: &str, environment: &BTreeMap<String, String>) -> String {
    let mut expanded = String::new();
    let mut rest = value;
    while let Some((before, after)) = rest.split_once("$(") {
        let (name, after) = after.split_once(')').expect("a reference ends");
        let value =
            environment.get(name).unwrap_or_else(|| panic!("{name} is not set before it is used"));
        expanded.extend([before, value]);
        rest = after;
    }
    expanded + rest
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

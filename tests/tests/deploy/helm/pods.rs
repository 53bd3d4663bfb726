//! Pods: what the binary makes of their configuration, and what Kubernetes may do to them.

use std::collections::BTreeMap;
use std::process::{Command, Output};

use bellwether_tests::bellwether;
use serde_json::{Value, json};

use super::{ALL, CHART, Pod, Release, stderr, template};
use crate::prometheus::Worker;
use crate::{array, assert_success, object, read, run, text};

/// What the Secrets hold that full.yaml names: one value looks like a number, one like anything but text.
fn secrets() -> BTreeMap<&'static str, &'static str> {
    BTreeMap::from([
        ("kafka-user/username", "bellwether"),
        ("kafka-user/password", "{p,a}=[s]$(s)'# "),
        ("registry-user/username", "20261130"),
        ("registry-user/password", "true"),
    ])
}

/// What a process says, which has to succeed.
fn json_of(mut command: Command) -> Value {
    let output = run(&mut command);
    assert_success(&output);
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// The configuration that the process of a pod would have.
fn configuration(pod: &Pod<'_>) -> Value {
    let files = pod.files();
    let config = json_of(pod.command(&["config", "--json"], &secrets(), &files));
    let root = files.path().display().to_string();
    serde_json::from_str(&config.to_string().replace(&root, "")).expect("JSON")
}

#[test]
fn the_binary_takes_the_configuration_of_every_pod() {
    for values in ALL {
        let release = Release::of(values);
        for (component, pod) in release.pods() {
            let config = configuration(&pod);
            let full = values == "full";
            assert_eq!(config["application_id"], if full { "health" } else { "bellwether" });
            assert_eq!(config["engine"]["memory_mib"], if full { 4096 } else { 1024 });
            assert_eq!(config["log"]["format"], "json");
            assert_eq!(config["data_dir"], "/var/lib/bellwether", "{component}");
            if component != "topics" {
                assert_eq!(config["kafka"]["instance_id"], pod.name(), "{component}");
                assert_eq!(config["kafka"]["static_membership"], component == "worker");
            }
            if !full {
                let servers = "broker-1.example:9092,broker-2.example:9092";
                assert_eq!(config["kafka"]["bootstrap_servers"], servers);
                continue;
            }
            assert_eq!(config["kafka"]["standby"], "all");
            assert_eq!(config["topics"]["events"], json!(["usage.events.v1", "support.events.v1"]));
            // Settings of the file and from Secrets, together; secrets masked.
            let properties = json!({
                "security.protocol": "SASL_SSL",
                "sasl.mechanism": "SCRAM-SHA-512",
                "ssl.ca.location": "/etc/bellwether/tls/kafka-ca/ca.crt",
                "sasl.username": "bellwether",
                "sasl.password": "********",
            });
            assert_eq!(config["kafka"]["properties"], properties, "{component}");
            assert_eq!(config["registry"]["username"], "20261130", "it is text");
            assert_eq!(config["registry"]["password"], "********");
        }
    }
}

/// `config` masks secrets, so this asks for a property that is not.
#[test]
fn what_a_secret_holds_arrives_as_it_is() {
    let name = r#"secrets.kafkaProperties={"client.id":{"secret":"kafka-user","key":"password"}}"#;
    let release = Release::with("minimal", &["--set-json", name]);
    let pods = release.pods();
    let config = configuration(&pods["worker"]);
    assert_eq!(config["kafka"]["properties"]["client.id"], secrets()["kafka-user/password"]);
}

#[test]
fn a_service_link_would_be_taken_for_a_setting_so_there_are_none() {
    let release = Release::of("full");
    for (component, pod) in release.pods() {
        assert_eq!(pod.spec()["enableServiceLinks"], false, "{component}");
        let files = pod.files();
        let mut command = pod.command(&["config"], &secrets(), &files);
        // What Kubernetes sets in every pod beside a Service called bellwether.
        let output = run(command.env("BELLWETHER_SERVICE_HOST", "10.0.0.1"));
        assert_eq!(output.status.code(), Some(2));
        assert!(stderr(&output).contains("service_host"), "{}", stderr(&output));
    }
}

#[test]
fn the_commands_are_ones_that_there_are() {
    let release = Release::of("full");
    let pods = release.pods();
    assert_eq!(pods.keys().map(String::as_str).collect::<Vec<_>>(), ["notify", "topics", "worker"]);
    for (component, pod) in pods {
        let arguments = pod.arguments();
        let help = |arguments: Vec<&str>| run(&mut bellwether(arguments));
        assert_success(&help([arguments.as_slice(), &["--help"]].concat()));
        let unknown = help([arguments.as_slice(), &["--nope", "--help"]].concat());
        assert_eq!(unknown.status.code(), Some(2), "{component}: --help lets anything pass");
    }
}

#[test]
fn policies_arrive_in_the_pods_as_they_are() {
    let of_file = |arguments: &[&str]| -> Output { run(&mut bellwether(arguments)) };
    let file = "crates/bellwether/policies/eval/oulad.toml";
    let release = Release::with("full", &["--set-file", &format!("policy={file}")]);
    let pods = release.pods();
    for (component, pod) in &pods {
        let files = pod.files();
        let shown = json_of(pod.command(&["version", "--json"], &secrets(), &files));
        let path = crate::root().join(file).display().to_string();
        let own = of_file(&["version", "--json", "--policy", &path]);
        assert_success(&own);
        let own: Value = serde_json::from_slice(&own.stdout).expect("JSON");
        assert_eq!(shown["policy_version"], own["policy_version"], "{component}");
    }
    let notify = &pods["notify"];
    let files = notify.files();
    let check = ["notify", "check", "--delivery", notify.arguments()[2], "--json"];
    let shown = json_of(notify.command(&check, &secrets(), &files));
    assert_eq!(shown["sinks"], json!(["cs-slack"]));
    // Where the sink looks for its secret there are the files of the Secrets that the values name.
    let mounts = array(&notify.container()["volumeMounts"]);
    let mount = mounts.iter().find(|mount| mount["mountPath"] == "/run/secrets");
    let volume = notify.volume(text(&mount.expect("a directory of secrets")["name"]));
    let named: Vec<&Value> =
        array(&volume["projected"]["sources"]).iter().map(|of| &of["secret"]["name"]).collect();
    assert_eq!(named, ["slack", "mail"]);
}

#[test]
fn probes_ask_for_what_a_process_answers() {
    let mut worker = Worker::start();
    let release = Release::of("full");
    let mut asked = 0;
    for (component, pod) in release.pods() {
        let container = pod.container();
        for probe in ["startupProbe", "livenessProbe", "readinessProbe"] {
            let Some(probe) = container.get(probe) else {
                assert_eq!(component, "topics", "{probe} is missing");
                continue;
            };
            let path = text(&probe["httpGet"]["path"]);
            ureq::get(worker.url(path)).call().unwrap_or_else(|error| panic!("{path}: {error}"));
            let port = container["ports"][0]["containerPort"].as_u64().expect("a port");
            assert_eq!(container["ports"][0]["name"], probe["httpGet"]["port"]);
            let listens = pod.arguments().contains(&format!("0.0.0.0:{port}").as_str());
            assert!(listens, "{component} does not listen on {port}");
            asked += 1;
        }
    }
    assert_eq!(asked, 6);
    assert!(ureq::get(worker.url("/livez")).call().is_err(), "any path would do");
    worker.stop();
}

/// How long a start waits for a schema registry before it serves (`REGISTRY_PATIENCE`).
const REGISTRY_PATIENCE_SECONDS: u64 = 120;

#[test]
fn no_probe_ends_a_worker_that_waits_or_restores() {
    for values in ALL {
        let release = Release::of(values);
        for (component, pod) in release.pods() {
            if component == "topics" {
                continue;
            }
            let container = pod.container();
            // Both are answered while partitions are restored; that is told by /readyz, which ends nobody.
            assert_eq!(container["startupProbe"]["httpGet"]["path"], "/healthz");
            assert_eq!(container["livenessProbe"]["httpGet"]["path"], "/healthz");
            assert_eq!(container["readinessProbe"]["httpGet"]["path"], "/readyz");
            let number = |name: &str| container["startupProbe"][name].as_u64().expect("a number");
            let patience = number("periodSeconds") * number("failureThreshold");
            assert!(patience > REGISTRY_PATIENCE_SECONDS, "{component}: {patience} s");
        }
    }
}

/// How long requests may take at the end (`DRAIN_TIMEOUT`).
const DRAIN_SECONDS: u64 = 10;

#[test]
fn a_pod_has_time_for_a_commit_that_is_not_answered() {
    for (values, expected) in [("minimal", 90), ("full", 120)] {
        let release = Release::of(values);
        for (component, pod) in release.pods() {
            if component == "topics" {
                continue;
            }
            let config = configuration(&pod);
            let transaction = config["kafka"]["transaction_timeout_seconds"].as_u64();
            // For its records, and for its end.
            let stop = 2 * transaction.expect("a number") + DRAIN_SECONDS;
            assert!(pod.grace_seconds() > stop, "{values}, {component}: {stop} s");
            assert_eq!(pod.grace_seconds(), expected);
        }
    }
    let own = Release::with("minimal", &["--set", "workers.terminationGracePeriodSeconds=45"]);
    assert_eq!(own.pods()["worker"].grace_seconds(), 45);
}

#[test]
fn a_container_has_the_memory_of_its_budget_and_what_lies_beyond() {
    for (values, memory) in [("minimal", "1536Mi"), ("full", "4608Mi")] {
        let release = Release::of(values);
        let resources = release.pods()["worker"].container()["resources"].clone();
        for kind in ["requests", "limits"] {
            assert_eq!(resources[kind]["memory"], memory, "{values}: {kind}");
        }
    }
    let full = Release::of("full");
    let resources = &full.pods()["worker"].container()["resources"];
    assert_eq!(resources["requests"]["cpu"], "2");
    assert_eq!(resources["limits"]["ephemeral-storage"], "1Gi");
}

#[test]
fn no_pod_is_root_or_may_become_it_or_writes_to_its_image() {
    let dockerfile = read("deploy/Dockerfile");
    let user = dockerfile.lines().filter_map(|line| line.strip_prefix("USER ")).next_back();
    let (uid, gid) = user.and_then(|user| user.split_once(':')).expect("user and group");
    let (uid, gid): (u64, u64) = (uid.parse().expect("a number"), gid.parse().expect("a number"));
    for values in ALL {
        let release = Release::of(values);
        for (component, pod) in release.pods() {
            let of_pod = &pod.spec()["securityContext"];
            assert_eq!(of_pod["runAsNonRoot"], true, "{component}");
            assert_eq!(of_pod["runAsUser"], uid, "{component}");
            assert_eq!(of_pod["runAsGroup"], gid, "{component}");
            assert_eq!(of_pod["fsGroup"], gid, "{component}: volumes could not be written to");
            assert_eq!(of_pod["seccompProfile"]["type"], "RuntimeDefault", "{component}");
            let of_container = json!({
                "allowPrivilegeEscalation": false,
                "readOnlyRootFilesystem": true,
                "capabilities": { "drop": ["ALL"] },
            });
            assert_eq!(pod.container()["securityContext"], of_container, "{component}");
            assert_eq!(pod.spec()["automountServiceAccountToken"], false, "{component}");
            for mount in array(&pod.container()["volumeMounts"]) {
                let volume = pod.volume(text(&mount["name"]));
                let writable =
                    volume.get("emptyDir").is_some() || volume["kind"] == "PersistentVolumeClaim";
                assert_eq!(mount.get("readOnly").is_none(), writable, "{component}: {mount}");
            }
        }
    }
}

#[test]
fn state_lies_on_a_claim_of_each_worker_where_the_image_lets_it_write() {
    let dockerfile = read("deploy/Dockerfile");
    let full = Release::of("full");
    let worker = &full.pods()["worker"];
    let data_dir = configuration(worker)["data_dir"].clone();
    assert!(dockerfile.contains(&format!("BELLWETHER_DATA_DIR={}", text(&data_dir))));
    let mounts = array(&worker.container()["volumeMounts"]);
    let mount =
        mounts.iter().find(|mount| mount["mountPath"] == data_dir).expect("a volume for it");
    let claim = worker.volume(text(&mount["name"]));
    assert_eq!(claim["kind"], "PersistentVolumeClaim");
    assert_eq!(claim["spec"]["storageClassName"], "fast");
    assert_eq!(claim["spec"]["resources"]["requests"]["storage"], "100Gi");
    let retention = json!({ "whenDeleted": "Delete", "whenScaled": "Delete" });
    assert_eq!(worker.owner["spec"]["persistentVolumeClaimRetentionPolicy"], retention);

    let without = Release::with("minimal", &["--set", "workers.persistence.enabled=false"]);
    let worker = &without.pods()["worker"];
    assert!(worker.owner["spec"].get("volumeClaimTemplates").is_none());
    assert_eq!(worker.volume("state")["emptyDir"], json!({}));
}

#[test]
fn what_a_pod_reads_restarts_it_when_it_changes_and_nothing_else_does() {
    let checksums = |more: &[&str]| -> BTreeMap<String, Value> {
        let release = Release::with("full", more);
        let pods = release.pods();
        pods.into_iter().map(|(name, pod)| (name, pod.template["metadata"].clone())).collect()
    };
    let before = checksums(&[]);
    assert_eq!(checksums(&["--set", "service.port=81"]), before);
    let setting = checksums(&["--set", "config.log.filter=warn"]);
    let policy = checksums(&["--set-file", "policy=crates/bellwether-core/policies/default.toml"]);
    for changed in [&setting, &policy] {
        assert_ne!(changed["worker"], before["worker"]);
        assert_ne!(changed["notify"], before["notify"]);
    }
    let delivery = checksums(&[
        "--set-file",
        "notify.delivery=crates/bellwether-notify/policies/examples.toml",
    ]);
    assert_ne!(delivery["notify"], before["notify"]);
    assert_eq!(delivery["worker"], before["worker"]);
}

#[test]
fn pods_run_the_image_that_was_named() {
    let image = |values, more: &[&str]| {
        let release = Release::with(values, more);
        let pods = release.pods();
        let images: Vec<Value> =
            pods.values().map(|pod| pod.container()["image"].clone()).collect();
        let [first, others @ ..] = images.as_slice() else { panic!("no pods") };
        assert!(others.iter().all(|other| other == first), "{images:?}");
        text(first).to_owned()
    };
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(image("minimal", &[]), format!("images.example/bellwether:{version}"));
    assert_eq!(image("minimal", &["--set", "image.tag=rc"]), "images.example/bellwether:rc");
    assert!(image("full", &[]).starts_with("images.example/bellwether@sha256:0123"));
}

#[test]
fn a_template_of_another_name_renders_as_well() {
    for release in ["bellwether", "a-very-long-name-of-a-release-of-some-team"] {
        let output = template(release, CHART, "full", &[]);
        let release = Release::parse(&output);
        for object in &release.0 {
            let name = text(&object["metadata"]["name"]);
            // With the hash that Kubernetes adds, it is a label: of 63 characters at most.
            assert!(name.len() <= 52, "{name}");
        }
        for (_, value) in object(release.pods()["worker"].labels()) {
            assert!(text(value).len() <= 63, "{value}");
        }
    }
}

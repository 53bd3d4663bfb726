//! How the objects hang together: selectors, ports, references, rules.

use std::collections::BTreeSet;
use std::process::Command;

use bellwether_tests::bellwether;
use serde_json::{Value, json};

use super::{ALL, CHART, RELEASE, Release, fixture, helm, template};
use crate::prometheus::Worker;
use crate::{array, assert_success, object, run, text, yaml};

/// Components whose pods a selector chooses.
fn chosen<'r>(release: &'r Release, selector: &Value) -> BTreeSet<&'r str> {
    let labels = selector.get("matchLabels").unwrap_or(selector);
    assert!(object(labels).count() > 0, "an empty selector takes everything");
    let pods = release.0.iter().map(|owner| &owner["spec"]["template"]["metadata"]["labels"]);
    pods.filter(|of| of.is_object())
        .filter(|of| object(labels).all(|(key, value)| of.get(key) == Some(value)))
        .map(|of| text(&of["app.kubernetes.io/component"]))
        .collect()
}

/// Every selector of a release, by kind and name.
fn selectors(release: &Release) -> Vec<(String, Value)> {
    let mut found = Vec::new();
    for object in &release.0 {
        let name = format!("{} {}", text(&object["kind"]), text(&object["metadata"]["name"]));
        let spec = &object["spec"];
        for key in ["selector", "podSelector"] {
            if spec[key].is_object() && object["kind"] != "ServiceMonitor" {
                found.push((name.clone(), spec[key].clone()));
            }
        }
        let spread = &spec["template"]["spec"]["topologySpreadConstraints"];
        for constraint in spread.as_array().into_iter().flatten() {
            found.push((format!("{name}: spread"), constraint["labelSelector"].clone()));
        }
    }
    found
}

#[test]
fn selectors_choose_the_pods_of_their_release_that_they_are_for() {
    let release = Release::of("full");
    let other = Release::parse(&template("other-bellwether", CHART, "full", &[]));
    let selectors = selectors(&release);
    assert_eq!(selectors.len(), 9, "{selectors:#?}");
    for (name, selector) in &selectors {
        let expected = match name.as_str() {
            "Deployment prod-bellwether-notify" | "Service prod-bellwether-notify" => {
                BTreeSet::from(["notify"])
            }
            "NetworkPolicy prod-bellwether" => BTreeSet::from(["notify", "topics", "worker"]),
            _ => BTreeSet::from(["worker"]),
        };
        assert_eq!(chosen(&release, selector), expected, "{name}");
        assert!(chosen(&other, selector).is_empty(), "{name} chooses pods of another release");
    }
    // What they are spread by are the workers, one by one.
    let spread = &release.pods()["worker"].spec()["topologySpreadConstraints"];
    let keys: Vec<&Value> = array(spread).iter().map(|of| &of["topologyKey"]).collect();
    assert_eq!(keys, ["kubernetes.io/hostname", "topology.kubernetes.io/zone"]);
}

#[test]
fn services_lead_to_ports_that_are_listened_on() {
    let release = Release::of("full");
    let pods = release.pods();
    for service in release.of_kind("Service") {
        let component = chosen(&release, &service["spec"]["selector"]).pop_first().expect("pods");
        let ports = array(&pods[component].container()["ports"]);
        for port in array(&service["spec"]["ports"]) {
            let target = ports.iter().find(|of| of["name"] == port["targetPort"]);
            let target = target.unwrap_or_else(|| panic!("{service}: nothing listens"));
            // Without an address of its own a Service cannot translate ports.
            if service["spec"]["clusterIP"] == "None" {
                assert_eq!(port["port"], target["containerPort"], "{service}");
            }
        }
    }
    assert_eq!(release.find("Service", RELEASE)["spec"]["ports"][0]["port"], 80);
    let headless = text(&pods["worker"].owner["spec"]["serviceName"]);
    let headless = release.find("Service", headless);
    assert_eq!(headless["spec"]["clusterIP"], "None");
    assert_eq!(headless["spec"]["publishNotReadyAddresses"], true, "who restores is scraped, too");
    assert_eq!(chosen(&release, &headless["spec"]["selector"]), BTreeSet::from(["worker"]));
}

#[test]
fn all_that_pods_refer_to_is_there_and_secrets_are_only_those_of_the_values() {
    for values in ALL {
        let release = Release::of(values);
        assert_eq!(release.of_kind("Secret").count(), 0, "the chart makes no Secret");
        let mut secrets = BTreeSet::new();
        for (component, pod) in release.pods() {
            for mount in array(&pod.container()["volumeMounts"]) {
                let volume = pod.volume(text(&mount["name"]));
                if let Some(name) = volume["configMap"]["name"].as_str() {
                    assert!(name == "scorecard" || release.find("ConfigMap", name).is_object());
                }
                secrets.extend(volume["secret"]["secretName"].as_str().map(str::to_owned));
                let sources = volume["projected"]["sources"].as_array().into_iter().flatten();
                secrets.extend(sources.map(|of| text(&of["secret"]["name"]).to_owned()));
            }
            for variable in array(&pod.container()["env"]) {
                let secret = &variable["valueFrom"]["secretKeyRef"]["name"];
                secrets.extend(secret.as_str().map(str::to_owned));
            }
            if let Some(account) = pod.spec()["serviceAccountName"].as_str() {
                let account = release.find("ServiceAccount", account);
                assert_eq!(account["automountServiceAccountToken"], false);
            } else {
                // What comes before everything else has no account of the release.
                assert_eq!(component, "topics");
            }
        }
        let expected: &[&str] = match values {
            "full" => &["kafka-ca", "kafka-user", "mail", "registry-user", "slack"],
            _ => &[],
        };
        assert!(secrets.iter().eq(expected), "{values}: {secrets:?}");
    }
}

#[test]
fn topics_are_made_before_workers_need_them() {
    let release = Release::of("full");
    let job = release.find("Job", "prod-bellwether-topics");
    let weight = |object: &Value| {
        let annotations = &object["metadata"]["annotations"];
        assert_eq!(annotations["helm.sh/hook"], "pre-install,pre-upgrade");
        text(&annotations["helm.sh/hook-weight"]).parse::<i32>().expect("a number")
    };
    // Nothing of the release is there at that time but what comes as a hook, too, and before it.
    let pods = release.pods();
    let name = text(&pods["topics"].volume("config")["configMap"]["name"]);
    let copy = release.find("ConfigMap", name);
    assert!(weight(copy) < weight(job));
    assert_eq!(copy["data"], release.find("ConfigMap", RELEASE)["data"]);
    let arguments = pods["topics"].arguments();
    assert_eq!(arguments, ["topics", "apply", "--partitions", "24", "--replication", "3"]);
    assert_eq!(Release::of("minimal").of_kind("Job").count(), 0);
}

/// The committed rules, which the chart has by a link, also where it was packed.
#[test]
fn the_rules_are_those_of_deploy_prometheus_in_a_package_too() {
    let rules = yaml("deploy/prometheus/rules.yml");
    let directory = tempfile::tempdir().expect("a temporary directory");
    let to = directory.path().display().to_string();
    assert_success(&helm(["package", CHART, "--destination", &to]));
    let package = format!("{to}/bellwether-{}.tgz", env!("CARGO_PKG_VERSION"));
    for chart in [CHART, &package] {
        let release = Release::parse(&template(RELEASE, chart, "full", &[]));
        let object = release.find("PrometheusRule", RELEASE);
        assert_eq!(object["spec"], rules, "{chart}");
        assert_eq!(object["metadata"]["labels"]["prometheus"], "main");
    }
    let minimal = Release::of("minimal");
    assert_eq!(minimal.of_kind("PrometheusRule").count(), 0, "not every cluster has the operator");
    assert_eq!(minimal.of_kind("ServiceMonitor").count(), 0);
}

#[test]
fn scraped_series_have_the_jobs_that_the_rules_ask_for() {
    let mut worker = Worker::start();
    let release = Release::of("full");
    let mut jobs = BTreeSet::new();
    for monitor in release.of_kind("ServiceMonitor") {
        let selector = &monitor["spec"]["selector"]["matchLabels"];
        let services: Vec<&Value> = release
            .of_kind("Service")
            .filter(|service| {
                let labels = &service["metadata"]["labels"];
                object(selector).all(|(key, value)| labels.get(key) == Some(value))
            })
            .collect();
        let [service] = services.as_slice() else { panic!("pods would be scraped twice, or not") };
        let [endpoint] = array(&monitor["spec"]["endpoints"]) else { panic!("one endpoint") };
        let ports = array(&service["spec"]["ports"]);
        assert!(ports.iter().any(|port| port["name"] == endpoint["port"]));
        let path = text(&endpoint["path"]);
        ureq::get(worker.url(path)).call().unwrap_or_else(|error| panic!("{path}: {error}"));
        let relabelings = array(&endpoint["relabelings"]);
        let job = relabelings.iter().find(|of| of["targetLabel"] == "job").expect("a job");
        jobs.insert(text(&job["replacement"]).to_owned());
    }
    worker.stop();
    let prometheus = yaml("deploy/prometheus/prometheus.yml");
    let known = array(&prometheus["scrape_configs"]).iter().map(|job| text(&job["job_name"]));
    let known: BTreeSet<String> =
        known.filter(|job| *job != "prometheus").map(str::to_owned).collect();
    assert_eq!(jobs, known);
}

#[test]
fn promtool_accepts_the_rules_of_the_rendered_object() {
    let release = Release::of("full");
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("rules.json");
    let spec = &release.find("PrometheusRule", RELEASE)["spec"];
    std::fs::write(&file, spec.to_string()).expect("a new file");
    assert_success(&run(Command::new("promtool").args(["check", "rules"]).arg(&file)));
}

#[test]
fn a_network_policy_without_peers_lets_nobody_in() {
    let policy = |release: &Release| release.find("NetworkPolicy", RELEASE)["spec"].clone();
    let closed = policy(&Release::with("minimal", &["--set", "networkPolicy.enabled=true"]));
    assert_eq!(closed["ingress"], json!([]));
    assert_eq!(closed["policyTypes"], json!(["Ingress"]));

    let open = policy(&Release::of("full"));
    let from = &open["ingress"][0]["from"][0]["namespaceSelector"]["matchLabels"];
    assert_eq!(from["kubernetes.io/metadata.name"], "monitoring");
    assert_eq!(open["ingress"][0]["ports"], json!([{ "port": "http", "protocol": "TCP" }]));
    assert_eq!(open["policyTypes"], json!(["Ingress", "Egress"]));
    assert_eq!(open["egress"][0]["ports"][1]["port"], 9093);
}

#[test]
fn one_worker_is_evicted_at_a_time_and_restores_wait_for_nobody() {
    for values in ALL {
        let release = Release::of(values);
        let budget = release.find("PodDisruptionBudget", RELEASE);
        assert_eq!(budget["spec"]["maxUnavailable"], 1);
        let workers = &release.find("StatefulSet", RELEASE)["spec"];
        assert_eq!(workers["podManagementPolicy"], "Parallel");
        assert_eq!(workers["updateStrategy"]["type"], "RollingUpdate");
    }
}

#[test]
fn the_notes_name_what_there_is() {
    let file = fixture("minimal");
    let install = ["install", RELEASE, CHART, "--dry-run=client", "--namespace", "health"];
    let output = helm(install.into_iter().chain(["--values", &file]));
    assert_success(&output);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let (_, notes) = said.split_once("NOTES:").expect("notes");
    let commands = |program: &str| -> Vec<Vec<&str>> {
        let lines = notes.lines().filter(|line| line.starts_with(&format!("  {program} ")));
        lines.map(|line| line.split_whitespace().skip(1).collect()).collect()
    };
    let [topics] = commands("bellwether").try_into().expect("one command of ours");
    assert_success(&run(&mut bellwether([topics.as_slice(), &["--help"]].concat())));
    let release = Release::of("minimal");
    for command in commands("kubectl") {
        assert_eq!(command.get(..2), Some(["-n", "health"].as_slice()), "{command:?}");
        let target = command.iter().find_map(|word| word.split_once('/')).expect("an object");
        match target {
            ("pod", name) => assert_eq!(name, release.pods()["worker"].name()),
            (kind, name) => {
                assert_eq!(kind, "statefulset");
                assert!(release.find("StatefulSet", name).is_object());
            }
        }
    }
}

//! The compose file and the image.

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::Command;
use std::thread;

use serde_json::{Value, json};

use crate::{array, object, read, root, run, text, yaml};

pub(crate) fn compose() -> Value {
    yaml("docker-compose.yml")
}

#[test]
fn the_compose_file_is_valid_by_the_published_schema() {
    let schema: Value = serde_json::from_str(&read("tests/fixtures/compose-spec.json"))
        .expect("the vendored schema is JSON");
    let schema = jsonschema::validator_for(&schema).expect("the vendored schema is a schema");
    let errors: Vec<String> = schema
        .iter_errors(&compose())
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect();
    assert!(errors.is_empty(), "{errors:#?}");

    let mut misspelt = compose();
    misspelt["services"]["worker"]["heathcheck"] = json!({});
    assert!(!schema.is_valid(&misspelt), "the schema lets a misspelt key pass");
}

#[test]
fn every_service_is_pinned_confined_and_reachable_from_this_machine_only() {
    let compose = compose();
    for (name, service) in object(&compose["services"]) {
        let image = text(&service["image"]);
        let (_, tag) = image.rsplit_once(':').unwrap_or_else(|| panic!("{name}: {image}: no tag"));
        assert!(!["latest", "main", "edge"].contains(&tag), "{name}: {image} moves");
        assert_eq!(service["cap_drop"], json!(["ALL"]), "{name}");
        assert_eq!(service["security_opt"], json!(["no-new-privileges:true"]), "{name}");
        assert_eq!(service.get("privileged"), None, "{name}");
        if name != "kafka" {
            assert_eq!(service["read_only"], json!(true), "{name}");
        }
        for port in service.get("ports").map(array).unwrap_or_default() {
            assert!(text(port).starts_with("127.0.0.1:"), "{name}: {port} is open to the network");
        }
        for volume in service.get("volumes").map(array).unwrap_or_default() {
            let (source, _) = text(volume).split_once(':').expect("a volume has a target");
            let exists = match source.strip_prefix("./") {
                Some(path) => root().join(path).exists(),
                None => compose["volumes"].get(source).is_some(),
            };
            assert!(exists, "{name}: {source} does not exist");
        }
    }
}

#[test]
fn the_services_name_each_others_addresses_right() {
    let compose = compose();
    let services = &compose["services"];
    let worker = &services["worker"]["environment"];
    assert_eq!(services["topics"]["environment"], *worker, "one configuration for both");

    let bootstrap = text(&worker["BELLWETHER_KAFKA__BOOTSTRAP_SERVERS"]);
    let advertised = text(&services["kafka"]["environment"]["KAFKA_ADVERTISED_LISTENERS"]);
    assert!(
        advertised.split(',').any(|listener| listener == format!("INTERNAL://{bootstrap}")),
        "{bootstrap} is not where Kafka says it is: {advertised}"
    );
    assert_eq!(services["registry"]["environment"]["KAFKA_BOOTSTRAP_SERVERS"], bootstrap);
    for listener in advertised.split(',').filter(|listener| listener.starts_with("HOST://")) {
        let port = listener.rsplit_once(':').expect("a listener has a port").1;
        let published = format!("127.0.0.1:{port}:{port}");
        assert_eq!(services["kafka"]["ports"], json!([published]), "{listener}");
    }

    let registry_port = text(&services["registry"]["environment"]["QUARKUS_HTTP_PORT"]);
    assert_eq!(
        worker["BELLWETHER_REGISTRY__URL"],
        format!("http://registry:{registry_port}/apis/ccompat/v7")
    );

    let listen = text(&worker["BELLWETHER_HTTP__LISTEN"]);
    let (_, port) = listen.rsplit_once(':').expect("a listener has a port");
    let prometheus = yaml("deploy/prometheus/prometheus.yml");
    let job = array(&prometheus["scrape_configs"])
        .iter()
        .find(|job| job["job_name"] == "bellwether")
        .expect("Prometheus has a job for the workers");
    assert_eq!(job["static_configs"][0]["targets"], json!([format!("worker:{port}")]));
    assert_eq!(services["worker"]["ports"], json!([format!("127.0.0.1:{port}:{port}")]));

    let datasources = yaml("deploy/grafana/provisioning/datasources/prometheus.yml");
    assert_eq!(datasources["datasources"][0]["url"], "http://prometheus:9090");
    assert_eq!(
        datasources["datasources"][0]["jsonData"]["timeInterval"],
        prometheus["global"]["scrape_interval"],
        "Grafana computes its rates from the scrape interval"
    );
    let provider = yaml("deploy/grafana/provisioning/dashboards/bellwether.yml");
    let path = text(&provider["providers"][0]["options"]["path"]);
    let mount = format!("./deploy/grafana/dashboards:{path}:ro");
    assert!(array(&services["grafana"]["volumes"]).contains(&json!(mount)), "{mount}");
}

#[test]
fn the_worker_keeps_its_state_where_the_image_lets_it_write() {
    let dockerfile = read("deploy/Dockerfile");
    let data_dir = compose()["services"]["worker"]["environment"]["BELLWETHER_DATA_DIR"].clone();
    let data_dir = text(&data_dir);
    assert_eq!(
        compose()["services"]["worker"]["volumes"],
        json!([format!("worker-state:{data_dir}")])
    );
    let (_, runtime) = dockerfile.rsplit_once("\nFROM ").expect("the build has several stages");
    let user = runtime
        .lines()
        .filter_map(|line| line.strip_prefix("USER "))
        .next_back()
        .expect("the image names its user");
    let (uid, _) = user.split_once(':').expect("user and group");
    assert!(uid.parse::<u32>().expect("a number, so that it can be checked") > 0, "runs as root");
    assert!(runtime.contains(&format!("--uid {uid} ")), "USER {user} does not exist");
    assert!(
        runtime.contains(&format!("install -d -o bellwether -g bellwether -m 0750 {data_dir}\n")),
        "{data_dir} does not belong to the user"
    );
    for image in dockerfile.lines().filter_map(|line| line.strip_prefix("FROM ")) {
        assert!(image.contains(':') && !image.contains(":latest"), "{image} is not pinned");
    }
}

/// Answers one request with this status line and gives back the request line.
fn answer_once(listener: TcpListener, status: &'static str) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a client connects");
        let request = request_line(&stream);
        write!(stream, "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
            .expect("the client reads");
        request
    })
}

/// The request line of an HTTP request, once its headers are read too.
fn request_line(stream: &TcpStream) -> String {
    let mut lines = BufReader::new(stream).lines();
    let first = lines.next().expect("a request").expect("readable");
    while lines.next().is_some_and(|line| line.is_ok_and(|line| !line.is_empty())) {}
    first
}

#[test]
fn the_health_check_of_the_worker_tells_ready_from_not_ready() {
    let compose = compose();
    let test = array(&compose["services"]["worker"]["healthcheck"]["test"]);
    let [cmd, bash, flag, script, _port, path] = test else {
        panic!("not the expected command: {test:?}");
    };
    assert_eq!([text(cmd), text(bash), text(flag)], ["CMD", "bash", "-c"]);
    // Compose halves a doubled dollar sign; bash is to see one.
    let script = text(script).replace("$$", "$");
    let check = |port: u16| {
        run(Command::new("bash").args(["-c", &script, &port.to_string(), text(path)]))
            .status
            .success()
    };
    for (status, healthy) in [("200 OK", true), ("503 Service Unavailable", false)] {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        let server = answer_once(listener, status);
        assert_eq!(check(port), healthy, "{status}");
        let request = server.join().expect("the server answered");
        assert!(request.starts_with("GET /readyz HTTP/1"), "{request}");
        assert!(!check(port), "nothing listens any more");
    }
}

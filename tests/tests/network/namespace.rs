//! A network namespace with one link to this machine, which can be taken down.

use std::process::{Command, Output};

/// Gone with the test.
pub(crate) struct Namespace {
    name: String,
    /// The end of the link on this machine.
    outer: String,
    outside: String,
}

impl Namespace {
    /// # Panics
    /// If there can be none here.
    pub(crate) fn new() -> Namespace {
        let id = std::process::id();
        // 198.18.0.0/15 is set aside for tests of networks (RFC 2544); one small net per process.
        let (third, fourth) = (id / 64 % 256, id % 64 * 4);
        let net = format!("198.18.{third}");
        let (outside, inside) = (format!("{net}.{}", fourth + 1), format!("{net}.{}", fourth + 2));
        let name = format!("bellwether-{id}");
        let (outer, inner) = (format!("bwo{id}"), format!("bwi{id}"));
        must(&["netns", "add", &name]);
        let namespace = Namespace { name: name.clone(), outer: outer.clone(), outside };
        must(&["link", "add", &outer, "type", "veth", "peer", "name", &inner, "netns", &name]);
        must(&["addr", "add", &format!("{}/30", namespace.outside), "dev", &outer]);
        must(&["link", "set", &outer, "up"]);
        let within = |arguments: &[&str]| must(&[&["-n", name.as_str()], arguments].concat());
        within(&["addr", "add", &format!("{inside}/30"), "dev", &inner]);
        within(&["link", "set", &inner, "up"]);
        within(&["link", "set", "lo", "up"]);
        namespace
    }

    /// This machine's address as the namespace sees it.
    pub(crate) fn outside(&self) -> &str {
        &self.outside
    }

    /// Takes the link `up` or `down`.
    pub(crate) fn link(&self, state: &str) {
        must(&["link", "set", &self.outer, state]);
    }

    /// The same command, to be run inside.
    pub(crate) fn wrap(&self, command: &Command) -> Command {
        let mut inside = Command::new("ip");
        inside.args(["netns", "exec", &self.name]).arg(command.get_program());
        inside.args(command.get_args());
        inside
    }

    /// The status of an answer to a request from inside.
    pub(crate) fn status(&self, url: &str) -> String {
        let mut curl = Command::new("curl");
        curl.args(["-s", "-o", "/dev/null", "-m", "10", "-w", "%{http_code}", url]);
        let output = self.wrap(&curl).output().expect("ip ran a moment ago");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // The link goes with its other end. A panic here would hide the test's own.
        match ip(&["netns", "del", &self.name]) {
            Ok(output) if output.status.success() => {}
            failed => eprintln!("the namespace {} was not removed: {failed:?}", self.name),
        }
    }
}

fn ip(arguments: &[&str]) -> std::io::Result<Output> {
    Command::new("ip").args(arguments).output()
}

fn must(arguments: &[&str]) {
    let output = ip(arguments).unwrap_or_else(|error| {
        panic!("ip is missing, so this test cannot run (install iproute2): {error}")
    });
    assert!(
        output.status.success(),
        "no network namespace can be made, so this test cannot run (it needs root): ip {}: {}",
        arguments.join(" "),
        String::from_utf8_lossy(&output.stderr)
    );
}

use super::*;

/// The kinds that the default scoring policy can alert on.
fn kinds() -> Vec<String> {
    let scoring = include_str!("../../../bellwether-core/policies/default.toml");
    let kinds =
        scoring.lines().filter_map(|line| line.strip_prefix("kind = \"")?.split('"').next());
    let named = ["churn_risk", "usage_spike", "fleet"];
    kinds.chain(named).map(str::to_owned).collect()
}

#[test]
fn every_kind_of_the_default_scoring_policy_has_a_playbook() {
    let policy = Loaded::builtin();
    let without: Vec<String> =
        kinds().into_iter().filter(|kind| !policy.policy().playbooks.contains_key(kind)).collect();
    assert_eq!(without, Vec::<String>::new());
}

#[test]
fn a_policy_of_ones_own_is_laid_over_the_default_and_has_a_version_of_its_own() {
    let text = "[playbook.churn_risk]\ndue_hours = 3\n[digest]\nat = \"07:30\"\n";
    let own = Loaded::parse(text, "own.toml").expect("sound");
    assert_eq!(own.policy().playbook("churn_risk").due_hours, 3);
    assert_eq!(own.policy().playbook("churn_risk").title, "Churn risk");
    assert_eq!(own.policy().digest.weekday, Weekday::Monday);
    assert_ne!(own.version(), Loaded::builtin().version());
    assert_eq!(own.version(), Loaded::parse(text, "other.toml").expect("sound").version());
}

#[test]
fn errors_name_file_key_value_and_what_is_allowed() {
    let slack = "[[sink]]\nname = \"s\"\ntype = \"slack\"\nurl_env = \"S\"\n";
    let route = |more: &str| {
        format!("{slack}[[route]]\nname = \"r\"\nsinks = [\"s\"]\nmode = \"daily\"\n{more}")
    };
    let template = |url: &str, more: &str| {
        format!(
            "[[sink]]\nname = \"t\"\ntype = \"template\"\nurl = \"{url}\"\nbody = \"1\"\n{more}"
        )
    };
    let cases: Vec<(String, &[&str])> = vec![
        ("[delivery]\natempts_max = 3\n".to_owned(), &["my.toml", "atempts_max", "attempts_max"]),
        ("[delivery]\nattempts_max = 101\n".to_owned(), &["delivery.attempts_max is 101", "0 to 100"]),
        ("[digest]\nat = \"25:00\"\n".to_owned(), &["digest.at", "25:00", "HH:MM"]),
        ("[digest]\ntime_zone = \"Mars\"\n".to_owned(), &["digest.time_zone", "Mars"]),
        ("[[sink]]\nname = \"s\"\ntype = \"fax\"\nurl = \"x\"\n".to_owned(), &["fax", "slack"]),
        (
            "[[sink]]\nname = \"s\"\ntype = \"slack\"\nurl = \"https://hooks\"\n".to_owned(),
            &["sink `s`", "url_env or url_file"],
        ),
        (
            "[[sink]]\nname = \"s\"\ntype = \"webhook\"\nurl = \"https://u:p@h/\"\nsecret_env = \"S\"\n"
                .to_owned(),
            &["holds a user or password"],
        ),
        (
            template("https://h/tasks?limit=1&api_key=x", ""),
            &["sink `t`: url has `api_key=…`", "url_env or url_file"],
        ),
        (
            template("https://h/tasks", "headers = { X-AuthToken = \"x\" }\n"),
            &["sink `t`: headers has `X-AuthToken`", "secret_header"],
        ),
        (template("https://h/tasks", "secret_header = \"X-Api-Key\"\n"), &["secret_env or secret_file"]),
        (
            "[[sink]]\nname = \"s\"\ntype = \"webhook\"\nurl = \"https://h/\"\n".to_owned(),
            &["signing key", "secret_env"],
        ),
        (
            "[[sink]]\nname = \"m\"\ntype = \"email\"\nurl = \"smtps://h\"\nfrom = \"a@b.c\"\nto = [\"a@b.c\"]\nin_flight = 65\n"
                .to_owned(),
            &["sink `m`: in_flight is 65", "1 to 64"],
        ),
        (
            "[[sink]]\nname = \"m\"\ntype = \"email\"\nurl = \"smtp://u:p@h\"\nfrom = \"a@b.c\"\nto = [\"a@b.c\"]\n"
                .to_owned(),
            &["sink `m`: url holds a user or password"],
        ),
        (
            "[[sink]]\nname = \"m\"\ntype = \"email\"\nurl = \"smtp://h\"\nfrom = \"a@b.c\"\nto = [\"a@b.c\"]\nsecret_env = \"S\"\n"
                .to_owned(),
            &["sink `m`", "the password of username, which is missing"],
        ),
        (template("https://h/call?code=x", ""), &["sink `t`: url has `code=…`"]),
        (route("severity = [\"urgent\"]\n"), &["route `r`", "urgent", "critical"]),
        (
            route("quiet = { from = \"20:00\", to = \"07:00\", time_zone = \"UTC\", except = [\"crtical\"] }\n"),
            &["route `r`: quiet.except has `crtical`", "critical"],
        ),
        (
            route("transition = [\"open\"]\n"),
            &["my.toml", "route `r`: transition has `open`", "opened, escalated", "reopened"],
        ),
        (
            route("kind = [\"churn_risk\", \"chrun_risk\"]\n"),
            &["my.toml", "route `r`: kind has `chrun_risk`", "churn_risk", "fleet", "[playbook.…]"],
        ),
        (
            "[[route]]\nname = \"r\"\nsinks = [\"nowhere\"]\nmode = \"daily\"\n".to_owned(),
            &["nowhere", "no sink"],
        ),
        (
            "[[sink]]\nname = \"p\"\ntype = \"pagerduty\"\nurl = \"https://h/\"\nsecret_env = \"S\"\n[[route]]\nname = \"r\"\nsinks = [\"p\"]\nmode = \"weekly\"\n"
                .to_owned(),
            &["takes no digests"],
        ),
        ("[templates]\ntitle = \"{{ alert.sevrity }}\"\n".to_owned(), &["templates.title"]),
        ("[templates]\nwhy = \"{% if %}\"\n".to_owned(), &["templates.why"]),
        ("[templates]\nwhy = \"{{ alert.title | safe }}\"\n".to_owned(), &["templates.why", "safe"]),
        (
            "[[sink]]\nname = \"t\"\ntype = \"template\"\nurl = \"https://h/\"\nbody = \"{ \\\"a\\\": }\"\n[[route]]\nname = \"r\"\nsinks = [\"t\"]\nmode = \"immediate\"\n"
                .to_owned(),
            &["sink.t.body", "no JSON"],
        ),
    ];
    for (text, expected) in cases {
        let error = Loaded::parse(&text, "my.toml").expect_err(&text).to_string();
        for part in expected {
            assert!(error.contains(part), "`{part}` is missing: {error}");
        }
    }
}

#[test]
fn what_is_no_secret_may_stand_in_a_policy() {
    let policy = "[[sink]]\nname = \"t\"\ntype = \"template\"\nurl = \"https://h/designs?assignee=a&sort=passed\"\nbody = \"1\"\n\
        secret_env = \"K\"\nsecret_header = \"X-Api-Key\"\nheaders = { Idempotency-Key = \"a\", X-Design = \"b\", X-Country-Code = \"DE\" }\n\
        [[route]]\nname = \"r\"\nsinks = [\"t\"]\nmode = \"immediate\"\n";
    Loaded::parse(policy, "my.toml").expect("sound");
}

#[test]
fn mail_goes_one_at_a_time_whatever_in_flight_says() {
    let policy = "[[sink]]\nname = \"m\"\ntype = \"email\"\nurl = \"smtps://h\"\nfrom = \"a@b.c\"\nto = [\"a@b.c\"]\nin_flight = 4\n";
    let loaded = Loaded::parse(policy, "my.toml").expect("sound");
    assert_eq!(loaded.policy().sinks[0].at_once(), 1);
}

#[test]
fn sinks_without_routes_may_be_tested_but_not_run() {
    let sink = "[[sink]]\nname = \"s\"\ntype = \"slack\"\nurl_env = \"S\"\n";
    let loaded = Loaded::parse(sink, "my.toml").expect("sound");
    let error = loaded.policy().has_routes().expect_err("nobody would be told");
    assert!(error.contains("sinks (s)") && error.contains("[[route]]"), "{error}");
    assert_eq!(Loaded::builtin().policy().has_routes(), Ok(()), "it has no sinks either");
}

#[test]
fn a_kind_of_ones_own_scoring_policy_is_known_by_its_playbook() {
    let route = "[[sink]]\nname = \"s\"\ntype = \"slack\"\nurl_env = \"S\"\n[[route]]\nname = \"r\"\nsinks = [\"s\"]\nmode = \"daily\"\nkind = [\"barks\"]\n";
    assert!(Loaded::parse(route, "my.toml").is_err());
    let playbook = "[playbook.barks]\ntitle = \"Barks\"\nowner_role = \"dog\"\ndue_hours = 1\nsteps = [\"listen\"]\noutreach = \"wuff\"\n";
    Loaded::parse(&format!("{route}{playbook}"), "my.toml").expect("sound");
}

#[test]
fn every_kind_and_transition_that_the_engine_has_can_be_routed() {
    let transitions = bellwether_core::output::Transition::ALL.map(|of| of.as_str().to_owned());
    let words = |of: &[String]| format!("{of:?}");
    let route = format!(
        "[[sink]]\nname = \"s\"\ntype = \"slack\"\nurl_env = \"S\"\n[[route]]\nname = \"r\"\nsinks = [\"s\"]\nmode = \"daily\"\nkind = {}\ntransition = {}\n",
        words(&kinds()),
        words(&transitions)
    );
    Loaded::parse(&route, "my.toml").expect("sound");
}

#[test]
fn the_examples_are_sound_and_name_every_type_of_sink() {
    let examples = include_str!("../../policies/examples.toml");
    let loaded = Loaded::parse(examples, "examples.toml").expect("sound");
    let kinds: BTreeSet<SinkType> = loaded.policy().sinks.iter().map(|sink| sink.kind).collect();
    assert_eq!(kinds.len(), 7);
}

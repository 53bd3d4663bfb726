//! What people get to see.

use super::*;

#[test]
fn the_story_of_an_account_becomes_a_slack_message_that_says_what_why_and_what_next() {
    let dir = tempfile::tempdir().expect("a directory");
    let receiver = Receiver::start(|_, _| Reply::status(200));
    let url = dir.path().join("slack-url");
    std::fs::write(&url, format!("{}/T0/SECRET", receiver.url())).expect("writable");
    let policy = format!(
        "{LIMITS}[[sink]]\nname = \"slack\"\ntype = \"slack\"\nurl_file = \"{}\"\nallow_private = true\nallow_http = true\n\
         [[route]]\nname = \"urgent\"\nseverity = [\"high\", \"critical\"]\nsinks = [\"slack\"]\nmode = \"immediate\"\n",
        url.display()
    );
    let delivery = write(dir.path(), &policy);
    let data = dir.path().join("data");
    let mut running = Bellwether::spawn(embedded(&data, Some(&delivery)));
    let base = running.url();
    let send = |path: &str, bodies: Vec<Vec<u8>>| {
        for chunk in bodies.chunks(500) {
            let body = chunk.join(&b'\n');
            let sent = ureq::post(format!("{base}{path}")).send(&body[..]).expect("it is taken");
            assert_eq!(sent.status(), 202);
        }
    };
    send("/v1/profiles", stories::profiles().iter().map(stories::profile_json).collect());
    send("/v1/events", stories::events().iter().map(stories::event_json).collect());
    let message = running.wait_until("the alert of the story", LIMIT, |_| {
        let requests = receiver.requests();
        let found = requests.iter().find(|(request, _)| {
            let text = request.json().to_string();
            text.contains("Acme Logistics") && text.contains("Churn risk")
        });
        found.map(|(request, _)| request.clone())
    });
    assert_eq!(message.path, "/T0/SECRET");
    let text = message.json().to_string();
    for part in [
        "What changed",
        "logins fell from",
        "Why it matters",
        "Next steps",
        "Call the sponsor today",
        "Draft to the customer",
        "/accounts/",
    ] {
        assert!(text.contains(part), "`{part}` is missing: {text}");
    }
    assert!(!running.stderr().contains("SECRET"), "a URL is a secret");
    assert_eq!(running.terminate(LIMIT).code(), Some(0));

    let page = dir.path().join("alerts.html");
    let mut preview =
        bellwether(["alerts", "preview", "--embedded", "--limit", "100", "--data-dir"]);
    preview.arg(&data).arg("--delivery").arg(&delivery).arg("--html").arg(&page);
    let shown = preview.output().expect("it runs");
    let text = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(shown.status.success(), "{}", String::from_utf8_lossy(&shown.stderr));
    for part in ["Churn risk: Acme Logistics", "What changed", "Goes to slack: immediate (urgent)"]
    {
        assert!(text.contains(part), "`{part}` is missing: {text}");
    }
    let page = std::fs::read_to_string(&page).expect("it was written");
    assert!(page.contains("<h3>What changed</h3>") && page.contains("Acme Logistics"), "{page}");

    // By either name, and by no other policy.
    let previewed = |flags: &[&str]| {
        let mut preview = bellwether(["alerts", "preview", "--embedded", "--limit", "100"]);
        let shown = preview.arg("--data-dir").arg(&data).args(flags).output().expect("it runs");
        (shown.status.code(), String::from_utf8_lossy(&shown.stdout).into_owned(), shown.stderr)
    };
    let file = delivery.to_str().expect("a path of letters");
    let (code, by_policy, _) = previewed(&["--policy", file]);
    assert_eq!((code, by_policy == text), (Some(0), true), "{by_policy}");
    let (code, _, said) = previewed(&["--policy", file, "--delivery", file]);
    assert_eq!(code, Some(2), "{}", String::from_utf8_lossy(&said));
    let scoring = dir.path().join("scoring.toml");
    std::fs::write(&scoring, "[score]\nbase_points = 74.0\n").expect("writable");
    let (code, shown, said) = previewed(&["--policy", scoring.to_str().expect("letters")]);
    let said = String::from_utf8_lossy(&said);
    assert_eq!((code, shown.as_str()), (Some(2), ""), "{said}");
    assert!(said.contains("scoring.toml") && said.contains("score"), "{said}");
}

#[test]
fn a_digest_by_mail_outlives_a_restart_and_goes_out_once() {
    let dir = prepared();
    publish(dir.path(), &(0..30).map(alert).collect::<Vec<_>>());
    let server = MailServer::start(Manners { temporary_failures: 2, ..Manners::default() });
    // The digest goes out at the next full minute but one of the machine's clock.
    let at = (now_ms() / 60_000 + 2) % 1_440;
    let policy = format!(
        "{LIMITS}[digest]\nat = \"{:02}:{:02}\"\nentries_max = 20\n[[sink]]\nname = \"mail\"\ntype = \"email\"\nurl = \"smtp://127.0.0.1:{}\"\n\
         from = \"b@example.com\"\nto = [\"cs@example.com\"]\nallow_private = true\nallow_http = true\n{}",
        at / 60,
        at % 60,
        server.port(),
        route(&["mail"], "daily")
    );
    let policy = policy.replace("timeout_ms = 400", "timeout_ms = 10000");
    let delivery = write(dir.path(), &policy);
    let mut running = Bellwether::spawn(embedded(dir.path(), Some(&delivery)));
    let queued = |dir: &Path| {
        let mut rows = BTreeMap::new();
        for row in embedded_records(dir, "bellwether.notify.state") {
            rows.insert((row.partition, row.key.expect("rows have names")), row.payload.is_some());
        }
        rows.iter().filter(|((_, name), is_there)| name.starts_with(b"q/") && **is_there).count()
    };
    running.wait_until("the entries", LIMIT, |running| {
        (running.metric("bellwether_digest_entries") >= 30.0).then_some(())
    });
    running.kill();
    let mut running = Bellwether::spawn(embedded(dir.path(), Some(&delivery)));
    running.wait_until("the digest", Duration::from_secs(240), |_| {
        (!server.mails().is_empty()).then_some(())
    });
    running.wait_until("nothing waits", LIMIT, |running| {
        let metrics = running.get("/metrics");
        metrics.contains("bellwether_deliveries_waiting{sink=\"mail\"} 0").then_some(())
    });
    assert_eq!(running.terminate(LIMIT).code(), Some(0));
    let mails = server.mails();
    assert_eq!(mails.len(), 1);
    // Soft line breaks of quoted-printable.
    let mail = mails[0].replace("=\r\n", "");
    assert!(mail.contains("daily digest: 20 of 30"), "{mail}");
    assert!(mail.contains("and 10 more"), "{mail}");
    assert_eq!(queued(dir.path()), 0);
}

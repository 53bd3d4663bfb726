//! Pages for people.

use bellwether_core::output::Resolution;

use super::*;

#[test]
fn the_form_on_an_account_page_sends_an_event_of_it() {
    let collector = Arc::new(Collector::default());
    let server = Server::start(Some(Arc::clone(&collector) as Arc<dyn Ingest>));
    server.publish(&[health("a b/c", None, 5_000, Band::Neutral)]);
    let form =
        [("content-type", "application/x-www-form-urlencoded"), ("sec-fetch-site", "same-origin")];
    let body = "type=login&member_id=mia&value=";
    let answer = server.send("POST", "/accounts/a%20b%2Fc/events", &form, body);
    assert_eq!((answer.status, answer.header("location")), (303, "/accounts/a%20b%2Fc?sent=1"));
    let taken = collector.taken.lock().expect("no test panics with it");
    let event: Value = serde_json::from_str(&taken[0]).expect("JSON");
    assert_eq!(
        event,
        serde_json::json!({"account_id": "a b/c", "type": "login", "member_id": "mia"})
    );
}

#[test]
fn hostile_text_is_shown_and_not_obeyed() {
    let server = Server::start(Some(Arc::new(Collector::default())));
    let id = "a/b \"c\" 'd' <script>alert(1)</script>&?#%";
    server.publish(&[
        health(id, Some(HOSTILE), 2_000, Band::AtRisk),
        alert(id, 1, Transition::Opened, Severity::Critical),
    ]);
    let overview = server.get("/");
    let link = overview.body.split("href=\"/accounts/").nth(1).expect("a link to the account");
    let link = link.split('"').next().expect("it ends");
    let path = format!("/accounts/{link}");
    assert!(path.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/%-_.~".contains(&byte)));
    for path in ["/", "/accounts", "/alerts", "/accounts?q=%3Cscript%3E%22", &path] {
        let page = server.get(path);
        assert_eq!(page.status, 200, "{path}");
        assert!(!page.body.contains("<script") && !page.body.contains("<img"), "{path}");
        assert!(!page.body.contains(" style="), "{path}: the policy forbids inline styles");
        let policy = page.header("content-security-policy");
        assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe"));
        assert_eq!(page.header("x-content-type-options"), "nosniff");
    }
    assert!(server.get(&path).body.contains("&lt;img src=x"));
    let record = server.get(&format!("/v1{path}")).json();
    assert_eq!(record["account"]["account_id"].as_str(), Some(id));
    assert_eq!(server.get("/accounts/nobody").status, 404);
}

#[test]
fn the_waterfall_ends_at_the_score() {
    let server = Server::start(None);
    server.publish(&[health("acme", Some("Acme"), 3_150, Band::AtRisk)]);
    let page = server.get("/accounts/acme").body;
    let body = page.split("<tbody>").nth(1).and_then(|rest| rest.split("</tbody>").next());
    let cells: Vec<&str> = body
        .expect("a table")
        .split("<td class=\"num\">")
        .skip(1)
        .filter_map(|cell| cell.split('<').next())
        .collect();
    let sum: f64 = cells
        .iter()
        .map(|cell| cell.replace('−', "-").replace('+', "").parse::<f64>().expect("a number"))
        .sum();
    assert_eq!(cells.len(), 3, "{cells:?}");
    assert!((sum - 31.5).abs() < 1e-9, "{cells:?}");
    assert!(page.contains("<td class=\"num total\">31.50</td></tr></tfoot>"));
}

/// A page's text without its markup.
fn text(page: &str) -> String {
    page.split('<').filter_map(|part| part.split_once('>')).map(|(_, text)| text).collect()
}

#[test]
fn a_card_says_each_fact_once() {
    let server = Server::start(None);
    let sentence = "logins fell from 450 to 280 logins/week (-38 %) since 2026-02-02";
    let with = |event: u32, transition, edit: &dyn Fn(&mut AlertEvent)| {
        let mut output = alert("acme", event, transition, Severity::High);
        let Output::Alert(alert) = &mut output else { unreachable!("an alert") };
        alert.title = "churn risk: logins -38 %".to_owned();
        for evidence in &mut alert.evidence {
            evidence.text = sentence.to_owned();
        }
        edit(alert);
        output
    };
    let Output::Health(mut record) = health("acme", None, 2_000, Band::AtRisk) else {
        unreachable!("a health record")
    };
    record.evidence[0].text = sentence.to_owned();
    server.publish(&[
        Output::Health(record),
        with(1, Transition::Opened, &|_| {}),
        with(2, Transition::Resolved, &|alert| {
            alert.title =
                "churn risk: rebaselined, what was found is what is normal now".to_owned();
            alert.resolution = Some(Resolution::Rebaselined);
        }),
    ]);
    let page = server.get("/alerts").body;
    let cards: Vec<String> = page.split("<article").skip(1).map(text).collect();
    assert_eq!(cards.len(), 2, "{page}");
    // What the title says beside its kind, its evidence and its transition, and no more.
    for (card, is_said) in [(&cards[0], true), (&cards[1], false)] {
        for once in ["Churn risk", "acme", "High", sentence] {
            assert_eq!(card.matches(once).count(), 1, "{once}: {card}");
        }
        assert_eq!(card.matches("38 %").count(), 1, "{card}");
        let beside = "what was found is what is normal now";
        assert_eq!(card.contains(beside), is_said, "{card}");
        assert_eq!(card.to_lowercase().matches("rebaselined").count(), usize::from(is_said));
    }
    // What departs from its normal: the sentence has the figures, and the day since when.
    let page = server.get("/accounts/acme").body;
    let card = page.split("<article class=\"evidence\"").nth(1).expect("a card");
    let card = text(card.split("</article>").next().expect("its end"));
    for once in ["450", "280", "38 %", "logins/week", "2026-02-02", "6.2 σ", "Engagement"] {
        assert_eq!(card.matches(once).count(), 1, "{once}: {card}");
    }
}

#[test]
fn what_a_title_alone_says_is_shown() {
    let server = Server::start(None);
    let mut held = alert("*smb", 1, Transition::Opened, Severity::High);
    let Output::Alert(fleet) = &mut held else { unreachable!("an alert") };
    fleet.kind = "fleet".to_owned();
    fleet.account_name = Some("all smb accounts".to_owned());
    fleet.evidence[0].text = "logins of all smb accounts fell by 70 % at 14:00 UTC".to_owned();
    fleet.title = format!("{}; 412 alerts of accounts held back", fleet.evidence[0].text);
    let mut bare = alert("acme", 1, Transition::Updated, Severity::Low);
    let Output::Alert(event) = &mut bare else { unreachable!("an alert") };
    event.title = "churn risk: logins, tickets opened".to_owned();
    event.evidence.clear();
    server.publish(&[held, bare]);
    let page = server.get("/alerts").body;
    let cards: Vec<String> = page.split("<article").skip(1).map(text).collect();
    assert!(cards[0].contains("logins, tickets opened"), "nothing speaks for it now: {cards:?}");
    let card = &cards[1];
    assert!(card.contains("412 alerts of accounts held back"), "{card}");
    for once in ["70 %", "412", "14:00"] {
        assert_eq!(card.matches(once).count(), 1, "{once}: {card}");
    }
}

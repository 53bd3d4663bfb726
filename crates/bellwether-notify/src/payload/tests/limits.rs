//! What is too long for a sink is cut where one sees it, and never refused.

use proptest::prelude::*;

use super::*;

/// A message of Teams has at most 28 KB.
const TEAMS_BYTES_MAX: usize = 28 << 10;
/// An event of PagerDuty has at most 512 KB.
const PAGERDUTY_BYTES_MAX: usize = 512 << 10;

/// Texts as bad as they come: plain, of four bytes a character, of what becomes six bytes when it is escaped, of what breaks lines.
fn text() -> impl Strategy<Value = String> {
    let sign = prop::sample::select(vec!["a", "é", "🦀", "&", "<", "\"", "\\", "\u{1}", "\n", "*"]);
    (sign, 0_usize..5_000).prop_map(|(sign, times)| sign.repeat(times))
}

fn digests() -> impl Strategy<Value = Subject> {
    let mode = prop::sample::select(vec![Mode::Daily, Mode::Weekly, Mode::Checkin]);
    (mode, 1_usize..400, 1_usize..400, text(), text()).prop_map(
        |(mode, count, shown, name, title)| {
            digest_of(mode, count, shown, |alert| {
                alert.account_name = Some(name.clone());
                alert.title.clone_from(&title);
            })
        },
    )
}

fn alerts() -> impl Strategy<Value = Subject> {
    (text(), text(), text(), 0_usize..60, 0_usize..128).prop_map(
        |(name, title, line, lines, id)| {
            alert_with(|alert, profile| {
                alert.account_id = "ä".repeat(id);
                alert.account_name = Some(name);
                alert.title.clone_from(&title);
                let evidence = crate::event::Evidence { text: line, ..alert.evidence[1].clone() };
                alert.evidence = vec![evidence; lines];
                profile.owner = Some(title.clone());
                profile.segment = Some(title);
            })
        },
    )
}

/// How many alerts a digest had, by what a message shows of it.
fn accounted_for(shown: usize, text: &str) -> usize {
    let more = text.split("… and ").nth(1).and_then(|rest| rest.split(' ').next());
    shown + more.and_then(|count| count.parse::<usize>().ok()).unwrap_or(0)
}

fn total(subject: &Subject) -> usize {
    let Subject::Digest(digest) = subject else { panic!("a digest") };
    digest.total
}

fn within_slack(document: &Value) -> Result<String, TestCaseError> {
    let blocks = document["blocks"].as_array().expect("blocks");
    prop_assert!(blocks.len() <= 50);
    let texts: Vec<&str> =
        blocks.iter().filter_map(|block| block["text"]["text"].as_str()).collect();
    prop_assert!(texts.iter().all(|text| text.chars().count() <= 3_000));
    let elements = |block: &Value| block["elements"][0]["text"].as_str().map(str::to_owned);
    let beside: Vec<String> = blocks.iter().filter_map(elements).collect();
    prop_assert!(beside.iter().all(|text| text.chars().count() <= 3_000));
    let texts: Vec<&str> = texts.into_iter().chain(beside.iter().map(String::as_str)).collect();
    let characters: usize = texts.iter().map(|text| text.chars().count()).sum();
    prop_assert!(characters <= 12_000, "{characters} characters");
    Ok(texts.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// Digests of any size fit, and what is not shown is counted.
    #[test]
    fn digests_fit(subject in digests()) {
        let total = total(&subject);
        let (_, slack) = sent("slack", None, subject.clone());
        let text = within_slack(&slack)?;
        prop_assert_eq!(accounted_for(text.matches("• ").count(), &text), total);
        let (_, teams) = sent("teams", None, subject);
        prop_assert!(teams.to_string().len() <= TEAMS_BYTES_MAX);
        let body = teams["attachments"][0]["content"]["body"].as_array().expect("a body");
        let lines: Vec<&str> = body.iter().skip(1).filter_map(|block| block["inlines"][0]["text"].as_str()).collect();
        let shown = lines.iter().filter(|line| !line.starts_with("… and ")).count();
        prop_assert_eq!(accounted_for(shown, &lines.concat()), total);
    }

    /// Alerts fit, whatever events carry.
    #[test]
    fn alerts_fit(subject in alerts()) {
        let slack = within_slack(&sent("slack", None, subject.clone()).1)?;
        prop_assert_eq!(slack.matches("/accounts/").count(), 2, "no link is lost");
        let (_, teams) = sent("teams", None, subject.clone());
        prop_assert!(teams.to_string().len() <= TEAMS_BYTES_MAX, "{} bytes", teams.to_string().len());
        prop_assert_eq!(teams["attachments"][0]["content"]["actions"].as_array().map(Vec::len), Some(2));
        let (_, event) = sent("pagerduty", Some(ROUTING_KEY), subject);
        prop_assert!(event.to_string().len() <= PAGERDUTY_BYTES_MAX);
        prop_assert!(event["payload"]["summary"].as_str().expect("a summary").chars().count() <= 1_024);
    }
}

#[test]
fn a_list_that_is_cut_says_how_much_more_there_is() {
    let lines = |count: usize| -> Vec<String> { (0..count).map(|n| format!("line {n}")).collect() };
    assert_eq!(fitting(lines(3), 3, 18, str::len), ["line 0", "line 1", "line 2"]);
    assert_eq!(fitting(lines(3), 3, 25, |_| 9), ["line 0", "… and 2 more"]);
    assert_eq!(fitting(lines(2), 9, 100, str::len), ["line 0", "line 1", "… and 7 more"]);
    assert_eq!(fitting(lines(2), 2, 3, str::len), ["… and 2 more"]);
}

#[test]
fn the_evidence_that_a_messenger_cannot_show_is_counted() {
    let many = |alert: &mut Alert, _: &mut Profile| {
        let line = crate::event::Evidence { text: "é".repeat(390), ..alert.evidence[0].clone() };
        alert.evidence = vec![line; 8];
    };
    for (sink, shown) in [("slack", 3), ("teams", 4)] {
        let (_, document) = sent(sink, None, alert_with(many));
        let text = document.to_string();
        assert_eq!(text.matches(&"é".repeat(390)).count(), shown, "{sink}: {text}");
        assert!(text.contains(&format!("… and {} more", 8 - shown)), "{sink}: {text}");
    }
}

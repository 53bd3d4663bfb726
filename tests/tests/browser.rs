//! The pages as a visitor sees them, in a real browser.

use std::time::Duration;

use bellwether_tests::{Bellwether, Browser, bellwether};

/// No step takes longer on a busy machine.
const LIMIT: Duration = Duration::from_secs(600);

/// Points as the pages write them: with a sign that is typeset, and two decimals.
fn centipoints(text: &str) -> i64 {
    let plain = text.trim().replace('−', "-").replace('+', "");
    let value: f64 = plain.parse().unwrap_or_else(|_| panic!("points, not {text:?}"));
    #[expect(clippy::cast_possible_truncation, reason = "a score with two decimals")]
    let rounded = (value * 100.0).round() as i64;
    rounded
}

#[test]
fn a_visitor_sees_why_a_score_is_what_it_is_and_moves_one() {
    let demo = ["demo", "--serve", "--listen", "127.0.0.1:0"];
    let mut demo = Bellwether::spawn(bellwether(demo));
    let url = demo.url();
    let browser = Browser::open(1280, 1000);

    browser.go(&url);
    let page = browser.texts("body").concat();
    for word in ["At-Risk", "Neutral", "Healthy", "Acme Logistics"] {
        assert!(page.contains(word), "{word}: {page}");
    }

    // The explanation is a column of numbers that add up, line by line.
    browser.go(&format!("{url}/accounts/story-slipping"));
    let rows = browser.texts("table.waterfall tbody td.num:not(.total)");
    let totals = browser.texts("table.waterfall tbody td.total");
    let score = browser.texts("table.waterfall tfoot td.total");
    assert!(rows.len() > 5, "{rows:?}");
    let mut sum = 0;
    for (row, total) in rows.iter().zip(&totals) {
        sum += centipoints(row);
        assert_eq!(sum, centipoints(total), "{rows:?} {totals:?}");
    }
    assert_eq!(score.len(), 1);
    assert_eq!(sum, centipoints(&score[0]));
    let page = browser.texts("body").concat();
    for words in ["At-Risk", "since"] {
        assert!(page.contains(words), "{words}: {page}");
    }
    // By more than a third, as far as the days up to now show it: the story ends today, whatever day of the week that is.
    let deviations = browser.texts("article.evidence").concat();
    let falls = deviations.split("(-").filter_map(|text| text.split_once(" %)")?.0.parse().ok());
    let fallen = falls.filter(|percent: &u32| (30..=45).contains(percent)).count();
    assert!(fallen >= 3, "logins, projects, integrations: {deviations}");

    // Each fact once: figures stand in sentences, and not beside them again.
    let figures = |css: &str| browser.texts(css).concat().matches('%').count();
    assert_eq!(figures("article.evidence"), figures("article.evidence h3"));
    assert!(figures("article.alert") > 0, "{page}");
    assert_eq!(figures("article.alert"), figures("article.alert .reasons"));
    for alert in browser.texts("article.alert") {
        let said = alert.lines().filter(|line| !line.trim().is_empty());
        let mut lines: Vec<&str> = said.collect();
        let count = lines.len();
        lines.sort_unstable();
        lines.dedup();
        assert_eq!(lines.len(), count, "{alert}");
    }

    // Nothing sticks out of the window, on a telephone neither.
    for (width, path) in [
        (1280, "/"),
        (1280, "/alerts"),
        (390, "/"),
        (390, "/accounts"),
        (390, "/accounts/story-slipping"),
    ] {
        let narrow = Browser::open(width, 900);
        narrow.go(&format!("{url}{path}"));
        let script =
            "return document.documentElement.scrollWidth - document.documentElement.clientWidth";
        let over = narrow.script(script, &serde_json::json!([]));
        assert_eq!(over, 0, "{path} at {width} pixels");
        assert!(narrow.screenshot().len() > 20_000, "{path} is not blank");
    }

    // A visitor's own events move a score: ten tickets on the page of an account that had none lately.
    let account = format!("{url}/accounts/story-twin");
    let support = |browser: &Browser| {
        browser.go(&account);
        centipoints(&browser.texts("table.waterfall tfoot td.total").concat())
    };
    let before = support(&browser);
    for _ in 0..10 {
        browser.fill("form.event input[name=type]", "ticket.opened");
        browser.follow("form.event button");
        assert!(browser.url().ends_with("?sent=1"), "{}", browser.url());
        assert!(browser.texts("p.notice").concat().contains("Accepted"));
    }
    demo.wait_until("the score to fall", LIMIT, |_| (support(&browser) < before).then_some(()));
}

/// Identifiers and names are customers' own text: they are shown, never run.
#[test]
fn hostile_identifiers_are_text() {
    let dir = tempfile::tempdir().expect("a directory");
    let command = bellwether(["run", "--embedded", "--listen", "127.0.0.1:0", "--data-dir"]);
    let mut command = command;
    command.arg(dir.path());
    let mut running = Bellwether::spawn(command);
    let url = running.url();
    let id = "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">/../?a=b#c";
    let event = serde_json::json!({"account_id": id, "type": id, "member_id": id, "segment": id, "value": 1});
    let login =
        serde_json::json!({"account_id": id, "type": "login", "member_id": id, "segment": id});
    let sent = ureq::post(format!("{url}/v1/events")).send(format!("[{event},{login}]"));
    assert_eq!(sent.expect("accepted").status(), 202);
    let browser = Browser::open(1000, 800);
    running.wait_until("the account", LIMIT, |_| {
        browser.go(&format!("{url}/accounts"));
        browser.texts("body").concat().contains("onerror").then_some(())
    });
    let shows = |place: &str| {
        assert!(browser.texts("body").concat().contains(id), "{place}: shown as it is");
        assert!(
            !browser.title().contains("owned") || browser.title().contains("<script>"),
            "{place}"
        );
        let made = "return document.querySelectorAll('script, img[src=x]').length";
        assert_eq!(browser.script(made, &serde_json::json!([])), 0, "{place}");
    };
    shows("the list");
    let link = browser.script(
        "return [...document.querySelectorAll('a')].find(a => a.innerText.includes('onerror')).href",
        &serde_json::json!([]),
    );
    browser.go(link.as_str().expect("a link"));
    shows("the page");
    browser.go(&format!("{url}/accounts/no-such-account"));
    assert!(browser.texts("body").concat().contains("no account"), "an error is a page, too");
}

//! What the title of an alert says beside its evidence: so that a message, or a card of a page, that shows both says each fact once.

/// The title of an alert event, and what it stands beside.
#[derive(Debug, Clone, Copy)]
pub struct Headline<'a> {
    /// The alert's kind.
    pub kind: &'a str,
    /// The title in full.
    pub title: &'a str,
    /// Why the alert ended, where this is its end.
    pub ended: Option<&'a str>,
    /// Whether evidence is shown with it.
    pub has_evidence: bool,
    /// Whether it is about a cohort as a whole.
    pub is_fleet: bool,
}

impl<'a> Headline<'a> {
    /// The title without the kind before it.
    #[must_use]
    pub fn summary(&self) -> &'a str {
        self.without_kind().unwrap_or(self.title)
    }

    /// What the title says that neither kind, evidence nor transition do; empty where that is nothing.
    #[must_use]
    pub fn beside(&self) -> &'a str {
        if self.is_fleet && self.has_evidence {
            // The first line of the evidence, and how many alerts of accounts are held back.
            return self.title.rsplit_once("; ").map_or("", |(_, held_back)| held_back);
        }
        let Some(summary) = self.without_kind() else { return self.title };
        match self.ended {
            Some(why) => {
                summary.strip_prefix(why).map_or(summary, |rest| rest.trim_start_matches(", "))
            }
            None if self.has_evidence => "",
            // The changes of the evidence in short.
            None => summary,
        }
    }

    /// What follows `kind: `.
    fn without_kind(&self) -> Option<&'a str> {
        self.title.strip_prefix(&self.kind.replace('_', " "))?.strip_prefix(": ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_in_the_evidence_already_is_not_said_of_the_title() {
        let churn = |title, ended, has_evidence| Headline {
            kind: "churn_risk",
            title,
            ended,
            has_evidence,
            is_fleet: false,
        };
        let open = churn("churn risk: logins -38 %, seats -9 %", None, true);
        assert_eq!((open.summary(), open.beside()), ("logins -38 %, seats -9 %", ""));
        // Nothing speaks for it any more.
        assert_eq!(churn("churn risk: logins", None, false).beside(), "logins");
        assert_eq!(churn("churn risk: recovered", Some("recovered"), true).beside(), "");
        let said = "churn risk: rebaselined, what was found is what is normal now";
        let rebaselined = churn(said, Some("rebaselined"), true);
        assert_eq!(rebaselined.beside(), "what was found is what is normal now");
        assert_eq!(churn("in other words", None, true).beside(), "in other words");
        let fleet = |title, has_evidence| Headline {
            kind: "fleet",
            title,
            ended: None,
            has_evidence,
            is_fleet: true,
        };
        let held = fleet("logins of all eu fell by 70 %; 12 alerts of accounts held back", true);
        assert_eq!(held.beside(), "12 alerts of accounts held back");
        assert_eq!(fleet("logins of all eu fell by 70 %", true).beside(), "");
        assert_eq!(
            fleet("logins of all eu fell by 70 %", false).beside(),
            "logins of all eu fell by 70 %"
        );
    }
}

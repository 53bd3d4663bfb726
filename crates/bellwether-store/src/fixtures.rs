//! What several tests begin with.

use std::collections::BTreeMap;

use bellwether_core::event::Profile;
use bellwether_core::id::AccountId;
use bellwether_core::time::Millis;

/// A profile that says nothing.
pub(crate) fn profile(account: AccountId) -> Profile {
    Profile {
        account,
        as_of: Millis(0),
        name: None,
        segment: None,
        plan: None,
        time_zone: None,
        region: None,
        started_on: None,
        renews_on: None,
        owner: None,
        annual_value_usd: None,
        entitlements: BTreeMap::new(),
        fiscal_year_end: None,
    }
}

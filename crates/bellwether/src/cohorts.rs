//! `bellwether cohorts`: accounts beside each other, from files of events or from the state in the data directory.

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result};
use bellwether_core::peers::{Compared, Member, Proposed, compare, propose};
use bellwether_core::policy::Compiled;
use bellwether_core::step::Core;
use bellwether_detect::cohorts::{Grouping, PROFILES_MAX};
use bellwether_detect::{Fallback, Guarded};
use bellwether_store::task::Store;
use serde_json::{Value, json};

use crate::cli::CohortsArgs;
use crate::config::Config;
use crate::replay::{Replay, Writers};
use crate::usage::wrong;
use crate::{app, policies, show, state};

/// What there is to say.
struct Report {
    accounts: usize,
    proposed: Result<Vec<Proposed>, Fallback>,
    /// None where the policy has switched peers off.
    compared: Option<Vec<Compared>>,
}

/// Runs the command.
pub(crate) fn run(args: &CohortsArgs, config: &Config, json: bool) -> Result<ExitCode> {
    if !(args.radius > 0.0 && args.radius <= 10.0) || args.members_min < 2 {
        wrong!(
            "--radius is {} and --members-min is {}, allowed are 0 to 10 and 2 or more",
            args.radius,
            args.members_min
        )
    }
    let policy = Arc::new(policies::load(config.policy.as_deref())?);
    let members = if args.files.is_empty() {
        of_state(config, &policy)?
    } else {
        of_files(args, &policy, json)?
    };
    let models = Guarded::new();
    let grouping = Grouping { radius: args.radius, members_min: args.members_min, warp_points: 1 };
    let report = Report {
        accounts: members.len(),
        proposed: propose(&members, &models, &grouping),
        compared: policy.models.peers.then(|| compare(&members, &models)),
    };
    if json {
        println!("{}", serde_json::to_string_pretty(&as_json(&report, &policy))?);
    } else {
        print(&report, &policy);
    }
    Ok(ExitCode::SUCCESS)
}

fn of_files(args: &CohortsArgs, policy: &Arc<Compiled>, quiet: bool) -> Result<Vec<Member>> {
    let writers = Writers::create(None, None)?;
    let mut replay = Replay::new(Core::new(Arc::clone(policy)), writers);
    if let Some(path) = &args.profiles {
        replay.profiles(path)?;
    }
    for path in &args.files {
        replay.file(path, None, quiet)?;
    }
    replay.finish(None)?;
    Ok(replay.accounts().filter_map(|account| Member::of(account, policy)).collect())
}

fn of_state(config: &Config, policy: &Compiled) -> Result<Vec<Member>> {
    let state_dir = config.data_dir.join("state");
    let Ok(directories) = state::directories(&state_dir) else {
        wrong!(
            "there is no state in {}; name its --data-dir, or files of events",
            state_dir.display()
        );
    };
    let mut members = Vec::new();
    for (partition, dir) in directories {
        let options = app::store_options(config);
        let store = Store::open(&dir, &config.application_id, partition, &options)
            .context("the state is in use; stop what has it, or name files of events")?;
        store.each_account(|account| members.extend(Member::of(&account, policy)))?;
    }
    members.sort_by(|left, right| left.id.cmp(&right.id));
    Ok(members)
}

fn as_json(report: &Report, policy: &Compiled) -> Value {
    let proposed = report.proposed.as_ref().map_or_else(
        |fallback| json!({"none_because": fallback.as_str()}),
        |proposed| proposed.iter().map(proposed_json).collect(),
    );
    let compared = report.compared.as_ref().map(|compared| {
        let one = |found: &Compared| compared_json(found, policy);
        compared.iter().map(one).collect::<Vec<_>>()
    });
    json!({"accounts": report.accounts, "proposed": proposed, "peers": compared})
}

fn proposed_json(found: &Proposed) -> Value {
    json!({
        "accounts": found.accounts.iter().map(|id| id.as_str()).collect::<Vec<_>>(),
        "example": found.example.as_str(),
        "reach": found.reach,
        "week": found.week,
        "cohorts": found.cohorts,
    })
}

fn compared_json(found: &Compared, policy: &Compiled) -> Value {
    let (unlike, reason) = match &found.unlike {
        Ok(unlike) => (unlike.as_slice(), None),
        Err(fallback) => (&[][..], Some(fallback.as_str())),
    };
    let unlike: Vec<Value> = unlike
        .iter()
        .map(|one| json!({"account_id": one.id.as_str(), "score": one.score, "ratio": one.ratio}))
        .collect();
    json!({
        "cohort": found.cohort,
        "signal": policy.signals[found.signal].name,
        "accounts": found.accounts,
        "unlike": unlike,
        "none_because": reason,
    })
}

fn print(report: &Report, policy: &Compiled) {
    println!("Accounts by the shape of their weeks (1 is an average day):");
    match &report.proposed {
        Ok(proposed) if proposed.is_empty() => println!("  no two groups are told apart"),
        Ok(proposed) => println!("{}", proposed_table(proposed)),
        Err(fallback) => println!("  none: {fallback}"),
    }
    if report.accounts > PROFILES_MAX {
        println!("Of {} accounts the {PROFILES_MAX} busiest were looked at.", report.accounts);
    }
    let Some(compared) = &report.compared else {
        println!("\nPeers are switched off (models.peers).");
        return;
    };
    println!(
        "\nAccounts unlike their peers in the last four weeks, against their own weeks before:"
    );
    let mut table = show::table(&["cohort", "signal", "account", "of usual", "spreads"]);
    for found in compared {
        for one in found.unlike.iter().flatten() {
            table.add_row([
                show::plain(&found.cohort),
                policy.signals[found.signal].label.clone(),
                show::plain(one.id.as_str()),
                format!("{:.0} %", one.ratio * 100.0),
                format!("{:+.1}", one.score),
            ]);
        }
    }
    println!("{table}");
    for found in compared {
        if let Err(fallback) = &found.unlike {
            let signal = &policy.signals[found.signal].label;
            println!("{} {signal}: {fallback}", show::plain(&found.cohort));
        }
    }
}

fn proposed_table(proposed: &[Proposed]) -> comfy_table::Table {
    let mut table = show::table(&[
        "accounts",
        "Mon",
        "Tue",
        "Wed",
        "Thu",
        "Fri",
        "Sat",
        "Sun",
        "like",
        "cohorts now",
    ]);
    for found in proposed {
        let mut row = vec![found.accounts.len().to_string()];
        row.extend(found.week.iter().map(|day| format!("{day:.2}")));
        row.push(show::plain(found.example.as_str()));
        let cohorts: Vec<String> = found
            .cohorts
            .iter()
            .map(|(name, count)| match name.as_str() {
                "" => format!("(none) {count}"),
                name => format!("{} {count}", show::plain(name)),
            })
            .collect();
        row.push(cohorts.join(", "));
        table.add_row(row);
    }
    table
}

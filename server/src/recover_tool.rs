//! `logboat recover plan` and `logboat recover apply`.

use crate::output::{Failure, print};
use clap::{Args, Subcommand};
use logboat::NodeId;
use logboat::lost_majority::{
    GroupCopy, GroupPlan, RecoverOptions, RecoverPlan, Survivors, Verdict,
};
use serde::Serialize;
use std::fmt::Write;
use std::path::PathBuf;

/// How many groups a message names.
const MAX_NAMED: usize = 5;

/// What to do about groups that have lost their majority.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum RecoverCommand {
    /// Show what the survivors have of each group, what may be lost, and what `apply` would do.
    Plan {
        #[command(flatten)]
        options: Decisions,
        /// Print one JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Give up the lost nodes for ever, and have groups without a majority start over.
    Apply {
        #[command(flatten)]
        options: Decisions,
    },
}

/// Whose directories there are, and which nodes are lost.
#[derive(Clone, Debug, Args)]
pub(crate) struct Decisions {
    /// The data directory of a node that is left and does not run. Once for each such node.
    #[arg(long = "data-dir", value_name = "DIR", required = true)]
    data_dirs: Vec<PathBuf>,
    /// The nodes that never come back.
    #[arg(long, value_name = "ID", value_delimiter = ',')]
    lost: Vec<u64>,
    /// Give up every node whose directory is not here, whether it is named as lost or not. If one
    /// of them still runs, it goes on by itself, and what it acknowledges is lost.
    #[arg(long)]
    force: bool,
    /// Have a group start over from an older copy, if the one that holds the most can't be used.
    /// What the older one lacks is lost.
    #[arg(long)]
    skip_unusable: bool,
    /// State machines keep their states on disk themselves: a log may begin where there is no
    /// snapshot. Not for the state machines of this server.
    #[arg(long)]
    state_on_disk: bool,
}

/// Runs the command.
pub(crate) fn run(command: RecoverCommand) -> Result<(), Failure> {
    match command {
        RecoverCommand::Plan { options, json } => {
            let (_, plan) = options.plan()?;
            let text = if json { as_json(&plan)? } else { as_text(&plan) };
            print(&text)
        }
        RecoverCommand::Apply { options } => {
            let (survivors, plan) = options.plan()?;
            survivors.apply(&plan)?;
            print(&done(&plan))?;
            match left_out(&plan) {
                Some(left_out) => Err(left_out.into()),
                None => Ok(()),
            }
        }
    }
}

impl Decisions {
    fn plan(&self) -> Result<(Survivors, RecoverPlan), Failure> {
        let survivors = Survivors::open(&self.data_dirs)?;
        let plan = survivors.plan(&RecoverOptions {
            lost: self.lost.iter().copied().map(NodeId).collect(),
            force: self.force,
            passes_over_unusable: self.skip_unusable,
            state_on_disk: self.state_on_disk,
        })?;
        Ok((survivors, plan))
    }
}

/// What was done.
fn done(plan: &RecoverPlan) -> String {
    let lost = list(plan.lost.iter());
    match plan.starting_over().count() {
        0 if plan.unusable().next().is_some() => "nothing was done\n".to_owned(),
        0 => "every group has its majority without the lost nodes: nothing was done\n".to_owned(),
        count => format!(
            "{count} groups start over when the nodes are started; node {lost} is never let in \
             again\n"
        ),
    }
}

/// Which groups should start over and can't, with the reasons.
fn left_out(plan: &RecoverPlan) -> Option<String> {
    let reason = |group: &GroupPlan| format!("group {}: {}", group.group, describe(group));
    let count = plan.unusable().count();
    let reasons: Vec<_> = plan.unusable().take(MAX_NAMED).map(reason).collect();
    let more = if count > MAX_NAMED { "; the plan names the others" } else { "" };
    (count > 0).then(|| {
        let reasons = reasons.join("; ");
        format!("{count} groups have no majority and do not start over: {reasons}{more}")
    })
}

fn list<'a>(nodes: impl Iterator<Item = &'a NodeId>) -> String {
    nodes.map(ToString::to_string).collect::<Vec<_>>().join(",")
}

/// A line a group and copy, the groups that start over first, and what may be lost.
fn as_text(plan: &RecoverPlan) -> String {
    let mut text = format!(
        "{:>8} {:<24} {:>6} {:>12} {:>16} {:>8}  {}\n",
        "group", "members", "copy", "committed", "last", "term", "what becomes of it"
    );
    let mut groups: Vec<_> = plan.groups.iter().collect();
    groups.sort_by_key(|group| group.verdict == Verdict::Whole);
    for group in groups {
        for (at, copy) in group.copies.iter().enumerate() {
            let verdict = if at == 0 { describe(group) } else { String::new() };
            let GroupCopy { node, known_committed, last, term, .. } = copy;
            let (number, members) = (group.group, group.members.to_string());
            writeln!(
                text,
                "{number:>8} {members:<24} {node:>6} {known_committed:>12} {last:>16} {term:>8}  \
                 {verdict}"
            )
            .expect("writing to a string works");
        }
    }
    let over = plan.starting_over().count();
    let whole = plan.groups.iter().filter(|group| group.verdict == Verdict::Whole).count();
    let lost = list(plan.lost.iter());
    writeln!(
        text,
        "\n{over} groups start over, {whole} have their majority without node {lost}. What was \
         committed behind the last entry above is lost; nobody left can tell whether anything was. \
         Groups of which no survivor has a replica are lost, and not listed."
    )
    .expect("writing to a string works");
    if let Some(left_out) = left_out(plan) {
        writeln!(text, "{left_out}.").expect("writing to a string works");
    }
    if let Err(error) = plan.check() {
        writeln!(text, "It can't be done: {error}.").expect("writing to a string works");
    }
    text
}

fn describe(group: &GroupPlan) -> String {
    match &group.verdict {
        Verdict::Whole => "goes on by itself".to_owned(),
        Verdict::Waits => "waits: nodes that are not lost may have more".to_owned(),
        Verdict::StartsOver { from, learners, .. } if learners.is_empty() => {
            format!("starts over from node {from}")
        }
        Verdict::StartsOver { from, learners, .. } => {
            format!("starts over from node {from}; node {} learns", list(learners.iter()))
        }
        Verdict::Unusable { node, what } => format!("the copy of node {node} is unusable: {what}"),
    }
}

/// What `--json` prints. Fields are only ever added.
#[derive(Serialize)]
struct PlanJson {
    lost: Vec<u64>,
    /// Nodes that are neither lost nor here: nothing is done while there are any.
    absent: Vec<u64>,
    /// Why nothing is done, if so.
    refused: Option<String>,
    groups: Vec<GroupJson>,
}

#[derive(Serialize)]
struct GroupJson {
    group: u64,
    members: String,
    /// `whole`, `waits`, `starts_over` or `unusable`.
    verdict: &'static str,
    /// The same in words.
    why: String,
    /// The node from whose copy it starts over.
    from: Option<u64>,
    copies: Vec<CopyJson>,
}

#[derive(Serialize)]
struct CopyJson {
    node: u64,
    term: u64,
    known_committed: u64,
    begins_after: u64,
    last_index: u64,
    last_term: u64,
}

fn as_json(plan: &RecoverPlan) -> Result<String, Failure> {
    let copy = |copy: &GroupCopy| CopyJson {
        node: copy.node.0,
        term: copy.term.0,
        known_committed: copy.known_committed.0,
        begins_after: copy.begins_after.0,
        last_index: copy.last.index.0,
        last_term: copy.last.term.0,
    };
    let group = |group: &GroupPlan| GroupJson {
        group: group.group.0,
        members: group.members.to_string(),
        verdict: match group.verdict {
            Verdict::Whole => "whole",
            Verdict::Waits => "waits",
            Verdict::StartsOver { .. } => "starts_over",
            Verdict::Unusable { .. } => "unusable",
        },
        why: describe(group),
        from: match group.verdict {
            Verdict::StartsOver { from, .. } => Some(from.0),
            _ => None,
        },
        copies: group.copies.iter().map(copy).collect(),
    };
    let json = PlanJson {
        lost: plan.lost.iter().map(|node| node.0).collect(),
        absent: plan.absent.iter().map(|node| node.0).collect(),
        refused: plan.check().err().map(|error| error.to_string()),
        groups: plan.groups.iter().map(group).collect(),
    };
    Ok(serde_json::to_string(&json)? + "\n")
}

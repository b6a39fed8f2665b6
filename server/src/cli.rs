//! The command line.

use crate::admin_client::AdminClient;
use crate::backup::{restore, save};
use crate::cert_tool::{self, CertCommand};
use crate::cluster_tool::{GroupCommand, NodeCommand, SettingsOptions};
use crate::demo::{self, DemoOptions};
use crate::options::ServeOptions;
use crate::recover_tool::{self, RecoverCommand};
use crate::{cluster_tool, logging, serve, status, wal_tool};
use clap::{Parser, Subcommand};
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

/// A sharded key-value store over the Redis protocol, on thousands of Raft groups.
#[derive(Debug, Parser)]
#[command(name = "logboat", version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a whole cluster in this process under a mixed load, and say how to connect.
    Demo(DemoOptions),
    /// Run one node of a cluster.
    Serve(Box<ServeOptions>),
    /// Print how a running node is.
    Status(AdminClient),
    /// See to the nodes of a cluster.
    #[command(subcommand)]
    Node(NodeCommand),
    /// See to the groups of a cluster.
    #[command(subcommand)]
    Group(GroupCommand),
    /// Print what the cluster goes by where it places replicas, and change it.
    Settings(SettingsOptions),
    /// Copy all keys of a cluster, while it works, to a new directory.
    Backup(save::BackupOptions),
    /// Put the keys of a backup into a cluster that is empty.
    Restore(restore::RestoreOptions),
    /// Make the certificates of a cluster.
    #[command(subcommand)]
    Cert(CertCommand),
    /// Have groups go on that have lost their majority for good. For stopped nodes.
    #[command(subcommand)]
    Recover(RecoverCommand),
    /// Look into the write-ahead log of a node.
    #[command(subcommand)]
    Wal(WalCommand),
}

#[derive(Debug, Subcommand)]
enum WalCommand {
    /// Print segments, batches, groups and their ranges. Changes nothing.
    Inspect {
        /// A node's data directory, or the log's directory in it.
        dir: PathBuf,
    },
    /// Check every checksum. Fails, naming file and offset, where one does.
    Verify {
        /// A node's data directory, or the log's directory in it.
        dir: PathBuf,
    },
}

/// Runs what the command line says, prints what went wrong to standard error.
#[must_use]
pub fn run() -> ExitCode {
    let cli = Cli::parse();
    let logging = logging::start();
    let result = match cli.command {
        Command::Backup(options) => save::run(options),
        Command::Cert(command) => cert_tool::run(command),
        Command::Demo(options) => demo::run(options),
        Command::Recover(command) => recover_tool::run(command),
        Command::Restore(options) => restore::run(options),
        Command::Serve(options) => serve::run(*options),
        Command::Status(client) => status::run(&client),
        Command::Node(command) => cluster_tool::run_node(command),
        Command::Group(command) => cluster_tool::run_group(command),
        Command::Settings(options) => cluster_tool::run_settings(options),
        Command::Wal(WalCommand::Inspect { dir }) => wal_tool::inspect(&dir),
        Command::Wal(WalCommand::Verify { dir }) => wal_tool::verify(&dir),
    };
    // The last lines stand before what is said below.
    drop(logging);
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Where nobody reads it, the exit code has to do.
            let _ = writeln!(std::io::stderr(), "logboat: {error}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}

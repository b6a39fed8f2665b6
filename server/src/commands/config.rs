//! CONFIG: the parameters of the server.

use super::arguments::{is, text};
use super::context::{Context, Outcome};
use super::error::CommandError;
use super::introspection::help;
use super::table::Config;
use crate::backend::Backend;
use crate::glob::Pattern;
use crate::kv::{DATABASES, parse_integer};
use crate::resp::Reply;
use crate::settings::Settings;
use bytes::Bytes;
use logboat_security::audit;
use std::fmt::Display;

/// The parameters of Redis that have a meaning here, sorted by name.
const PARAMETERS: [(&str, Parameter); 16] = [
    ("appendfsync", Parameter::AppendFsync),
    ("appendonly", Parameter::AppendOnly),
    ("databases", Parameter::Databases),
    ("enable-debug-command", Parameter::EnableDebugCommand),
    ("latency-monitor-threshold", Parameter::LatencyMonitorThreshold),
    ("latency-tracking-info-percentiles", Parameter::LatencyPercentiles),
    ("maxclients", Parameter::MaxClients),
    ("maxmemory", Parameter::MaxMemory),
    ("maxmemory-policy", Parameter::MaxMemoryPolicy),
    ("port", Parameter::Port),
    ("proto-max-bulk-len", Parameter::ProtoMaxBulkLen),
    ("save", Parameter::Save),
    ("slowlog-log-slower-than", Parameter::SlowLogSlowerThan),
    ("slowlog-max-len", Parameter::SlowLogMaxLen),
    ("tcp-keepalive", Parameter::TcpKeepalive),
    ("timeout", Parameter::Timeout),
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Parameter {
    AppendFsync,
    AppendOnly,
    Databases,
    EnableDebugCommand,
    LatencyMonitorThreshold,
    LatencyPercentiles,
    MaxClients,
    MaxMemory,
    MaxMemoryPolicy,
    Port,
    ProtoMaxBulkLen,
    Save,
    SlowLogMaxLen,
    SlowLogSlowerThan,
    TcpKeepalive,
    Timeout,
}

/// Carries out a subcommand.
pub(super) fn execute<B: Backend>(
    context: &Context<'_, B>,
    command: Config,
    arguments: &[Bytes],
) -> Outcome {
    match command {
        Config::Get => Ok(get(context, arguments)),
        Config::Help => Ok(help("config")),
        Config::ResetStat => Ok(reset_stat(context)),
        Config::Rewrite => rewrite(),
        Config::Set => set(context, arguments),
    }
}

/// CONFIG GET pattern [pattern …]: a parameter given by name is repeated in the client's spelling
fn get<B: Backend>(context: &Context<'_, B>, arguments: &[Bytes]) -> Reply {
    let settings = context.server.settings();
    let asked: Vec<_> = arguments.iter().map(|asked| (asked, Pattern::new(asked, true))).collect();
    let entry = |(name, parameter): (&str, Parameter)| {
        let mut asked = asked.iter();
        let &(asked, _) =
            asked.find(|(asked, pattern)| is(asked, name) || pattern.matches(name.as_bytes()))?;
        let by_name = is(asked, name);
        let name = if by_name { Reply::Bulk(asked.clone()) } else { Reply::text(name) };
        Some((name, Reply::text(parameter.value(context, &settings))))
    };
    Reply::Map(PARAMETERS.into_iter().filter_map(entry).collect())
}

/// CONFIG SET parameter value [parameter value …]: all of them, or none
fn set<B: Backend>(context: &Context<'_, B>, arguments: &[Bytes]) -> Outcome {
    let pairs = arguments.chunks_exact(2);
    if !pairs.remainder().is_empty() {
        return Err(CommandError::Syntax);
    }
    let mut settings = context.server.settings();
    let mut changes: Vec<(Parameter, &[u8], &[u8])> = Vec::new();
    for pair in pairs {
        let (name, value) = (&pair[0], &pair[1]);
        let parameter = PARAMETERS.into_iter().find(|(known, _)| is(name, known));
        let Some((_, parameter)) = parameter else {
            let name = text(name);
            let reason = format!("Unknown option or number of arguments for CONFIG SET - '{name}'");
            return Err(CommandError::Other(reason));
        };
        if parameter.is_fixed() && value != parameter.value(context, &settings).as_bytes() {
            return Err(not_set(name, "can't set immutable config"));
        }
        if changes.iter().any(|(earlier, ..)| *earlier == parameter) {
            return Err(not_set(name, "duplicate parameter"));
        }
        changes.push((parameter, name, value));
    }
    for (parameter, name, value) in &changes {
        parameter.change(value, &mut settings).map_err(|reason| not_set(name, reason))?;
    }
    let names: Vec<_> = changes.iter().map(|(_, name, _)| text(name)).collect();
    let what = format!("CONFIG SET {}", names.join(" "));
    audit::change("clients", context.session.client.address(), "default", &what);
    context.server.change_settings(settings);
    Ok(Reply::OK)
}

/// CONFIG RESETSTAT
fn reset_stat<B>(context: &Context<'_, B>) -> Reply {
    context.server.stats.reset();
    Reply::OK
}

/// CONFIG REWRITE
fn rewrite() -> Outcome {
    Err(CommandError::Other("The server is running without a config file".into()))
}

impl Parameter {
    /// The current value.
    fn value<B: Backend>(self, context: &Context<'_, B>, settings: &Settings) -> String {
        match self {
            Self::AppendFsync => settings.durability.append_fsync.to_owned(),
            Self::AppendOnly => settings.durability.append_only.to_owned(),
            Self::Databases => DATABASES.to_string(),
            Self::EnableDebugCommand => context.server.debug_command.to_string(),
            Self::LatencyMonitorThreshold => settings.latency_threshold_ms.to_string(),
            Self::LatencyPercentiles => settings.latency_percentiles.clone(),
            Self::MaxClients => settings.max_clients.to_string(),
            Self::MaxMemory => settings.max_memory_bytes.to_string(),
            Self::MaxMemoryPolicy => "noeviction".to_owned(),
            Self::Port => context.server.address.port().to_string(),
            Self::ProtoMaxBulkLen => context.backend.limits().max_value_bytes.to_string(),
            Self::Save => settings.durability.save.clone(),
            Self::SlowLogMaxLen => settings.slow_log_max_len.to_string(),
            Self::SlowLogSlowerThan => settings.slow_log_slower_than_us.to_string(),
            Self::TcpKeepalive => settings.tcp_keepalive_secs.to_string(),
            Self::Timeout => settings.client_timeout_secs.to_string(),
        }
    }

    /// Whether it is fixed while the server runs. Setting it to its current value is accepted.
    const fn is_fixed(self) -> bool {
        matches!(
            self,
            Self::Databases
                | Self::EnableDebugCommand
                | Self::MaxMemory
                | Self::MaxMemoryPolicy
                | Self::Port
                | Self::ProtoMaxBulkLen
        )
    }

    /// Changes it in `settings`. Fails with Redis's reason.
    fn change(self, value: &[u8], settings: &mut Settings) -> Result<(), String> {
        let durability = &mut settings.durability;
        match self {
            Self::AppendFsync => durability.append_fsync = one_of(APPEND_FSYNC, value)?,
            Self::AppendOnly => durability.append_only = yes_or_no(value)?,
            Self::Save => durability.save = save_points(value)?,
            Self::MaxClients => settings.max_clients = max_clients(value, settings)?,
            Self::LatencyMonitorThreshold => {
                settings.latency_threshold_ms = integer(value, 0, i64::MAX)?;
            }
            Self::LatencyPercentiles => settings.latency_percentiles = percentiles(value)?,
            Self::SlowLogMaxLen => settings.slow_log_max_len = integer(value, 0, i64::MAX)?,
            Self::SlowLogSlowerThan => {
                settings.slow_log_slower_than_us = integer(value, -1, i64::MAX)?;
            }
            Self::TcpKeepalive => settings.tcp_keepalive_secs = integer(value, 0, MAX_SECS)?,
            Self::Timeout => settings.client_timeout_secs = integer(value, 0, MAX_SECS)?,
            Self::Databases
            | Self::EnableDebugCommand
            | Self::MaxMemory
            | Self::MaxMemoryPolicy
            | Self::Port
            | Self::ProtoMaxBulkLen => {}
        }
        Ok(())
    }
}

const APPEND_FSYNC: [&str; 3] = ["everysec", "always", "no"];

/// The longest time that a parameter takes, in seconds.
const MAX_SECS: i64 = i32::MAX as i64;

fn integer<T: TryFrom<i64>>(value: &[u8], least: i64, most: i64) -> Result<T, String> {
    let value = parse_integer(value).ok_or("argument couldn't be parsed into an integer")?;
    let value = Some(value).filter(|value| (least..=most).contains(value));
    value
        .and_then(|value| T::try_from(value).ok())
        .ok_or_else(|| format!("argument must be between {least} and {most} inclusive"))
}

/// Numbers from 0 to 100.
fn percentiles(value: &[u8]) -> Result<String, String> {
    let value = text(value);
    let numbers: Vec<&str> = value.split_ascii_whitespace().collect();
    for number in &numbers {
        let number = number.parse::<f64>().map_err(|_| {
            "Invalid latency-tracking-info-percentiles parameters, 'percentile' should be a double \
             number"
                .to_owned()
        })?;
        if !(0.0..=100.0).contains(&number) {
            return Err("latency-tracking-info-percentiles parameters should sit between \
                        [0.0,100.0]"
                .to_owned());
        }
    }
    Ok(numbers.join(" "))
}

fn max_clients(value: &[u8], settings: &Settings) -> Result<u32, String> {
    let (wanted, most) = (integer(value, 1, u32::MAX.into())?, settings.client_ceiling);
    if wanted > most {
        return Err(format!(
            "The operating system is not able to handle the specified number of clients, try with \
             {most}"
        ));
    }
    Ok(wanted)
}

fn yes_or_no(value: &[u8]) -> Result<&'static str, String> {
    let word = ["yes", "no"].into_iter().find(|word| is(value, word));
    word.ok_or_else(|| "argument must be 'yes' or 'no'".to_owned())
}

fn one_of<const N: usize>(words: [&'static str; N], value: &[u8]) -> Result<&'static str, String> {
    let word = words.into_iter().find(|word| is(value, word));
    word.ok_or_else(|| {
        let words = words.join(", ");
        format!("argument(s) must be one of the following: {words}")
    })
}

/// Pairs of a positive number of seconds and a number of changes.
fn save_points(value: &[u8]) -> Result<String, String> {
    let value = text(value);
    let numbers: Vec<&str> = value.split_ascii_whitespace().collect();
    let is_pair = |pair: &[&str]| {
        let least = |text: &str, least| text.parse::<i32>().is_ok_and(|number| number >= least);
        matches!(pair, [seconds, changes] if least(seconds, 1) && least(changes, 0))
    };
    if numbers.chunks(2).all(is_pair) {
        return Ok(numbers.join(" "));
    }
    Err("Invalid save parameters".to_owned())
}

/// Why a parameter was not set; `name` as the client wrote it.
fn not_set(name: &[u8], reason: impl Display) -> CommandError {
    let name = text(name);
    CommandError::Other(format!(
        "CONFIG SET failed (possibly related to argument '{name}') - {reason}"
    ))
}
